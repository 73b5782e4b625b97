//! Notices that an accepted connection is of no use any more, and renews it.
//!
//! In: a probe and a rhythm ([`Liveness`]). Out: a reconnect after so many misses in a row. It exists because parts of
//! nucleus lite restart on their own: the connection stays, and its subscriptions are dead without a word. Only the
//! application knows what it should hear, so the probe can be its own.
//!
//! Deliberately absent: pings (lite closes the connection on them) and any judgement while there is no connection.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::client::Client;
use crate::error::IpcError;
use crate::state::ConnectionState;

/// Pause between probes: a subscription that died is back within a few minutes, for little traffic.
const DEFAULT_PERIOD: Duration = Duration::from_secs(60);

/// How long a probe may take: lite was seen to be stuck for 30 s and then go on.
const DEFAULT_PATIENCE: Duration = Duration::from_secs(40);

/// Misses in a row; one alone may be a nucleus under load.
const DEFAULT_MISSES: u32 = 3;

/// Shortest pause between probes, so that none of zero becomes a busy loop.
const SHORTEST_PERIOD: Duration = Duration::from_millis(10);

/// A key nobody has: every nucleus answers at once that it does not exist, and an error is an answer.
const PROBE_KEY: &str = "greengrass-ipc-probe";

type ProbeFuture = Pin<Box<dyn Future<Output = bool> + Send>>;
type Probe = dyn Fn(Client) -> ProbeFuture + Send + Sync;

/// When a connection counts as dead although it is open. For [`crate::ClientOptions::liveness`].
#[derive(Clone)]
#[non_exhaustive]
pub struct Liveness {
    /// Pause between the end of one probe and the start of the next.
    pub period: Duration,
    /// A probe that takes longer has missed.
    pub patience: Duration,
    /// Misses in a row after which the connection is renewed; 0 counts as 1.
    pub misses: u32,
    probe: Arc<Probe>,
}

impl Liveness {
    /// Probes with the cheapest request there is; any answer of the nucleus will do. Finds a nucleus that takes requests
    /// and answers none, but not a subscription that is dead on its own.
    #[must_use]
    pub fn by_request() -> Self {
        Self::by_probe(|client| async move {
            let request = json!({ "keyPath": [PROBE_KEY] });
            match client.request_json("GetConfiguration", request).await {
                Ok(_) => true,
                Err(error) => matches!(error, IpcError::Service { .. } | IpcError::BadReply { .. }),
            }
        })
    }

    /// Probes with whatever the application knows: it says true when it heard what it should. For instance it
    /// publishes to itself and waits until its subscription has the message.
    ///
    /// The probe runs as a task of its own, one at a time and only while there is a connection. The [`Client`] it gets
    /// does not keep the connection alive; one captured by the closure would. A panic is a miss.
    #[must_use]
    pub fn by_probe<F, V>(probe: F) -> Self
    where
        F: Fn(Client) -> V + Send + Sync + 'static,
        V: Future<Output = bool> + Send + 'static,
    {
        Self {
            period: DEFAULT_PERIOD,
            patience: DEFAULT_PATIENCE,
            misses: DEFAULT_MISSES,
            probe: Arc::new(move |client| Box::pin(probe(client))),
        }
    }
}

impl fmt::Debug for Liveness {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Liveness")
            .field("period", &self.period)
            .field("patience", &self.patience)
            .field("misses", &self.misses)
            .finish_non_exhaustive()
    }
}

/// Watches one connection after the other until the connection task is gone. `client` must not keep it alive.
pub(crate) async fn watch(client: Client, liveness: Liveness) {
    let mut states = client.connection();
    loop {
        let connected = states.wait_for(|state| epoch_of(state).is_some()).await;
        let Some(epoch) = connected.ok().and_then(|state| epoch_of(&state)) else {
            return;
        };
        let look = client.connection();
        tokio::select! {
            () = until_dead(&client, &liveness, &look, epoch) => {
                let reason = format!("{} probes in a row were not answered", liveness.misses.max(1));
                client.reconnect(&reason);
            }
            () = ended(&mut states, epoch) => {}
        }
        ended(&mut states, epoch).await;
    }
}

/// Probes until the connection has missed too often.
async fn until_dead(
    client: &Client,
    liveness: &Liveness,
    states: &watch::Receiver<ConnectionState>,
    epoch: u64,
) {
    let mut missed = 0;
    while missed < liveness.misses.max(1) {
        tokio::time::sleep(liveness.period.max(SHORTEST_PERIOD)).await;
        let (probe, client) = (Arc::clone(&liveness.probe), client.clone());
        // A task of its own: it may block or panic. It ends with the set.
        let mut task = JoinSet::new();
        task.spawn(async move { probe(client).await });
        let answered = tokio::time::timeout(liveness.patience, task.join_next()).await;
        let answered = matches!(answered, Ok(Some(Ok(true))));
        if epoch_of(&states.borrow()) != Some(epoch) {
            return std::future::pending().await;
        }
        missed = if answered { 0 } else { missed + 1 };
    }
}

/// Waits until the connection is another one or none.
async fn ended(states: &mut watch::Receiver<ConnectionState>, epoch: u64) {
    // The sender is gone with the connection task, and then so is this one.
    let _ = states.wait_for(|state| epoch_of(state) != Some(epoch)).await;
}

fn epoch_of(state: &ConnectionState) -> Option<u64> {
    match state {
        ConnectionState::Connected { epoch, .. } => Some(*epoch),
        ConnectionState::Connecting { .. } => None,
    }
}
