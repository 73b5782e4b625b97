//! A pids cgroup that a test makes, takes processes into, and closes.
//!
//! In: processes, how many there may be. Out: whether it is full, and who was refused. It goes with the test's mounts; at the
//! end whoever is in it is killed.

use std::path::{Path, PathBuf};

use edgewarden_lab::site::wait_until;
use edgewarden_lab::stage::Stage;
use nix::mount::{MsFlags, mount, umount};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::LIMIT;

pub(crate) struct PidsGroup(PathBuf);

impl PidsGroup {
    /// An empty one without a limit.
    pub(crate) fn make(stage: &Stage) -> Self {
        let mounted = stage.site.directory().join("pids");
        std::fs::create_dir(&mounted).unwrap();
        let none = None::<&str>;
        // Where the second version has the controller, the first cannot have it.
        let second = mount(Some("cgroup2"), &mounted, Some("cgroup2"), MsFlags::empty(), none).is_ok()
            && std::fs::read_to_string(mounted.join("cgroup.controllers"))
                .is_ok_and(|controllers| controllers.contains("pids"));
        if second {
            std::fs::write(mounted.join("cgroup.subtree_control"), "+pids").unwrap();
        } else {
            let _other = umount(&mounted);
            let kind = Some("cgroup");
            mount(Some("pids"), &mounted, kind, MsFlags::empty(), Some("pids")).unwrap();
        }
        let group = mounted.join(format!("edgewarden-test-{}", std::process::id()));
        std::fs::create_dir(&group).unwrap();
        Self(group)
    }

    /// Takes a process in, with all its threads, whether there is room or not.
    pub(crate) fn take(&self, pid: u32) {
        std::fs::write(self.procs(), pid.to_string()).unwrap();
    }

    fn procs(&self) -> PathBuf {
        self.0.join("cgroup.procs")
    }

    /// From now on it takes no more processes and threads than so many.
    pub(crate) fn allow(&self, most: u64) {
        std::fs::write(self.0.join("pids.max"), most.to_string()).unwrap();
    }

    /// How many processes and threads are in it.
    pub(crate) fn count(&self) -> u64 {
        self.read("pids.current").parse().unwrap()
    }

    /// How many were refused.
    pub(crate) fn refused(&self) -> u64 {
        let events = self.read("pids.events");
        events.strip_prefix("max ").unwrap().parse().unwrap()
    }

    fn read(&self, file: &str) -> String {
        let text = std::fs::read_to_string(self.0.join(file)).unwrap();
        text.trim().to_owned()
    }
}

impl Drop for PidsGroup {
    fn drop(&mut self) {
        let gone = wait_until(LIMIT, "the cgroup is empty", || {
            for pid in members(&self.procs()) {
                let _gone = kill(pid, Signal::SIGKILL);
            }
            std::fs::remove_dir(&self.0).is_ok()
        });
        if let Err(error) = gone {
            println!("{error}");
        }
    }
}

fn members(procs: &Path) -> impl Iterator<Item = Pid> {
    let text = std::fs::read_to_string(procs).unwrap_or_default();
    let pids: Vec<i32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    // A process of another pid namespace has no number here.
    pids.into_iter().filter(|pid| *pid > 0).map(Pid::from_raw)
}
