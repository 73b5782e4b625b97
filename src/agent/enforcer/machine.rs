//! The machine that enforcement works on: the kernel and disk behind `host/`.

use std::path::{Path, PathBuf};

use super::history::{HistoryDisk, HistoryKeeper};
use crate::host::clock::HostClock;
use crate::host::files::journal_file::JournalFile;
use crate::host::net::severing::HostSockets;
use crate::host::netfilter::filter::KernelFilter;
use crate::host::processes::hands::HostProcesses;
use crate::host::worker::Worker;
use crate::quarantine::ports::{Machine, Parts};

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
