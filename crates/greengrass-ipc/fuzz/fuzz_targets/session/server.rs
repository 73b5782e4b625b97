//! A server that says what it is told, listens to what the client says, and can behave in the end.
//!
//! What the client says is held against the rules of both nuclei: the first message is a connect on stream 0; ids of
//! requests go up by one from 1 (classic); a stream is ended only if it was begun; nothing but that is ever sent, no
//! ping above all (lite); and every frame is within lite's limit.

use std::convert::Infallible;
use std::path::Path;
use std::time::Duration;

use greengrass_ipc::LITE_MAX_FRAME_BYTES;
use greengrass_ipc::frame::{CONNECTION_ACCEPTED, Decoder, Message, MessageKind, TERMINATE_STREAM, encode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use crate::script::Saying;

/// How long the server waits for a client that may rest between two attempts, on the clock that costs nothing.
const PATIENCE: Duration = Duration::from_secs(100);
/// How long it waits for the client to say something.
const MOMENT: Duration = Duration::from_millis(10);

/// The scripted server.
pub struct Server {
    listener: UnixListener,
    peer: Option<Peer>,
}

/// One client's connection.
struct Peer {
    stream: UnixStream,
    decoder: Decoder,
    connected: bool,
    last_id: i32,
}

impl Server {
    pub fn bind(socket: &Path) -> Self {
        Self {
            listener: UnixListener::bind(socket).expect("a socket"),
            peer: None,
        }
    }

    /// Takes the next client and lets it in.
    pub async fn listen(&mut self) {
        self.accept().await;
        self.hear().await;
        if let Some(peer) = &mut self.peer {
            peer.send(&Message::new(MessageKind::ConnectAck, 0).with_flags(CONNECTION_ACCEPTED))
                .await;
        }
        self.hear().await;
    }

    /// Says something to the client that is there, or to the next.
    pub async fn say(&mut self, saying: Saying) {
        if self.peer.is_none() {
            self.accept().await;
        }
        if let Some(peer) = &mut self.peer {
            peer.send_bytes(&saying.bytes()).await;
        }
        self.hear().await;
    }

    pub fn hang_up(&mut self) {
        self.peer = None;
    }

    /// Lets every client in and answers whatever it asks, for ever.
    pub async fn behave(&mut self) -> Infallible {
        self.hang_up();
        loop {
            self.accept().await;
            let Some(mut peer) = self.peer.take() else {
                continue;
            };
            while let Some(messages) = peer.read().await {
                for message in messages {
                    if let Some(answer) = answer(&message) {
                        peer.send(&answer).await;
                    }
                }
            }
        }
    }

    async fn accept(&mut self) {
        self.peer = match tokio::time::timeout(PATIENCE, self.listener.accept()).await {
            Ok(Ok((stream, _))) => Some(Peer {
                stream,
                decoder: Decoder::new(LITE_MAX_FRAME_BYTES),
                connected: false,
                last_id: 0,
            }),
            _ => None,
        };
    }

    /// Reads what the client has to say at this moment.
    async fn hear(&mut self) {
        while let Some(peer) = &mut self.peer {
            match tokio::time::timeout(MOMENT, peer.read()).await {
                Ok(Some(_)) => {}
                Ok(None) => self.peer = None,
                Err(_) => return,
            }
        }
    }
}

impl Peer {
    /// The next messages, checked; `None` when the client is gone.
    async fn read(&mut self) -> Option<Vec<Message>> {
        let mut buffer = [0; 4096];
        let length = self
            .stream
            .read(&mut buffer)
            .await
            .ok()
            .filter(|length| *length > 0)?;
        self.decoder.push(&buffer[..length]);
        let mut messages = Vec::new();
        while let Some(message) = self
            .decoder
            .next()
            .expect("the client sends frames within lite's limit")
        {
            self.check(&message);
            messages.push(message);
        }
        Some(messages)
    }

    fn check(&mut self, message: &Message) {
        let (id, flags) = (message.stream_id, message.flags);
        if !self.connected {
            assert_eq!(
                (message.kind, id, flags),
                (MessageKind::Connect, 0, 0),
                "a connect comes first"
            );
            self.connected = true;
            return;
        }
        assert_eq!(
            message.kind,
            MessageKind::ApplicationMessage,
            "only requests and ends of streams are sent"
        );
        if flags & TERMINATE_STREAM != 0 {
            assert!(
                id > 0 && id <= self.last_id,
                "stream {id} was ended before it was begun"
            );
        } else {
            assert_eq!(id, self.last_id + 1, "ids go up by one in the order of sending");
            self.last_id = id;
        }
    }

    async fn send(&mut self, message: &Message) {
        self.send_bytes(&encode(message).expect("a short message")).await;
    }

    /// A client that has left hears nothing; that shows when it is read from.
    async fn send_bytes(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }
}

/// What a nucleus that behaves answers.
fn answer(message: &Message) -> Option<Message> {
    if message.kind == MessageKind::Connect {
        return Some(Message::new(MessageKind::ConnectAck, 0).with_flags(CONNECTION_ACCEPTED));
    }
    let operation = message.operation.as_deref()?;
    let reply = Message::new(MessageKind::ApplicationMessage, message.stream_id)
        .with_service_model_type(format!("{operation}Response"));
    Some(reply.with_json(r#"{"componentName":"c","value":{"a":"1"}}"#))
}
