//! The texts of our units: isolation that is restored before the network comes up, and the guard.
//!
//! In: the state directory. Out: systemd units. Why each line of the first is there:
//!
//! * `DefaultDependencies=no`, `Before=network-pre.target`: network managers order themselves after that target, so no
//!   interface is up before the rules are. `Wants=` because nothing else may pull it in.
//! * `After=local-fs.target`: the journal is written to, so the file system must be. `After=nftables.service`: the
//!   distribution's own rules begin with a flush of everything. Neither of them waits for anything behind us, so there
//!   is no loop.
//! * `TimeoutStartSec=`: a boot that hangs would be a lock-out; an agent that starts later tries again.
//! * The sandbox leaves what the packet filter, the canary and the stopping of processes need: netlink and IP sockets,
//!   `CAP_NET_ADMIN`, `CAP_KILL`, `CAP_SYS_PTRACE` (which process runs which program) and `CAP_SYS_RESOURCE` (the mark
//!   on a stopped process). The kernel loads modules of the packet filter by itself.

use std::path::Path;

pub(crate) const NAME: &str = "edgewarden-restore.service";
pub(crate) const GUARD_NAME: &str = "edgewarden-guard.service";
/// Where systemd looks for the administrator's units.
pub(crate) const UNITS: &str = "/etc/systemd/system";
/// Exists when systemd is the running service manager (`sd_booted(3)`).
pub(crate) const BOOTED: &str = "/run/systemd/system";
/// The target that starts it, as an `[Install]` section would say.
const WANTED_BY: &str = "sysinit.target";
/// The same for the guard, which wants nothing of the boot.
const GUARD_WANTED_BY: &str = "multi-user.target";

/// A unit of ours.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unit {
    pub(crate) name: &'static str,
    /// The target that starts it, as an `[Install]` section would say.
    pub(crate) wanted_by: &'static str,
    pub(crate) text: fn(state: &str) -> String,
}

/// Restores isolation before the network.
pub(crate) const RESTORE: Unit = Unit {
    name: NAME,
    wanted_by: WANTED_BY,
    text,
};
/// Stands by while no nucleus starts an agent. Of no sandbox: the agent that it starts is the component's.
pub(crate) const GUARD: Unit = Unit {
    name: GUARD_NAME,
    wanted_by: GUARD_WANTED_BY,
    text: guard_text,
};
/// All of them.
pub(crate) const ALL: [Unit; 2] = [RESTORE, GUARD];

/// Whether the running systemd has a unit for the guard that may be started.
pub(crate) fn guard_is_installed() -> bool {
    let unit = Path::new(UNITS).join(GUARD_NAME);
    Path::new(BOOTED).is_dir() && unit.symlink_metadata().is_ok_and(|found| found.is_file())
}

/// The guard's unit. It is outside the component's cgroup, which both nuclei end with the component. It ends when nobody is
/// wanted, and comes back whatever else ends it: by systemd, or by the agent that looks for it.
fn guard_text(state: &str) -> String {
    format!(
        "\
# Written by `edgewarden install`, which the component's install step runs; removed by `edgewarden uninstall`.
# Masking it (systemctl mask {GUARD_NAME}) is respected; an edit is not.
[Unit]
Description=Edgewarden: obeys and keeps lifelines fresh while the component does not run
RequiresMountsFor={state}
ConditionFileIsExecutable={state}/edgewarden
After={NAME}
StartLimitIntervalSec=0

[Service]
ExecStart={state}/edgewarden guard --state-dir {state}
Restart=on-failure
RestartSec=3
TimeoutStopSec=10
UMask=0077
NoNewPrivileges=yes
RestrictSUIDSGID=yes
LockPersonality=yes

[Install]
WantedBy={GUARD_WANTED_BY}
"
    )
}

/// The unit for this state directory, whose characters need no quoting.
fn text(state: &str) -> String {
    format!(
        "\
# Written by `edgewarden install`, which the component's install step runs; removed by `edgewarden uninstall`.
# Masking it (systemctl mask {NAME}) is respected; an edit is not.
[Unit]
Description=Edgewarden: isolation as ordered, before the network
DefaultDependencies=no
RequiresMountsFor={state}
ConditionFileIsExecutable={state}/edgewarden
After=local-fs.target nftables.service
Before=network-pre.target shutdown.target
Wants=network-pre.target
Conflicts=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={state}/edgewarden restore --state-dir {state}
TimeoutStartSec=30
UMask=0077
ProtectSystem=strict
ReadWritePaths={state}
ProtectHome=yes
NoNewPrivileges=yes
CapabilityBoundingSet=CAP_NET_ADMIN CAP_KILL CAP_SYS_PTRACE CAP_SYS_RESOURCE
RestrictAddressFamilies=AF_NETLINK AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native

[Install]
WantedBy={WANTED_BY}
"
    )
}

/// Whether a path can stand in a unit as it is: absolute, without a character that systemd reads as something else.
pub(crate) fn is_plain(path: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@".contains(c);
    path.starts_with('/') && path.chars().all(plain) && !path.split('/').any(|part| part == "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_names_the_place_everywhere_and_nothing_else() {
        let text = text("/data/edge");
        for line in [
            "RequiresMountsFor=/data/edge",
            "ReadWritePaths=/data/edge",
            "ConditionFileIsExecutable=/data/edge/edgewarden",
            "ExecStart=/data/edge/edgewarden restore --state-dir /data/edge",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}");
        }
        assert!(!text.contains("/var/lib"));
        let guard = guard_text("/data/edge");
        for line in [
            "ConditionFileIsExecutable=/data/edge/edgewarden",
            "ExecStart=/data/edge/edgewarden guard --state-dir /data/edge",
            "Restart=on-failure",
        ] {
            assert!(guard.lines().any(|found| found == line), "{line}");
        }
        assert!(!guard.contains("/var/lib"));
    }

    #[test]
    fn a_path_that_would_need_quoting_is_not_plain() {
        for path in ["/var/lib/edgewarden", "/data/a-b_c.d", "/x/user@1"] {
            assert!(is_plain(path), "{path}");
        }
        for path in [
            "", "state", "/a b", "/a%n", "/a\n", "/a;b", "/a\"", "/a/../b", "/ä", "/$HOME", "/a\\",
        ] {
            assert!(!is_plain(path), "{path}");
        }
    }
}
