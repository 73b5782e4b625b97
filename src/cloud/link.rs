//! The link to the nucleus: which client speaks the Greengrass IPC, and whether it is connected.
//!
//! In: the environment that the nucleus gives to its components. Out: [`Nucleus`], a cheap clone through which
//! everything is asked and told; [`LinkWatch`]. The other files of this folder give it its questions.
//! Absent: giving up. The client connects for ever, and a nucleus that is not there is a state, not a failure.

use greengrass_ipc::{
    Client, ClientOptions, ComponentState, ConnectionState, EnvironmentError, IpcError, LITE_MAX_FRAME_BYTES,
};
use tokio::sync::watch;

/// The component's name: the nucleus knows us by it when it must authenticate us again.
const COMPONENT: &str = "io.edgewarden.Agent";
/// File name of lite's socket; the classic nucleus' is `ipc.socket` (docs/reference/ipc-wire.md#connecting).
const LITE_SOCKET: &str = "gg-ipc.socket";
/// Longest frame for the classic nucleus in bytes: a report of 128 KB in base64 and its request. Lite takes less and says
/// nothing of it but the end of the connection; one whose socket has another name is known by that.
const MAX_FRAME: usize = 131_072 / 3 * 4 + 4_096;

/// The environment does not say where the nucleus is: we were not started by one.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(crate) struct NoNucleus(#[from] EnvironmentError);

/// What was asked of the nucleus, and through it of the cloud, was not done.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(crate) struct CloudError(#[from] IpcError);

/// The nucleus that started us.
#[derive(Debug, Clone)]
pub(crate) struct Nucleus {
    pub(super) client: Client,
    lite: bool,
}

/// The nucleus' process as it was when it accepted us; one that has its number later was started later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ServerProcess {
    pub(crate) pid: u32,
    /// Clock ticks after boot.
    pub(crate) start_ticks: u64,
}

/// Whether the nucleus is connected to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LinkState {
    /// It has accepted us.
    Connected,
    /// It is tried.
    Away {
        /// Why the last try failed or the last connection ended.
        why: Option<String>,
    },
}

/// Sees every change of the link.
#[derive(Debug, Clone)]
pub(crate) struct LinkWatch(watch::Receiver<ConnectionState>);

impl Nucleus {
    /// Begins to connect, for ever. `lookup` reads the environment.
    ///
    /// # Errors
    /// When the environment names no nucleus.
    pub(crate) fn connect(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, NoNucleus> {
        let mut options = ClientOptions::from_lookup(lookup)?;
        options.component_name = Some(COMPONENT.into());
        let lite = options.socket.file_name().is_some_and(|name| name == LITE_SOCKET);
        options.max_frame_bytes = if lite { LITE_MAX_FRAME_BYTES } else { MAX_FRAME };
        let client = Client::start(options);
        Ok(Self { client, lite })
    }

    /// Whether it is nucleus lite, as far as its socket tells.
    pub(crate) fn is_lite(&self) -> bool {
        self.lite
    }

    /// Follows the link from what it is at this moment.
    pub(crate) fn link(&self) -> LinkWatch {
        LinkWatch(self.client.connection())
    }

    /// The process that serves the IPC, while we are connected to it. Absent also where the kernel does not show it: it is in
    /// another pid namespace, or `/proc` hides it.
    pub(crate) fn server(&self) -> Option<ServerProcess> {
        match &*self.client.connection().borrow() {
            ConnectionState::Connected {
                server_pid,
                server_start_ticks,
                ..
            } => Some(ServerProcess {
                pid: (*server_pid)?.try_into().ok()?,
                start_ticks: (*server_start_ticks)?,
            }),
            _ => None,
        }
    }

    /// Connects anew, because the connection there is does not do what it should.
    pub(crate) fn reconnect(&self, why: &str) {
        self.client.reconnect(why);
    }

    /// Tells the nucleus that this component does its work.
    ///
    /// # Errors
    /// The nucleus' refusal, or no connection.
    pub(crate) async fn say_running(&self) -> Result<(), CloudError> {
        Ok(self.client.update_state(ComponentState::Running).await?)
    }
}

impl LinkWatch {
    /// The link as it is; the next [`LinkWatch::changed`] waits for another.
    pub(crate) fn state(&mut self) -> LinkState {
        match &*self.0.borrow_and_update() {
            ConnectionState::Connected { .. } => LinkState::Connected,
            ConnectionState::Connecting { last_error, .. } => LinkState::Away {
                why: last_error.clone(),
            },
            _ => LinkState::Away { why: None },
        }
    }

    /// Waits for a change; cancel-safe. `false`: the client is gone.
    pub(crate) async fn changed(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }

    /// Which connection it is, counted from the start; none while there is none.
    pub(super) fn epoch(&self) -> Option<u64> {
        match &*self.0.borrow() {
            ConnectionState::Connected { epoch, .. } => Some(*epoch),
            _ => None,
        }
    }
}
