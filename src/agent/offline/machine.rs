//! This machine for whoever only looks: the journal is read and never written, moved or waited for, and nothing is recorded.

use std::future::pending;
use std::path::PathBuf;
use std::sync::Arc;

use super::DISK_LIMIT;
use crate::host::clock::HostClock;
use crate::host::files::journal_file::JournalFile;
use crate::host::files::shelter::Shelter;
use crate::host::net::severing::HostSockets;
use crate::host::netfilter::filter::KernelFilter;
use crate::host::netfilter::standby::Standby;
use crate::host::processes::hands::HostProcesses;
use crate::host::processes::unmarked;
use crate::moment::Now;
use crate::quarantine::history::Event;
use crate::quarantine::orders::order::Order;
use crate::quarantine::orders::trusted_time::TimeBeside;
use crate::quarantine::plan::Plan;
use crate::quarantine::ports::{HistoryStore, JournalStore, Machine, Parts, WriteOutcome};
use crate::quarantine::proof::journal::{Journal, Understood};
use crate::quarantine::proof::state::HistoryEnd;

/// This device, looked at: the parts of [`HostMachine`](crate::agent::enforcer::HostMachine) that write are not even made.
pub(super) struct LookingMachine {
    pub(super) state_directory: PathBuf,
    /// Where a journal lies that was late on disk.
    pub(super) shelter: Shelter,
}

impl Machine for LookingMachine {
    type Filter = KernelFilter;
    type Processes = HostProcesses;
    type Sockets = HostSockets;
    type Bypasses = ();
    type Journal = UnwrittenJournal;
    type History = NoHistory;
    type Clock = HostClock;

    fn parts(self) -> Parts<Self> {
        let notes = self.shelter.place_of(unmarked::NAME);
        let journal = JournalFile::new(&self.state_directory, JournalFile::disk(), self.shelter);
        Parts {
            filter: KernelFilter::new(Standby::default()),
            processes: HostProcesses::new(&self.state_directory, notes),
            sockets: HostSockets::default(),
            bypasses: (),
            journal: UnwrittenJournal(journal.read_within(DISK_LIMIT)),
            history: NoHistory,
            clock: HostClock,
        }
    }
}

/// A journal that is only read.
pub(super) struct UnwrittenJournal(JournalFile);

impl JournalStore for UnwrittenJournal {
    async fn read(&mut self) -> Result<Option<Understood>, String> {
        self.0.read().await
    }

    async fn replace(&mut self, _: Arc<Journal<'static>>) -> WriteOutcome {
        WriteOutcome::Failed("nothing is written by whoever only looks".to_owned())
    }

    fn late_outcome(&mut self) -> WriteOutcome {
        WriteOutcome::Failed("no write is under way".to_owned())
    }

    fn leave(&mut self, _: Arc<Journal<'static>>) {}

    async fn set_aside(&mut self) -> Result<PathBuf, String> {
        Err("left in its place".to_owned())
    }

    async fn read_time(&mut self) -> Option<TimeBeside> {
        self.0.read_time().await
    }

    fn keep_time(&mut self, _: TimeBeside) {}
}

/// No history.
pub(super) struct NoHistory;

impl HistoryStore for NoHistory {
    fn note(&mut self, _: Now, _: Event) {}

    fn note_plan(&mut self, _: Now, _: &Plan, _: &[Order], _: Option<&str>) {}

    fn note_proof(&mut self, _: Now, _: &Plan, _: bool) {}

    fn record(&mut self, _: Now) {}

    fn has_unwritten(&self) -> bool {
        false
    }

    async fn written(&mut self) {
        pending::<()>().await;
    }

    fn end(&self) -> Option<HistoryEnd> {
        None
    }

    fn fault(&self) -> Option<String> {
        None
    }
}
