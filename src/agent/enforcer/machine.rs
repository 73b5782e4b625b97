//! The machine that enforcement works on: the kernel and disk behind `host/`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::history::{HistoryDisk, HistoryKeeper};
use crate::host::clock::HostClock;
use crate::host::files::journal_file::JournalFile;
use crate::host::net::severing::HostSockets;
use crate::host::netfilter::filter::KernelFilter;
use crate::host::processes::hands::HostProcesses;
use crate::host::worker::Worker;
use crate::quarantine::ports::{Machine, Parts};

/// The nucleus kills a component that does not end; the last record is worth half a second of that time.
const LAST_LIMIT: Duration = Duration::from_millis(500);

/// What is ordered is worth more: without its journal it ends with the agent, and a disk that tidies up takes a while.
const LAST_JOURNAL_LIMIT: Duration = Duration::from_secs(3);

/// This device, with its state directory. Clones share the threads that write: what a successor writes comes after what its
/// predecessor wrote.
#[derive(Clone)]
pub struct HostMachine {
    state_directory: PathBuf,
    journal: Worker,
    history: Worker<HistoryDisk>,
}

impl HostMachine {
    /// Nothing is touched before the first question.
    pub fn new(state_directory: &Path) -> Self {
        Self {
            state_directory: state_directory.to_owned(),
            journal: JournalFile::disk(),
            history: HistoryKeeper::disk(),
        }
    }

    /// Waits until the journal and the last record of an enforcer that has ended are on disk, but not for long.
    pub async fn last_words(&self) {
        let journal = self.journal.ask_within(LAST_JOURNAL_LIMIT, |()| ());
        // Late or not: there is nothing more to do.
        let _late = tokio::join!(journal, self.history.ask_within(LAST_LIMIT, |_| ()));
    }
}

impl Machine for HostMachine {
    type Filter = KernelFilter;
    type Processes = HostProcesses;
    type Sockets = HostSockets;
    type Journal = JournalFile;
    type History = HistoryKeeper;
    type Clock = HostClock;

    fn parts(self) -> Parts<Self> {
        Parts {
            filter: KernelFilter::default(),
            processes: HostProcesses::new(&self.state_directory),
            sockets: HostSockets::default(),
            journal: JournalFile::new(&self.state_directory, self.journal),
            history: HistoryKeeper::new(&self.state_directory, self.history),
            clock: HostClock,
        }
    }
}
