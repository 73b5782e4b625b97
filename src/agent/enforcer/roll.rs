//! The roll of stopped processes: who must be let go one day, and of whom it may be said that he is stopped.
//!
//! In: whom the journal remembers, who was found, what each was seen to do after its signal. Out: what the journal must
//! remember, what may be shown, who was let go on by others, whom no look has reached for a while: of him nothing else is
//! known than before. Nobody leaves the roll before it is known that he runs again
//! or has ended. Absent: signals (`stopper`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::behind::{Behind, add_above};
use crate::Gather;
use crate::process::{Process, ProcessId};
use crate::quarantine::orders::order::ProcessAction;
use crate::quarantine::plan::processes::{NamedBefore, OneAbove, StoppedProcess};
use crate::quarantine::ports::{Doing, FoundFrozen};
use crate::quarantine::proof::obstacle::Obstacle;

/// Frozen processes at most: each must be remembered, or it would stay frozen after release. More than this at once is
/// a rule that fits too much.
const MAX_FROZEN: usize = 256;
/// Killed processes kept for display, the newest. A supervisor may start a killed one again for ever.
const MAX_KILLED: usize = 32;
/// Processes that are being killed at once at most: what is not noted here is hunted, or is killed at the next look.
const MAX_KILLING: usize = 512;
/// Shown at most: more there are only where others put our mark on their own, and no answer may be longer than is read.
const MAX_STOPPED_SHOWN: usize = MAX_FROZEN + MAX_KILLED;
/// Looks for which one that was let go on by others is told to be so: they need not do it before each look.
const TOLD_LOOKS: u8 = 10;

/// So much of a processor from one look to another at which it is stopped tells that it was let go on meanwhile. It has less where it only
/// stops, after it has come to the end of what it had asked the kernel for or when its cgroup is let go on, or where a debugger
/// looks at it: each takes some ten microseconds for each of its threads.
const RAN_SINCE_A_LOOK: Duration = Duration::from_millis(10);
/// So much tells it that came together a little at each look.
const RAN_IN_ALL: Duration = Duration::from_millis(30);

/// One that no look has reached for so long is told to be so: the looks before it say less and less.
pub(super) const TOLD_AFTER: Duration = Duration::from_secs(10);

/// A time as it is told: by its doublings, so that it is news seldom.
pub(super) fn told_seconds(since: Duration) -> u64 {
    since
        .as_secs()
        .checked_ilog2()
        .map_or(0, |doublings| 1 << doublings)
}

/// Who was stopped and not let go since.
#[derive(Debug, Default)]
pub(super) struct Roll {
    stopped: Vec<StoppedProcess>,
    /// Those of whom it is not known whether they are stopped: they are remembered before they are touched.
    unproven: BTreeSet<ProcessId>,
    /// Those whose stop was not told yet.
    untold: BTreeSet<ProcessId>,
    /// The frozen who were seen to be stopped.
    seen: BTreeMap<ProcessId, Seen>,
    /// Those whom the last look did not reach, each since which uptime.
    missed: BTreeMap<ProcessId, Duration>,
    /// Who was above those that were let go or have ended: some may have stopped with them.
    behind: Behind,
}

/// How somebody came to be stopped.
#[derive(Debug, Clone, Default)]
pub(super) struct Named {
    /// His owner had stopped him.
    pub(super) stopped_before: bool,
    /// Which rules named him.
    pub(super) by: BTreeSet<u32>,
    /// Who ran above him.
    pub(super) above: Vec<OneAbove>,
}

/// As it is shown: by which rules it was named, from where it is seen and who is above it is the journal's.
pub(super) fn without_rules(stopped: StoppedProcess) -> StoppedProcess {
    StoppedProcess {
        named_by: BTreeSet::new(),
        seen_from: None,
        above: Vec::new(),
        ..stopped
    }
}

/// What was seen of a frozen process.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    /// What it had had of a processor when it was known to be stopped last.
    ran: Duration,
    /// The same when it was first, or was told to have run last. Others can let it go on and tell it to stop before each look:
    /// what it does then comes together.
    ran_before: Duration,
    /// It was found to go on, and nobody has seen it stopped since.
    goes_on: bool,
    /// Looks that are left for which it is told that others let it go on.
    told: u8,
    /// How often it was found to have run: not the journal's, which others could have written as often as they like.
    contested: u32,
}

impl Seen {
    /// It is known that it had so much of a processor, and what comes from now on is told.
    const fn begin(&mut self, doing: &Doing) {
        (self.ran, self.ran_before) = (doing.ran, doing.ran);
        self.goes_on = !doing.stopped;
    }

    /// Whether it has run since it was known to be stopped: it goes on, or had more of a processor than it takes to stop.
    /// What it had tells also of one whose threads were not looked at.
    fn has_run(&self, doing: &Doing) -> bool {
        (doing.reached && !doing.stopped)
            || doing.ran.saturating_sub(self.ran) >= RAN_SINCE_A_LOOK
            || doing.ran.saturating_sub(self.ran_before) >= RAN_IN_ALL
    }
}

impl Roll {
    /// As the journal remembers it.
    pub(super) fn restore(stopped: &[StoppedProcess]) -> Self {
        let frozen = stopped
            .iter()
            .filter(|known| known.action == ProcessAction::Freeze);
        let since_the_start = |known: &StoppedProcess| StoppedProcess {
            contested: 0,
            ..known.clone()
        };
        Self {
            unproven: frozen.map(|known| known.identity).in_set(),
            stopped: stopped.iter().map(since_the_start).collect(),
            ..Self::default()
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.stopped.is_empty()
    }

    /// Everybody, for the journal.
    pub(super) fn all(&self) -> &[StoppedProcess] {
        &self.stopped
    }

    /// Those of whom it is known that they are stopped, and the killed; and those of whom it is told that others let them go on.
    /// The first of them, where they are more than are shown.
    pub(super) fn proven(&self) -> Vec<StoppedProcess> {
        let proven = |known: &&StoppedProcess| {
            !self.unproven.contains(&known.identity) || self.is_contested(known.identity)
        };
        let shown = self.stopped.iter().filter(proven).map(|known| StoppedProcess {
            contested: self.seen.get(&known.identity).map_or(0, |seen| seen.contested),
            ..known.clone()
        });
        shown.map(without_rules).take(MAX_STOPPED_SHOWN).collect()
    }

    /// Everybody, with the rules that named him.
    pub(super) fn named(&self) -> NamedBefore {
        let all = self.stopped.iter();
        all.map(|known| (known.identity, known.named_by.clone())).in_map()
    }

    pub(super) fn knows(&self, id: ProcessId) -> bool {
        self.of(id).is_some()
    }

    /// What is remembered of one.
    pub(super) fn of(&self, id: ProcessId) -> Option<&StoppedProcess> {
        self.stopped.iter().find(|known| known.identity == id)
    }

    /// How many more can be frozen.
    pub(super) fn room(&self) -> usize {
        MAX_FROZEN.saturating_sub(self.count(ProcessAction::Freeze))
    }

    fn count(&self, action: ProcessAction) -> usize {
        let alike = self.stopped.iter().filter(|known| known.action == action);
        alike.count()
    }

    /// Whether its owner had stopped it before we did.
    pub(super) fn was_stopped_before(&self, id: ProcessId) -> bool {
        self.of(id).is_some_and(|known| known.stopped_before)
    }

    /// The killed of whom it is not known whether they have ended.
    pub(super) fn dying(&self) -> Vec<ProcessId> {
        let killed = self
            .stopped
            .iter()
            .filter(|known| known.action == ProcessAction::Kill);
        let ids = killed.map(|known| known.identity);
        ids.filter(|id| self.unproven.contains(id)).collect()
    }

    /// Whether it is known that it is stopped, or has ended.
    pub(super) fn prove(&mut self, id: ProcessId, stopped: bool) {
        if stopped {
            self.missed.remove(&id);
            self.unproven.remove(&id);
            let known = self.stopped.iter_mut().find(|known| known.identity == id);
            // Then it has ended.
            if let Some(killed) = known.filter(|known| known.action == ProcessAction::Kill) {
                let above = std::mem::take(&mut killed.above);
                self.behind.leave_killed(above);
            }
        } else {
            self.unproven.insert(id);
        }
    }

    /// What is to be told of one that was stopped, once.
    pub(super) fn take_untold(&mut self, id: ProcessId) -> Option<StoppedProcess> {
        self.untold.remove(&id).then(|| self.of(id).cloned()).flatten()
    }

    /// The frozen who were seen to be stopped: what they do at a later look tells whether others let them go on.
    pub(super) fn seen_stopped(&self) -> Vec<ProcessId> {
        self.seen.keys().copied().collect()
    }

    /// Which rules named anybody who is remembered.
    pub(super) fn matched(&self) -> BTreeSet<u32> {
        let all = self.stopped.iter();
        all.flat_map(|known| known.named_by.iter().copied()).in_set()
    }

    /// Whether it was seen to be stopped, by a look that nothing has contradicted since.
    pub(super) fn is_seen_stopped(&self, id: ProcessId) -> bool {
        self.seen.contains_key(&id) && !self.unproven.contains(&id)
    }

    /// A look has not reached it: what was known of it is all that is known.
    pub(super) fn miss(&mut self, id: ProcessId, uptime: Duration) {
        self.missed.entry(id).or_insert(uptime);
    }

    /// Those that no look has reached for long.
    pub(super) fn missed(&self, uptime: Duration) -> impl Iterator<Item = Obstacle> {
        self.missed.iter().filter_map(move |(id, since)| {
            let since = uptime.saturating_sub(*since);
            let known = self.of(*id).filter(|_| since >= TOLD_AFTER)?;
            Some(Obstacle::ProcessNotSeen {
                pid: id.pid,
                name: known.name.clone(),
                seconds: told_seconds(since),
            })
        })
    }

    /// It is stopped, after its signal; gives as [`Roll::look`] does: one that the look before has not reached, or that a chase has met,
    /// was known to be stopped until now.
    pub(super) fn saw_stopped(&mut self, doing: &Doing) -> Option<u32> {
        self.prove(doing.id, true);
        let first = Seen {
            goes_on: true,
            ..Seen::default()
        };
        let seen = self.seen.entry(doing.id).or_insert(first);
        if seen.goes_on {
            seen.begin(doing);
            return None;
        }
        self.compare(doing)
    }

    /// Its owner may have let it go on, or a debugger that held it: it is stopped as anybody, and not left so against him.
    pub(super) fn goes_on(&mut self, id: ProcessId) {
        let known = self.stopped.iter_mut().filter(|known| known.identity == id);
        known.for_each(|known| {
            known.stopped_before = false;
            known.above.retain(|one| one.identity != id);
        });
    }

    /// It has run since it was stopped, be it that no look has met the moment at which it was; gives how often that was found.
    pub(super) fn saw_run(&mut self, doing: &Doing) -> Option<u32> {
        self.of(doing.id)?;
        self.goes_on(doing.id);
        let seen = self.seen.entry(doing.id).or_default();
        seen.begin(doing);
        seen.told = TOLD_LOOKS;
        seen.contested = seen.contested.saturating_add(1);
        Some(seen.contested)
    }

    /// What one that was seen to be stopped does at a look, before it is stopped again; gives how often it was found to have
    /// run, when it was found so now.
    pub(super) fn look(&mut self, doing: &Doing, uptime: Duration) -> Option<u32> {
        if doing.reached {
            self.missed.remove(&doing.id);
        } else {
            self.miss(doing.id, uptime);
        }
        let times = self.compare(doing);
        let seen = self.seen.get_mut(&doing.id)?;
        if doing.reached && times.is_none() {
            seen.told = seen.told.saturating_sub(1);
        }
        times
    }

    /// Compares what it has had of a processor with what it had when it was known to be stopped.
    fn compare(&mut self, doing: &Doing) -> Option<u32> {
        let seen = self.seen.get_mut(&doing.id)?;
        if !seen.has_run(doing) {
            // Of one whose threads were not looked at it is not known anew.
            if doing.reached {
                (seen.ran, seen.goes_on) = (doing.ran, false);
            }
            return None;
        }
        self.saw_run(doing)
    }

    /// Whether others let it go on within the last looks.
    pub(super) fn is_contested(&self, id: ProcessId) -> bool {
        self.seen.get(&id).is_some_and(|seen| seen.told > 0)
    }

    /// Those who were let go on by others within the last looks.
    pub(super) fn contested(&self) -> impl Iterator<Item = Obstacle> {
        let told = self.seen.iter().filter(|(_, seen)| seen.told > 0);
        told.filter_map(|(id, _)| self.of(*id))
            .map(|known| Obstacle::ProcessContested {
                pid: known.identity.pid,
                name: known.name.clone(),
            })
    }

    /// One that was to be killed is stopped and no more: it is let go, or killed, as anybody who is frozen.
    pub(super) fn spare(&mut self, id: ProcessId) {
        let known = self.stopped.iter_mut().find(|known| known.identity == id);
        if let Some(known) = known {
            known.action = ProcessAction::Freeze;
        }
    }

    /// Somebody who stopped with one that was let go may have to be let go on.
    pub(super) fn has_behind(&self) -> bool {
        !self.behind.is_empty()
    }

    /// Who may have stopped with those that were let go or have ended, and with nobody who is held, as [`Behind::take`] gives them.
    pub(super) fn take_behind(&mut self) -> Vec<(Vec<OneAbove>, u8)> {
        let unproven = &self.unproven;
        let held = self.stopped.iter_mut();
        self.behind
            .take(held.filter(|known| !is_dead(known, unproven)).collect())
    }

    /// What is left of a row after a look.
    pub(super) fn look_behind_again(&mut self, above: Vec<OneAbove>, looks: u8) {
        self.behind.look_again(above, looks);
    }

    /// Who ran until he was stopped here, or when somebody below him was: whatever he does now, his owner had not stopped him.
    pub(super) fn ran(&self) -> BTreeSet<ProcessId> {
        let held = self.stopped.iter().filter(|known| !known.stopped_before);
        let above = self.stopped.iter().flat_map(|known| known.above.iter().copied());
        let ran = above.chain(self.behind.all());
        let ran = ran.filter(|one| one.held_at.is_none()).map(|one| one.identity);
        held.map(|known| known.identity).chain(ran).in_set()
    }

    /// These run above one that was let go on by others: they stop with it when it is stopped again.
    pub(super) fn note_above(&mut self, id: ProcessId, above: &[OneAbove]) {
        if let Some(known) = self.stopped.iter_mut().find(|known| known.identity == id) {
            add_above(known, above);
        }
    }

    /// It runs again, or has ended.
    pub(super) fn strike(&mut self, id: ProcessId) {
        let struck = self.stopped.extract_if(.., |known| known.identity == id);
        let above: Vec<_> = struck.map(|known| known.above).collect();
        above.into_iter().for_each(|above| self.behind.leave(above));
        self.unproven.remove(&id);
        self.untold.remove(&id);
        self.seen.remove(&id);
        self.missed.remove(&id);
    }

    /// Notes a process that is to be stopped; gives whether it is news.
    ///
    /// # Errors
    /// A sentence: it would be stopped and could not be remembered.
    pub(super) fn note(
        &mut self,
        process: &Process,
        action: ProcessAction,
        named: Named,
        at: Timestamp,
    ) -> Result<bool, String> {
        let id = process.identity;
        if let Some(known) = self.stopped.iter_mut().find(|known| known.identity == id) {
            known.named_by = named.by;
            if (known.action, action) == (ProcessAction::Freeze, ProcessAction::Kill) {
                known.action = action;
                self.seen.remove(&id);
                self.unproven.insert(id);
                self.untold.insert(id);
            }
            return Ok(false);
        }
        let (what, limit, alike) = match action {
            ProcessAction::Freeze => ("frozen", MAX_FROZEN, self.count(ProcessAction::Freeze)),
            ProcessAction::Kill => ("being killed", MAX_KILLING, self.dying().len()),
        };
        if alike >= limit {
            let name = &process.name;
            return Err(format!(
                "{limit} processes are {what} already, {name} is left running"
            ));
        }
        self.add(process, action, named, at);
        self.unproven.insert(process.identity);
        self.untold.insert(process.identity);
        Ok(true)
    }

    /// Notes a process that was found and is ours; gives false when there is no room for it.
    pub(super) fn adopt(&mut self, found: &FoundFrozen, at: Timestamp) -> bool {
        let process = &found.process;
        if !self.knows(process.identity) {
            if self.stopped.len() >= MAX_FROZEN + MAX_KILLING {
                return false;
            }
            tracing::warn!(
                pid = process.identity.pid,
                name = %process.name,
                exe = ?process.exe,
                "found frozen by us and not remembered"
            );
            // Which rule named it nobody knows: it is meant by what it looks like.
            let named = Named {
                stopped_before: found.stopped_before,
                ..Named::default()
            };
            self.add(process, ProcessAction::Freeze, named, at);
        }
        // One that was to be killed lives.
        let id = process.identity;
        let killed = |known: &StoppedProcess| known.identity == id && known.action == ProcessAction::Kill;
        self.prove(id, found.stopped && !self.stopped.iter().any(killed));
        true
    }

    fn add(&mut self, process: &Process, action: ProcessAction, named: Named, at: Timestamp) {
        self.stopped.push(StoppedProcess {
            identity: process.identity,
            name: process.name.clone(),
            exe: process.shown_exe(),
            action,
            at,
            contested: 0,
            stopped_before: named.stopped_before,
            named_by: named.by,
            // The journal says it of all alike.
            seen_from: None,
            above: named.above,
        });
    }

    /// Notes one that was killed and has ended, however many are being killed.
    pub(super) fn note_dead(&mut self, process: &Process, named: Named, at: Timestamp) {
        if !self.knows(process.identity) {
            self.add(process, ProcessAction::Kill, named, at);
            self.untold.insert(process.identity);
        }
        self.prove(process.identity, true);
    }

    /// Forgets the oldest of the dead where there are more than are shown; they were told. One that could only be frozen on the
    /// way is not forgotten.
    pub(super) fn forget_dead(&mut self) {
        let dead: Vec<ProcessId> = self
            .stopped
            .iter()
            .filter(|known| is_dead(known, &self.unproven))
            .map(|known| known.identity)
            .collect();
        let surplus: BTreeSet<ProcessId> = dead.iter().rev().skip(MAX_KILLED).copied().in_set();
        self.stopped.retain(|known| !surplus.contains(&known.identity));
        self.untold.retain(|id| !surplus.contains(id));
    }
}

/// It was killed and has ended: it is there to be shown.
fn is_dead(known: &StoppedProcess, unproven: &BTreeSet<ProcessId>) -> bool {
    known.action == ProcessAction::Kill && !unproven.contains(&known.identity)
}

#[cfg(test)]
#[path = "roll_tests.rs"]
mod tests;
