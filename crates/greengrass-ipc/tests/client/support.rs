//! A nucleus that does exactly what a test tells it, over a real Unix socket in a temporary directory.
//!
//! In: the steps of a test. Out: what the client really sent. Every wait has a limit; a step that does not come
//! fails the test with its name.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use bytes::BytesMut;
use greengrass_ipc::frame::{CONNECTION_ACCEPTED, Decoder, Message, MessageKind, TERMINATE_STREAM, encode};
use greengrass_ipc::{Client, ClientOptions, ConnectionState};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

/// Longest wait for anything a test expects: far above the slowest step, far below patience.
const LIMIT: Duration = Duration::from_secs(20);

pub(crate) const TOKEN: &str = "abcdefgh12345678";

/// Waits with a limit.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future)
        .await
        .unwrap_or_else(|_| panic!("{what}: not within {LIMIT:?}"))
}

/// Waits until the client says it is connected; the epoch.
pub(crate) async fn connected(client: &Client) -> u64 {
    let mut states = client.connection();
    let state = within(
        "a connection",
        states.wait_for(|state| matches!(state, ConnectionState::Connected { .. })),
    );
    match *state.await.unwrap() {
        ConnectionState::Connected { epoch, .. } => epoch,
        _ => unreachable!("waited for the other one"),
    }
}

/// Waits until the client says why it is not connected.
pub(crate) async fn last_error(client: &Client, expected: &str) {
    let mut states = client.connection();
    let says = |state: &ConnectionState| matches!(state, ConnectionState::Connecting { last_error: Some(text), .. } if text.contains(expected));
    within(expected, states.wait_for(says)).await.unwrap();
}

/// The listening side.
pub(crate) struct Nucleus {
    listener: UnixListener,
    directory: TempDir,
}

impl Nucleus {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("ipc.socket")).unwrap();
        Self { listener, directory }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("ipc.socket")
    }

    pub(crate) fn options(&self) -> ClientOptions {
        ClientOptions::new(self.socket(), TOKEN)
    }

    /// A client and the connection it has made.
    pub(crate) async fn with_client(options: impl FnOnce(&mut ClientOptions)) -> (Self, Client, Peer) {
        let nucleus = Self::new();
        let mut chosen = nucleus.options();
        options(&mut chosen);
        let client = Client::start(chosen);
        let peer = nucleus.accept().await;
        (nucleus, client, peer)
    }

    /// The next connection, before its handshake.
    pub(crate) async fn knock(&self) -> Peer {
        let (stream, _) = within("a client that connects", self.listener.accept())
            .await
            .unwrap();
        Peer {
            stream,
            decoder: Decoder::new(1024 * 1024),
        }
    }

    /// The next connection, accepted.
    pub(crate) async fn accept(&self) -> Peer {
        let mut peer = self.knock().await;
        assert_eq!(
            peer.credentials().await,
            serde_json::json!({ "authToken": TOKEN })
        );
        peer.acknowledge().await;
        peer
    }
}

/// The nucleus' end of one connection.
pub(crate) struct Peer {
    stream: UnixStream,
    decoder: Decoder,
}

impl Peer {
    /// The payload of the connect message, whose form is checked.
    pub(crate) async fn credentials(&mut self) -> Value {
        let connect = self.receive().await;
        let payload = connect.payload.clone();
        let expected = Message::new(MessageKind::Connect, 0)
            .with_version("0.1.0")
            .with_payload(payload);
        assert_eq!(connect, expected);
        serde_json::from_slice(&connect.payload).unwrap()
    }

    pub(crate) async fn acknowledge(&mut self) {
        self.send(&Message::new(MessageKind::ConnectAck, 0).with_flags(CONNECTION_ACCEPTED))
            .await;
    }

    /// The next message of the client.
    pub(crate) async fn receive(&mut self) -> Message {
        self.receive_or_end()
            .await
            .expect("a message, but the client closed the connection")
    }

    /// The next message, or `None` when the client has closed the connection.
    pub(crate) async fn receive_or_end(&mut self) -> Option<Message> {
        let mut chunk = BytesMut::with_capacity(4096);
        loop {
            if let Some(message) = self.decoder.next().expect("a frame of the client") {
                return Some(message);
            }
            chunk.clear();
            let read = within("bytes of the client", self.stream.read_buf(&mut chunk)).await;
            match read {
                Ok(0) => return None,
                Ok(_) => self.decoder.push(&chunk),
                // What a closed socket says when it had unread bytes.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("could not read: {error}"),
            }
        }
    }

    /// Waits until the client closes the connection.
    pub(crate) async fn closed_by_client(&mut self) {
        while let Some(message) = self.receive_or_end().await {
            assert!(
                message.stream_id > 0,
                "only late requests may come before the end: {message:?}"
            );
        }
    }

    /// The next message, which must be a request for `operation`.
    pub(crate) async fn request(&mut self, operation: &str) -> Message {
        let request = self.receive().await;
        let expected = Message::new(MessageKind::ApplicationMessage, request.stream_id)
            .with_operation(format!("aws.greengrass#{operation}"))
            .with_service_model_type(format!("aws.greengrass#{operation}Request"))
            .with_json(request.payload.clone());
        assert_eq!(request, expected);
        request
    }

    /// The next message, which must end stream `id`.
    pub(crate) async fn terminated(&mut self, id: i32) {
        let expected = Message::new(MessageKind::ApplicationMessage, id).with_flags(TERMINATE_STREAM);
        assert_eq!(self.receive().await, expected);
    }

    pub(crate) async fn send(&mut self, message: &Message) {
        self.send_raw(&encode(message).unwrap()).await;
    }

    pub(crate) async fn send_raw(&mut self, bytes: &[u8]) {
        self.try_send_raw(bytes).await.unwrap();
    }

    /// Fails when the client has closed the connection.
    pub(crate) async fn try_send_raw(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        within("room for bytes to the client", self.stream.write_all(bytes)).await
    }

    /// Answers a request as lite does: without flags.
    pub(crate) async fn answer(&mut self, request: &Message, payload: &str) {
        self.send(&response(request, payload)).await;
    }

    /// Refuses a request with an error of lite's form.
    pub(crate) async fn refuse(&mut self, request: &Message, code: &str, text: &str) {
        let body = serde_json::json!({ "_message": text, "_errorCode": code }).to_string();
        let error = Message::new(MessageKind::ApplicationError, request.stream_id)
            .with_flags(TERMINATE_STREAM)
            .with_service_model_type(format!("aws.greengrass#{code}"))
            .with_json(body);
        self.send(&error).await;
    }

    /// Sends an event of a subscription to IoT Core.
    pub(crate) async fn event(&mut self, stream_id: i32, topic: &str, payload_base64: &str) {
        let body = serde_json::json!({ "message": { "topicName": topic, "payload": payload_base64 } });
        let event = Message::new(MessageKind::ApplicationMessage, stream_id)
            .with_service_model_type("aws.greengrass#IoTCoreMessage")
            .with_json(body.to_string());
        self.send(&event).await;
    }
}

/// The JSON of a message.
pub(crate) fn body(message: &Message) -> Value {
    serde_json::from_slice(&message.payload).unwrap()
}

/// The answer to a request, without flags.
pub(crate) fn response(request: &Message, payload: &str) -> Message {
    let operation = request.operation.as_deref().unwrap();
    Message::new(MessageKind::ApplicationMessage, request.stream_id)
        .with_service_model_type(format!("{operation}Response"))
        .with_json(payload.to_owned())
}
