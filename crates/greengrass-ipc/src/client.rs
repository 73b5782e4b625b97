//! Calls and subscriptions, as the application makes them.
//!
//! In: requests as JSON. Out: answers as JSON. Here a request gets its size check and its time limit; the connection
//! task does the rest. Every method is cancel-safe: a dropped future leaves nothing behind, and a subscription whose
//! future is dropped is undone.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};

use crate::connection::{self, Command, Shared};
use crate::error::IpcError;
use crate::frame::{self, Message, MessageKind};
use crate::options::ClientOptions;
use crate::queue::Queue;
use crate::state::ConnectionState;
use crate::subscription::Subscription;

/// Requests that wait for the connection task. More callers than this wait their turn within their own time limit.
const COMMAND_QUEUE: usize = 64;

/// Namespace of every operation and shape.
const NAMESPACE: &str = "aws.greengrass#";

/// A handle on the connection. Cheap to clone. When the last one and the last [`Subscription`] are gone, the
/// connection is closed.
#[derive(Debug, Clone)]
pub struct Client {
    commands: mpsc::Sender<Command>,
    state: watch::Receiver<ConnectionState>,
    shared: Arc<Shared>,
    options: Arc<ClientOptions>,
    /// Nothing is ever sent: the connection task ends when the last sender is gone.
    _alive: mpsc::Sender<Infallible>,
}

impl Client {
    /// Starts the connection task on the current runtime. Never fails; the first connection is awaited by the first
    /// call, and watched through [`Client::connection`].
    ///
    /// # Panics
    /// Outside a Tokio runtime, like every spawn.
    #[must_use]
    pub fn start(options: ClientOptions) -> Self {
        let options = Arc::new(options);
        let (commands, command_queue) = mpsc::channel(COMMAND_QUEUE);
        let (alive, mut all_gone) = mpsc::channel(1);
        let connecting = ConnectionState::Connecting {
            attempt: 0,
            last_error: None,
        };
        let (state_sender, state) = watch::channel(connecting);
        let shared = Arc::new(Shared::default());
        let task = connection::run(
            Arc::clone(&options),
            command_queue,
            Arc::clone(&shared),
            state_sender,
        );
        tokio::spawn(async move {
            tokio::select! {
                _ = all_gone.recv() => tracing::debug!("no client is left; the connection is closed"),
                never = task => match never {},
            }
        });
        Self {
            commands,
            state,
            shared,
            options,
            _alive: alive,
        }
    }

    /// The state of the connection, to look at or to wait on.
    #[must_use]
    pub fn connection(&self) -> watch::Receiver<ConnectionState> {
        self.state.clone()
    }

    /// Drops the connection, connects again and subscribes again. For applications that notice that subscriptions
    /// have died although the connection lives, which happens when parts of nucleus lite restart. Without a
    /// connection it does nothing.
    pub fn reconnect(&self, reason: &str) {
        self.shared.request_reconnect(reason);
    }

    /// Any operation that answers once. `operation` is its bare name, for instance `GetConfiguration`.
    ///
    /// # Errors
    /// Every variant of [`IpcError`] says what was or may have been done. A subscription is an
    /// [`IpcError::InvalidRequest`]: its events would reach nobody.
    pub async fn call(&self, operation: &str, request: Value) -> Result<Value, IpcError> {
        if operation.starts_with("SubscribeTo") {
            let problem = "a subscription is not a call".to_owned();
            return Err(IpcError::InvalidRequest {
                operation: operation.to_owned(),
                problem,
            });
        }
        let answer = self.exchange(operation, &request, None).await?;
        if answer.is_empty() {
            return Ok(Value::Object(serde_json::Map::new()));
        }
        serde_json::from_slice(&answer).map_err(|source| IpcError::BadReply {
            operation: operation.to_owned(),
            source,
        })
    }

    /// Any operation that answers and then sends events.
    pub(crate) async fn subscribe<T>(
        &self,
        operation: &str,
        request: &Value,
        decode: fn(&[u8]) -> Option<T>,
    ) -> Result<Subscription<T>, IpcError> {
        let queue = Arc::new(Queue::new(
            self.options.max_queued_events,
            self.options.max_queued_bytes,
        ));
        // Made before the answer: if this future is dropped at any point, so is the subscription.
        let subscription = Subscription::new(Arc::clone(&queue), decode, self.clone());
        self.exchange(operation, request, Some(queue)).await?;
        Ok(subscription)
    }

    /// Length of the frame a request would be sent in, in bytes.
    pub(crate) fn frame_bytes(operation: &str, request: &Value) -> Result<usize, IpcError> {
        encoded_len(operation, &request_message(operation, request))
    }

    /// Longest frame this client sends, in bytes.
    pub(crate) fn max_frame_bytes(&self) -> usize {
        self.options.max_frame_bytes
    }

    /// Makes the connection task look for subscriptions whose consumer is gone.
    pub(crate) fn look_again(&self) {
        self.shared.attention.notify_one();
    }

    async fn exchange(
        &self,
        operation: &str,
        request: &Value,
        queue: Option<Arc<Queue>>,
    ) -> Result<Bytes, IpcError> {
        let message = request_message(operation, request);
        let (size, limit) = (encoded_len(operation, &message)?, self.options.max_frame_bytes);
        if size > limit {
            return Err(IpcError::TooLarge {
                operation: operation.to_owned(),
                size,
                limit,
            });
        }
        let (reply, answer) = oneshot::channel();
        let command = Command {
            operation: operation.to_owned(),
            message,
            queue,
            reply,
        };
        let stopped = || IpcError::Stopped {
            operation: operation.to_owned(),
        };
        let exchange = async {
            self.commands.send(command).await.map_err(|_| stopped())?;
            answer.await.map_err(|_| stopped())?
        };
        match tokio::time::timeout(self.options.request_timeout, exchange).await {
            Ok(result) => result,
            Err(_) => Err(self.too_late(operation)),
        }
    }

    /// Without a connection nothing was sent: what was in flight is failed when a connection ends.
    fn too_late(&self, operation: &str) -> IpcError {
        match &*self.state.borrow() {
            ConnectionState::Connecting { last_error, .. } => IpcError::NotConnected {
                last_error: last_error.clone(),
            },
            ConnectionState::Connected { .. } => IpcError::Timeout {
                operation: operation.to_owned(),
                after: self.options.request_timeout,
            },
        }
    }
}

/// A request without its stream id, which the connection task gives in the order of sending.
fn request_message(operation: &str, request: &Value) -> Message {
    Message::new(MessageKind::ApplicationMessage, 0)
        .with_operation(format!("{NAMESPACE}{operation}"))
        .with_service_model_type(format!("{NAMESPACE}{operation}Request"))
        .with_json(request.to_string())
}

fn encoded_len(operation: &str, message: &Message) -> Result<usize, IpcError> {
    match frame::encode(message) {
        Ok(frame) => Ok(frame.len()),
        Err(source) => Err(IpcError::Encode {
            operation: operation.to_owned(),
            source,
        }),
    }
}
