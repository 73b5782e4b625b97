//! A machine for nucleus lite: systemd as process 1, over an overlay of this machine's root file system.
//!
//! In: the tree of lite, its configuration, keys, the package. Out: a booted machine in the gateway's network namespace,
//! with process, mount, cgroup, host name and IPC namespaces of its own; it ends when dropped, and nothing of it stays.
//! Deliberately absent: any file of lite, and how it is built.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use edgewarden_lab::site::{Ns, Running, Site, SpawnSpec, wait_until};
use serde_json::Value;
use xtask::workspace;

use super::PATIENCE;
use crate::error::{Trouble, io};
use crate::keys::Keys;

/// Where process 1 of a machine is.
const SYSTEMD: &str = "/lib/systemd/systemd";
/// Where the package is inside.
pub(super) const PACKAGE: &str = "/mnt/package";
/// Where programs inside are looked for.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
/// What a tree of lite has, as far as this uses it.
const EXPECTED: [&str; 5] = [
    "usr/bin/ggl-cli",
    "usr/bin/iotcored",
    "usr/bin/ggdeploymentd",
    "usr/lib/systemd/system/greengrass-lite.target",
    "usr/lib/systemd/system/ggl.core.ggipcd.service",
];

/// Goes into a cgroup of its own, and into namespaces of its own, where it goes on with the second script.
const OUTSIDE: &str = r#"
set -eu
mkdir "$1" && echo $$ >"$1/cgroup.procs"
shift
exec unshare --pid --fork --kill-child --mount --propagation private --cgroup --uts --ipc sh -c "$@"
"#;

/// Builds the root file system and hands over to systemd. Whatever would reach through to this machine is left out: its
/// devices, its file systems, its own units, its kernel's settings.
const INSIDE: &str = r#"
set -eu
base=$1 lite=$2 keys=$3 package=$4
mount -t tmpfs -o mode=755 tmpfs "$base"
cd "$base"
cp -R --preserve=mode,links "$lite" upper
mkdir work root
mount -t overlay -o lowerdir=/,upperdir=upper,workdir=work overlay root
cd root
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
for folder in run tmp dev; do mount -t tmpfs -o mode=755 tmpfs $folder; done
chmod 1777 tmp
for device in null zero full random urandom tty; do : >dev/$device; mount --bind /dev/$device dev/$device; done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
for file in hosts resolv.conf; do rm -f etc/$file; : >etc/$file; mount --bind /etc/$file etc/$file; done
: >etc/fstab
rm -rf etc/systemd/system/*.wants var/lib/edgewarden var/lib/greengrass
for unit in systemd-sysctl.service systemd-modules-load.service systemd-binfmt.service systemd-udevd.service \
    proc-sys-fs-binfmt_misc.automount console-getty.service getty.target systemd-timesyncd.service; do
    ln -sf /dev/null etc/systemd/system/$unit
done
for user in ggcore gg_component; do chroot . id -u $user >/dev/null 2>&1 || chroot . useradd -U $user; done
mkdir -p etc/greengrass var/lib/greengrass/credentials mnt/package
cp "$base.yaml" etc/greengrass/config.yaml
cp "$keys"/authority.pem "$keys"/gateway.pem "$keys"/gateway.key var/lib/greengrass/credentials
chroot . chown -R ggcore:ggcore /var/lib/greengrass
mount --bind "$package" mnt/package
for unit in "$lite"/usr/lib/systemd/system/*; do chroot . systemctl --quiet enable "${unit##*/}"; done
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot . /lib/systemd/systemd --unit=multi-user.target
"#;

/// What of lite, or of what it needs, is not on this machine; in words that say what, where and what was expected.
pub(crate) fn missing_of_lite(tree: &Path) -> Option<String> {
    if !Path::new(SYSTEMD).is_file() {
        return Some(format!(
            "{SYSTEMD} is missing: lite is run by systemd 252 or later"
        ));
    }
    if let Some(missing) = EXPECTED.iter().find(|path| !tree.join(path).is_file()) {
        return Some(format!(
            "{missing} is missing: a tree is expected as `DESTDIR={} cmake --install` writes it for the prefix /usr",
            tree.display()
        ));
    }
    let programs = std::fs::read_dir(tree.join("usr/bin")).ok()?;
    programs
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find_map(|program| missing_library(&program))
}

/// A library that one of its programs is linked with and that the loader does not find.
fn missing_library(program: &Path) -> Option<String> {
    let output = Command::new("ldd").arg(program).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|line| line.contains("not found"))?;
    Some(format!(
        "the library {} is not on this machine, but {} needs it",
        line.split_whitespace().next().unwrap_or_default(),
        program.display()
    ))
}

/// A booted machine.
#[derive(Debug)]
pub(super) struct Machine {
    outer: Running,
    /// Its process 1, as seen from outside.
    init: u32,
    cgroup: PathBuf,
}

impl Machine {
    /// Boots, and waits until systemd takes orders.
    pub(super) fn boot(
        site: &Site,
        folder: &Path,
        tree: &Path,
        keys: &Keys,
        package: &Path,
        configuration: &Value,
    ) -> Result<Self, Trouble> {
        let base = folder.join("machine");
        workspace::make_folder(&base)?;
        // Each document of JSON is one of YAML.
        workspace::write(&folder.join("machine.yaml"), &configuration.to_string())?;
        let cgroup = PathBuf::from(format!(
            "/sys/fs/cgroup/edgewarden-acceptance-{}",
            std::process::id()
        ));
        remove_cgroups(&cgroup);
        let mut spec = SpawnSpec::new("sh", folder.join("machine.log"));
        spec.args = ["-c", OUTSIDE, "outside"].map(Into::into).to_vec();
        spec.args.push(cgroup.clone().into());
        spec.args.extend([INSIDE, "inside"].map(Into::into));
        spec.args
            .extend([&base, tree, keys.folder(), package].map(|path| path.to_owned().into()));
        let outer = site.spawn_with(Ns::Gateway, spec)?;
        let mut machine = Self {
            outer,
            init: 0,
            cgroup,
        };
        let up = wait_until(PATIENCE, "systemd", || {
            machine.init = machine.child().unwrap_or_default();
            !machine.outer.is_running()
                || machine
                    .run(&["systemctl", "is-active", "--quiet", "multi-user.target"])
                    .is_ok_and(|output| output.status.success())
        });
        if up.is_ok() && machine.outer.is_running() {
            return Ok(machine);
        }
        Err(Trouble::Late {
            what: format!("systemd as process 1 (log: {})", machine.outer.log().display()),
            seconds: PATIENCE.as_secs(),
        })
    }

    /// The only child of the process that made the namespaces.
    fn child(&self) -> Option<u32> {
        let pid = self.outer.pid();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        children.split_whitespace().next()?.parse().ok()
    }

    /// A path of the machine, as seen from outside.
    pub(super) fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.init))
    }

    /// Runs a program inside, as its root, and waits for its end.
    pub(super) fn run(&self, words: &[&str]) -> Result<Output, Trouble> {
        let mut command = Command::new("nsenter");
        command
            .args([
                "--all",
                "--root",
                "--wd",
                "--target",
                &self.init.to_string(),
                "--",
            ])
            .args(words)
            .env_clear()
            .env("PATH", PATH)
            .process_group(0);
        command.output().map_err(io(format!("run {}", words.join(" "))))
    }

    /// As [`Machine::run`], for what has to succeed; gives its output.
    pub(super) fn done(&self, words: &[&str]) -> Result<String, Trouble> {
        let output = self.run(words)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            return Ok(text(&output.stdout));
        }
        Err(Trouble::Nucleus {
            operation: words.join(" "),
            answer: text(&output.stderr).trim().to_owned(),
        })
    }

    /// What a unit has written.
    pub(super) fn journal(&self, unit: &str) -> String {
        self.done(&["journalctl", "--no-pager", "--output", "cat", "--unit", unit])
            .unwrap_or_default()
    }

    /// Everything that was written.
    pub(super) fn whole_journal(&self) -> String {
        self.done(&["journalctl", "--no-pager", "--output", "short-precise"])
            .unwrap_or_default()
    }
}

impl Drop for Machine {
    /// Its process 1 ends with the one outside, and with it all the others.
    fn drop(&mut self) {
        let _ = self.outer.kill9();
        let gone = || remove_cgroups(&self.cgroup);
        let _ = wait_until(PATIENCE, "the end of the machine", gone);
    }
}

/// Removes a cgroup with those below it; says whether none is left.
fn remove_cgroups(cgroup: &Path) -> bool {
    if let Ok(entries) = std::fs::read_dir(cgroup) {
        for entry in entries.filter_map(Result::ok) {
            if entry.path().is_dir() {
                remove_cgroups(&entry.path());
            }
        }
    }
    let _ = std::fs::remove_dir(cgroup);
    !cgroup.exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_holds_no_lite_is_told_by_what_it_lacks() {
        let missing = missing_of_lite(Path::new("/proc/self/fd")).unwrap();
        assert!(
            missing.contains("ggl-cli is missing") || missing.contains(SYSTEMD),
            "{missing}"
        );
    }
}
