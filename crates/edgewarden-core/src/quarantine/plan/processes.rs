//! Which processes a plan stops.
//!
//! In: the process list, rules, what is protected. Out: whom to act on, and whom a rule named but protection spared.
//! Invariant: never pid 1, kernel threads, ourselves and our ancestors, the nucleus and its helpers, or what the
//! configuration protects. Protection goes by pid, executable and cgroup, never by a name the process chose itself.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use wildmatch::WildMatch;

use crate::process::{Process, ProcessId};
use crate::quarantine::orders::order::{ProcessAction, ProcessMatch, ProcessRule};

/// A process that was stopped, for release and for `status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoppedProcess {
    #[serde(flatten)]
    pub identity: ProcessId,
    /// `comm`: at most 15 bytes, chosen by the process itself.
    pub name: String,
    /// Path of the program; `None` where it cannot be read.
    pub exe: Option<String>,
    pub action: ProcessAction,
    pub at: Timestamp,
}

/// Who must not be stopped.
#[derive(Debug, Clone, Default)]
pub struct ProtectedProcesses {
    /// Ourselves; our ancestors are protected with us. A number is enough: while we ask, it is no one else's.
    pub own: u32,
    /// The nucleus, as it was when it was connected; protected with its ancestors for as long as it runs. A program that has
    /// its number later is not. While it is not known, our ancestors are all that is protected besides lite's services:
    /// classic starts us, so it is one of them.
    pub nucleus: Option<ProcessId>,
    /// Executables, with `*`.
    pub executables: Vec<String>,
}

/// Whether a cgroup is one of the nucleus' own services: lite runs each as `ggl.core.*.service` of the system
/// (docs/reference/ipc-wire.md#connecting); components are `ggl.<component>.service`. The whole path counts: anybody
/// can name a unit of a user's own manager like that. On classic every component shares the nucleus' cgroup, so there
/// only its pid counts.
pub fn is_nucleus_service(cgroup: &str) -> bool {
    let name = cgroup
        .strip_prefix("/system.slice/ggl.core.")
        .and_then(|rest| rest.strip_suffix(".service"));
    name.is_some_and(|name| !name.is_empty() && !name.contains('/'))
}

/// What the rules select.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProcessSelection {
    /// Whom to act on, the stronger action first when two rules match.
    pub act: Vec<(Process, ProcessAction)>,
    /// Named by a rule but protected, with the reason.
    pub spared: Vec<(Process, &'static str)>,
}

/// Applies `rules` to the process list.
pub fn select(list: &[Process], rules: &[ProcessRule], protected: &ProtectedProcesses) -> ProcessSelection {
    let untouchable = with_ancestors(list, protected);
    let executables: Vec<WildMatch> = protected.executables.iter().map(|p| WildMatch::new(p)).collect();
    let rules: Vec<_> = rules
        .iter()
        .map(|rule| (ProcessPatterns::new(&rule.matches), rule.action))
        .collect();
    let mut selection = ProcessSelection::default();
    for process in list {
        let wanted = rules
            .iter()
            .filter(|(matcher, _)| matcher.matches(process))
            .map(|(_, action)| *action)
            .max();
        let Some(action) = wanted else { continue };
        match spare(process, &untouchable, &executables) {
            Some(reason) => selection.spared.push((process.clone(), reason)),
            None => selection.act.push((process.clone(), action)),
        }
    }
    selection
}

fn with_ancestors(list: &[Process], protected: &ProtectedProcesses) -> BTreeSet<u32> {
    let parents: BTreeMap<u32, u32> = list
        .iter()
        .map(|process| (process.identity.pid, process.parent))
        .collect();
    let nucleus = protected
        .nucleus
        .filter(|nucleus| list.iter().any(|process| process.identity == *nucleus));
    let mut all = BTreeSet::new();
    for pid in nucleus
        .map(|nucleus| nucleus.pid)
        .into_iter()
        .chain([protected.own])
    {
        let mut next = pid;
        while next > 0 && all.insert(next) {
            next = parents.get(&next).copied().unwrap_or(0);
        }
    }
    all
}

fn spare(process: &Process, untouchable: &BTreeSet<u32>, executables: &[WildMatch]) -> Option<&'static str> {
    let exe = process.exe.as_deref().unwrap_or_default();
    if process.identity.pid == 1 {
        Some("it is pid 1")
    } else if exe.is_empty() {
        Some("it is a kernel thread or has ended")
    } else if untouchable.contains(&process.identity.pid) {
        Some("it is Edgewarden, the nucleus or an ancestor of them")
    } else if process.cgroup.as_deref().is_some_and(is_nucleus_service) {
        Some("it is a service of the nucleus")
    } else if executables.iter().any(|pattern| pattern.matches(exe)) {
        Some("isolation.protected names it")
    } else {
        None
    }
}

struct ProcessPatterns {
    exe: Option<WildMatch>,
    name: Option<WildMatch>,
}

impl ProcessPatterns {
    fn new(wanted: &ProcessMatch) -> Self {
        let pattern = |text: &Option<String>| text.as_deref().map(WildMatch::new);
        Self {
            exe: pattern(&wanted.exe),
            name: pattern(&wanted.name),
        }
    }

    fn matches(&self, process: &Process) -> bool {
        let exe = process.exe.as_deref().unwrap_or_default();
        self.exe.as_ref().is_none_or(|pattern| pattern.matches(exe))
            && self
                .name
                .as_ref()
                .is_none_or(|pattern| pattern.matches(&process.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, parent: u32, exe: &str) -> Process {
        let name = exe.rsplit('/').next().unwrap_or_default().to_owned();
        let exe = (!exe.is_empty()).then(|| exe.to_owned());
        Process {
            identity: ProcessId { pid, start_ticks: 7 },
            parent,
            name,
            exe,
            cgroup: Some("/user.slice".into()),
            workload: None,
        }
    }

    fn rule(exe: &str, action: ProcessAction) -> ProcessRule {
        ProcessRule {
            matches: ProcessMatch {
                exe: Some(exe.to_owned()),
                name: None,
            },
            action,
        }
    }

    #[test]
    fn a_rule_selects_by_pattern_and_the_stronger_action_wins() {
        let list = [process(10, 1, "/opt/x/rogue"), process(11, 1, "/usr/bin/ok")];
        let rules = [
            rule("/opt/*", ProcessAction::Freeze),
            rule("*/rogue", ProcessAction::Kill),
        ];
        let selection = select(&list, &rules, &ProtectedProcesses::default());
        assert_eq!(selection.act, [(list[0].clone(), ProcessAction::Kill)]);
    }

    #[test]
    fn only_the_systems_own_units_are_the_nucleus() {
        assert!(is_nucleus_service("/system.slice/ggl.core.iotcored.service"));
        for cgroup in [
            "/user.slice/user-1000.slice/user@1000.service/app.slice/ggl.core.evil.service",
            "/user.slice/user-1000.slice/user@1000.service/system.slice/ggl.core.evil.service",
            "/system.slice/ggl.com.example.Rogue.service",
            "/system.slice/ggl.core.x.service/child.service",
            "/system.slice/greengrass.service",
        ] {
            assert!(!is_nucleus_service(cgroup), "{cgroup}");
        }
    }

    #[test]
    fn a_rule_for_everything_still_spares_what_must_live() {
        let mut list = vec![
            process(1, 0, "/sbin/init"),
            process(2, 0, ""),
            process(20, 1, "/gg/nucleus"),
            process(21, 20, "/bin/sh"),
            process(22, 21, "/gg/edgewarden"),
            process(30, 1, "/usr/sbin/sshd"),
            process(40, 1, "/opt/rogue"),
        ];
        list.push(Process {
            cgroup: Some("/system.slice/ggl.core.iotcored.service".into()),
            ..process(50, 1, "/gg/iotcored")
        });
        let protected = ProtectedProcesses {
            own: 22,
            nucleus: None,
            executables: vec!["/usr/sbin/ssh*".into()],
        };
        let all = ProcessRule {
            matches: ProcessMatch {
                exe: None,
                name: Some("*".into()),
            },
            action: ProcessAction::Kill,
        };
        let selection = select(&list, &[all], &protected);
        let acted: Vec<u32> = selection
            .act
            .iter()
            .map(|(process, _)| process.identity.pid)
            .collect();
        assert_eq!(acted, [40]);
        assert_eq!(selection.spared.len(), 7);
    }

    #[test]
    fn a_program_that_got_the_nucleus_number_is_not_protected() {
        let list = [
            process(20, 19, "/gg/nucleus"),
            process(19, 1, "/gg/loader"),
            process(22, 1, "/gg/edgewarden"),
        ];
        let all = [rule("/gg/*", ProcessAction::Kill)];
        let acted = |start_ticks| {
            let protected = ProtectedProcesses {
                own: 22,
                nucleus: Some(ProcessId { pid: 20, start_ticks }),
                executables: Vec::new(),
            };
            let acted = select(&list, &all, &protected).act.into_iter();
            acted.map(|(process, _)| process.identity.pid).collect::<Vec<_>>()
        };
        assert_eq!(acted(7), [0; 0], "control: it is the nucleus, and its ancestor");
        assert_eq!(acted(6), [20, 19]);
    }
}
