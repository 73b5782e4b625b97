//! What the command line does itself where no agent answers: the way out, and what can be said from journal, kernel and lock.
//!
//! In: where the agent keeps its state. Out: the operator's release, carried out, in the journal and in the history
//! ([`release`]); who is in the agent's place, what the kernel holds and what the journal wants ([`look`]).
//! Invariants: the same enforcer as the agent's does it, so nothing is decided here; only a process that holds the state
//! directory's lock, signed it as an agent and gave no sign of life is ended, and only for a release; whoever only looks
//! changes nothing. Absent: the cloud, which the next agent tells what the journal says.

mod look;
mod machine;
mod possession;
mod release;

use std::path::PathBuf;
use std::time::Duration;

use super::configuration::{self, LastGood};
use super::enforcer::{Enforcer, EnforcerSettings, mailbox};
use super::holder;
use crate::config::document::Development;
use crate::host::worker::Worker;
use crate::quarantine::history::Event;
use crate::quarantine::ports::Machine;

pub(crate) use look::{look, plan, see};
pub(crate) use release::{Outcome, release};

/// How long the disk may take for what can be done without.
const DISK_LIMIT: Duration = Duration::from_secs(2);

/// Where an agent keeps its state, and listens.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    pub(crate) state: PathBuf,
    pub(crate) control_socket: PathBuf,
    /// Whether development keys of the configuration are taken.
    pub(crate) development: Development,
    /// A socket at which somebody was asked just now, and gave no sign of life.
    pub(crate) silent: Option<PathBuf>,
}

impl Places {
    /// Where the agent listens or listened, and the settings of the last good configuration; the defaults while the disk does
    /// not answer.
    async fn begin(&self) -> (PathBuf, EnforcerSettings) {
        let (directory, development) = (self.state.clone(), self.development);
        let disk = Worker::new("configuration", DISK_LIMIT);
        let read = disk.run(move || {
            let socket = holder::last_socket(&directory);
            (configuration::last_good(&directory, development), socket)
        });
        let (last_good, socket) = read.await.unwrap_or_else(|_| (LastGood::defaults(), None));
        // A journal that was late when an agent ended lies beside its socket, whatever socket was asked here.
        let socket = socket.unwrap_or_else(|| self.control_socket.clone());
        (socket, configuration::settings(&last_good.config, None))
    }
}

/// An enforcer that nobody talks to.
async fn enforcer<M: Machine>(machine: M, settings: EnforcerSettings, begin: Event) -> Enforcer<M> {
    let (_handle, mailbox) = mailbox();
    Enforcer::assemble(machine, settings, mailbox, begin).await
}
