//! What stands in the way of what is ordered, and what a person can do about it.
//!
//! In: what a door (the kernel, the disk, a process) answered. Out: an [`Obstacle`], its sentence, its next step. News is
//! found by comparing obstacles, not sentences; sentences are made where they are shown.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::quarantine::ruleset::Lack;

/// One thing that stands in the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Obstacle {
    /// The kernel wants a capability that we do not have.
    #[error("not permitted to change the packet filter (CAP_NET_ADMIN is missing)")]
    NotPermitted,
    /// A table of ours is there and cannot be read, or nobody knows whether the kernel carried a transaction out; somebody's
    /// doing may be what makes it.
    #[error("{why}")]
    Unreadable {
        /// What happened, with its causes.
        why: String,
    },
    /// The kernel's packet filter does not answer.
    #[error("the packet filter cannot be asked: {why}")]
    FilterSilent {
        /// What happened, with its causes.
        why: String,
    },
    /// A transaction was refused; the kernel has what it had before.
    #[error("the kernel refused: {complaint}")]
    Refused {
        /// Which part of our rules, and the kernel's own words.
        complaint: String,
        /// What the kernel was found to be built without.
        #[serde(skip)]
        lacks: Vec<Lack>,
    },
    /// What was loaded is not what is listed.
    #[error("{difference}")]
    Differs {
        /// One difference.
        difference: String,
    },
    /// Each load of ours was followed by somebody else's change before it could be read back.
    #[error("somebody changes our tables while they are loaded: what the kernel holds is not proven")]
    Unsettled,
    /// The egress chain is on other interfaces.
    #[error("the kernel filters the egress of other interfaces than it was told")]
    EgressDiffers,
    /// The filters of `tc` that stand in for the egress chain are not as they should be.
    #[error("frames past the IP stack are not cut: {why}")]
    NotBarred {
        /// What stands in the way.
        why: String,
    },
    /// A datagram that must be refused was sent.
    #[error("the canary to {to} left the device: the rules do not hold")]
    CanaryLeft {
        /// Where it went.
        to: SocketAddr,
    },
    /// The journal could not be written, or not in time.
    #[error("{why}: what is ordered would not survive a restart")]
    JournalNotWritten {
        /// What happened, with its causes.
        why: String,
    },
    /// The wall clock is not believed while an order has an end.
    #[error("{how}")]
    ClockDoubted {
        /// By how much, in which direction.
        how: String,
    },
    /// The cloud does not allow the device something that it needs.
    #[error("{what}")]
    NotAllowed {
        /// Which right is missing, and how that was noticed.
        what: String,
    },
    /// The processes cannot be listed: nobody knows whether the named ones run.
    #[error("the processes cannot be listed: {why}")]
    ProcessesUnknown {
        /// What happened, with its causes.
        why: String,
    },
    /// The processes that orders name are looked at beside everything else, and that has not come to an end: what is known of them
    /// is as old.
    #[error("the processes that orders name were not looked at for {seconds} s")]
    ProcessesNotSeen {
        /// For so long at least.
        seconds: u64,
    },
    /// A look has not reached all threads of a process that was told to stop.
    #[error("process {pid} ({name}) was not looked at for {seconds} s: it has too many threads")]
    ProcessNotSeen {
        /// Its number.
        pid: u32,
        /// Its short name.
        name: String,
        /// For so long at least.
        seconds: u64,
    },
    /// A process that an order names goes on running.
    #[error("{what}")]
    ProcessRuns {
        /// Which one, and why.
        what: String,
    },
    /// A process that is frozen was let go on by others within the last looks.
    #[error("process {pid} ({name}) is let go on by others whenever it is frozen")]
    ProcessContested {
        /// Its number.
        pid: u32,
        /// Its short name.
        name: String,
    },
    /// A process that should run again does not.
    #[error("process {pid} ({name}) stays frozen: {why}")]
    ProcessStaysFrozen {
        /// Its number.
        pid: u32,
        /// Its short name.
        name: String,
        /// Why.
        why: String,
    },
    /// Processes that were frozen cannot be seen from here, so they were not let go.
    #[error(
        "process {pid} ({name}){} stays frozen: it was frozen in another pid or time namespace than this one, or /proc does not \
         show this one, and cannot be seen from here",
        and_more(*more)
    )]
    ProcessesElsewhere {
        /// The number that one of them has there.
        pid: u32,
        /// Its short name.
        name: String,
        /// How many others there are.
        more: usize,
    },
    /// The task that enforces was asked how things stand, and has not said.
    #[error("the task that enforces has said nothing for {seconds} s; what the kernel holds is not known")]
    EnforcerSilent {
        /// Since its newest word.
        seconds: u64,
    },
    /// The task that enforces ended and is started again.
    #[error("the task that enforces has failed and is started again; what the kernel holds is not known")]
    EnforcerFailed,
}

impl Obstacle {
    /// Whether the packet filter cannot be used at all, so that what it holds is not known.
    pub const fn blinds(&self) -> bool {
        matches!(self, Self::NotPermitted | Self::FilterSilent { .. })
    }

    /// Whether a process is not as ordered, or nobody knows.
    pub const fn is_of_processes(&self) -> bool {
        matches!(
            self,
            Self::ProcessesUnknown { .. }
                | Self::ProcessesNotSeen { .. }
                | Self::ProcessNotSeen { .. }
                | Self::ProcessRuns { .. }
                | Self::ProcessContested { .. }
                | Self::ProcessStaysFrozen { .. }
                | Self::ProcessesElsewhere { .. }
        )
    }

    /// What a person at the device can do.
    pub const fn next_step(&self) -> &'static str {
        match self {
            Self::NotPermitted => "run the agent as root, as the recipe does (RequiresPrivilege: true)",
            Self::Unreadable { .. } => {
                "it is tried again by itself; if nft is installed, what `nft list ruleset` says of the tables edgewarden is what hinders the agent"
            }
            Self::FilterSilent { .. } => {
                "look into `dmesg` for nf_tables: the packet filter is missing, broken or busy; if nft is installed, `nft list tables` shows whether it answers others"
            }
            Self::Refused { .. } => {
                "look the part that the kernel names up in `edgewarden plan --nft`: this kernel lacks what it needs; if nft is installed, `nft -c -f -` tries that text out"
            }
            Self::Differs { .. } | Self::EgressDiffers | Self::Unsettled => {
                "find who else writes nftables (`edgewarden history` names the process); ours are put back meanwhile"
            }
            Self::NotBarred { .. } => {
                "look at the queueing disciplines and filters of the interfaces: `tc qdisc show`, `tc filter show dev NAME egress`; ours have handles that begin with 0xed6e"
            }
            Self::CanaryLeft { .. } => {
                "look for offloads and XDP programs, which `ip link` shows, that pass our tables by; if nft is installed, `nft list ruleset` shows others' rules"
            }
            Self::JournalNotWritten { .. } => {
                "make room on, or remount, the file system of the state directory"
            }
            Self::ClockDoubted { .. } => "set the clock, or wait until the shadow service tells the time",
            Self::NotAllowed { .. } => {
                "give the core device's IoT policy the right that is named; it is tried again by itself within the hour"
            }
            Self::ProcessesUnknown { .. } => "look whether /proc is mounted and answers",
            Self::ProcessesNotSeen { .. } => {
                "ask again; if it goes on, find who has made so many processes or threads that a look takes so long (`ps -eL`)"
            }
            Self::ProcessNotSeen { .. } => {
                "kill it instead of freezing it, or look at it with `ps -L` and its number"
            }
            Self::ProcessRuns { .. } => {
                "stop it by hand if it must not run, or name it more narrowly in the order"
            }
            Self::ProcessContested { .. } => {
                "find who sends it SIGCONT or traces it (`TracerPid` in its `/proc` status), and name that one in the order too, or kill it instead"
            }
            Self::EnforcerSilent { .. } => {
                "ask again; if it stays silent the agent's log says what it waits for; if nft is installed, `nft list ruleset` shows what the kernel holds"
            }
            Self::EnforcerFailed => {
                "look into the agent's log for what failed; if nft is installed, `nft list ruleset` shows what the kernel holds"
            }
            Self::ProcessStaysFrozen { .. } => "let it go on with `kill -CONT` and its number",
            Self::ProcessesElsewhere { .. } => {
                "give the release there (`nsenter --all -t` with the number of a process of there), or have an agent start there; where that place is gone with all its processes, a restart of the machine ends this"
            }
        }
    }
}

fn and_more(more: usize) -> String {
    match more {
        0 => String::new(),
        more => format!(" and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_next_step_needs_a_program_that_need_not_be_there() {
        let (text, pid) = (String::new, 1);
        let all = [
            Obstacle::NotPermitted,
            Obstacle::Unreadable { why: text() },
            Obstacle::FilterSilent { why: text() },
            Obstacle::Refused {
                complaint: text(),
                lacks: Vec::new(),
            },
            Obstacle::Differs { difference: text() },
            Obstacle::Unsettled,
            Obstacle::EgressDiffers,
            Obstacle::NotBarred { why: text() },
            Obstacle::CanaryLeft {
                to: "203.0.113.254:9".parse().unwrap(),
            },
            Obstacle::JournalNotWritten { why: text() },
            Obstacle::ClockDoubted { how: text() },
            Obstacle::NotAllowed { what: text() },
            Obstacle::ProcessesUnknown { why: text() },
            Obstacle::ProcessesNotSeen { seconds: 1 },
            Obstacle::ProcessNotSeen {
                pid,
                name: text(),
                seconds: 1,
            },
            Obstacle::ProcessRuns { what: text() },
            Obstacle::ProcessContested { pid, name: text() },
            Obstacle::ProcessStaysFrozen {
                pid,
                name: text(),
                why: text(),
            },
            Obstacle::ProcessesElsewhere {
                pid,
                name: text(),
                more: 0,
            },
            Obstacle::EnforcerSilent { seconds: 1 },
            Obstacle::EnforcerFailed,
        ];
        for obstacle in &all {
            let step = obstacle.next_step();
            // What comes before holds without it.
            let (first, with_nft) = step.split_once("if nft is installed").unwrap_or((step, ""));
            assert!(!first.contains("`nft ") && !first.trim().is_empty(), "{step}");
            assert!(with_nft.is_empty() || with_nft.contains("`nft "), "{step}");
        }
    }

    #[test]
    fn an_obstacle_is_written_by_its_kind_and_read_back() {
        let left = Obstacle::CanaryLeft {
            to: "203.0.113.254:9".parse().unwrap(),
        };
        let text = serde_json::to_string(&left).unwrap();
        assert_eq!(text, r#"{"kind":"canaryLeft","to":"203.0.113.254:9"}"#);
        assert_eq!(serde_json::from_str::<Obstacle>(&text).unwrap(), left);
        assert_eq!(
            left.to_string(),
            "the canary to 203.0.113.254:9 left the device: the rules do not hold"
        );
    }
}
