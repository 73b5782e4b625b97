//! The machine that enforcement works on: the kernel and disk behind `host/`.

use std::path::{Path, PathBuf};

use super::history::HistoryKeeper;
use crate::host::clock::HostClock;
use crate::host::files::journal_file::JournalFile;
use crate::host::net::severing::HostSockets;
use crate::host::netfilter::filter::KernelFilter;
use crate::host::processes::hands::HostProcesses;
use crate::quarantine::ports::{Machine, Parts};

/// This device, with its state directory.
#[derive(Debug)]
pub struct HostMachine {
    state_directory: PathBuf,
}

impl HostMachine {
    /// Nothing is touched before the first question.
    pub fn new(state_directory: &Path) -> Self {
        Self {
            state_directory: state_directory.to_owned(),
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
            processes: HostProcesses::default(),
            sockets: HostSockets::default(),
            journal: JournalFile::new(&self.state_directory),
            history: HistoryKeeper::new(&self.state_directory),
            clock: HostClock,
        }
    }
}
