//! What the tasks of the agent share, as one cheap clone.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{OnceCell, watch};

use super::board::Board;
use super::channel::Channel;
use super::enforcement::Enforcement;
use super::publishing::Publishing;
use crate::cloud::link::{LinkState, Nucleus};
use crate::config::Config;
use crate::host::processes::{doing, process_table};
use crate::process::ProcessId;

/// How long the shadow and the reports wait for the first lifeline addresses: an order that arrives before them would
/// have to be carried out with wide lifelines.
const FIRST_ADDRESSES: Duration = Duration::from_secs(12);

/// Everything that is there without a nucleus.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) config: watch::Receiver<Config>,
    /// The document that the newest of them was read from; null where it is what nobody has chosen.
    pub(crate) in_force: watch::Sender<Value>,
    pub(crate) enforcer: Enforcement,
    pub(crate) board: Board,
    pub(crate) channel: Channel,
    pub(crate) state_directory: PathBuf,
}

/// The same with the nucleus, for the tasks that talk to it.
#[derive(Debug, Clone)]
pub(crate) struct Connected {
    pub(crate) context: Context,
    pub(crate) nucleus: Nucleus,
    /// The way to the cloud, for every message.
    pub(crate) publishing: Publishing,
    pub(crate) thing: ThingName,
    /// Whether the guard started us, and no nucleus.
    pub(crate) is_stand_in: bool,
    /// The process that served the IPC last, as far as it was seen.
    pub(crate) served_by: Arc<Mutex<Option<ProcessId>>>,
}

/// Who we are to the cloud: known once the configuration was read, for it may name another thing than the environment.
#[derive(Debug, Clone)]
pub(crate) struct ThingName {
    /// As the nucleus gives it to components.
    pub(crate) from_environment: Option<String>,
    /// Turns true when the control channel's addresses were looked up for the first time.
    pub(crate) looked_up: watch::Receiver<bool>,
    /// Decided once: shadow and reports speak of the same thing.
    pub(crate) name: Arc<OnceCell<String>>,
}

impl Context {
    /// Whether the newest configuration was read from a document.
    pub(crate) fn is_configured(&self) -> bool {
        !self.in_force.borrow().is_null()
    }
}

impl Connected {
    /// The thing's name, when it is time to speak for it.
    pub(crate) async fn thing(&self) -> String {
        let decide = || async {
            let mut looked_up = self.thing.looked_up.clone();
            let _ = tokio::time::timeout(FIRST_ADDRESSES, looked_up.wait_for(|done| *done)).await;
            let name = self.name_of_thing().await;
            let told = Some(name.clone());
            self.context.board.update(|status| status.thing = told);
            name
        };
        self.thing.name.get_or_init(decide).await.clone()
    }

    /// The process that serves the IPC, while we are connected to it and `/proc` shows it.
    pub(crate) fn nucleus_process(&self) -> Option<ProcessId> {
        let server = self.nucleus.server()?;
        let process = ProcessId {
            pid: server.pid,
            start_ticks: server.start_ticks,
        };
        *crate::lock(&self.served_by) = Some(process);
        Some(process)
    }

    /// Whether anybody is there to be asked: not while the process that served last has ended or is stopped. Where it cannot be seen,
    /// who is connected is there. A connection that ends says nothing by itself: we end one that is silent.
    pub(crate) fn nucleus_is_there(&self) -> bool {
        let idle = |nucleus| process_table::has_ended(nucleus) || doing::is_stopped(nucleus);
        let serves = self.nucleus_process();
        match serves.or(*crate::lock(&self.served_by)) {
            Some(nucleus) => !idle(nucleus),
            None => self.nucleus.link().state() == LinkState::Connected,
        }
    }

    async fn name_of_thing(&self) -> String {
        let mut config = self.context.config.clone();
        let mut said = false;
        loop {
            let configured = config.borrow_and_update().thing_name.clone();
            if let Some(name) = configured.or_else(|| self.thing.from_environment.clone()) {
                return name;
            }
            if !said {
                tracing::error!("no thing name (AWS_IOT_THING_NAME, thingName): no shadow and no reports");
                said = true;
            }
            if config.changed().await.is_err() {
                // The agent is stopping.
                std::future::pending::<()>().await;
            }
        }
    }
}
