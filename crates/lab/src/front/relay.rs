//! Accepts connections, joins each with one to the broker, and tells what becomes of it.
//!
//! In: a listener, the settings of the moment. Out: JSON lines `listening`, `connection`, `session` (the broker took the
//! MQTT connection), `opaque`, `denied`, `lost`, `ended`; times are `at`, milliseconds since 1970, and `afterMillis`, since the
//! connection began.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout};

use super::packets::Said;
use super::pipe::{self, End, Fate};
use super::settings::Settings;
use crate::traffic::lines::Tell;

/// Connections at once; further ones wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 256;
/// Pause after a failed accept or bind, so that a lasting fault does not spin.
const FAULT_PAUSE: Duration = Duration::from_millis(50);
/// A broker that does not take a connection within this time is not there.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The relay, listening.
pub(super) struct Relay {
    listener: Option<TcpListener>,
    address: SocketAddr,
    to: SocketAddr,
    settings: watch::Receiver<Settings>,
    tell: Tell,
}

impl Relay {
    /// Tells where it listens.
    pub(super) fn new(
        listener: TcpListener,
        to: SocketAddr,
        settings: watch::Receiver<Settings>,
        tell: Tell,
    ) -> Result<Self, Failure> {
        let address = listener.local_addr()?;
        tell(&json!({"event": "listening", "address": address.to_string()}))?;
        Ok(Self {
            listener: Some(listener),
            address,
            to,
            settings,
            tell,
        })
    }

    /// Relays for ever.
    pub(super) async fn run(mut self) -> Result<(), Failure> {
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut number = 0_u64;
        loop {
            self.listen_as_wanted().await;
            let Some(listener) = &self.listener else {
                self.settings.changed().await?;
                continue;
            };
            let slot = Arc::clone(&slots).acquire_owned().await?;
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                changed = self.settings.changed() => { changed?; continue }
            };
            let Ok((client, from)) = accepted else {
                tokio::time::sleep(FAULT_PAUSE).await;
                continue;
            };
            number += 1;
            let connection = Connection {
                number,
                began: Instant::now(),
                tell: Arc::clone(&self.tell),
                client_id: Mutex::default(),
            };
            connection.say("connection", json!({"from": from.to_string()}))?;
            let (to, settings) = (self.to, self.settings.clone());
            tokio::spawn(async move {
                let outcome = connection.run(client, to, settings).await;
                drop(slot);
                outcome
            });
        }
    }

    /// A port nobody listens on is how a connection is refused; another program may have it for a moment afterwards.
    async fn listen_as_wanted(&mut self) {
        let refuse = self.settings.borrow_and_update().refuse;
        if refuse {
            self.listener = None;
        }
        while !refuse && self.listener.is_none() {
            match TcpListener::bind(self.address).await {
                Ok(listener) => self.listener = Some(listener),
                Err(_) => tokio::time::sleep(FAULT_PAUSE).await,
            }
        }
    }
}

struct Connection {
    number: u64,
    began: Instant,
    tell: Tell,
    client_id: Mutex<String>,
}

impl Connection {
    async fn run(
        self,
        client: TcpStream,
        to: SocketAddr,
        settings: watch::Receiver<Settings>,
    ) -> Result<(), Failure> {
        let cuts = settings.borrow().cuts;
        let mut cut = settings.clone();
        let cause = tokio::select! {
            cause = self.join(client, to, settings) => cause,
            _ = cut.wait_for(|settings| settings.cuts != cuts) => "cut",
        };
        self.say("ended", json!({"cause": cause}))
    }

    /// Joins both ends until one of them is done; gives the cause.
    async fn join(
        &self,
        client: TcpStream,
        to: SocketAddr,
        mut settings: watch::Receiver<Settings>,
    ) -> &'static str {
        // The kernel answered the client at once. On the way that is played, that alone takes there and back.
        let delay = settings.borrow().delay;
        pipe::arrive(&mut settings, self.began + delay).await;
        let Ok(Ok(broker)) = timeout(CONNECT_LIMIT, TcpStream::connect(to)).await else {
            return "unreachable";
        };
        // Small packets leave at once, as they do on a way without a relay.
        if client.set_nodelay(true).and(broker.set_nodelay(true)).is_err() {
            return "broken";
        }
        let (from_client, to_client) = client.into_split();
        let (from_broker, to_broker) = broker.into_split();
        let up = pipe::run(from_client, to_broker, settings.clone(), |said| {
            self.hear(said, |topic| {
                let is_denied = settings.borrow().denies(topic);
                if is_denied { Fate::Denied } else { Fate::Arrives }
            })
        });
        let mut suffered = settings.borrow().losses;
        let down = pipe::run(from_broker, to_client, settings.clone(), |said| {
            self.hear(said, |topic| {
                let settings = settings.borrow();
                if !settings.loses(topic, suffered) {
                    return Fate::Arrives;
                }
                suffered += 1;
                let _ = self.say("lost", json!({"topic": topic}));
                Fate::Lost
            })
        });
        tokio::pin!(up, down);
        let (mut up_ended, mut down_ended) = (false, false);
        while !(up_ended && down_ended) {
            let end = tokio::select! {
                end = &mut up, if !up_ended => { up_ended = true; end }
                end = &mut down, if !down_ended => { down_ended = true; end }
            };
            match end {
                End::Finished => {}
                End::Broken => return "broken",
                End::Denied { topic } => {
                    let _ = self.say("denied", json!({"topic": topic}));
                    // The client learns it one way later.
                    pipe::arrive(&mut settings.clone(), Instant::now()).await;
                    return "denied";
                }
            }
        }
        "closed"
    }

    /// Tells what a packet says; `publish` says what becomes of a message.
    fn hear(&self, said: &Said, publish: impl FnOnce(&str) -> Fate) -> Fate {
        let mut client_id = self.client_id.lock().unwrap_or_else(PoisonError::into_inner);
        match said {
            Said::Connect { client } => client_id.clone_from(client),
            Said::Connack { accepted } => {
                let _ = self.say("session", json!({"client": *client_id, "accepted": accepted}));
            }
            Said::Opaque => {
                let _ = self.say("opaque", json!({}));
            }
            Said::Publish { topic } => return publish(topic),
        }
        Fate::Arrives
    }

    fn say(&self, event: &str, more: Value) -> Result<(), Failure> {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut line = json!({
            "event": event, "connection": self.number, "at": millis(at), "afterMillis": millis(self.began.elapsed()),
        });
        if let (Value::Object(line), Value::Object(more)) = (&mut line, more) {
            line.extend(more);
        }
        Ok((self.tell)(&line)?)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
