//! The processes that a plan names: freeze, kill, thaw.
//!
//! In: the plan, who is protected. Out: stopped processes, remembered before they are touched and looked at afterwards, and
//! what goes on running. One that others let go on is stopped again, and told with how often that was found.
//! A process that cannot be let go again stays remembered, and is told. One that an earlier life of ours stopped and that
//! the journal does not name is found by its mark: before whatever else is done with processes, nobody is forgotten.

mod looking;
mod outcome;

use std::collections::BTreeSet;

use tokio::sync::watch;

use self::looking::{Before, not_known};
use super::roll::{Named, Roll};
use crate::Gather;
use crate::moment::Now;
use crate::process::{Process, ProcessId};
use crate::quarantine::history::Event;
use crate::quarantine::orders::order::{ProcessAction, ProcessRule};
use crate::quarantine::plan::processes::{
    NucleusTrace, ProcessSelection, ProtectedProcesses, StoppedProcess,
};
use crate::quarantine::ports::{Chase, Processes, Signal, SignalFailure};
use crate::quarantine::proof::journal::Journal;
use crate::quarantine::proof::obstacle::Obstacle;
use crate::quarantine::proof::state::{MAX_SHOWN, SparedInShort, State};

/// Stops and lets go.
pub(super) struct Stopper<P> {
    processes: P,
    roll: Roll,
    /// Named by a journal that was damaged: ours if they are stopped.
    suspected: Vec<ProcessId>,
    /// Nobody is stopped by us whom the roll does not name.
    searched: bool,
    /// Searches that found more than there is room for.
    overfull: u32,
    spared: Vec<String>,
    spared_in_short: Option<SparedInShort>,
    left_running: Vec<String>,
    /// Rules of the plan that have matched somebody.
    matched: BTreeSet<ProcessRule>,
    /// Those that have matched nobody.
    idle: Vec<ProcessRule>,
    /// The plan names processes, which may start at any time.
    names_some: bool,
    /// Processes let go since the start.
    freed: usize,
    /// Why the rest of this pass sends no signal: one had no answer, and each would be waited for in vain.
    silence: Option<String>,
    news: Vec<Event>,
    /// What the nucleus was when it was connected last, and which one that was.
    traces: Vec<NucleusTrace>,
    traced: Option<ProcessId>,
    /// Says that nobody waits for what is looked at now.
    put_off: watch::Receiver<bool>,
}

/// Processes that were remembered and are to be stopped.
#[derive(Default)]
pub(super) struct ToStop {
    /// With what is done.
    processes: Vec<(ProcessId, ProcessAction)>,
    /// Where somebody is to be stopped for the first time: he may have started others meanwhile.
    chase: Option<Chase>,
    /// Who was not remembered before.
    new: Vec<ProcessId>,
    obstacles: Vec<Obstacle>,
}

/// What a plan wants of processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) rules: Vec<ProcessRule>,
    /// Nothing is ordered any more: everybody is let go.
    pub(super) releases: bool,
    pub(super) protected: ProtectedProcesses,
    /// Whoever is stopped stays so, as long as anything is ordered.
    pub(super) keeps: bool,
}

/// What may be said of processes.
#[derive(Debug, Default, Clone)]
pub(super) struct ShownProcesses {
    stopped: Vec<StoppedProcess>,
    spared: Vec<String>,
    spared_in_short: Option<SparedInShort>,
    idle_rules: Vec<String>,
    pub(super) left_running: Vec<String>,
}

impl ShownProcesses {
    pub(super) fn show(&self, state: &mut State) {
        state.stopped.clone_from(&self.stopped);
        state.spared.clone_from(&self.spared);
        state.spared_in_short.clone_from(&self.spared_in_short);
        state.idle_rules.clone_from(&self.idle_rules);
        state.left_running.clone_from(&self.left_running);
    }
}

impl<P: Processes> Stopper<P> {
    /// As the journal remembers it; `suspected` is what is left of one that was damaged. `put_off` ends what is looked at.
    pub(super) fn restore(
        processes: P,
        journal: &Journal<'_>,
        suspected: Vec<ProcessId>,
        put_off: watch::Receiver<bool>,
    ) -> Self {
        Self {
            traces: journal.nucleus_traces.to_vec(),
            traced: None,
            put_off,
            processes,
            roll: Roll::restore(&journal.stopped),
            suspected,
            searched: false,
            overfull: 0,
            spared: Vec::new(),
            spared_in_short: None,
            left_running: Vec::new(),
            matched: BTreeSet::new(),
            idle: Vec::new(),
            names_some: false,
            freed: 0,
            silence: None,
            news: Vec::new(),
        }
    }

    /// Everybody who was stopped and not let go, as the journal must remember him.
    pub(super) fn remembered(&self) -> &[StoppedProcess] {
        self.roll.all()
    }

    /// Whether somebody may be about to stop with one that was let go.
    pub(super) fn follows(&self) -> bool {
        self.roll.has_behind()
    }

    /// What the nucleus was when it was connected last.
    pub(super) fn traces(&self) -> &[NucleusTrace] {
        &self.traces
    }

    /// What is worth a record since the last call.
    pub(super) fn take_news(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.news)
    }

    /// How many processes were let go since the start.
    pub(super) const fn freed(&self) -> usize {
        self.freed
    }

    /// Lets go whom the plan names no longer, and remembers whom it names; nobody is stopped yet. What is remembered must be
    /// on disk before [`Stopper::stop`], so that a crash in between cannot leave anybody frozen for ever. While `keeps`,
    /// whoever is stopped stays so, as long as anything is ordered.
    pub(super) async fn choose(&mut self, wanted: &Wanted, now: Now) -> ToStop {
        self.begin(&wanted.rules);
        let mut to_stop = ToStop::default();
        let protected = &self.with_traces(&wanted.protected).await;
        if wanted.releases {
            // Whoever is known needs no look to be let go, and no look may keep him.
            let _told_below = self.let_go(&BTreeSet::new(), true, false).await;
        }
        if let Err(obstacle) = self.search(now).await {
            to_stop.obstacles.push(obstacle);
            if self.names_some {
                // They cannot be listed: the next look would wait as long.
                return to_stop;
            }
        }
        if !self.names_some && self.roll.is_empty() {
            return to_stop;
        }
        let selection = match self.select(&wanted.rules, protected).await {
            Ok(selection) => selection,
            Err(obstacle) => {
                to_stop.obstacles.push(obstacle);
                return to_stop;
            }
        };
        self.note_idle_and_spared(&wanted.rules, &selection);
        let seen = selection.act.iter().map(|(process, _)| process.identity);
        let unseen = selection.unseen.iter().map(|(id, _)| *id);
        let meant: BTreeSet<ProcessId> = seen.chain(unseen).in_set();
        let keeps = wanted.keeps && !wanted.releases;
        let (kept, obstacles) = self.let_go(&meant, wanted.releases, keeps).await;
        to_stop.obstacles.extend(obstacles);
        to_stop.processes.extend(kept);
        to_stop.processes.extend(&selection.unseen);
        to_stop.obstacles.extend(not_known(&selection.unknown));
        let before = match self.before(&selection).await {
            Ok(found) => found,
            Err(obstacle) => {
                to_stop.obstacles.push(obstacle);
                return to_stop;
            }
        };
        if self.note_chosen(selection, before, &mut to_stop, now) {
            to_stop.chase = Some(Chase {
                rules: wanted.rules.clone(),
                protected: protected.clone(),
                ..Chase::default()
            });
        }
        to_stop
    }

    fn begin(&mut self, rules: &[ProcessRule]) {
        self.spared.clear();
        self.spared_in_short = None;
        self.left_running.clear();
        self.silence = None;
        self.names_some = !rules.is_empty();
        self.idle.clear();
        self.matched.retain(|rule| rules.contains(rule));
    }

    /// Remembers whom the rules name; gives whether somebody is new, who may have started others meanwhile.
    fn note_chosen(
        &mut self,
        mut selection: ProcessSelection,
        mut before: Before,
        to_stop: &mut ToStop,
        now: Now,
    ) -> bool {
        let mut starts_others = false;
        for (process, action) in selection.act {
            let id = process.identity;
            let named = Named {
                stopped_before: before.stopped.contains(&id),
                by: selection.named_by.remove(&id).unwrap_or_default(),
                above: before.above.remove(&id).unwrap_or_default(),
            };
            match self.roll.note(&process, action, named, now.wall) {
                Ok(first) => {
                    to_stop.processes.push((id, action));
                    to_stop.new.extend(first.then_some(id));
                    starts_others |= first;
                }
                // The chase kills them, and needs no room for that.
                Err(_) if action == ProcessAction::Kill => starts_others = true,
                Err(what) => to_stop.obstacles.push(Obstacle::ProcessRuns { what }),
            }
        }
        starts_others
    }

    fn note_idle_and_spared(&mut self, rules: &[ProcessRule], selection: &ProcessSelection) {
        let matches = rules.iter().filter(|rule| !selection.idle.contains(rule));
        self.matched.extend(matches.cloned());
        let remembered = self.roll.matched();
        let idle = selection
            .idle
            .iter()
            .filter(|rule| !self.matched.contains(rule) && !remembered.contains(&rule.matches.sum()));
        self.idle = idle.cloned().collect();
        let told = selection.spared.iter();
        let told = told.map(|(process, why)| format!("{} is not stopped: {why}", named(process)));
        let worn = selection.worn.iter().map(|process| {
            let who = named(process);
            format!("{who} is not spared, although isolation.protected names its program: an ordinary user runs it")
        });
        self.spared = first(told, "are not stopped");
        self.spared.extend(first(worn, "are not spared either"));
        self.spared_in_short = in_short(&selection.spared);
    }

    /// Somebody may be stopped by us whom the roll does not name.
    pub(super) const fn search_again(&mut self) {
        self.searched = false;
    }

    /// Nobody of these is stopped: another plan came before.
    pub(super) fn take_back(&mut self, to_stop: &ToStop) {
        to_stop.new.iter().for_each(|id| self.roll.strike(*id));
    }

    /// Stops whom [`Stopper::choose`] chose; gives what stands in the way. A signal that was sent is no proof: each is looked
    /// at afterwards, and those that were stopped before are looked at first, because others may have let them go on.
    pub(super) async fn stop(&mut self, to_stop: ToStop, now: Now) -> Vec<Obstacle> {
        let mut obstacles = to_stop.obstacles;
        let still = match self.find_contested(now).await {
            Ok(still) => still,
            Err(obstacle) => {
                obstacles.push(obstacle);
                BTreeSet::new()
            }
        };
        let chosen: BTreeSet<ProcessId> = to_stop.processes.iter().map(|(id, _)| *id).in_set();
        // One obstacle each: who is killed again is among the chosen.
        let dying = self.roll.dying().into_iter().filter(|id| !chosen.contains(id));
        let mut sent: Vec<_> = dying.map(|id| (id, ProcessAction::Kill)).collect();
        // First all of them: one that runs starts others while one that it started is killed.
        let mut frozen = Vec::new();
        for (id, action) in to_stop.processes {
            frozen.push((id, action, self.freeze(id).await));
        }
        if let Some(chase) = to_stop.chase.filter(|_| self.silence.is_none()) {
            obstacles.extend(self.chase(chase, now).await);
        }
        for (id, action, outcome) in frozen {
            let outcome = match (outcome, action) {
                // Another plan says whether it is to end.
                (Ok(()), ProcessAction::Kill) if *self.put_off.borrow() => {
                    self.roll.spare(id);
                    continue;
                }
                (Ok(()), ProcessAction::Kill) => match self.send(id, Signal::Kill).await {
                    // It has ended since it was frozen: the chase killed it, or somebody else.
                    Err(SignalFailure::Gone) => Ok(()),
                    killed => killed,
                },
                (outcome, _) => outcome,
            };
            match outcome {
                // Nothing has become of the signal to one that was stopped when it came.
                Ok(())
                    if action == ProcessAction::Freeze
                        && still.contains(&id)
                        && self.roll.is_seen_stopped(id) => {}
                Ok(()) => sent.push((id, action)),
                Err(SignalFailure::Gone) if action == ProcessAction::Freeze => self.note_ended(id),
                Err(SignalFailure::Gone) => self.roll.strike(id),
                Err(SignalFailure::Refused(what)) => {
                    self.roll.prove(id, false);
                    obstacles.push(Obstacle::ProcessRuns { what });
                }
                Err(SignalFailure::Unanswered(why)) => {
                    self.roll.prove(id, false);
                    let what = format!("process {} ({}) may run: {why}", id.pid, self.name(id));
                    obstacles.push(Obstacle::ProcessRuns { what });
                }
            }
        }
        if self.silence.is_none() {
            obstacles.extend(self.settle(sent, now).await);
        }
        self.roll.forget_dead();
        obstacles.extend(self.roll.contested());
        obstacles.extend(self.roll.missed(now.uptime));
        self.note_running(&obstacles);
        obstacles.truncate(MAX_SHOWN);
        obstacles
    }

    fn note_running(&mut self, obstacles: &[Obstacle]) {
        let running = obstacles.iter().filter(|obstacle| {
            matches!(
                obstacle,
                Obstacle::ProcessRuns { .. }
                    | Obstacle::ProcessContested { .. }
                    | Obstacle::ProcessesUnknown { .. }
                    | Obstacle::ProcessNotSeen { .. }
            )
        });
        self.left_running = running.take(MAX_SHOWN).map(ToString::to_string).collect();
    }

    fn name(&self, id: ProcessId) -> String {
        self.roll
            .of(id)
            .map_or_else(String::new, |known| known.name.clone())
    }

    /// Again at every check, in case somebody let it run.
    async fn freeze(&mut self, id: ProcessId) -> Result<(), SignalFailure> {
        let freeze = if self.roll.was_stopped_before(id) {
            Signal::FreezeStopped
        } else {
            Signal::Freeze
        };
        self.send(id, freeze).await
    }

    async fn send(&mut self, id: ProcessId, signal: Signal) -> Result<(), SignalFailure> {
        if let Some(why) = &self.silence {
            return Err(SignalFailure::Unanswered(why.clone()));
        }
        let outcome = self.processes.signal(id, signal).await;
        if let Err(SignalFailure::Unanswered(why)) = &outcome {
            self.silence = Some(why.clone());
        }
        outcome
    }

    /// Lets go whom the plan does not mean; gives whom it keeps stopped all the same.
    async fn let_go(
        &mut self,
        meant: &BTreeSet<ProcessId>,
        released: bool,
        keeps: bool,
    ) -> (Vec<(ProcessId, ProcessAction)>, Vec<Obstacle>) {
        let (mut kept, mut obstacles) = (Vec::new(), Vec::new());
        for stopped in self.roll.all().to_vec() {
            let id = stopped.identity;
            if meant.contains(&id) || (stopped.action == ProcessAction::Kill && !released) {
                continue;
            }
            if keeps {
                kept.push((id, ProcessAction::Freeze));
                continue;
            }
            // Also one that was to be killed: it may have been frozen on the way and no more. The dead are gone.
            let signal = if stopped.stopped_before {
                Signal::LeaveStopped
            } else {
                Signal::Thaw
            };
            match self.send(id, signal).await {
                Ok(()) => {
                    self.roll.strike(id);
                    self.freed += usize::from(!stopped.stopped_before);
                    self.note_freed(stopped);
                }
                Err(SignalFailure::Gone) => {
                    // It was killed, and nobody has waited to see it.
                    if stopped.action == ProcessAction::Kill {
                        self.tell_stopped(id);
                    }
                    self.note_ended(id);
                }
                Err(SignalFailure::Refused(why) | SignalFailure::Unanswered(why)) => {
                    let (pid, name) = (id.pid, stopped.name);
                    obstacles.push(Obstacle::ProcessStaysFrozen { pid, name, why });
                }
            }
        }
        self.let_follow().await;
        (kept, obstacles)
    }

    fn note_freed(&mut self, freed: StoppedProcess) {
        let (pid, name) = (freed.identity.pid, freed.name);
        let event = if freed.stopped_before {
            tracing::info!(pid, %name, "process is let go and stays stopped, as it was found");
            Event::ProcessLeftStopped { pid, name }
        } else {
            tracing::info!(pid, %name, "process runs again");
            Event::ProcessFreed { pid, name }
        };
        self.news.push(event);
    }

    /// What may be said of it.
    pub(super) fn shown(&self) -> ShownProcesses {
        let idle = self.idle.iter().take(MAX_SHOWN);
        ShownProcesses {
            stopped: self.roll.proven(),
            spared: self.spared.clone(),
            spared_in_short: self.spared_in_short.clone(),
            idle_rules: idle
                .map(|rule| format!("{rule} has matched no process at any look so far"))
                .collect(),
            left_running: self.left_running.clone(),
        }
    }
}

/// As many lines as are shown, and how many more there are.
fn first(mut lines: impl Iterator<Item = String>, what: &str) -> Vec<String> {
    let mut shown: Vec<String> = lines.by_ref().take(MAX_SHOWN).collect();
    let more = lines.count();
    if more > 0 {
        shown.push(format!("and {more} more {what}"));
    }
    shown
}

fn in_short(spared: &[(Process, &'static str)]) -> Option<SparedInShort> {
    let first = spared.iter().map(|(process, _)| &process.name).min()?;
    Some(SparedInShort {
        count: spared.len(),
        first: first.clone(),
    })
}

fn named(process: &Process) -> String {
    format!("{} ({})", process.name, process.identity.pid)
}

#[cfg(test)]
mod tests;
