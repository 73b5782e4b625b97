//! Calls and subscriptions, as the application makes them.
//!
//! In: requests, typed or as JSON. Out: answers and subscriptions of the same kind. Here a request gets its checks and
//! its time limit; the connection task does the rest. Every method is cancel-safe: a dropped future leaves nothing
//! behind, and a subscription whose future is dropped is undone.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::connection::{self, Command, Shared, reply_channel};
use crate::error::IpcError;
use crate::frame::{self, Message, MessageKind};
use crate::liveness;
use crate::operation::{Operation, Request, SubscribeRequest};
use crate::options::ClientOptions;
use crate::queue::Queue;
use crate::state::ConnectionState;
use crate::subscription::Subscription;

/// Requests that wait for the connection task. More callers than this wait their turn within their own time limit.
const COMMAND_QUEUE: usize = 64;

/// How the names of operations begin that send events; no other operation does.
const STREAM_PREFIX: &str = "SubscribeTo";

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
    /// Nothing is ever sent: the connection task ends when the last sender is gone. Probes have none.
    _alive: Option<mpsc::Sender<Infallible>>,
}

impl Client {
    /// Starts the connection task on the current runtime. Never fails; the first connection is awaited by the first
    /// call, and watched through [`Client::connection`].
    ///
    /// # Panics
    /// Outside a Tokio runtime, like every spawn.
    #[must_use]
    pub fn start(options: ClientOptions) -> Self {
        let options = Arc::new(options.bounded());
        let (commands, command_queue) = mpsc::channel(COMMAND_QUEUE);
        let (alive, mut all_gone) = mpsc::channel(1);
        let connecting = ConnectionState::Connecting {
            attempt: 0,
            last_error: None,
        };
        let (state_sender, state) = watch::channel(connecting);
        let shared = Arc::new(Shared::new(&options));
        let task = connection::run(
            Arc::clone(&options),
            command_queue,
            Arc::clone(&shared),
            state_sender,
        );
        let unowned = Self {
            commands,
            state,
            shared,
            options,
            _alive: None,
        };
        let mut watching = JoinSet::new();
        if let Some(liveness) = unowned.options.liveness.clone() {
            watching.spawn(liveness::watch(unowned.clone(), liveness));
        }
        tokio::spawn(async move {
            // Ends when it is dropped, which is when this task ends.
            let _watching = watching;
            tokio::select! {
                _ = all_gone.recv() => tracing::debug!("no client is left; the connection is closed"),
                never = task => match never {},
            }
        });
        Self {
            _alive: Some(alive),
            ..unowned
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

    /// Any operation that answers once, typed: one of this crate or of the application's own.
    ///
    /// # Errors
    /// Every variant of [`IpcError`] says what was or may have been done.
    pub async fn request<R: Request>(&self, request: &R) -> Result<R::Reply, IpcError> {
        let answer = self.exchange(R::NAME, encode(request)?, None).await?;
        parse(R::NAME, &answer)
    }

    /// Any operation that answers and then sends events, typed: one of this crate or of the application's own. The
    /// subscription lives across reconnects until it is dropped.
    ///
    /// # Errors
    /// Of the first attempt only; a subscription that stood once is renewed for ever. See [`IpcError`].
    pub async fn subscribe<S: SubscribeRequest>(
        &self,
        request: &S,
    ) -> Result<Subscription<S::Event>, IpcError> {
        self.open(S::NAME, encode(request)?).await
    }

    /// Any operation that answers once, as JSON. `operation` is its bare name, for instance `GetConfiguration`.
    ///
    /// # Errors
    /// Every variant of [`IpcError`] says what was or may have been done. A subscription is an
    /// [`IpcError::InvalidRequest`]: its events would reach nobody.
    pub async fn request_json(&self, operation: &str, request: Value) -> Result<Value, IpcError> {
        if operation.starts_with(STREAM_PREFIX) {
            return Err(invalid(
                operation,
                "a subscription is not a request that answers once",
            ));
        }
        let answer = self.exchange(operation, request.to_string(), None).await?;
        parse(operation, &answer)
    }

    /// Any operation that answers and then sends events, as JSON. `operation` is its bare name, for instance
    /// `SubscribeToCertificateUpdates`; the events come as the nucleus sends them, in their envelope.
    ///
    /// # Errors
    /// Of the first attempt only; a subscription that stood once is renewed for ever. An operation that is no
    /// subscription is an [`IpcError::InvalidRequest`]: it would be repeated with every connection.
    pub async fn subscribe_json(
        &self,
        operation: &str,
        request: Value,
    ) -> Result<Subscription<Value>, IpcError> {
        if !operation.starts_with(STREAM_PREFIX) {
            return Err(invalid(
                operation,
                "a request that answers once is not a subscription",
            ));
        }
        self.open(operation, request.to_string()).await
    }

    async fn open<T: DeserializeOwned>(
        &self,
        operation: &str,
        request: String,
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
    pub(crate) fn frame_bytes<O: Operation>(request: &O) -> Result<usize, IpcError> {
        Ok(frame::encoded_len(&request_message(O::NAME, to_json(request)?)))
    }

    /// Longest frame this client sends, in bytes: [`ClientOptions::max_frame_bytes`], or lite's limit once the nucleus
    /// has shown that it has that.
    #[must_use]
    pub fn max_frame_bytes(&self) -> usize {
        self.shared.max_frame_bytes()
    }

    /// Makes the connection task look for subscriptions whose consumer is gone.
    pub(crate) fn look_again(&self) {
        self.shared.attention.notify_one();
    }

    async fn exchange(
        &self,
        operation: &str,
        request: String,
        queue: Option<Arc<Queue>>,
    ) -> Result<Bytes, IpcError> {
        let message = request_message(operation, request);
        let (size, limit) = (frame::encoded_len(&message), self.max_frame_bytes());
        if size > limit {
            return Err(IpcError::TooLarge {
                operation: operation.to_owned(),
                size,
                limit,
            });
        }
        let (reply, mut answer) = reply_channel();
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
            answer.wait().await.unwrap_or_else(|| Err(stopped()))
        };
        match tokio::time::timeout(self.options.request_timeout, exchange).await {
            Ok(result) => result,
            Err(_) if answer.give_up() => Err(IpcError::Timeout {
                operation: operation.to_owned(),
                after: self.options.request_timeout,
            }),
            Err(_) => Err(self.not_sent(operation)),
        }
    }

    /// The time is over and the request never left this process.
    fn not_sent(&self, operation: &str) -> IpcError {
        match &*self.state.borrow() {
            ConnectionState::Connecting { last_error, .. } => IpcError::NotConnected {
                last_error: last_error.clone(),
            },
            // Connected, but there was no room for it, or the connection has only just come.
            ConnectionState::Connected { .. } => IpcError::Timeout {
                operation: operation.to_owned(),
                after: self.options.request_timeout,
            },
        }
    }
}

/// The JSON of a request that may be sent.
fn encode<O: Operation>(request: &O) -> Result<String, IpcError> {
    match request.problem() {
        Some(problem) => Err(invalid(O::NAME, problem)),
        None => to_json(request),
    }
}

fn to_json<O: Operation>(request: &O) -> Result<String, IpcError> {
    serde_json::to_string(request).map_err(|error| invalid(O::NAME, format!("no JSON: {error}")))
}

fn invalid(operation: &str, problem: impl Into<String>) -> IpcError {
    IpcError::InvalidRequest {
        operation: operation.to_owned(),
        problem: problem.into(),
    }
}

/// The meaning of an answer. An empty one is an empty object.
fn parse<T: DeserializeOwned>(operation: &str, answer: &[u8]) -> Result<T, IpcError> {
    let answer = if answer.is_empty() { b"{}" } else { answer };
    serde_json::from_slice(answer).map_err(|source| IpcError::BadReply {
        operation: operation.to_owned(),
        source,
    })
}

/// The meaning of an event.
fn decode<T: DeserializeOwned>(event: &[u8]) -> Option<T> {
    serde_json::from_slice(event).ok()
}

/// A request without its stream id, which the connection task gives in the order of sending.
fn request_message(operation: &str, request: String) -> Message {
    Message::new(MessageKind::ApplicationMessage, 0)
        .with_operation(format!("{NAMESPACE}{operation}"))
        .with_service_model_type(format!("{NAMESPACE}{operation}Request"))
        .with_json(request)
}
