//! Which processes a plan stops.
//!
//! In: the process list, rules, what is protected. Out: whom to act on, and whom a rule named but protection spared.
//! Invariant: never pid 1, kernel threads, ourselves and our ancestors, the nucleus and its helpers, or what the
//! configuration protects. Protection goes by pid, cgroup and the program's file as the system has it, never by a name or a
//! path that the process chose itself. Whoever was stopped stays named by the rules that named him, whatever he looks like since.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use wildmatch::WildMatch;

use crate::Gather;
use crate::process::{NamePattern, Process, ProcessId, SeenFrom};
use crate::quarantine::orders::order::{ProcessAction, ProcessMatch, ProcessRule};

/// A process that was stopped, for release and for `status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoppedProcess {
    #[serde(flatten)]
    pub identity: ProcessId,
    /// `comm`: at most 15 bytes, chosen by the process itself.
    pub name: String,
    /// Path of the program ([`Process::shown_exe`]); `None` where it cannot be read.
    pub exe: Option<String>,
    pub action: ProcessAction,
    pub at: Timestamp,
    /// How often it was found to have run after it was frozen, since the agent started: others let it go on.
    #[serde(default)]
    pub contested: u32,
    /// Its owner had stopped it before: it is not made to run at the end.
    #[serde(default, rename = "stoppedBefore")]
    pub stopped_before: bool,
    /// Which rules of the plan named it ([`ProcessMatch::sum`]): it stays meant by them, whatever it looks like later. For the
    /// journal only; absent in those of older agents, and then it is meant by what it looks like.
    #[serde(default, rename = "namedBy", skip_serializing_if = "BTreeSet::is_empty")]
    pub named_by: BTreeSet<u32>,
    /// From where its numbers are its own. For the journal only; absent in those of older agents.
    #[serde(default, rename = "seenFrom", skip_serializing_if = "Option::is_none")]
    pub seen_from: Option<SeenFrom>,
    /// Who ran above it when it was stopped, nearest first: whoever of them stops with it goes on with it. It is the first itself if a
    /// debugger held it. For the journal only; absent in those of older agents.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub above: Vec<OneAbove>,
}

/// One above a process that was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OneAbove {
    #[serde(flatten)]
    pub identity: ProcessId,
    /// A debugger held it then, and its owner may have stopped it before: a number for where it was. Found elsewhere, it has
    /// gone on since, and counts as one that ran.
    #[serde(default, rename = "heldAt", skip_serializing_if = "Option::is_none")]
    pub held_at: Option<u32>,
}

impl OneAbove {
    /// One that runs.
    #[must_use]
    pub const fn that_runs(identity: ProcessId) -> Self {
        Self {
            identity,
            held_at: None,
        }
    }
}

/// Processes above a stopped one that are remembered at most: whoever stops with his child is close to it.
pub const MAX_ABOVE: usize = 8;

/// Who is stopped, each with the rules that named it.
pub type NamedBefore = BTreeMap<ProcessId, BTreeSet<u32>>;

/// What tells a process of the nucleus again after it was started anew, and before it is connected: all three together. A
/// component of the nucleus' own cgroup that runs the same program as the same user is taken for it as long.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NucleusTrace {
    /// Path of its program.
    pub exe: String,
    pub cgroup: Option<String>,
    /// The number of its real user.
    pub user: u32,
}

impl NucleusTrace {
    /// Whether it tells of that process, as far as that can be seen without asking for its user.
    pub fn may_be(&self, process: &Process) -> bool {
        process.exe.as_ref() == Some(&self.exe) && process.cgroup == self.cgroup
    }
}

/// Who must not be stopped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProtectedProcesses {
    /// Ourselves; our ancestors are protected with us. A number is enough: while we ask, it is no one else's.
    pub own: u32,
    /// The nucleus, as it was when it was connected; protected with its ancestors for as long as it runs. A program that has
    /// its number later is not. While it is not known, our ancestors are all that is protected besides lite's services:
    /// classic starts us, so it is one of them.
    pub nucleus: Option<ProcessId>,
    /// What the nucleus was when it was connected last: counts while the one above does not run.
    pub traces: Vec<NucleusTrace>,
    /// Executables, with `*`.
    pub executables: Vec<String>,
}

/// What lite installs as services of its own (docs/reference/ipc-wire.md#connecting), as of 2.6.
const SERVICES: [&str; 8] = [
    "gg-fleet-statusd",
    "ggconfigd",
    "ggdeploymentd",
    "gghealthd",
    "ggipcd",
    "ggpubsubd",
    "iotcored",
    "tesd",
];

/// Whether a cgroup is one of the nucleus' own services: lite runs each as `ggl.core.<service>.service` of the system; components
/// are `ggl.<component>.service`, and may be called `core.` too, so only known services count. The whole path counts: anybody can
/// name a unit of a user's own manager like that. On classic every component shares the nucleus' cgroup, so there only its
/// pid counts.
pub fn is_nucleus_service(cgroup: &str) -> bool {
    core_service(cgroup).is_some_and(|name| SERVICES.contains(&name))
}

/// The name of one that may be a later nucleus' own service, or a component's whose name begins with `core.`.
pub fn unknown_service(cgroup: &str) -> Option<&str> {
    core_service(cgroup).filter(|name| !SERVICES.contains(name))
}

fn core_service(cgroup: &str) -> Option<&str> {
    let name = cgroup
        .strip_prefix("/system.slice/ggl.core.")
        .and_then(|rest| rest.strip_suffix(".service"));
    name.filter(|name| !name.is_empty() && !name.contains('/'))
}

/// A process with all that rules and protection judge it by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub process: Process,
    /// Other paths by which a rule may mean its program: through links, from another mount namespace.
    pub aliases: Vec<String>,
    /// Its program is the file that the system itself has at that path, and only root can change it. Anybody can have a file
    /// of any path in a mount namespace of his own. And it is root's, or was made a user's by root: anybody can start such a file.
    pub at_home: bool,
    /// As [`Candidate::at_home`], but an ordinary user's.
    pub is_worn: bool,
    /// It is Edgewarden: a process of root's that runs its program.
    pub is_ours: bool,
    /// It is in a service that may be the nucleus' own ([`unknown_service`]), and runs the system's program of that name, which only
    /// root can change.
    pub is_newer_service: bool,
    /// Its program is called as an interpreter is, and somebody else than root can change it.
    pub is_others: bool,
    /// What it is, as the kernel says.
    pub nature: Nature,
    /// The number of its real user: looked up only where [`PathsMeant::nucleus`] asks for it.
    pub user: Option<u32>,
}

/// What a process is. A process that has no path of a program is not a kernel's by that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nature {
    /// It runs a program whose path is known.
    Program,
    /// It runs a program whose path cannot be read: it is too long, or we may not.
    Hidden {
        /// It may be one that the configuration protects: we may not look.
        may_be_protected: bool,
    },
    /// A thread of the kernel.
    Kernel,
    /// It has ended, and nobody has buried it.
    Ended,
}

/// What whoever lists the processes must know to tell by which paths a program is meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PathsMeant {
    /// Paths of the rules, with `*` and `?`.
    pub named: BTreeSet<String>,
    /// The same of those that are protected.
    pub protected: Vec<String>,
    /// Whose users are wanted.
    pub nucleus: Vec<NucleusTrace>,
}

impl PathsMeant {
    pub fn new(rules: &[ProcessRule], protected: &ProtectedProcesses) -> Self {
        Self {
            named: rules.iter().filter_map(|rule| rule.matches.exe.clone()).in_set(),
            protected: protected.executables.clone(),
            nucleus: protected.traces.clone(),
        }
    }
}

/// Why nothing is done to a process of which nothing is left.
const ENDED: &str = "it has ended";

/// What the rules select.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProcessSelection {
    /// Whom to act on, the stronger action first when two rules match.
    pub act: Vec<(Process, ProcessAction)>,
    /// Named by a rule but protected, with the reason.
    pub spared: Vec<(Process, &'static str)>,
    /// Rules that match no process that runs.
    pub idle: Vec<ProcessRule>,
    /// Which rules name those that are acted on.
    pub named_by: NamedBefore,
    /// Named before by a rule that holds, and not in the list: it could not be read, or has ended.
    pub unseen: Vec<(ProcessId, ProcessAction)>,
    /// Those of them that protection would name, were they not an ordinary user's.
    pub worn: Vec<Process>,
    /// Nobody can tell whether a rule names them, or whether they are protected.
    pub unknown: Vec<Process>,
}

/// What is to be done to a process that a rule names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Act(ProcessAction),
    Spare(&'static str),
    /// A rule may mean it, or protection: its program cannot be read.
    Unknown,
}

/// Applies rules to processes, one by one.
#[derive(Debug)]
pub struct Selector {
    rules: Vec<NamingRule>,
    untouchable: BTreeSet<u32>,
    executables: Vec<WildMatch>,
    before: NamedBefore,
    /// None while the nucleus itself runs.
    traces: Vec<NucleusTrace>,
}

#[derive(Debug)]
struct NamingRule {
    patterns: ProcessPatterns,
    rule: ProcessRule,
    sum: u32,
}

/// Whether a rule means a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meant {
    Yes,
    No,
    /// Its program cannot be read.
    Unsure,
}

impl Selector {
    /// `list`: everybody who runs. Whoever starts later is nobody's ancestor of these. `before`: who is stopped, with the
    /// rules that named him: he cannot leave them by looking different.
    pub fn new(
        list: &[Candidate],
        rules: &[ProcessRule],
        protected: &ProtectedProcesses,
        before: NamedBefore,
    ) -> Self {
        let rules = rules.iter().map(|rule| NamingRule {
            patterns: ProcessPatterns::new(&rule.matches),
            rule: rule.clone(),
            sum: rule.matches.sum(),
        });
        Self {
            rules: rules.collect(),
            untouchable: with_ancestors(list, protected),
            executables: protected.executables.iter().map(|p| WildMatch::new(p)).collect(),
            before,
            traces: if runs(list, protected.nucleus) {
                Vec::new()
            } else {
                protected.traces.clone()
            },
        }
    }

    /// None for one that no rule names.
    pub fn judge(&self, candidate: &Candidate) -> Option<Verdict> {
        let meant = self.rules.iter().map(|rule| (rule, self.meant(rule, candidate)));
        let meant: Vec<_> = meant.filter(|(_, meant)| *meant != Meant::No).collect();
        if meant.is_empty() {
            return None;
        }
        let is_named = meant.iter().any(|(_, meant)| *meant == Meant::Yes);
        if let Some(reason) = self.spare(candidate) {
            // Whoever is not stopped whatever it is, and may not be meant at all, is not worth a word.
            return is_named.then_some(Verdict::Spare(reason));
        }
        let may_be_protected = Nature::Hidden {
            may_be_protected: true,
        };
        let sure = meant.iter().filter(|(_, meant)| *meant == Meant::Yes);
        let action = sure.map(|(rule, _)| rule.rule.action).max();
        let action = action.filter(|_| candidate.nature != may_be_protected);
        Some(action.map_or(Verdict::Unknown, Verdict::Act))
    }

    fn meant(&self, rule: &NamingRule, candidate: &Candidate) -> Meant {
        let before = self.before.get(&candidate.process.identity);
        if before.is_some_and(|sums| sums.contains(&rule.sum)) {
            return Meant::Yes;
        }
        rule.patterns.mean(candidate)
    }

    /// Which rules name it.
    pub fn named_by(&self, candidate: &Candidate) -> BTreeSet<u32> {
        let named = self
            .rules
            .iter()
            .filter(|rule| self.meant(rule, candidate) == Meant::Yes);
        named.map(|rule| rule.sum).in_set()
    }

    /// Who was named before by a rule that holds, with what it does.
    fn still_named(&self) -> impl Iterator<Item = (ProcessId, ProcessAction)> {
        self.before.iter().filter_map(|(id, sums)| {
            let named = self.rules.iter().filter(|rule| sums.contains(&rule.sum));
            Some((*id, named.map(|rule| rule.rule.action).max()?))
        })
    }

    /// Whether protection names its program.
    fn is_protected(&self, candidate: &Candidate) -> bool {
        self.executables.iter().any(|it| candidate.is_at(it))
    }

    fn traces_nucleus(&self, candidate: &Candidate) -> bool {
        let is_it =
            |trace: &NucleusTrace| trace.may_be(&candidate.process) && candidate.user == Some(trace.user);
        self.traces.iter().any(is_it)
    }

    fn spare(&self, candidate: &Candidate) -> Option<&'static str> {
        let process = &candidate.process;
        if process.identity.pid == 1 {
            Some("it is pid 1")
        } else if candidate.nature == Nature::Kernel {
            Some("it is a kernel thread")
        } else if candidate.nature == Nature::Ended {
            Some(ENDED)
        } else if candidate.is_ours || self.untouchable.contains(&process.identity.pid) {
            Some("it is Edgewarden, the nucleus or an ancestor of them")
        } else if candidate.is_newer_service || process.cgroup.as_deref().is_some_and(is_nucleus_service) {
            Some("it is a service of the nucleus")
        } else if self.traces_nucleus(candidate) {
            Some("it is what the nucleus was, and none is connected")
        } else if candidate.at_home && self.is_protected(candidate) {
            Some("isolation.protected names it")
        } else {
            None
        }
    }
}

/// Applies `rules` to the process list; `before` is who is stopped.
pub fn select(
    list: &[Candidate],
    rules: &[ProcessRule],
    protected: &ProtectedProcesses,
    before: NamedBefore,
) -> ProcessSelection {
    let selector = Selector::new(list, rules, protected, before);
    let mut selection = ProcessSelection::default();
    for candidate in list {
        let process = || candidate.process.clone();
        match selector.judge(candidate) {
            // Nothing is left of the dead that would be spared, and anybody can leave as many as he likes.
            None | Some(Verdict::Spare(ENDED)) => {}
            Some(Verdict::Spare(reason)) => selection.spared.push((process(), reason)),
            Some(Verdict::Unknown) => selection.unknown.push(process()),
            Some(Verdict::Act(action)) => {
                let id = candidate.process.identity;
                selection.named_by.insert(id, selector.named_by(candidate));
                if candidate.is_worn && selector.is_protected(candidate) {
                    selection.worn.push(process());
                }
                selection.act.push((process(), action));
            }
        }
    }
    let matches_nobody = |rule: &&NamingRule| !list.iter().any(|it| selector.meant(rule, it) == Meant::Yes);
    let idle = selector.rules.iter().filter(matches_nobody);
    selection.idle = idle.map(|rule| rule.rule.clone()).collect();
    if !selector.before.is_empty() {
        let listed: BTreeSet<ProcessId> = list.iter().map(|it| it.process.identity).in_set();
        let unseen = selector.still_named().filter(|(id, _)| !listed.contains(id));
        selection.unseen = unseen.collect();
    }
    selection
}

fn runs(list: &[Candidate], process: Option<ProcessId>) -> bool {
    list.iter()
        .any(|candidate| Some(candidate.process.identity) == process)
}

fn with_ancestors(list: &[Candidate], protected: &ProtectedProcesses) -> BTreeSet<u32> {
    let parents: BTreeMap<u32, u32> = list
        .iter()
        .map(|candidate| (candidate.process.identity.pid, candidate.process.parent))
        .in_map();
    let nucleus = protected.nucleus.filter(|nucleus| runs(list, Some(*nucleus)));
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

impl Candidate {
    /// One whose path is what it seems to be.
    pub fn plain(process: Process) -> Self {
        let has_program = process.exe.is_some();
        Self {
            process,
            aliases: Vec::new(),
            at_home: true,
            is_worn: false,
            is_ours: false,
            user: None,
            is_newer_service: false,
            is_others: false,
            nature: if has_program {
                Nature::Program
            } else {
                Nature::Kernel
            },
        }
    }

    /// Whether its program is meant by that path, with `*` and `?`.
    pub fn is_at(&self, pattern: &WildMatch) -> bool {
        let exe = self.process.exe.as_deref().unwrap_or_default();
        pattern.matches(exe) || self.aliases.iter().any(|alias| pattern.matches(alias))
    }
}

#[derive(Debug)]
struct ProcessPatterns {
    exe: Option<WildMatch>,
    name: Option<NamePattern>,
}

impl ProcessPatterns {
    fn new(wanted: &ProcessMatch) -> Self {
        Self {
            exe: wanted.exe.as_deref().map(WildMatch::new),
            name: wanted.name.as_deref().map(NamePattern::new),
        }
    }

    fn mean(&self, candidate: &Candidate) -> Meant {
        let process = &candidate.process;
        let exe = process.exe.as_deref();
        let is_named = |pattern: &NamePattern| pattern.means(&process.name, exe, candidate.is_others);
        if !self.name.as_ref().is_none_or(is_named) {
            return Meant::No;
        }
        match &self.exe {
            Some(pattern) if candidate.is_at(pattern) => Meant::Yes,
            Some(_) if matches!(candidate.nature, Nature::Hidden { .. }) => Meant::Unsure,
            Some(_) => Meant::No,
            None => Meant::Yes,
        }
    }
}

#[cfg(test)]
#[path = "processes_tests.rs"]
mod tests;
