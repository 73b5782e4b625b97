//! The processes that a plan names: freeze, kill, thaw.
//!
//! In: the plan, who is protected. Out: stopped processes, remembered before they are touched, and what goes on running.
//! A process that cannot be let go again stays remembered, and is told.

use std::borrow::Cow;
use std::collections::BTreeSet;

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

/// Frozen processes at most: each must be remembered, or it would stay frozen after release. More than this at once is
/// a rule that fits too much.
const MAX_FROZEN: usize = 256;
/// Killed processes kept for display, the newest. A supervisor may start a killed one again for ever.
const MAX_KILLED: usize = 32;

/// Stops and lets go.
pub(super) struct Stopper<P> {
    processes: P,
    stopped: Vec<StoppedProcess>,
    spared: Vec<String>,
    left_running: Vec<String>,
    /// The plan names processes, which may start at any time.
    names_some: bool,
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
    /// As the journal remembers it.
    pub(super) fn restore(processes: P, journal: &Journal<'_>) -> Self {
        Self {
            processes,
            stopped: journal.stopped.clone().into_owned(),
            spared: Vec::new(),
            left_running: Vec::new(),
            names_some: false,
            news: Vec::new(),
        }
    }

    /// Lends the journal what it must remember.
    pub(super) fn lend<'a>(&'a self, journal: &mut Journal<'a>) {
        journal.stopped = Cow::Borrowed(&self.stopped);
    }

    /// What is worth a record since the last call.
    pub(super) fn take_news(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.news)
    }

    /// Whether processes must be looked for closely.
    pub(super) const fn names_some(&self) -> bool {
        self.names_some
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
    /// on disk before [`Stopper::stop`], so that a crash in between cannot leave anybody frozen for ever.
    pub(super) async fn choose(&mut self, plan: &Plan, protected: &ProtectedProcesses, now: Now) -> ToStop {
        self.spared.clear();
        self.left_running.clear();
        self.names_some = !plan.processes.is_empty();
        if !self.names_some && self.stopped.is_empty() {
            return ToStop::default();
        }
        let selection = match self.select(&plan.processes, protected).await {
            Ok(selection) => selection,
            Err(obstacle) => {
                return ToStop {
                    processes: Vec::new(),
                    obstacles: vec![obstacle],
                };
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
        let mut to_stop = ToStop {
            processes: Vec::new(),
            obstacles: self.let_go(&meant, plan.is_normal()).await,
        };
        for (process, action) in selection.act {
            match self.remember(&process, action, now) {
                Ok(first) => to_stop.processes.push((process, action, first)),
                Err(what) => to_stop.obstacles.push(Obstacle::ProcessRuns { what }),
            }
        }
        to_stop
    }

    /// Stops whom [`Stopper::choose`] chose; gives what stands in the way.
    pub(super) async fn stop(&mut self, to_stop: ToStop) -> Vec<Obstacle> {
        let mut obstacles = to_stop.obstacles;
        for (process, action, first) in to_stop.processes {
            match self.stop_one(process.identity, action).await {
                Ok(()) if first => self.note_stopped(&process, action),
                Ok(()) | Err(SignalFailure::Gone) => {}
                Err(SignalFailure::Refused(what)) => obstacles.push(Obstacle::ProcessRuns { what }),
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
        self.processes.signal(id, Signal::Freeze).await?;
        match action {
            ProcessAction::Freeze => Ok(()),
            ProcessAction::Kill => self.processes.signal(id, Signal::Kill).await,
        }
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

    async fn let_go(&mut self, meant: &BTreeSet<ProcessId>, released: bool) -> Vec<Obstacle> {
        let mut obstacles = Vec::new();
        for stopped in std::mem::take(&mut self.stopped) {
            if meant.contains(&stopped.identity) || (stopped.action == ProcessAction::Kill && !released) {
                self.stopped.push(stopped);
                continue;
            }
            // Also one that was to be killed: it may have been frozen on the way and no more. The dead are gone.
            let pid = stopped.identity.pid;
            match self.processes.signal(stopped.identity, Signal::Thaw).await {
                Ok(()) => {
                    tracing::info!(pid, name = %stopped.name, "process runs again");
                    let name = stopped.name;
                    self.news.push(Event::ProcessFreed { pid, name });
                }
                Err(SignalFailure::Gone) => {}
                Err(SignalFailure::Refused(why)) => {
                    let name = stopped.name.clone();
                    obstacles.push(Obstacle::ProcessStaysFrozen { pid, name, why });
                    self.stopped.push(stopped);
                }
            }
        }
        obstacles
    }

    /// Notes a process; gives whether it is news.
    ///
    /// # Errors
    /// A sentence: it would be frozen and could not be remembered.
    fn remember(&mut self, process: &Process, action: ProcessAction, now: Now) -> Result<bool, String> {
        let stopped = &mut self.stopped;
        if stopped.iter().any(|known| known.identity == process.identity) {
            return Ok(false);
        }
        let alike = stopped.iter().filter(|known| known.action == action).count();
        match action {
            ProcessAction::Freeze if alike >= MAX_FROZEN => {
                return Err(format!(
                    "{MAX_FROZEN} processes are frozen already, {} is left running",
                    process.name
                ));
            }
            ProcessAction::Kill if alike >= MAX_KILLED => {
                if let Some(oldest) = stopped.iter().position(|known| known.action == action) {
                    stopped.remove(oldest);
                }
            }
            _ => {}
        }
        stopped.push(StoppedProcess {
            identity: process.identity,
            name: process.name.clone(),
            exe: process.exe.clone(),
            action,
            at: now.wall,
        });
        Ok(true)
    }

    /// What may be said of it.
    pub(super) fn show(&self, state: &mut State) {
        state.stopped.clone_from(&self.stopped);
        state.spared.clone_from(&self.spared);
        state.left_running.clone_from(&self.left_running);
    }
}
