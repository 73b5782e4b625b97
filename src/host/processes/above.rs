//! Who waits for a process and stops himself with it: `su` and `sudo` do when their child is stopped, so that the shell above
//! them notices. Nobody lets them go on but whoever does it for the child.
//!
//! In: a [`ProcessId`] that is to be stopped, later those above it. Out: who of them runs, and who goes on again. A shell with job
//! control does not stop: it takes its terminal back, and its owner has the job go on there.

use std::collections::BTreeMap;

use super::doing::is_stopped_by_signal;
use super::frozen::Ours;
use super::process_table::ancestors;
use super::signals;
use crate::process::ProcessId;
use crate::quarantine::plan::processes::MAX_ABOVE;

/// Who runs above processes, looked for once for all children of the same one.
#[derive(Debug, Default)]
pub(super) struct Above {
    children_of: BTreeMap<u32, Vec<ProcessId>>,
}

impl Above {
    /// Who is above the children of `parent`, nearest first, up to the first that is stopped already.
    pub(super) fn children_of(&mut self, parent: u32) -> Vec<ProcessId> {
        let known = self.children_of.entry(parent);
        known.or_insert_with(|| running(parent)).clone()
    }
}

fn running(parent: u32) -> Vec<ProcessId> {
    let above = ancestors_and_itself(parent).into_iter().take(MAX_ABOVE);
    above.take_while(|id| !is_stopped_by_signal(*id)).collect()
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
