//! Processes as enforcement asks for them: [`Processes`], on a thread of its own, because a walk of `/proc` takes as
//! long as others make it.

use std::io;
use std::path::Path;
use std::time::Duration;

use super::frozen::{self, Marks};
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
    marks: Marks,
    /// That some cannot be marked was said.
    said_unmarked: bool,
}

impl HostProcesses {
    /// Whoever has the same state directory finds whom we froze.
    pub(crate) fn new(state_directory: &Path) -> Self {
        Self {
            walks: Worker::urgent("processes", LIST_LIMIT),
            marks: Marks::of(state_directory),
            said_unmarked: false,
        }
    }

    async fn walk<T: Send + 'static>(
        &self,
        walk: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, Obstacle> {
        let why = match self.walks.run(walk).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(error)) => error_text(&error),
            Err(error) => error_text(&error),
        };
        Err(Obstacle::ProcessesUnknown { why })
    }

    fn say_unmarked(&mut self, id: ProcessId, why: &io::Error) {
        if !self.said_unmarked {
            tracing::warn!(
                pid = id.pid,
                "a frozen process cannot be marked as ours ({why}; it takes CAP_SYS_RESOURCE): only the journal knows of it"
            );
        }
        self.said_unmarked = true;
    }
}

impl Processes for HostProcesses {
    async fn list(&mut self) -> Result<Vec<Process>, Obstacle> {
        self.walk(process_table::list).await
    }

    async fn frozen(&mut self, suspected: Vec<ProcessId>) -> Result<Vec<(Process, bool)>, Obstacle> {
        let marks = self.marks;
        self.walk(move || frozen::list(marks, &suspected)).await
    }

    async fn signal(&mut self, to: ProcessId, signal: Signal) -> Result<(), SignalFailure> {
        let marks = self.marks;
        let send = move || match signal {
            Signal::Freeze => frozen::freeze(to, marks),
            Signal::Thaw => frozen::thaw(to, marks).map(Ok),
            Signal::Kill => process_table::kill(to).map(Ok),
        };
        match self.walks.ask_within(SIGNAL_LIMIT, move |()| send()).await {
            Ok(Ok(marked)) => {
                if let Err(why) = marked {
                    self.say_unmarked(to, &why);
                }
                Ok(())
            }
            Ok(Err(SignalError::Gone(_))) => Err(SignalFailure::Gone),
            Ok(Err(error @ SignalError::Refused { .. })) => Err(SignalFailure::Refused(error_text(&error))),
            Err(error) => Err(SignalFailure::Unanswered(error_text(&error))),
        }
    }

    fn own_pid(&self) -> u32 {
        std::process::id()
    }
}
