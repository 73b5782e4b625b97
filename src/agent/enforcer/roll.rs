//! The roll of stopped processes: who must be let go one day, and of whom it may be said that he is stopped.
//!
//! In: whom the journal remembers, who was found, what became of each signal. Out: what the journal must remember, what
//! may be shown. Nobody leaves the roll before it is known that he runs again or has ended. Absent: signals (`stopper`).

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::process::{Process, ProcessId};
use crate::quarantine::orders::order::ProcessAction;
use crate::quarantine::plan::processes::StoppedProcess;

/// Frozen processes at most: each must be remembered, or it would stay frozen after release. More than this at once is
/// a rule that fits too much.
const MAX_FROZEN: usize = 256;
/// Killed processes kept for display, the newest. A supervisor may start a killed one again for ever.
const MAX_KILLED: usize = 32;

/// Who was stopped and not let go since.
#[derive(Debug, Default)]
pub(super) struct Roll {
    stopped: Vec<StoppedProcess>,
    /// Those of whom it is not known whether they are stopped: they are remembered before they are touched.
    unproven: BTreeSet<ProcessId>,
}

impl Roll {
    /// As the journal remembers it.
    pub(super) fn restore(stopped: &[StoppedProcess]) -> Self {
        let frozen = stopped
            .iter()
            .filter(|known| known.action == ProcessAction::Freeze);
        Self {
            unproven: frozen.map(|known| known.identity).collect(),
            stopped: stopped.to_vec(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.stopped.is_empty()
    }

    /// Everybody, for the journal.
    pub(super) fn all(&self) -> &[StoppedProcess] {
        &self.stopped
    }

    /// Those of whom it is known that they are stopped, and the killed.
    pub(super) fn proven(&self) -> Vec<StoppedProcess> {
        let proven = |known: &&StoppedProcess| !self.unproven.contains(&known.identity);
        self.stopped.iter().filter(proven).cloned().collect()
    }

    pub(super) fn knows(&self, id: ProcessId) -> bool {
        self.stopped.iter().any(|known| known.identity == id)
    }

    /// Whether a signal that stops it was sent.
    pub(super) fn prove(&mut self, id: ProcessId, stopped: bool) {
        if stopped {
            self.unproven.remove(&id);
        } else {
            self.unproven.insert(id);
        }
    }

    /// It runs again, or has ended.
    pub(super) fn strike(&mut self, id: ProcessId) {
        self.stopped.retain(|known| known.identity != id);
        self.unproven.remove(&id);
    }

    /// Notes a process that is to be stopped; gives whether it is news.
    ///
    /// # Errors
    /// A sentence: it would be stopped and could not be remembered.
    pub(super) fn note(
        &mut self,
        process: &Process,
        action: ProcessAction,
        at: Timestamp,
    ) -> Result<bool, String> {
        if self.knows(process.identity) {
            return Ok(false);
        }
        let alike = self.stopped.iter().filter(|known| known.action == action).count();
        match action {
            ProcessAction::Freeze if alike >= MAX_FROZEN => {
                return Err(format!(
                    "{MAX_FROZEN} processes are frozen already, {} is left running",
                    process.name
                ));
            }
            ProcessAction::Kill if alike >= MAX_KILLED => self.strike_oldest_killed(&process.name)?,
            _ => {}
        }
        self.add(process, action, at);
        self.unproven.insert(process.identity);
        Ok(true)
    }

    /// Notes a process that was found and is ours; gives false when there is no room for it.
    pub(super) fn adopt(&mut self, process: &Process, stopped: bool, at: Timestamp) -> bool {
        if !self.knows(process.identity) {
            if self.stopped.len() >= MAX_FROZEN + MAX_KILLED {
                return false;
            }
            tracing::warn!(
                pid = process.identity.pid,
                name = %process.name,
                exe = ?process.exe,
                "found frozen by us and not remembered"
            );
            self.add(process, ProcessAction::Freeze, at);
        }
        // One that was to be killed lives.
        let id = process.identity;
        let killed = |known: &StoppedProcess| known.identity == id && known.action == ProcessAction::Kill;
        self.prove(id, stopped && !self.stopped.iter().any(killed));
        true
    }

    fn add(&mut self, process: &Process, action: ProcessAction, at: Timestamp) {
        self.stopped.push(StoppedProcess {
            identity: process.identity,
            name: process.name.clone(),
            exe: process.exe.clone(),
            action,
            at,
        });
    }

    /// One that could only be frozen on the way is not forgotten for another one.
    fn strike_oldest_killed(&mut self, for_whom: &str) -> Result<(), String> {
        let dead = |known: &&StoppedProcess| {
            known.action == ProcessAction::Kill && !self.unproven.contains(&known.identity)
        };
        let oldest = self.stopped.iter().find(dead).map(|known| known.identity);
        let full = || format!("{MAX_KILLED} processes could not be killed, {for_whom} is left running");
        self.strike(oldest.ok_or_else(full)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32) -> Process {
        Process {
            identity: ProcessId { pid, start_ticks: 7 },
            parent: 1,
            name: format!("p{pid}"),
            exe: Some("/opt/p".into()),
            cgroup: None,
            workload: None,
        }
    }

    fn pids(stopped: &[StoppedProcess]) -> Vec<u32> {
        stopped.iter().map(|known| known.identity.pid).collect()
    }

    const AT: Timestamp = Timestamp::UNIX_EPOCH;

    #[test]
    fn nobody_is_said_to_be_stopped_before_he_is() {
        let mut roll = Roll::default();
        let id = process(10).identity;
        assert_eq!(roll.note(&process(10), ProcessAction::Freeze, AT), Ok(true));
        assert_eq!((pids(roll.all()), roll.proven()), (vec![10], vec![]));
        roll.prove(id, true);
        assert_eq!(pids(&roll.proven()), [10]);
        let restored = Roll::restore(roll.all());
        assert_eq!((pids(restored.all()), restored.proven()), (vec![10], vec![]));
        roll.prove(id, false);
        assert_eq!((pids(roll.all()), roll.proven()), (vec![10], vec![]));
        assert!(roll.adopt(&process(10), true, AT) && roll.adopt(&process(11), true, AT));
        assert_eq!(
            (pids(roll.all()), pids(&roll.proven())),
            (vec![10, 11], vec![10, 11])
        );
        roll.strike(id);
        assert_eq!(pids(roll.all()), [11]);
    }

    #[test]
    fn whoever_could_not_be_killed_is_not_forgotten_for_the_next() {
        let mut roll = Roll::default();
        let most = u32::try_from(MAX_KILLED).unwrap();
        for pid in 0..most {
            roll.note(&process(pid), ProcessAction::Kill, AT).unwrap();
        }
        let full = roll.note(&process(most), ProcessAction::Kill, AT).unwrap_err();
        assert!(full.contains("could not be killed"), "{full}");
        roll.prove(process(5).identity, true);
        assert_eq!(roll.note(&process(most), ProcessAction::Kill, AT), Ok(true));
        assert!(!roll.knows(process(5).identity) && roll.knows(process(0).identity));
        let mut restored = Roll::restore(roll.all());
        for pid in (0..=most).filter(|pid| *pid != 5) {
            assert!(restored.adopt(&process(pid), true, AT));
        }
        assert!(
            restored.note(&process(99), ProcessAction::Kill, AT).is_err(),
            "they live"
        );
        assert_eq!(restored.proven(), [], "nobody was killed");
    }

    #[test]
    fn more_than_can_be_remembered_is_told_and_left_for_later() {
        let mut roll = Roll::default();
        let most = u32::try_from(MAX_FROZEN).unwrap();
        for pid in 0..most {
            roll.note(&process(pid), ProcessAction::Freeze, AT).unwrap();
        }
        assert!(roll.note(&process(most), ProcessAction::Freeze, AT).is_err());
        let room = u32::try_from(MAX_KILLED).unwrap();
        for pid in most..most + room {
            assert!(roll.adopt(&process(pid), true, AT), "{pid}");
        }
        assert!(!roll.adopt(&process(most + room), true, AT));
        assert!(
            roll.adopt(&process(0), true, AT),
            "whom it knows already needs no room"
        );
    }
}
