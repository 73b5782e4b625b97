//! The processes that a plan names: freeze, kill, thaw.
//!
//! In: the plan, who is protected. Out: stopped processes, remembered before they are touched, and what goes on running.
//! A process that cannot be let go again stays remembered, and is told. One that an earlier life of ours stopped and that
//! the journal does not name is found by its mark: before whatever else is done with processes, nobody is forgotten.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::roll::Roll;
use crate::moment::Now;
use crate::process::{Process, ProcessId};
use crate::quarantine::history::Event;
use crate::quarantine::orders::order::{ProcessAction, ProcessRule};
use crate::quarantine::plan::Plan;
use crate::quarantine::plan::processes::{ProcessSelection, ProtectedProcesses, StoppedProcess, select};
use crate::quarantine::ports::{Processes, Signal, SignalFailure};
use crate::quarantine::proof::journal::Journal;
use crate::quarantine::proof::obstacle::Obstacle;
use crate::quarantine::proof::state::{MAX_SHOWN, State};

/// Searches that may find more than there is room for: some thousand processes, and an agent freezes some hundred. The mark
/// is no secret, and whoever puts it on his own processes again and again would have them let go and recorded for ever.
const MAX_OVERFULL: u32 = 8;

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
    left_running: Vec<String>,
    /// The plan names processes, which may start at any time.
    names_some: bool,
    /// Processes let go since the start.
    freed: usize,
    /// Why the rest of this pass sends no signal: one had no answer, and each would be waited for in vain.
    silence: Option<String>,
    news: Vec<Event>,
}

/// Processes that were remembered and are to be stopped.
#[derive(Default)]
pub(super) struct ToStop {
    /// With what is done, and whether it is done for the first time.
    processes: Vec<(Process, ProcessAction, bool)>,
    obstacles: Vec<Obstacle>,
}

impl<P: Processes> Stopper<P> {
    /// As the journal remembers it; `suspected` is what is left of one that was damaged.
    pub(super) fn restore(processes: P, journal: &Journal<'_>, suspected: Vec<ProcessId>) -> Self {
        Self {
            processes,
            roll: Roll::restore(&journal.stopped),
            suspected,
            searched: false,
            overfull: 0,
            spared: Vec::new(),
            left_running: Vec::new(),
            names_some: false,
            freed: 0,
            silence: None,
            news: Vec::new(),
        }
    }

    /// Everybody who was stopped and not let go.
    pub(super) fn remembered(&self) -> Vec<StoppedProcess> {
        self.roll.all().to_vec()
    }

    /// Lends the journal what it must remember.
    pub(super) fn lend<'a>(&'a self, journal: &mut Journal<'a>) {
        journal.stopped = Cow::Borrowed(self.roll.all());
    }

    /// What is worth a record since the last call.
    pub(super) fn take_news(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.news)
    }

    /// Whether processes must be looked for closely.
    pub(super) const fn names_some(&self) -> bool {
        self.names_some
    }

    /// How many processes were let go since the start.
    pub(super) const fn freed(&self) -> usize {
        self.freed
    }

    /// Our own process.
    pub(super) fn own_pid(&self) -> u32 {
        self.processes.own_pid()
    }

    /// Whom `rules` name now.
    ///
    /// # Errors
    /// The processes cannot be listed.
    pub(super) async fn select(
        &mut self,
        rules: &[ProcessRule],
        protected: &ProtectedProcesses,
    ) -> Result<ProcessSelection, Obstacle> {
        if rules.is_empty() {
            return Ok(ProcessSelection::default());
        }
        Ok(select(&self.processes.list().await?, rules, protected))
    }

    /// Lets go whom the plan names no longer, and remembers whom it names; nobody is stopped yet. What is remembered must be
    /// on disk before [`Stopper::stop`], so that a crash in between cannot leave anybody frozen for ever. While `keeps`,
    /// whoever is stopped stays so, as long as anything is ordered.
    pub(super) async fn choose(
        &mut self,
        plan: &Plan,
        protected: &ProtectedProcesses,
        keeps: bool,
        now: Now,
    ) -> ToStop {
        self.spared.clear();
        self.left_running.clear();
        self.silence = None;
        self.names_some = !plan.processes.is_empty();
        let mut to_stop = ToStop::default();
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
        let selection = match self.select(&plan.processes, protected).await {
            Ok(selection) => selection,
            Err(obstacle) => {
                to_stop.obstacles.push(obstacle);
                return to_stop;
            }
        };
        let told = selection.spared.iter().take(MAX_SHOWN);
        self.spared = told
            .map(|(process, why)| {
                format!(
                    "{} ({}) is not stopped: {why}",
                    process.name, process.identity.pid
                )
            })
            .collect();
        let meant: BTreeSet<ProcessId> = selection
            .act
            .iter()
            .map(|(process, _)| process.identity)
            .collect();
        let keeps = keeps && !plan.is_normal();
        to_stop
            .obstacles
            .extend(self.let_go(&meant, plan.is_normal(), keeps).await);
        for (process, action) in selection.act {
            match self.roll.note(&process, action, now.wall) {
                Ok(first) => to_stop.processes.push((process, action, first)),
                Err(what) => to_stop.obstacles.push(Obstacle::ProcessRuns { what }),
            }
        }
        to_stop
    }

    /// Looks for whom an earlier life of ours stopped: the journal may be gone, damaged or older than the kernel.
    ///
    /// # Errors
    /// The processes cannot be listed; the next pass looks again.
    async fn search(&mut self, now: Now) -> Result<(), Obstacle> {
        if self.searched {
            return Ok(());
        }
        let remembered = self.roll.all().iter().map(|known| known.identity);
        let suspected = remembered.chain(self.suspected.iter().copied()).collect();
        let found = self.processes.frozen(suspected).await?;
        let known = self.roll.all().len();
        let adopted = found
            .iter()
            .filter(|(process, stopped)| self.roll.adopt(process, *stopped, now.wall))
            .count();
        // Who finds no room is looked for again when others were let go.
        self.searched = adopted == found.len();
        if !self.searched && self.roll.all().len() > known {
            self.overfull += 1;
        }
        if self.overfull >= MAX_OVERFULL {
            let left = found.len() - adopted;
            tracing::error!(
                "{left} more processes carry our mark than we ever freeze: somebody else puts it on them"
            );
            self.searched = true;
        }
        Ok(())
    }

    /// Stops whom [`Stopper::choose`] chose; gives what stands in the way.
    pub(super) async fn stop(&mut self, to_stop: ToStop) -> Vec<Obstacle> {
        let mut obstacles = to_stop.obstacles;
        for (process, action, first) in to_stop.processes {
            let id = process.identity;
            let outcome = self.stop_one(id, action).await;
            self.roll.prove(id, outcome.is_ok());
            match outcome {
                Ok(()) if first => self.note_stopped(&process, action),
                Ok(()) => {}
                Err(SignalFailure::Gone) => self.roll.strike(id),
                Err(SignalFailure::Refused(what)) => obstacles.push(Obstacle::ProcessRuns { what }),
                Err(SignalFailure::Unanswered(why)) => {
                    let what = format!("process {} ({}) may run: {why}", id.pid, process.name);
                    obstacles.push(Obstacle::ProcessRuns { what });
                }
            }
        }
        let running = obstacles.iter().filter(|obstacle| {
            matches!(
                obstacle,
                Obstacle::ProcessRuns { .. } | Obstacle::ProcessesUnknown { .. }
            )
        });
        self.left_running = running.take(MAX_SHOWN).map(ToString::to_string).collect();
        obstacles.truncate(MAX_SHOWN);
        obstacles
    }

    /// Freezes first, so that it does nothing more while it is being killed; again at every check, in case somebody let it
    /// run.
    async fn stop_one(&mut self, id: ProcessId, action: ProcessAction) -> Result<(), SignalFailure> {
        self.send(id, Signal::Freeze).await?;
        match action {
            ProcessAction::Freeze => Ok(()),
            ProcessAction::Kill => self.send(id, Signal::Kill).await,
        }
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

    fn note_stopped(&mut self, process: &Process, action: ProcessAction) {
        let pid = process.identity.pid;
        tracing::warn!(pid, name = %process.name, exe = ?process.exe, ?action, "process stopped");
        self.news.push(Event::ProcessStopped {
            pid,
            name: process.name.clone(),
            exe: process.exe.clone(),
            action,
        });
    }

    async fn let_go(&mut self, meant: &BTreeSet<ProcessId>, released: bool, keeps: bool) -> Vec<Obstacle> {
        let mut obstacles = Vec::new();
        for stopped in self.roll.all().to_vec() {
            let id = stopped.identity;
            if meant.contains(&id) || (stopped.action == ProcessAction::Kill && !released) {
                continue;
            }
            // Also one that was to be killed: it may have been frozen on the way and no more. The dead are gone.
            let signal = if keeps { Signal::Freeze } else { Signal::Thaw };
            match self.send(id, signal).await {
                Ok(()) if keeps => self.roll.prove(id, true),
                Ok(()) => {
                    tracing::info!(pid = id.pid, name = %stopped.name, "process runs again");
                    self.roll.strike(id);
                    self.freed += 1;
                    let (pid, name) = (id.pid, stopped.name);
                    self.news.push(Event::ProcessFreed { pid, name });
                }
                Err(SignalFailure::Gone) => self.roll.strike(id),
                Err(SignalFailure::Refused(what) | SignalFailure::Unanswered(what)) if keeps => {
                    self.roll.prove(id, false);
                    obstacles.push(Obstacle::ProcessRuns { what });
                }
                Err(SignalFailure::Refused(why) | SignalFailure::Unanswered(why)) => {
                    let (pid, name) = (id.pid, stopped.name);
                    obstacles.push(Obstacle::ProcessStaysFrozen { pid, name, why });
                }
            }
        }
        obstacles
    }

    /// What may be said of it.
    pub(super) fn show(&self, state: &mut State) {
        state.stopped = self.roll.proven();
        state.spared.clone_from(&self.spared);
        state.left_running.clone_from(&self.left_running);
    }
}

#[cfg(test)]
#[path = "stopper_tests.rs"]
mod tests;
