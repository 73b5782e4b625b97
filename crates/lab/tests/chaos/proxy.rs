//! Between client and nucleus: passes whole frames on, keeps the book of what the nucleus accepted, and does harm.
//!
//! In: the connections of one client. Out: the same frames, unless a [`Fault`] is due. It also stands for what tells a
//! real nucleus that a process belongs to a component (lite: its systemd unit; classic: it starts the component anew
//! with a new token): a client that asks by component name gets the token of the moment.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use greengrass_ipc::frame::{Decoder, Message, MessageKind, encode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::JoinSet;

use crate::scene::{COMPONENT, dial, token};

/// What happens to the next frame of a direction.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// Half of it passes, then the connection ends.
    Cut,
    /// Half of it passes, then nothing any more; the connection stays open.
    Stall,
    /// Neither it nor anything after it passes; the connection stays open.
    Silence,
    /// It and everything behind it come this much later.
    Delay(Duration),
    /// Bytes that are no frame come in its place.
    Garbage,
    /// The connection carries no events any more; everything else passes.
    Mute,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    ToNucleus,
    ToClient,
}

/// What all proxies share.
#[derive(Default)]
pub struct Book {
    /// Numbers of publishes the nucleus said yes to.
    pub accepted: Mutex<HashSet<u64>>,
    /// Connections passed on.
    pub connections: Mutex<u64>,
}

/// One client's proxy.
pub struct Proxy {
    pub socket: PathBuf,
    nucleus: PathBuf,
    root: PathBuf,
    book: Arc<Book>,
    due: Mutex<HashMap<bool, Fault>>,
}

/// What one connection knows.
#[derive(Default)]
struct Connection {
    /// Streams of publishes and their numbers.
    publishes: HashMap<i32, u64>,
    by_name: Option<String>,
    muted: bool,
}

enum Verdict {
    Pass,
    Discard,
    End,
}

impl Proxy {
    pub fn new(socket: PathBuf, nucleus: PathBuf, root: PathBuf, book: Arc<Book>) -> Self {
        Self {
            socket,
            nucleus,
            root,
            book,
            due: Mutex::default(),
        }
    }

    /// Does harm to the next frame of a direction.
    pub fn inflict(&self, direction: Direction, fault: Fault) {
        self.due
            .lock()
            .unwrap()
            .insert(direction == Direction::ToClient, fault);
    }

    pub fn forgive(&self) {
        self.due.lock().unwrap().clear();
    }

    /// Serves for ever; everything ends with the future.
    pub async fn run(self: Arc<Self>) {
        let listener = UnixListener::bind(&self.socket).unwrap();
        let mut open = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let (client, _) = accepted.unwrap();
                    let proxy = Arc::clone(&self);
                    open.spawn(async move {
                        // A client finds no nucleus behind an end at once, as it finds none without a proxy.
                        let Ok(nucleus) = dial(&proxy.nucleus).await else { return };
                        *proxy.book.connections.lock().unwrap() += 1;
                        let state = Mutex::new(Connection::default());
                        let (from_client, to_client) = client.into_split();
                        let (from_nucleus, to_nucleus) = nucleus.into_split();
                        tokio::select! {
                            () = proxy.pump(Direction::ToNucleus, from_client, to_nucleus, &state) => {}
                            () = proxy.pump(Direction::ToClient, from_nucleus, to_client, &state) => {}
                        }
                    });
                }
                Some(_) = open.join_next() => {}
            }
        }
    }

    async fn pump(
        &self,
        direction: Direction,
        mut from: OwnedReadHalf,
        mut to: OwnedWriteHalf,
        state: &Mutex<Connection>,
    ) {
        let mut bytes = Vec::new();
        let mut discarding = false;
        loop {
            while let Some(frame) = take_frame(&mut bytes) {
                if discarding {
                    continue;
                }
                let message = decode(&frame);
                let kind = message.kind;
                let Some(frame) = self.look_at(direction, frame, message, state) else {
                    continue;
                };
                let fault = self.due(direction, kind);
                match harm(fault, &frame, &mut to, state).await {
                    Verdict::Pass => {
                        if to.write_all(&frame).await.is_err() {
                            return;
                        }
                    }
                    Verdict::Discard => discarding = true,
                    Verdict::End => return,
                }
            }
            match from.read_buf(&mut bytes).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }

    /// The fault for a frame. Only a connection that works can go deaf: a refusal is none.
    fn due(&self, direction: Direction, kind: MessageKind) -> Option<Fault> {
        let mut due = self.due.lock().unwrap();
        let to_client = direction == Direction::ToClient;
        match due.get(&to_client) {
            Some(Fault::Mute) if kind != MessageKind::ApplicationMessage => None,
            _ => due.remove(&to_client),
        }
    }

    /// Notes what the frame means; the frame as it is to be passed on, or none.
    fn look_at(
        &self,
        direction: Direction,
        frame: Vec<u8>,
        message: Message,
        state: &Mutex<Connection>,
    ) -> Option<Vec<u8>> {
        let mut state = state.lock().unwrap();
        match (direction, message.kind) {
            (Direction::ToNucleus, MessageKind::Connect) => {
                let proof: Value = serde_json::from_slice(&message.payload).unwrap();
                if proof["componentName"] == COMPONENT {
                    let token = token(&self.root);
                    state.by_name = Some(token.clone());
                    let proof = json!({ "authToken": token }).to_string();
                    return Some(encode(&message.with_payload(proof)).unwrap().to_vec());
                }
            }
            (Direction::ToClient, MessageKind::ConnectAck) => {
                if let Some(token) = state.by_name.take().filter(|_| message.flags != 0) {
                    return Some(encode(&message.with_svcuid(token)).unwrap().to_vec());
                }
            }
            (Direction::ToNucleus, _) if names(&message, "PublishToIoTCore") => {
                if let Some(number) = number_of(&message) {
                    state.publishes.insert(message.stream_id, number);
                }
            }
            (Direction::ToClient, MessageKind::ApplicationMessage) => {
                if let Some(number) = state.publishes.remove(&message.stream_id) {
                    self.book.accepted.lock().unwrap().insert(number);
                }
                let shape = message.service_model_type.as_deref().unwrap_or_default();
                if state.muted && !shape.ends_with("Response") {
                    return None;
                }
            }
            (Direction::ToClient, MessageKind::ApplicationError) => {
                state.publishes.remove(&message.stream_id);
            }
            _ => {}
        }
        Some(frame)
    }
}

async fn harm(
    fault: Option<Fault>,
    frame: &[u8],
    to: &mut OwnedWriteHalf,
    state: &Mutex<Connection>,
) -> Verdict {
    let half = frame.len() / 2;
    match fault {
        None => Verdict::Pass,
        Some(Fault::Cut) => {
            let _ = to.write_all(&frame[..half]).await;
            Verdict::End
        }
        Some(Fault::Stall) => {
            let _ = to.write_all(&frame[..half]).await;
            Verdict::Discard
        }
        Some(Fault::Silence) => Verdict::Discard,
        Some(Fault::Delay(time)) => {
            tokio::time::sleep(time).await;
            Verdict::Pass
        }
        Some(Fault::Garbage) => {
            let _ = to.write_all(b"\x00\x00\x00\x40no frame at all").await;
            Verdict::Discard
        }
        Some(Fault::Mute) => {
            state.lock().unwrap().muted = true;
            Verdict::Pass
        }
    }
}

/// Frames begin with their length.
fn take_frame(bytes: &mut Vec<u8>) -> Option<Vec<u8>> {
    let length = u32::from_be_bytes(*bytes.first_chunk::<4>()?);
    let length = usize::try_from(length).unwrap();
    (bytes.len() >= length).then(|| bytes.drain(..length).collect())
}

fn decode(frame: &[u8]) -> Message {
    let mut decoder = Decoder::new(1024 * 1024);
    decoder.push(frame);
    decoder.next().unwrap().expect("a whole frame")
}

fn names(message: &Message, operation: &str) -> bool {
    message.operation.as_deref() == Some(&format!("aws.greengrass#{operation}"))
}

/// The number that the load puts into its publishes.
fn number_of(publish: &Message) -> Option<u64> {
    let request: Value = serde_json::from_slice(&publish.payload).unwrap();
    let payload = STANDARD.decode(request["payload"].as_str()?).ok()?;
    String::from_utf8(payload).ok()?.parse().ok()
}
