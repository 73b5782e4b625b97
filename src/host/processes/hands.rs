//! Processes as enforcement asks for them: [`Processes`], on a thread of its own, because a walk of `/proc` takes as
//! long as others make it.

use std::time::Duration;

use super::process_table::{self, SignalError};
use crate::error_text;
use crate::host::worker::Worker;
use crate::process::{Process, ProcessId};
use crate::quarantine::ports::{Processes, Signal, SignalFailure};
use crate::quarantine::proof::obstacle::Obstacle;

/// A walk over 100 processes takes 2 ms; over 32,768, as many as small kernels have, some 700 ms.
const LIST_LIMIT: Duration = Duration::from_secs(5);
/// A signal is sent within microseconds.
const SIGNAL_LIMIT: Duration = Duration::from_secs(1);

/// The processes of our pid namespace.
pub struct HostProcesses {
    walks: Worker<()>,
}

impl Default for HostProcesses {
    fn default() -> Self {
        Self {
            walks: Worker::urgent("processes", LIST_LIMIT),
        }
    }
}

impl Processes for HostProcesses {
    async fn list(&mut self) -> Result<Vec<Process>, Obstacle> {
        let listed = self.walks.run(process_table::list).await;
        let why = match listed {
            Ok(Ok(processes)) => return Ok(processes),
            Ok(Err(error)) => error_text(&error),
            Err(error) => error_text(&error),
        };
        Err(Obstacle::ProcessesUnknown { why })
    }

    async fn signal(&mut self, to: ProcessId, signal: Signal) -> Result<(), SignalFailure> {
        let send = match signal {
            Signal::Freeze => process_table::freeze,
            Signal::Thaw => process_table::thaw,
            Signal::Kill => process_table::kill,
        };
        match self.walks.ask_within(SIGNAL_LIMIT, move |()| send(to)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(SignalError::Gone(_))) => Err(SignalFailure::Gone),
            Ok(Err(error @ SignalError::Refused { .. })) => Err(SignalFailure::Refused(error_text(&error))),
            Err(error) => Err(SignalFailure::Refused(format!(
                "process {}: {}",
                to.pid,
                error_text(&error)
            ))),
        }
    }

    fn own_pid(&self) -> u32 {
        std::process::id()
    }
}
