//! Stops processes that start others as fast as they are stopped one by one.
//!
//! In: rules, who is protected, marks. Out: everybody whom the rules name, stopped before any of them is ended, and how many
//! went on all the same. Ends by itself as soon as nobody waits for it: then nobody else is stopped or ended, and whoever was
//! stopped is found by his mark, or by the note of him ([`Ours`]). Between two lists of all processes the newest numbers are followed, which costs the same however
//! many processes there are. Bounded: in time, in numbers looked at, in processes stopped. Absent: the journal; whoever is
//! stopped here carries the mark.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::above::Above;
use super::doing::is_stopped;
use super::frozen::{self, Ours};
use super::nucleus;
use super::process_table::{self, is_process, newest};
use super::programs::Places;
use super::signals::SignalError;
use crate::host::clock;
use crate::process::{Process, ProcessId};
use crate::quarantine::orders::order::ProcessAction;
use crate::quarantine::plan::processes::{Candidate, NamedBefore, Selector, Verdict};
use crate::quarantine::ports::{Chase, Chased, Doing, RanAbove};

/// A chase ends after so long, and goes on a second later: other orders wait meanwhile. One that forks every two milliseconds
/// is caught within some ten.
const LIMIT: Duration = Duration::from_millis(300);
/// When nobody new was found for so long, nobody starts others any more.
const QUIET: Duration = Duration::from_millis(15);
/// From one look at the newest numbers to the next.
const PAUSE: Duration = Duration::from_micros(200);
/// Numbers looked at downwards from the newest; a list of all comes after it.
const NEWEST_NUMBERS: u32 = 256;
/// Numbers looked at again: a number is given away a moment before its process can be seen.
const UNSETTLED_NUMBERS: u32 = 8;
/// Processes killed in one chase at most.
const MAX_KILLED: usize = 4_096;
/// How long the end of those that were killed is waited for.
const PATIENCE: Duration = Duration::from_millis(100);

struct Hunt<'a> {
    chase: Chase,
    places: Arc<Places>,
    ours: &'a Ours,
    /// Somebody holds it as long as he waits.
    waited_for: Weak<()>,
    held: BTreeMap<ProcessId, (Process, ProcessAction)>,
    /// By which rules.
    named_by: NamedBefore,
    /// Who ran above them.
    above: RanAbove,
    runs_above: Above,
    refused: BTreeSet<ProcessId>,
    frozen: usize,
    /// There was no room for one.
    is_full: bool,
    end: Instant,
}

/// Hunts whom the rules name, by paths that lead to `places`, and who run, as long as somebody holds what `waited_for` leads to.
///
/// # Errors
/// As [`process_table::list`].
pub(crate) fn chase(
    chase: Chase,
    places: Arc<Places>,
    ours: &Ours,
    waited_for: Weak<()>,
) -> io::Result<Chased> {
    let mut hunt = Hunt {
        runs_above: Above::past(chase.ran.clone()),
        places,
        chase,
        ours,
        waited_for,
        named_by: NamedBefore::new(),
        above: RanAbove::new(),
        held: BTreeMap::new(),
        refused: BTreeSet::new(),
        frozen: 0,
        is_full: false,
        end: clock::instant() + LIMIT,
    };
    let mut left = 0;
    loop {
        let seen = newest();
        let (selector, new) = hunt.stop_all()?;
        if new + hunt.follow_newest(&selector, seen) == 0 || hunt.is_put_off() {
            break;
        }
        if clock::instant() >= hunt.end || hunt.is_full {
            left = hunt.count_left()?;
            break;
        }
    }
    Ok(hunt.finish(left))
}

impl Hunt<'_> {
    /// Another plan came, or a release: whoever is not stopped yet is not to be by this one.
    fn is_put_off(&self) -> bool {
        self.waited_for.strong_count() == 0
    }

    /// Stops everybody in the list who runs; gives how many were new.
    fn stop_all(&mut self) -> io::Result<(Selector, usize)> {
        let (list, selector) = self.list()?;
        // Newest first: those are the ones that start others.
        let new = list
            .iter()
            .rev()
            .filter(|candidate| self.stop(candidate, &selector));
        let new = new.count();
        Ok((selector, new))
    }

    fn list(&self) -> io::Result<(Vec<Candidate>, Selector)> {
        let all = process_table::list()?.into_iter();
        let list: Vec<Candidate> = all.map(|process| self.candidate(process)).collect();
        let selector = Selector::new(
            &list,
            &self.chase.rules,
            &self.chase.protected,
            NamedBefore::new(),
        );
        Ok((list, selector))
    }

    fn candidate(&self, process: Process) -> Candidate {
        let mut candidate = self.places.candidate(process);
        nucleus::note_user(&mut candidate, &self.chase.protected.traces);
        candidate
    }

    /// Looks at the newest numbers until nobody new is found among them for a while; gives how many were new.
    fn follow_newest(&mut self, selector: &Selector, from: Option<u32>) -> usize {
        let Some(mut seen) = from else { return 0 };
        let (mut found, mut new) = (clock::instant(), 0);
        while clock::instant() < self.end.min(found + QUIET) && !self.is_full && !self.is_put_off() {
            let Some(last) = newest() else { break };
            // Numbers begin again at the top; then all are new.
            let first = if seen > last {
                0
            } else {
                seen.saturating_sub(UNSETTLED_NUMBERS)
            };
            seen = last;
            let first = first.max(last.saturating_sub(NEWEST_NUMBERS));
            for pid in (first..=last).rev().filter(|pid| is_process(*pid)) {
                let Some(process) = process_table::read(pid) else {
                    continue;
                };
                if self.stop(&self.candidate(process), selector) {
                    found = clock::instant();
                    new += 1;
                }
            }
            clock::pause(PAUSE);
        }
        new
    }

    /// Stops one whom the rules name; gives whether it ran and is news.
    fn stop(&mut self, candidate: &Candidate, selector: &Selector) -> bool {
        let id = candidate.process.identity;
        let Some(Verdict::Act(action)) = selector.judge(candidate).filter(|_| !self.is_done(id)) else {
            return false;
        };
        // Whom somebody stopped starts nobody, and is the ordinary way's.
        if is_stopped(id) || self.is_put_off() {
            return false;
        }
        if self.has_no_room(action) {
            self.is_full = true;
            return false;
        }
        // Before: whoever stops with it does so at once.
        let above = self.runs_above.children_of(candidate.process.parent);
        match frozen::freeze(id, self.ours, false) {
            Ok(_marked) => {}
            // It ended meanwhile, and may have started another one.
            Err(SignalError::Gone(_)) => return true,
            // Told by the ordinary way.
            Err(SignalError::Refused { .. }) => {
                self.refused.insert(id);
                return false;
            }
        }
        self.frozen += usize::from(action == ProcessAction::Freeze);
        self.named_by.insert(id, selector.named_by(candidate));
        self.above.insert(id, above);
        self.runs_above.note(id);
        self.held.insert(id, (candidate.process.clone(), action));
        true
    }

    fn is_done(&self, id: ProcessId) -> bool {
        self.held.contains_key(&id) || self.refused.contains(&id)
    }

    fn has_no_room(&self, action: ProcessAction) -> bool {
        match action {
            ProcessAction::Freeze => self.frozen >= self.chase.room,
            ProcessAction::Kill => self.held.len() - self.frozen >= MAX_KILLED,
        }
    }

    fn count_left(&self) -> io::Result<usize> {
        let (list, selector) = self.list()?;
        let goes_on = |candidate: &&Candidate| {
            let id = candidate.process.identity;
            matches!(selector.judge(candidate), Some(Verdict::Act(_)))
                && !self.held.contains_key(&id)
                && !is_stopped(id)
        };
        Ok(list.iter().filter(goes_on).count())
    }

    /// Ends those that are to be ended, and looks at everybody.
    fn finish(mut self, left: usize) -> Chased {
        let killed = self
            .held
            .iter()
            .filter(|(_, (_, action))| *action == ProcessAction::Kill);
        for (id, _) in killed {
            if self.is_put_off() {
                break;
            }
            // What became of it is seen below.
            let _seen_below = frozen::kill(*id, self.ours);
        }
        if self.is_put_off() {
            return Chased::default();
        }
        let all: Vec<_> = self.held.iter().map(|(id, (_, action))| (*id, *action)).collect();
        let seen = frozen::look_at(&all, PATIENCE, self.ours);
        self.runs_above.note_held(&mut self.above);
        let mut chased = Chased {
            left,
            named_by: self.named_by,
            above: self.above,
            ..Chased::default()
        };
        for (id, (process, action)) in self.held {
            let doing = seen.iter().find(|doing| doing.id == id);
            match (action, doing) {
                (ProcessAction::Freeze, Some(doing)) if doing.reached && doing.stopped => {
                    chased.stopped.push((process, action, *doing));
                }
                (ProcessAction::Kill, None) => {
                    chased.stopped.push((process, action, ended(id)));
                }
                (ProcessAction::Freeze, None) => {}
                // He may wait for a disk: whoever was told is remembered.
                (_, Some(_)) => chased.unproven.push((process, action)),
            }
        }
        chased
    }
}

const fn ended(id: ProcessId) -> Doing {
    Doing {
        id,
        reached: true,
        stopped: true,
        defies: false,
        by_owner: false,
        ran: Duration::ZERO,
    }
}
