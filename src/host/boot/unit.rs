//! The text of the unit that restores isolation before the network comes up. Pure.
//!
//! In: the state directory. Out: a systemd unit. Why each line is there:
//!
//! * `DefaultDependencies=no`, `Before=network-pre.target`: network managers order themselves after that target, so no
//!   interface is up before the rules are. `Wants=` because nothing else may pull it in.
//! * `After=local-fs.target`: the journal is written to, so the file system must be. `After=nftables.service`: the
//!   distribution's own rules begin with a flush of everything. Neither of them waits for anything behind us, so there
//!   is no loop.
//! * `TimeoutStartSec=`: a boot that hangs would be a lock-out; an agent that starts later tries again.
//! * The sandbox leaves what `nft`, the canary and the stopping of processes need: netlink and IP sockets,
//!   `CAP_NET_ADMIN`, `CAP_KILL`, `CAP_SYS_PTRACE` (which process runs which program) and `CAP_SYS_RESOURCE` (the mark
//!   on a stopped process). The kernel loads modules of the packet filter by itself.

pub(crate) const NAME: &str = "edgewarden-restore.service";
/// The target that starts it, as an `[Install]` section would say.
pub(crate) const WANTED_BY: &str = "sysinit.target";

/// The unit for this state directory, whose characters need no quoting.
pub(crate) fn text(state: &str) -> String {
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
