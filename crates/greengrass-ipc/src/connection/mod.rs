//! The connection task: connect, work, lose the connection, wait, for ever.
//!
//! In: [`Command`]s of the clients and what [`Shared`] asks for. Out: answers through each command's channel, events
//! through queues, and the [`ConnectionState`]. One task owns the socket and every table, so there is no lock around
//! them, and stream ids are allocated in the order in which requests are written (classic insists on it).

mod handshake;
mod peer;
mod reply;
mod session;
mod streams;

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use crate::backoff;
use crate::error::in_one_line;
use crate::frame::{FrameError, Message, MessageKind};
use crate::options::{ClientOptions, LITE_MAX_FRAME_BYTES};
use crate::queue::Queue;
use crate::state::ConnectionState;
use handshake::Credentials;
pub(crate) use reply::{ReplySender, reply_channel};
use streams::Streams;

/// A connection that lasted this long was a good one, and the next attempt starts with the shortest wait. A nucleus
/// that accepts and then breaks the protocol at once is met with ever longer waits.
const LASTING: Duration = Duration::from_secs(10);

/// One request on its way to the socket.
#[derive(Debug)]
pub(crate) struct Command {
    /// Bare name of the operation, for errors.
    pub(crate) operation: String,
    /// The request without its stream id.
    pub(crate) message: Message,
    /// Where events go, when the request is a subscription.
    pub(crate) queue: Option<Arc<Queue>>,
    pub(crate) reply: ReplySender,
}

/// What clients and the connection task tell each other without waiting.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Wakes the task: a consumer is gone, or a reconnect is wanted.
    pub(crate) attention: Notify,
    reconnect: Mutex<Option<String>>,
    /// Longest frame sent, in bytes: as the options say, until the nucleus teaches otherwise.
    max_frame_bytes: AtomicUsize,
}

impl Shared {
    pub(crate) fn new(options: &ClientOptions) -> Self {
        Self {
            attention: Notify::new(),
            reconnect: Mutex::default(),
            max_frame_bytes: AtomicUsize::new(options.max_frame_bytes),
        }
    }

    pub(crate) fn max_frame_bytes(&self) -> usize {
        self.max_frame_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn request_reconnect(&self, reason: &str) {
        *self.reconnect.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
        self.attention.notify_one();
    }

    fn take_reconnect(&self) -> Option<String> {
        self.reconnect
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

/// Why a working connection ended.
#[derive(Debug, thiserror::Error)]
enum ConnectionEnd {
    #[error("the nucleus closed the connection")]
    Closed,
    #[error("could not use the socket")]
    Socket {
        #[source]
        source: std::io::Error,
    },
    #[error("the nucleus sent something that is not a frame")]
    Garbage {
        #[source]
        source: FrameError,
    },
    #[error("the nucleus sent a message of kind {kind:?} on an accepted connection")]
    OutOfPlace { kind: MessageKind },
    #[error("the nucleus reported {kind:?}: {text}")]
    Reported { kind: MessageKind, text: String },
    #[error("half a frame was not completed within {after:?}")]
    Stalled { after: Duration },
    #[error("calls were open and nothing at all came for {after:?}")]
    Silent { after: Duration },
    #[error("{count} subscriptions that nobody wants any more were never answered")]
    Unanswered { count: usize },
    #[error("reconnect requested: {reason}")]
    Requested { reason: String },
    #[error("all stream ids are used up")]
    OutOfIds,
}

impl ConnectionEnd {
    /// True when the nucleus ended it, as lite does on a frame that is too long.
    fn is_close(&self) -> bool {
        matches!(self, Self::Closed | Self::Socket { .. })
    }

    /// True when the peer, and not fate or ourselves, is to blame.
    fn is_violation(&self) -> bool {
        matches!(
            self,
            Self::Garbage { .. } | Self::OutOfPlace { .. } | Self::Reported { .. } | Self::Stalled { .. }
        )
    }
}

/// Runs the connection until the future is dropped.
pub(crate) async fn run(
    options: Arc<ClientOptions>,
    mut commands: mpsc::Receiver<Command>,
    shared: Arc<Shared>,
    state: watch::Sender<ConnectionState>,
) -> Infallible {
    let mut credentials = Credentials::new(&options);
    let mut streams = Streams::new(options.request_timeout, options.stall_timeout);
    let mut attempt: u32 = 0;
    let mut epoch: u64 = 0;
    loop {
        let error = match handshake::connect(&options, &mut credentials).await {
            Ok(accepted) => {
                epoch += 1;
                shared.take_reconnect();
                tracing::info!(
                    epoch,
                    server_pid = accepted.server_pid,
                    "connected to the Greengrass nucleus"
                );
                let since = Instant::now();
                state.send_replace(ConnectionState::Connected {
                    epoch,
                    server_pid: accepted.server_pid,
                    server_start_ticks: accepted.server_start_ticks,
                });
                let lost = session::run(accepted, &options, &mut commands, &shared, &mut streams).await;
                if since.elapsed() >= LASTING {
                    attempt = 0;
                }
                if streams.learn_frame_limit(lost.is_close()) {
                    let limit = LITE_MAX_FRAME_BYTES;
                    shared.max_frame_bytes.fetch_min(limit, Ordering::Relaxed);
                    tracing::warn!(
                        limit,
                        "the nucleus takes no longer frames; they are refused from now on"
                    );
                }
                connection_lost(&lost, epoch)
            }
            Err(error) => connection_refused(&error, attempt),
        };
        let last_error = Some(error.clone());
        // The state first: a caller that hears of the loss and looks must not see a connection.
        state.send_replace(ConnectionState::Connecting {
            attempt: attempt.saturating_add(1),
            last_error,
        });
        streams.connection_lost(&error, Instant::now());
        tokio::time::sleep(backoff::delay(attempt, fastrand::f64())).await;
        attempt = attempt.saturating_add(1);
    }
}

fn connection_lost(lost: &ConnectionEnd, epoch: u64) -> String {
    let reason = in_one_line(lost);
    if lost.is_violation() {
        tracing::warn!(epoch, reason, "dropped the connection to the Greengrass nucleus");
    } else {
        tracing::info!(epoch, reason, "lost the connection to the Greengrass nucleus");
    }
    reason
}

/// The first failure of a series is news; the rest repeats it for as long as the outage lasts.
fn connection_refused(error: &handshake::ConnectError, attempt: u32) -> String {
    let reason = in_one_line(error);
    if attempt == 0 {
        tracing::info!(
            reason,
            "could not connect to the Greengrass nucleus; trying for ever"
        );
    } else {
        tracing::debug!(reason, attempt, "could not connect to the Greengrass nucleus");
    }
    reason
}
