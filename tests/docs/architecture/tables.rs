//! Who may know whom, and who may go through which door: the tables that the walls are checked by and that ARCHITECTURE.md
//! shows.

/// One folder (or file) of the product.
pub(super) struct Room {
    /// From the root of the repository, without `.rs`.
    pub(super) place: &'static str,
    /// Names by which it is imported: `crate::<name>` or `edgewarden_core::<name>`.
    pub(super) name: &'static str,
    /// What it does.
    pub(super) what: &'static str,
    /// Whom it may know: names of rooms that stand above it in the table.
    pub(super) knows: &'static [&'static str],
}

pub(super) const CORE: &str = "crates/edgewarden-core/src";

/// From the ground up. A room may know only rooms above it in this list, so no two can know each other.
pub(super) const ROOMS: &[Room] = &[
    Room {
        place: "crates/edgewarden-core/src/sorting",
        name: "sorting",
        what: "lists in order and gathered sets with little code for each type; known to all as `crate::{Arrange, Gather}`",
        knows: &[],
    },
    Room {
        place: "crates/edgewarden-core/src/document",
        name: "document",
        what: "reads hostile JSON: every fault at once, each with its path; knows no domain",
        knows: &[],
    },
    Room {
        place: "crates/edgewarden-core/src/process",
        name: "process",
        what: "what a process is: pid and start time; which workload it is part of",
        knows: &[],
    },
    Room {
        place: "crates/edgewarden-core/src/moment",
        name: "moment",
        what: "what a moment is: both clocks, the argument `now` of every decision",
        knows: &[],
    },
    Room {
        place: "crates/edgewarden-core/src/observe",
        name: "observe",
        what: "frames → sums by flow (`meter`) → owners (`accounts`) → ledger → `Interval` (bounded, conserved)",
        knows: &["process"],
    },
    Room {
        place: "crates/edgewarden-core/src/detect",
        name: "detect",
        what: "interval and sockets → alarms; knows nothing of reports, nor what an alarm leads to",
        knows: &["observe"],
    },
    Room {
        place: "crates/edgewarden-core/src/quarantine",
        name: "quarantine",
        what: "`orders` → `plan` (with `lifelines`) → `ruleset` → `proof`; `history`: every change once. Knows no files, \
               no nft, no clock",
        knows: &["document", "process", "moment", "observe"],
    },
    Room {
        place: "crates/edgewarden-core/src/report",
        name: "report",
        what: "interval and sockets → Device Defender document that fits; baseline, ids, schedule, replies. Knows not how \
               it is sent",
        knows: &["document", "process", "observe", "quarantine"],
    },
    Room {
        place: "crates/edgewarden-core/src/config",
        name: "config",
        what: "the one table of keys (`keys`), the checked document, faults with paths; knows the flows, none knows it",
        knows: &["document", "detect", "quarantine", "report"],
    },
    Room {
        place: "src/host",
        name: "host",
        what: "door to the kernel: `netfilter`, `net`, `processes`, `files`, `capture`, `boot`, clock; decides nothing",
        knows: &["process", "moment", "observe", "quarantine", "report"],
    },
    Room {
        place: "src/cloud",
        name: "cloud",
        what: "door to the cloud: topics, shadow messages, the shadow session's decisions (pure); `link`, `nucleus`, `publish`, `inbox` (IPC). \
               Knows nothing of enforcement",
        knows: &["document", "quarantine"],
    },
    Room {
        place: "src/control",
        name: "control",
        what: "the conversation between command line and agent, one JSON line each way: questions with their answers, \
               protocol, client; knows no agent",
        knows: &["document", "process", "observe", "quarantine", "report"],
    },
    Room {
        place: "src/agent",
        name: "agent",
        what: "tasks, what they share and who keeps them going; `enforcer` is the only one that touches rules and processes",
        knows: &[
            "document",
            "process",
            "moment",
            "observe",
            "detect",
            "quarantine",
            "report",
            "config",
            "host",
            "cloud",
            "control",
        ],
    },
    Room {
        place: "src/cli",
        name: "cli",
        what: "one file a command; knows the agent in `run`, `restore` and `without_agent` only",
        knows: &[
            "document",
            "process",
            "observe",
            "quarantine",
            "report",
            "config",
            "host",
            "control",
        ],
    },
];

/// Files that may know a room that their own room may not.
pub(super) const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("src/cli/run.rs", "agent", "starts it"),
    ("src/cli/restore.rs", "agent", "does its first step at boot"),
    (
        "src/cli/without_agent.rs",
        "agent",
        "does what the operator wants where none answers",
    ),
];

/// A crate of others that leads outside.
pub(super) struct Door {
    /// Crates as they are written in code.
    pub(super) crates: &'static [&'static str],
    /// The only room that may name them.
    pub(super) room: &'static str,
    /// What stands behind it.
    pub(super) what: &'static str,
}

pub(super) const DOORS: &[Door] = &[
    Door {
        crates: &["greengrass_ipc"],
        room: "src/cloud",
        what: "the nucleus, and through it the cloud",
    },
    Door {
        crates: &[
            "netlink_packet_core",
            "netlink_packet_sock_diag",
            "netlink_sys",
            "nix",
            "rustix",
            "libc",
            "pnet",
            "pnet_datalink",
            "packet_ring",
        ],
        room: "src/host",
        what: "the Linux kernel",
    },
];

/// Files that may name a crate although they do not stand behind its door.
pub(super) const OTHER_WAYS: &[(&str, &str, &str)] = &[
    (
        "src/cli/screen.rs",
        "nix",
        "the terminal is the command line's own",
    ),
    (
        "src/cli/screen.rs",
        "rustix",
        "the terminal is the command line's own",
    ),
    (
        "src/agent/control/server.rs",
        "nix",
        "compares who asks with our own user; an effect on nothing",
    ),
    (
        "src/control/client.rs",
        "nix",
        "connects with a limit, and asks who listens where nobody answers; std waits for a full queue for ever",
    ),
    (
        "src/agent/control/socket_list.rs",
        "netlink_packet_sock_diag",
        "names the kernel's states of sockets, as numbers; nothing is asked",
    ),
];
