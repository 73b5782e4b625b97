//! Who waits for a process and stops himself with it: `su` and `sudo` do when their child is stopped, so that the shell above
//! them notices. Nobody lets them go on but whoever does it for the child.
//!
//! In: a [`ProcessId`] that is to be stopped, later those above it. Out: who of them runs, and who goes on again. A shell with job
//! control does not stop: it takes its terminal back, and its owner has the job go on there.

use std::collections::{BTreeMap, BTreeSet};

use super::doing::is_stopped_by_signal;
use super::frozen::Ours;
use super::process_table::{ancestors, stat};
use super::signals;
use crate::process::ProcessId;
use crate::quarantine::plan::processes::MAX_ABOVE;

/// Who runs above processes, looked for once for all children of the same one.
#[derive(Debug)]
pub(super) struct Above {
    /// Who ran until we stopped him, or somebody below him: his owner has not stopped him.
    ran: BTreeSet<ProcessId>,
    children_of: BTreeMap<u32, Vec<ProcessId>>,
}

impl Above {
    pub(super) const fn past(ran: BTreeSet<ProcessId>) -> Self {
        Self {
            ran,
            children_of: BTreeMap::new(),
        }
    }

    /// We stop it, and it ran.
    pub(super) fn note(&mut self, stopped: ProcessId) {
        self.ran.insert(stopped);
    }

    /// Who is above that very process, nearest first, up to the first whom his owner has stopped.
    pub(super) fn of(&mut self, id: ProcessId) -> Vec<ProcessId> {
        let stat = stat(id.pid).filter(|stat| stat.start_ticks == id.start_ticks);
        stat.map_or_else(Vec::new, |stat| self.children_of(stat.parent))
    }

    /// The same of all children of `parent`.
    pub(super) fn children_of(&mut self, parent: u32) -> Vec<ProcessId> {
        if let Some(known) = self.children_of.get(&parent) {
            return known.clone();
        }
        let above = ancestors_and_itself(parent).into_iter().take(MAX_ABOVE);
        let runs = |id: &ProcessId| self.ran.contains(id) || !is_stopped_by_signal(*id);
        let above: Vec<_> = above.take_while(runs).collect();
        self.ran.extend(&above);
        self.children_of.insert(parent, above.clone());
        above
    }
}

fn ancestors_and_itself(pid: u32) -> Vec<ProcessId> {
    let itself = super::process_table::start_ticks(pid).filter(|_| pid > 1);
    let itself = itself.map(|start_ticks| ProcessId { pid, start_ticks });
    itself.into_iter().chain(ancestors(pid)).collect()
}

/// Lets those go on who ran when the one below them was stopped, and are stopped now, also above one that runs: where `sudo` has given
/// its command a terminal, one in between does not stop. Gives who is left: he may be in the middle of it. Whom an order has
/// stopped stays so.
pub(crate) fn go_on(above: &[ProcessId], ours: &Ours) -> Vec<ProcessId> {
    let goes_on = |id: ProcessId| is_stopped_by_signal(id) && !ours.holds(id) && let_go_on(id);
    above.iter().copied().filter(|id| !goes_on(*id)).collect()
}

fn let_go_on(id: ProcessId) -> bool {
    let pid = id.pid;
    match signals::thaw(id) {
        Ok(()) => {
            tracing::info!(
                pid,
                "a process that stopped with one that was frozen below it runs again"
            );
            true
        }
        Err(error) => {
            tracing::warn!(
                pid,
                "a process that stopped with one that was frozen below it: {error}"
            );
            false
        }
    }
}
