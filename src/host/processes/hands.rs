//! Processes as enforcement asks for them: [`Processes`], on threads of their own, because a walk of `/proc` takes as
//! long as others make it: one for walks and looks, one for signals, one for where paths lead, and none waits for another.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::above::{self, Above};
use super::chase;
use super::frozen::{self, Ours};
use super::nucleus;
use super::pinned;
use super::process_table;
use super::programs::{self, Places};
use super::signals::SignalError;
use crate::Gather;
use crate::error_text;
use crate::host::worker::Worker;
use crate::process::{ProcessId, SeenFrom};
use crate::quarantine::orders::order::ProcessAction;
use crate::quarantine::plan::processes::{Candidate, NucleusTrace, OneAbove, PathsMeant};
use crate::quarantine::ports::{
    Chase, Chased, Doing, FoundFrozen, Processes, RanAbove, Signal, SignalFailure,
};
use crate::quarantine::proof::obstacle::Obstacle;

/// A walk over 100 processes takes 2 ms; over 32,768, as many as small kernels have, some 700 ms, and many times that on a machine
/// that they keep busy. Nothing else waits for it.
const LIST_LIMIT: Duration = Duration::from_secs(10);
/// A thousand paths on a disk are looked up within some ten milliseconds; of those that hang each is waited for once, and not
/// longer than a moment.
const PATHS_LIMIT: Duration = Duration::from_secs(5);
/// A signal is sent within microseconds.
const SIGNAL_LIMIT: Duration = Duration::from_secs(1);

/// The processes of our pid namespace.
#[derive(Clone)]
pub struct HostProcesses {
    walks: Worker<()>,
    signals: Worker<()>,
    paths: Worker<()>,
    ours: Ours,
    /// That some cannot be marked was said.
    said_unmarked: Arc<AtomicBool>,
}

impl HostProcesses {
    /// Whoever has the same state directory finds whom we froze, and in `notes` those whom we could not mark.
    pub(crate) fn new(state_directory: &Path, notes: Option<PathBuf>) -> Self {
        programs::make_ready();
        Self {
            walks: Worker::urgent("processes", LIST_LIMIT),
            signals: Worker::urgent("process-signals", SIGNAL_LIMIT),
            paths: Worker::urgent("process-paths", PATHS_LIMIT),
            ours: Ours::of(state_directory, notes),
            said_unmarked: Arc::default(),
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

    async fn places(&self, meant: &PathsMeant) -> Result<Arc<Places>, Obstacle> {
        let meant = meant.clone();
        let look_up = move || Arc::new(Places::look_up(&meant));
        let places = self.paths.run(look_up).await;
        places.map_err(|error| Obstacle::ProcessesUnknown {
            why: error_text(&error),
        })
    }

    fn say_unmarked(&self, id: ProcessId, why: &io::Error) {
        if !self.said_unmarked.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                pid = id.pid,
                "a frozen process cannot be marked as ours ({why}; it takes CAP_SYS_RESOURCE): only the journal and a note beside the control socket know of it"
            );
        }
    }
}

impl Processes for HostProcesses {
    async fn list(&mut self, meant: PathsMeant) -> Result<Vec<Candidate>, Obstacle> {
        let places = self.places(&meant).await?;
        let list = move || {
            let all = process_table::list()?.into_iter();
            let all = all.map(|process| {
                let mut candidate = places.candidate(process);
                nucleus::note_user(&mut candidate, &meant.nucleus);
                candidate
            });
            Ok(all.collect())
        };
        self.walk(list).await
    }

    async fn frozen(&mut self, suspected: Vec<ProcessId>) -> Result<Vec<FoundFrozen>, Obstacle> {
        let ours = self.ours.clone();
        self.walk(move || frozen::list(&ours, &suspected)).await
    }

    async fn signal(&mut self, to: ProcessId, signal: Signal) -> Result<(), SignalFailure> {
        let ours = self.ours.clone();
        let send = move || match signal {
            Signal::Freeze => frozen::freeze(to, &ours, false),
            Signal::FreezeStopped => frozen::freeze(to, &ours, true),
            Signal::Thaw => frozen::thaw(to, &ours).map(Ok),
            Signal::LeaveStopped => frozen::leave_stopped(to, &ours).map(Ok),
            Signal::Kill => frozen::kill(to, &ours).map(Ok),
        };
        match self.signals.run(send).await {
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

    async fn chase(&mut self, chase: Chase) -> Result<Chased, Obstacle> {
        let meant = PathsMeant::new(&chase.rules, &chase.protected);
        let (places, ours) = (self.places(&meant).await?, self.ours.clone());
        // Whoever stops waiting lets go of it, and the chase ends: its thread may be long in a list by then.
        let waits = Arc::new(());
        let waited_for = Arc::downgrade(&waits);
        let chased = self.walk(move || chase::chase(chase, places, &ours, waited_for));
        let chased = chased.await;
        drop(waits);
        chased
    }

    async fn look_at(
        &mut self,
        processes: Vec<(ProcessId, ProcessAction)>,
        patience: Duration,
    ) -> Result<Vec<Doing>, Obstacle> {
        let ours = self.ours.clone();
        let look = move || Ok(frozen::look_at(&processes, patience, &ours));
        self.walk(look).await
    }

    async fn above(&mut self, of: Vec<ProcessId>, ran: BTreeSet<ProcessId>) -> Result<RanAbove, Obstacle> {
        let look = move || {
            let mut above = Above::past(ran);
            let mut rows = of.into_iter().map(|id| (id, above.of(id))).in_map();
            above.note_held(&mut rows);
            Ok(rows)
        };
        self.walk(look).await
    }

    async fn go_on(&mut self, above: Vec<Vec<OneAbove>>) -> Vec<Vec<OneAbove>> {
        let (ours, rows) = (self.ours.clone(), above.clone());
        let signal = move || above::go_on(&rows, &ours);
        self.signals.run(signal).await.unwrap_or(above)
    }

    async fn trace(&mut self, nucleus: ProcessId) -> Result<Vec<NucleusTrace>, Obstacle> {
        self.walk(move || Ok(nucleus::traces(nucleus))).await
    }

    fn own_pid(&self) -> u32 {
        std::process::id()
    }

    fn seen_from(&self) -> Option<SeenFrom> {
        process_table::seen_from()
    }

    fn less_sure(&self) -> Option<&'static str> {
        pinned::less_sure()
    }
}
