//! Who waits for a process and stops himself with it: `su` and `sudo` do when their child is stopped, so that the shell above
//! them notices. Nobody lets them go on but whoever does it for the child.
//!
//! In: a [`ProcessId`] that is to be stopped, later those above it. Out: who of them runs, and who goes on again. A shell with job
//! control does not stop: it takes its terminal back, and its owner has the job go on there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::debugged::{Held, place};
use super::doing::{is_stopped_by_signal, some_threads};
use super::frozen::Ours;
use super::process_table::{ancestors, stat};
use super::signals;
use crate::host::clock;
use crate::process::ProcessId;
use crate::quarantine::plan::processes::{MAX_ABOVE, OneAbove};
use crate::quarantine::ports::RanAbove;

/// Whoever is about to stop is waited for so long: it takes a moment of a processor.
const PATIENCE: Duration = Duration::from_millis(100);
/// What is said of whom we let go on.
const STOPPED_WITH: &str = "a process that stopped with one that was frozen below it runs again";
const LET_GO: &str = "a process that stopped itself after its debugger had let it go runs again";
const DEBUGGED: &str = "a process above one that was frozen goes on when its debugger lets it";
/// From one look to the next.
const PAUSE: Duration = Duration::from_millis(1);

/// Who runs above processes, looked for once for all children of the same one.
#[derive(Debug)]
pub(super) struct Above {
    /// Who ran until we stopped him, or somebody below him: his owner has not stopped him.
    ran: BTreeSet<ProcessId>,
    children_of: BTreeMap<u32, Vec<OneAbove>>,
    /// Whom a debugger may hold still: whether he ran is not known.
    held: Held,
}

impl Above {
    pub(super) fn past(ran: BTreeSet<ProcessId>) -> Self {
        Self {
            ran,
            children_of: BTreeMap::new(),
            held: Held::default(),
        }
    }

    /// We stop it, and it ran.
    pub(super) fn note(&mut self, stopped: ProcessId) {
        self.ran.insert(stopped);
    }

    /// Who is above that very process, nearest first, up to the first whom his owner has stopped.
    pub(super) fn of(&mut self, id: ProcessId) -> Vec<OneAbove> {
        let stat = stat(id.pid).filter(|stat| stat.start_ticks == id.start_ticks);
        if !self.ran.contains(&id) {
            self.held.note(id);
        }
        stat.map_or_else(Vec::new, |stat| self.children_of(stat.parent))
    }

    /// The same of all children of `parent`.
    pub(super) fn children_of(&mut self, parent: u32) -> Vec<OneAbove> {
        if let Some(known) = self.children_of.get(&parent) {
            return known.clone();
        }
        let above = ancestors_and_itself(parent).into_iter().take(MAX_ABOVE);
        let runs = |id: &ProcessId| self.ran.contains(id) || !is_stopped_by_signal(*id);
        let above: Vec<_> = above.take_while(runs).collect();
        let new = above.iter().filter(|id| !self.ran.contains(id));
        new.for_each(|id| self.held.note(*id));
        self.ran.extend(&above);
        let above: Vec<_> = above.into_iter().map(OneAbove::that_runs).collect();
        self.children_of.insert(parent, above.clone());
        above
    }

    /// Says of whom a debugger has held still all the while where he was: he has not stopped with anybody below him, and his owner
    /// may have stopped him before. Ends a row before one of whom that cannot be said. One who is held himself begins his own.
    pub(super) fn note_held(&self, rows: &mut RanAbove) {
        let held = self.held.still();
        for (id, row) in rows {
            let known = |one: &&OneAbove| held.get(&one.identity).is_none_or(Option::is_some);
            row.truncate(row.iter().take_while(known).count());
            for one in row.iter_mut() {
                one.held_at = held.get(&one.identity).copied().flatten();
            }
            let held_at = held.get(id).copied().flatten();
            if held_at.is_some() {
                let identity = *id;
                row.insert(0, OneAbove { identity, held_at });
            }
        }
    }
}

fn ancestors_and_itself(pid: u32) -> Vec<ProcessId> {
    let itself = super::process_table::start_ticks(pid).filter(|_| pid > 1);
    let itself = itself.map(|start_ticks| ProcessId { pid, start_ticks });
    itself.into_iter().chain(ancestors(pid)).collect()
}

/// Lets those go on who ran when the one below them was stopped, and are stopped now, also above one that runs: where `sudo` has given
/// its command a terminal, one in between does not stop. Whom an order has stopped stays so, and whom a debugger held and who has
/// not gone on since. Gives the rows in which somebody is at work still: he may be about to stop, or to have another one above him stop. Where all sleep nobody does it any more, and
/// whoever is stopped later has not stopped with the one below.
pub(crate) fn go_on(rows: &[Vec<OneAbove>], ours: &Ours) -> Vec<Vec<OneAbove>> {
    let end = clock::instant() + PATIENCE;
    let mut told = BTreeSet::new();
    loop {
        // Each once, of a row the nearest first: whom another one wakes is looked at after that one.
        let mut looked = BTreeMap::new();
        let mut is_at_work = |row: &&Vec<OneAbove>| {
            let mut any = false;
            for one in row.iter() {
                // Of whom no look came to nothing is known.
                if clock::instant() >= end {
                    return true;
                }
                let look = looked.entry(*one).or_insert_with(|| look(*one, ours, &mut told));
                any |= look.is_at_work;
                if !look.ran {
                    break;
                }
            }
            any
        };
        let left: Vec<_> = rows.iter().filter(&mut is_at_work).cloned().collect();
        if left.is_empty() || clock::instant() >= end {
            return left;
        }
        clock::pause(PAUSE);
    }
}

/// What one look at one above tells.
#[derive(Clone, Copy)]
struct Look {
    /// He may be about to stop.
    is_at_work: bool,
    /// He ran when the one below him was stopped, or since.
    ran: bool,
}

fn look(one: OneAbove, ours: &Ours, told: &mut BTreeSet<ProcessId>) -> Look {
    let id = one.identity;
    if let Some(held_at) = one.held_at {
        let now = place(id);
        if now.is_none_or(|now| now == held_at) {
            // On his way from the debugger to where his owner had him he has a processor for a moment, and is nowhere.
            let stat = stat(id.pid).filter(|stat| stat.start_ticks == id.start_ticks);
            let is_at_work = now.is_none() && stat.is_some_and(|stat| stat.is_awake());
            return Look {
                is_at_work,
                ran: false,
            };
        }
    }
    Look {
        is_at_work: is_at_work(one, ours, told),
        ran: true,
    }
}

/// Whether it is at work, now that it was let go on if it is stopped; once in `told`.
fn is_at_work(one: OneAbove, ours: &Ours, told: &mut BTreeSet<ProcessId>) -> bool {
    let id = one.identity;
    if is_stopped_by_signal(id) {
        let news = one.held_at.map_or(STOPPED_WITH, |_| LET_GO);
        return !ours.holds(id) && let_go_on(id, told.insert(id).then_some(news));
    }
    let Some(stat) = stat(id.pid).filter(|stat| stat.start_ticks == id.start_ticks) else {
        return false;
    };
    // Whether he stopped nobody can tell, nor when the debugger leaves him: he does not stay so then.
    if stat.is_traced() && !told.contains(&id) && !ours.holds(id) {
        let_go_on(id, told.insert(id).then_some(DEBUGGED));
    }
    stat.is_at_work() || (stat.threads > 1 && some_threads(id.pid).any(|thread| thread.is_at_work()))
}

fn let_go_on(id: ProcessId, news: Option<&str>) -> bool {
    let pid = id.pid;
    match signals::thaw(id) {
        Ok(()) => {
            news.into_iter().for_each(|news| tracing::info!(pid, "{news}"));
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
