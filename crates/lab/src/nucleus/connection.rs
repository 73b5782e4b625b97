//! One client's connection: handshake, frames in, frames out.
//!
//! In: bytes of a Unix socket. Out: replies and events. A client can hold up only itself: its replies and events go
//! through a bounded queue, and a full one costs events or, after a while, the connection.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use greengrass_ipc::frame::{CONNECTION_ACCEPTED, Decoder, Message, MessageKind, TERMINATE_STREAM};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::mpsc;

use super::ancestry::is_own_descendant;
use super::bridge::Subscribed;
use super::events::emit;
use super::operations::{Answer, Caller, perform, release};
use super::refusal::Refusal;
use super::state::Nucleus;
use super::subscriptions::{Outbox, QUEUED_FRAMES};

/// Read at a time; small, so that an overlong frame leaves unread bytes and its sender sees a reset, as on lite.
const READ_BYTES: usize = 4096;
/// Time for what is queued to go out before the socket is closed.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);
/// A client that says nothing after connecting is not kept.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(30);
/// The protocol's version, the only one there is.
const VERSION: &str = "0.1.0";

struct Client {
    nucleus: Arc<Nucleus>,
    id: u64,
    pid: Option<i32>,
    outbox: Outbox,
    authenticated: bool,
    last_stream: i32,
}

#[derive(PartialEq, Eq)]
enum Next {
    Continue,
    Close,
}

/// Serves one client until it leaves, misbehaves or the nucleus ends its connections.
pub(super) async fn serve(stream: UnixStream, nucleus: Arc<Nucleus>, id: u64) {
    let earlier = nucleus.clients.fetch_add(1, Ordering::Relaxed);
    if earlier < nucleus.personality.max_clients() {
        let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
        let (mut reader, writer) = stream.into_split();
        let (frames, queue) = mpsc::channel(QUEUED_FRAMES);
        let mut writing = tokio::spawn(write(writer, queue));
        let outbox = Outbox::new(frames, nucleus.personality.max_outbound_frame());
        let mut client = Client {
            nucleus: Arc::clone(&nucleus),
            id,
            pid,
            outbox,
            authenticated: false,
            last_stream: 0,
        };
        client.read(&mut reader, &mut writing).await;
        drop(client);
        release(&nucleus, nucleus.subscriptions.remove_client(id));
        if !writing.is_finished() && tokio::time::timeout(FLUSH_LIMIT, &mut writing).await.is_err() {
            writing.abort();
        }
    }
    nucleus.clients.fetch_sub(1, Ordering::Relaxed);
}

async fn write(mut writer: OwnedWriteHalf, mut queue: mpsc::Receiver<Bytes>) {
    while let Some(frame) = queue.recv().await {
        if writer.write_all(&frame).await.is_err() {
            return;
        }
    }
}

impl Client {
    async fn read(
        &mut self,
        reader: &mut tokio::net::unix::OwnedReadHalf,
        writing: &mut tokio::task::JoinHandle<()>,
    ) {
        let mut decoder = Decoder::new(self.nucleus.personality.max_inbound_frame());
        let mut generation = self.nucleus.generation.subscribe();
        let handshake = tokio::time::sleep(HANDSHAKE_LIMIT);
        tokio::pin!(handshake);
        let mut buffer = [0_u8; READ_BYTES];
        loop {
            let length = tokio::select! {
                read = reader.read(&mut buffer) => read.unwrap_or(0),
                _ = generation.changed() => return,
                _ = &mut *writing => return,
                () = &mut handshake, if !self.authenticated => return,
            };
            if length == 0 {
                return;
            }
            decoder.push(&buffer[..length]);
            loop {
                match decoder.next() {
                    Ok(Some(message)) => {
                        if self.handle(message).await == Next::Close {
                            return;
                        }
                    }
                    Ok(None) => break,
                    Err(error) => {
                        emit(&json!({ "event": "client", "id": self.id, "fault": error.to_string() }));
                        return;
                    }
                }
            }
        }
    }

    async fn handle(&mut self, message: Message) -> Next {
        if !self.authenticated {
            return self.connect(&message).await;
        }
        match message.kind {
            MessageKind::ApplicationMessage if message.flags & TERMINATE_STREAM != 0 => {
                let interests = self.nucleus.subscriptions.remove(self.id, message.stream_id);
                release(&self.nucleus, interests);
                Next::Continue
            }
            MessageKind::ApplicationMessage => self.request(&message).await,
            MessageKind::Ping if !self.nucleus.personality.is_lite() => {
                let answer = Message::new(MessageKind::PingResponse, message.stream_id);
                self.send(&answer.with_payload(message.payload)).await
            }
            _ => self.protocol_error("unexpected message type").await,
        }
    }

    async fn connect(&mut self, message: &Message) -> Next {
        let well_formed = message.kind == MessageKind::Connect
            && message.flags == 0
            && message.stream_id == 0
            && message.version.as_deref() == Some(VERSION);
        if message.kind != MessageKind::Connect {
            return Next::Close;
        }
        let request: Value = serde_json::from_slice(&message.payload).unwrap_or_default();
        let by_token = request.get("authToken").and_then(Value::as_str) == Some(&self.nucleus.token());
        let by_name = self.is_component(&request);
        let acknowledgement = Message::new(MessageKind::ConnectAck, 0);
        if well_formed && (by_token || by_name) {
            self.authenticated = true;
            let accepted = acknowledgement.with_flags(CONNECTION_ACCEPTED);
            emit(&json!({ "event": "client", "id": self.id, "pid": self.pid, "state": "connected" }));
            let accepted = if by_name {
                accepted.with_svcuid(self.nucleus.token())
            } else {
                accepted
            };
            return self.send(&accepted).await;
        }
        emit(&json!({ "event": "denied", "operation": "connect", "pid": self.pid }));
        if !self.nucleus.personality.is_lite() {
            self.send(&acknowledgement).await;
        }
        Next::Close
    }

    /// Lite lets a process in by name if it belongs to that component: there its systemd unit tells, here descent.
    fn is_component(&self, request: &Value) -> bool {
        self.nucleus.personality.is_lite()
            && request.get("componentName").and_then(Value::as_str) == Some(&self.nucleus.component)
            && self.pid.is_some_and(is_own_descendant)
    }

    async fn request(&mut self, message: &Message) -> Next {
        let stream = message.stream_id;
        let in_order = if self.nucleus.personality.is_lite() {
            stream >= 1
        } else {
            self.last_stream.checked_add(1) == Some(stream)
        };
        if !in_order {
            return self.protocol_error("stream id out of order").await;
        }
        self.last_stream = stream;
        let operation = message.operation.clone().unwrap_or_default();
        let operation = operation.strip_prefix("aws.greengrass#").unwrap_or(&operation);
        let body = if message.payload.is_empty() {
            b"{}"
        } else {
            &message.payload[..]
        };
        let caller = Caller {
            client: self.id,
            stream,
            outbox: &self.outbox,
        };
        let answer = match serde_json::from_slice(body) {
            Ok(request @ Value::Object(_)) => perform(&self.nucleus, &caller, operation, &request),
            _ => Err(Refusal::arguments("The request is not a JSON object.")),
        };
        match answer {
            Ok(Answer::Unary(value)) => {
                self.reply(stream, operation, &value, self.nucleus.personality.unary_flags())
                    .await
            }
            Ok(Answer::Stream(Subscribed::Now)) => {
                let next = self.reply(stream, operation, &json!({}), 0).await;
                let connected = self.nucleus.bridge.is_connected();
                self.nucleus
                    .subscriptions
                    .mark_answered(self.id, stream, connected);
                next
            }
            Ok(Answer::Stream(Subscribed::Later(outcome))) => {
                self.reply_later(stream, operation, outcome);
                Next::Continue
            }
            Err(refusal) => {
                self.send(&refusal.message(self.nucleus.personality, stream))
                    .await
            }
        }
    }

    async fn reply(&self, stream: i32, operation: &str, value: &Value, flags: i32) -> Next {
        let message = response(stream, operation, value).with_flags(flags);
        if self.outbox.frame(&message).is_some() {
            return self.send(&message).await;
        }
        let refusal = Refusal::service("The response is too large.");
        self.send(&refusal.message(self.nucleus.personality, stream))
            .await
    }

    /// The broker's answer may take for ever; other requests of this client must not wait for it.
    fn reply_later(
        &self,
        stream: i32,
        operation: &str,
        outcome: tokio::sync::oneshot::Receiver<Result<(), Refusal>>,
    ) {
        let (nucleus, outbox, id) = (Arc::clone(&self.nucleus), self.outbox.clone(), self.id);
        let granted = response(stream, operation, &json!({}));
        tokio::spawn(async move {
            let Ok(outcome) = outcome.await else { return };
            let message = match &outcome {
                Ok(()) => granted,
                Err(refusal) => {
                    release(&nucleus, nucleus.subscriptions.remove(id, stream));
                    refusal.message(nucleus.personality, stream)
                }
            };
            if let Some(frame) = outbox.frame(&message) {
                outbox.send(frame).await;
            }
            let connected = nucleus.bridge.is_connected();
            nucleus.subscriptions.mark_answered(id, stream, connected);
        });
    }

    async fn protocol_error(&self, text: &str) -> Next {
        emit(&json!({ "event": "client", "id": self.id, "fault": text }));
        if !self.nucleus.personality.is_lite() {
            let body = json!({ "message": text }).to_string();
            self.send(&Message::new(MessageKind::ProtocolError, 0).with_json(body))
                .await;
        }
        Next::Close
    }

    async fn send(&self, message: &Message) -> Next {
        let Some(frame) = self.outbox.frame(message) else {
            return Next::Close;
        };
        if self.outbox.send(frame).await {
            Next::Continue
        } else {
            Next::Close
        }
    }
}

fn response(stream: i32, operation: &str, value: &Value) -> Message {
    Message::new(MessageKind::ApplicationMessage, stream)
        .with_service_model_type(format!("aws.greengrass#{operation}Response"))
        .with_json(value.to_string())
}
