//! The enforcer's hands on processes: freeze, kill, thaw.

use std::collections::BTreeSet;

use super::Enforcer;
use crate::host::clock::Now;
use crate::host::process_table::{self, SignalError};
use crate::process::{Process, ProcessId};
use crate::quarantine::order::ProcessAction;
use crate::quarantine::plan::Plan;
use crate::quarantine::processes::{Protected, Stopped, select};
use crate::quarantine::state::MAX_SHOWN;

/// Stopped processes remembered. More than this at once is a rule that fits too much; the rest is still stopped at
/// every check, but a frozen one beyond the bound would not be thawed, so freezing ends here.
const MAX_STOPPED: usize = 256;

impl Enforcer {
    /// Stops what the plan names and lets go of what it names no longer; gives what went wrong.
    pub(super) fn bring_processes(&mut self, plan: &Plan, now: Now) -> Vec<String> {
        self.state.spared.clear();
        if plan.processes.is_empty() && self.journal.stopped.is_empty() {
            return Vec::new();
        }
        let protected = Protected {
            pids: [Some(std::process::id()), self.settings.nucleus_pid]
                .into_iter()
                .flatten()
                .collect(),
            executables: self.settings.isolation.protected.clone(),
        };
        let selection = select(&process_table::list(), &plan.processes, &protected);
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
        selection
            .act
            .iter()
            .filter_map(|(process, action)| self.stop(process, *action, now).err())
            .take(MAX_SHOWN)
            .collect()
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
                }
                Err(error) => tracing::debug!("{error}"),
            }
            false
        });
    }

    fn stop(&mut self, process: &Process, action: ProcessAction, now: Now) -> Result<(), String> {
        let known = self
            .journal
            .stopped
            .iter()
            .position(|stopped| stopped.identity == process.identity);
        if known.is_none() {
            self.remember(process, action, now)?;
        }
        // Frozen first, so that it does nothing more while it is being killed; again at every check, in case
        // somebody let it run.
        let outcome = process_table::freeze(process.identity).and_then(|()| match action {
            ProcessAction::Freeze => Ok(()),
            ProcessAction::Kill => process_table::kill(process.identity),
        });
        match outcome {
            Err(error @ SignalError::Refused { .. }) => Err(crate::error_text(&error)),
            Err(SignalError::Gone(_)) => Ok(()),
            Ok(()) => {
                if known.is_none() {
                    tracing::warn!(pid = process.identity.pid, name = %process.name, exe = ?process.exe, ?action, "process stopped");
                }
                Ok(())
            }
        }
    }

    /// Notes it in the journal before it is touched, so that a crash in between cannot leave it frozen for ever.
    fn remember(&mut self, process: &Process, action: ProcessAction, now: Now) -> Result<(), String> {
        if self.journal.stopped.len() >= MAX_STOPPED {
            return Err(format!(
                "{} processes are stopped already, {} is left running",
                MAX_STOPPED, process.name
            ));
        }
        self.journal.stopped.push(Stopped {
            identity: process.identity,
            name: process.name.clone(),
            exe: process.exe.clone(),
            action,
            at: now.wall,
        });
        self.save()
    }
}
