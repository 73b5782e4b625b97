//! The enforcer's hands on processes: freeze, kill, thaw.

use std::collections::BTreeSet;

use super::Enforcer;
use crate::host::processes::process_table::{self, SignalError};
use crate::moment::Now;
use crate::process::{Process, ProcessId};
use crate::quarantine::history::Event;
use crate::quarantine::orders::order::ProcessAction;
use crate::quarantine::plan::Plan;
use crate::quarantine::plan::processes::{ProtectedProcesses, StoppedProcess, select};
use crate::quarantine::proof::state::MAX_SHOWN;

/// Frozen processes at most: each must be remembered, or it would stay frozen after release. More than this at once is
/// a rule that fits too much.
const MAX_FROZEN: usize = 256;
/// Killed processes kept for display, the newest. A supervisor may start a killed one again for ever.
const MAX_KILLED: usize = 32;

impl Enforcer {
    /// Stops what the plan names and lets go of what it names no longer; gives what went wrong.
    pub(super) fn bring_processes(&mut self, plan: &Plan, now: Now) -> Vec<String> {
        self.state.spared.clear();
        self.state.left_running.clear();
        if plan.processes.is_empty() && self.journal.stopped.is_empty() {
            return Vec::new();
        }
        let selection = select(&process_table::list(), &plan.processes, &self.protected());
        self.state.spared = selection
            .spared
            .iter()
            .take(MAX_SHOWN)
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
        self.let_go(&meant, plan.is_normal());
        let mut faults = Vec::new();
        let mut act = Vec::new();
        for (process, action) in &selection.act {
            match self.remember(process, *action, now) {
                Ok(news) => act.push((process, *action, news)),
                Err(fault) => faults.push(fault),
            }
        }
        // In the journal before any is touched, so that a crash in between cannot leave one frozen for ever; all at
        // once, because each write waits for the disk.
        faults.extend(self.save().err());
        for (process, action, news) in act {
            match stop(process, action, news) {
                Ok(true) => self.history.note(Event::ProcessStopped {
                    pid: process.identity.pid,
                    name: process.name.clone(),
                    exe: process.exe.clone(),
                    action,
                }),
                Ok(false) => {}
                Err(fault) => faults.push(fault),
            }
        }
        self.state.left_running = faults.iter().take(MAX_SHOWN).cloned().collect();
        self.state.left_running.clone()
    }

    pub(super) fn protected(&self) -> ProtectedProcesses {
        ProtectedProcesses {
            pids: [Some(std::process::id()), self.settings.nucleus_pid]
                .into_iter()
                .flatten()
                .collect(),
            executables: self.settings.isolation.protected.clone(),
        }
    }

    fn let_go(&mut self, meant: &BTreeSet<ProcessId>, released: bool) {
        self.journal.stopped.retain(|stopped| {
            if meant.contains(&stopped.identity) {
                return true;
            }
            if stopped.action == ProcessAction::Kill {
                return !released;
            }
            match process_table::thaw(stopped.identity) {
                Ok(()) => {
                    tracing::info!(pid = stopped.identity.pid, name = %stopped.name, "process runs again");
                    self.history.note(Event::ProcessFreed {
                        pid: stopped.identity.pid,
                        name: stopped.name.clone(),
                    });
                }
                Err(error) => tracing::debug!("{error}"),
            }
            false
        });
    }

    /// Notes a process; gives whether it is news.
    ///
    /// # Errors
    /// A sentence: it would be frozen and could not be remembered.
    fn remember(&mut self, process: &Process, action: ProcessAction, now: Now) -> Result<bool, String> {
        let stopped = &mut self.journal.stopped;
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
}

/// Freezes first, so that it does nothing more while it is being killed; again at every check, in case somebody let
/// it run. Gives whether that is news.
fn stop(process: &Process, action: ProcessAction, news: bool) -> Result<bool, String> {
    let outcome = process_table::freeze(process.identity).and_then(|()| match action {
        ProcessAction::Freeze => Ok(()),
        ProcessAction::Kill => process_table::kill(process.identity),
    });
    match outcome {
        Err(error @ SignalError::Refused { .. }) => Err(crate::error_text(&error)),
        Ok(()) if news => {
            let pid = process.identity.pid;
            tracing::warn!(pid, name = %process.name, exe = ?process.exe, ?action, "process stopped");
            Ok(true)
        }
        Ok(()) | Err(SignalError::Gone(_)) => Ok(false),
    }
}
