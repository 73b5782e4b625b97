//! The machine that enforcement works on: the kernel and disk behind `host/`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::history::{HistoryDisk, HistoryKeeper};
use crate::host::clock::HostClock;
use crate::host::files::journal_file::JournalFile;
use crate::host::files::shelter::Shelter;
use crate::host::net::bypasses::{BypassLooks, HostBypasses};
use crate::host::net::severing::HostSockets;
use crate::host::netfilter::filter::KernelFilter;
use crate::host::netfilter::standby::Standby;
use crate::host::processes::hands::HostProcesses;
use crate::host::processes::unmarked;
use crate::host::worker::Worker;
use crate::quarantine::ports::{Machine, Parts};

/// A component that is told to stop ends within a second; what is late on disk is worth less than half of that.
const LAST_LIMIT: Duration = Duration::from_millis(400);

/// This device, with its state directory. Clones share the threads that write: what a successor writes comes after what its
/// predecessor wrote.
#[derive(Clone)]
pub struct HostMachine {
    state_directory: PathBuf,
    journal: Worker,
    history: Worker<HistoryDisk>,
    /// What it has taken it keeps for a successor.
    bypasses: Worker<BypassLooks>,
    shelter: Shelter,
    /// For whoever watches the packet filter.
    standby: Standby,
    /// How long the disk may take to read the journal, where somebody waits for it.
    read_limit: Option<Duration>,
}

impl HostMachine {
    /// Nothing is touched before the first question.
    pub fn new(state_directory: &Path) -> Self {
        Self {
            state_directory: state_directory.to_owned(),
            journal: JournalFile::disk(),
            history: HistoryKeeper::disk(),
            bypasses: HostBypasses::thread(),
            shelter: Shelter::default(),
            standby: Standby::default(),
            read_limit: None,
        }
    }

    /// The same for a person who waits.
    #[must_use]
    pub(crate) fn read_within(self, limit: Duration) -> Self {
        Self {
            read_limit: Some(limit),
            ..self
        }
    }

    /// The same, with a place for a journal that is late when the process ends: beside the control socket.
    #[must_use]
    pub fn sheltered(self, control_socket: &Path) -> Self {
        Self {
            shelter: Shelter::beside(control_socket),
            ..self
        }
    }

    /// What its enforcer has stand by.
    pub(crate) fn standby(&self) -> Standby {
        self.standby.clone()
    }

    /// Waits until the journal and the last record of an enforcer that has ended are on disk, but not for long. A journal that
    /// is late is kept in memory for whoever comes next.
    pub async fn last_words(&self) {
        let journal = self.journal.ask_within(LAST_LIMIT, |()| ());
        let _late = tokio::join!(journal, self.history.ask_within(LAST_LIMIT, |_| ()));
        match self.shelter.keep() {
            Ok(false) => {}
            Ok(true) => {
                tracing::warn!("the disk is late with the journal: it is kept in memory for the next agent");
            }
            Err(error) => tracing::error!(
                "{}: what was ordered last does not survive a restart",
                crate::error_text(&error)
            ),
        }
    }
}

impl Machine for HostMachine {
    type Filter = KernelFilter;
    type Processes = HostProcesses;
    type Sockets = HostSockets;
    type Bypasses = HostBypasses;
    type Journal = JournalFile;
    type History = HistoryKeeper;
    type Clock = HostClock;

    fn parts(self) -> Parts<Self> {
        let notes = self.shelter.place_of(unmarked::NAME);
        let journal = JournalFile::new(&self.state_directory, self.journal, self.shelter);
        Parts {
            filter: KernelFilter::new(self.standby),
            processes: HostProcesses::new(&self.state_directory, notes),
            sockets: HostSockets::default(),
            bypasses: HostBypasses::new(self.bypasses),
            journal: match self.read_limit {
                Some(limit) => journal.read_within(limit),
                None => journal,
            },
            history: HistoryKeeper::new(&self.state_directory, self.history),
            clock: HostClock,
        }
    }
}
