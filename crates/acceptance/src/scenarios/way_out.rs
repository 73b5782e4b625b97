//! Release by every path, in each state in which somebody who should release is dead, stopped, deaf, cut off or replaced.
//!
//! In: a device that the shadow isolates. Out: how long the operator's `release` took, with the program that root keeps, and
//! until the way was open; whether it stays open when somebody is there again; and, where the cloud still reaches somebody,
//! the shadow's release in the same state. One that hangs is one whose cgroup is frozen, on each nucleus: none of its threads
//! runs, and its state says nothing of it. Deliberately absent: an agent whose deciding thread alone hangs; a nucleus starts
//! it, and takes no library that would make it so. The stand-in's black-box tests have that one.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use edgewarden_lab::site::wait_until;
use nix::mount::{MsFlags, mount, umount};
use nix::sys::signal::Signal;
use xtask::workspace;

use super::deaths;
use crate::bed::{COMPONENT, PATIENCE};
use crate::error::{Trouble, io};
use crate::processes;
use crate::scene::{Scene, Seen};

/// Within which the operator is obeyed, whoever is there.
pub(super) const LIMIT: Duration = Duration::from_secs(2);
/// The program that root keeps, whatever becomes of the component's artifacts.
const OWN: &str = "/var/lib/edgewarden/edgewarden";
const RELEASE: [&str; 4] = ["release", "--override", "--reason", "acceptance"];
/// Within which the cloud's word is obeyed after an agent's death, and after a broker's.
const AFTER_DEATH: Duration = Duration::from_secs(5);
const AFTER_BROKER: Duration = Duration::from_secs(10);
/// How long a released device is watched: guard or nucleus have started another agent by then.
const WATCHED: Duration = Duration::from_secs(6);

/// Makes a state; what it gives ends with the scenario.
type Fault = fn(&mut Scene<'_>) -> Result<Option<Frozen>, Trouble>;

/// The operator alone.
fn operator(scene: &mut Scene<'_>, fault: Fault) -> Result<Seen, Trouble> {
    scene.isolate()?;
    let frozen = fault(scene)?;
    let seen = by_operator(scene)?;
    drop(frozen);
    Ok(seen)
}

/// The operator, then the shadow in the same state, made anew.
fn both(scene: &mut Scene<'_>, fault: Fault, limit: Duration) -> Result<Seen, Trouble> {
    let seen = operator(scene, fault)?;
    // The shadow's wish of before stays ended: it has to wish nothing, and then the same again.
    scene.bed.fresh()?;
    scene.ready()?;
    scene.isolate()?;
    let _frozen = fault(scene)?;
    let by_shadow = scene.release()?;
    let late = by_shadow.is_none_or(|took| took > limit);
    let text = told(by_shadow);
    let note = format!("{}; `false` in the shadow: {text}", seen.note);
    Ok(seen
        .note(note)
        .fault(late, format!("the shadow's release: {text}")))
}

/// A release by the program that root keeps; `times` are the command's and the way's.
fn by_operator(scene: &mut Scene<'_>) -> Result<Seen, Trouble> {
    let closed = scene.bed.prober().is_closed();
    scene.bed.prober().unguard();
    let began = Instant::now();
    let (code, output, errors) = scene.bed.run(Path::new(OWN), &RELEASE)?;
    let took = began.elapsed();
    let open = scene.bed.prober().wait_open(began, PATIENCE);
    let stays = stays_open(scene);
    let found = output.lines().next().unwrap_or_default();
    Ok(Seen::times([Some(took), open])
        .fault(!closed, "control: the way was open before")
        .fault(code != Some(0), format!("exit code {code:?}: {}", errors.trim()))
        .fault(!stays, "it closed again")
        .note(format!(
            "command {}, open after {}: {found}",
            told(Some(took)),
            told(open)
        )))
}

/// Whether nobody closes the way again. No look at the nucleus: one that is gone has to stay so.
fn stays_open(scene: &Scene<'_>) -> bool {
    let until = Instant::now() + WATCHED;
    while Instant::now() < until {
        if scene.bed.prober().is_closed() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    true
}

fn told(time: Option<Duration>) -> String {
    time.map_or_else(|| "unheard".to_owned(), |time| format!("{} ms", time.as_millis()))
}

fn signal_agent(scene: &mut Scene<'_>, signal: Signal) -> Result<(), Trouble> {
    let agent = scene.agent()?;
    processes::signal(agent, signal)
}

/// The cloud reaches the successor.
pub(super) fn agent_killed(scene: &mut Scene<'_>) -> Result<Seen, Trouble> {
    let kill: Fault = |scene| signal_agent(scene, Signal::SIGKILL).map(|()| None);
    both(scene, kill, AFTER_DEATH)
}

/// It holds its lock and says nothing, so the cloud reaches nobody.
pub(super) fn agent_stopped(scene: &mut Scene<'_>) -> Result<Seen, Trouble> {
    operator(scene, |scene| signal_agent(scene, Signal::SIGSTOP).map(|()| None))
}

pub(super) fn agent_hangs(scene: &mut Scene<'_>) -> Result<Seen, Trouble> {
    operator(scene, |scene| {
        let agent = scene.agent()?;
        Frozen::freeze(agent).map(Some)
    })
}

/// Nobody starts another nucleus; the cloud reaches nobody any more.
pub(super) fn nucleus_gone(scene: &mut Scene<'_>) -> Result<Seen, Trouble> {
    let seen = operator(scene, |scene| scene.bed.lose_nucleus().map(|()| None));
    scene.bed.fresh()?;
    seen
}

/// The operator while it is away, the cloud when it is back.
pub(super) fn broker_gone(scene: &mut Scene<'_>) -> Result<Seen, Trouble> {
    let seen = operator(scene, |scene| scene.bed.kill_broker().map(|()| None));
    scene.bed.start_broker(false)?;
    let seen = seen?;
    scene.bed.fresh()?;
    scene.ready()?;
    scene.isolate()?;
    let sessions = scene.bed.sessions();
    scene.bed.kill_broker()?;
    scene.pass(Duration::from_secs(1))?;
    scene.bed.start_broker(false)?;
    scene.recovered(sessions)?;
    let by_shadow = scene.release()?;
    let late = by_shadow.is_none_or(|took| took > AFTER_BROKER);
    let note = format!(
        "{}; `false` in the shadow when the nucleus is back: {}",
        seen.note,
        told(by_shadow)
    );
    Ok(seen.note(note).fault(late, "the shadow's release was late"))
}

/// The nucleus starts no agent any more: the guard does, and the cloud reaches that one.
pub(super) fn three_deaths(scene: &mut Scene<'_>) -> Result<Seen, Trouble> {
    let seen = both(
        scene,
        |scene| deaths::until_the_last(scene).map(|()| None),
        AFTER_DEATH + AFTER_DEATH,
    );
    scene.bed.fresh()?;
    seen
}

pub(super) fn artifact_replaced(scene: &mut Scene<'_>) -> Result<Seen, Trouble> {
    artifact(scene, |scene| {
        for file in stored(scene)? {
            std::fs::remove_file(&file).map_err(io("remove an artifact"))?;
            workspace::write(&file, "#!/bin/sh\nexit 1\n")?;
        }
        signal_agent(scene, Signal::SIGKILL).map(|()| None)
    })
}

pub(super) fn artifact_gone(scene: &mut Scene<'_>) -> Result<Seen, Trouble> {
    artifact(scene, |scene| {
        for file in stored(scene)? {
            std::fs::remove_file(&file).map_err(io("remove an artifact"))?;
        }
        signal_agent(scene, Signal::SIGKILL).map(|()| None)
    })
}

/// The successor runs the copy that root has, so the cloud is heard as after any death.
fn artifact(scene: &mut Scene<'_>, fault: Fault) -> Result<Seen, Trouble> {
    let seen = both(scene, fault, AFTER_DEATH);
    scene.bed.fresh()?;
    seen
}

/// Programs of the component in the nucleus' own store.
fn stored(scene: &Scene<'_>) -> Result<Vec<PathBuf>, Trouble> {
    let store = scene.bed.store().join(COMPONENT);
    let programs = super::installs::files(&store);
    if programs.is_empty() {
        let nothing = std::io::ErrorKind::NotFound.into();
        return Err(io(format!("find a program in {}", store.display()))(nothing));
    }
    Ok(programs)
}

/// A version before this one, and one after it.
const EARLIER: &str = "0.0.1";
const LATER: &str = "9.9.9";

/// An earlier version is deployed over the one that runs.
pub(super) fn downgrade(scene: &mut Scene<'_>) -> Result<Seen, Trouble> {
    let seen = both(
        scene,
        |scene| {
            let agent = scene.agent()?;
            scene.bed.deploy_version(EARLIER, false)?;
            scene.successor(agent).map(|()| None)
        },
        AFTER_DEATH,
    );
    scene.bed.fresh()?;
    seen
}

/// A later version is deployed together with something that fails; the nucleus goes back to the one before.
pub(super) fn rollback(scene: &mut Scene<'_>) -> Result<Seen, Trouble> {
    let seen = both(
        scene,
        |scene| {
            let agent = scene.agent()?;
            scene.bed.deploy_version(LATER, true)?;
            // Control: the deployment had come as far as this component.
            scene.successor(agent).map(|()| None)
        },
        AFTER_DEATH,
    );
    scene.bed.fresh()?;
    seen
}

/// A process in a cgroup that does not run; thawed when dropped, and the cgroup removed with its mount.
pub(super) struct Frozen {
    mounted: PathBuf,
    cgroup: PathBuf,
}

impl Frozen {
    fn freeze(pid: i32) -> Result<Self, Trouble> {
        let name = format!("edgewarden-acceptance-hung-{}", std::process::id());
        // The lab has a /sys of its own, without the kernel's cgroups.
        let mounted = std::env::temp_dir().join(&name);
        std::fs::create_dir(&mounted).map_err(io(format!("make {}", mounted.display())))?;
        let frozen = Self {
            cgroup: mounted.join(name),
            mounted,
        };
        let kind = Some("cgroup2");
        mount(kind, &frozen.mounted, kind, MsFlags::empty(), None::<&str>)
            .map_err(|errno| io("mount the cgroups")(errno.into()))?;
        std::fs::create_dir(&frozen.cgroup).map_err(io("make a cgroup"))?;
        frozen.write("cgroup.procs", &pid.to_string())?;
        frozen.write("cgroup.freeze", "1")?;
        Ok(frozen)
    }

    fn write(&self, file: &str, text: &str) -> Result<(), Trouble> {
        std::fs::write(self.cgroup.join(file), text).map_err(io(format!("write {file} of a cgroup")))
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = self.write("cgroup.freeze", "0");
        let gone = || !self.cgroup.exists() || std::fs::remove_dir(&self.cgroup).is_ok();
        let _ = wait_until(PATIENCE, "the end of what was frozen", gone);
        let _ = umount(&self.mounted);
        let _ = std::fs::remove_dir(&self.mounted);
    }
}
