//! A console to the broker, for tests and the demo: publish a message, read a shadow.
//!
//! In: a broker and a request. Out: done, or the shadow service's answer. Every wait has one limit.
//! Deliberately absent: watching topics; the service tells what happens.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rumqttc::{
    AsyncClient, ClientError, ConnectionError, Event, EventLoop, Packet, Publish, QoS, SubscribeFilter,
    SubscribeReasonCode,
};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::broker::{self, BrokerAddress, MAX_PACKET_BYTES};
use super::shadow::ShadowId;
use crate::traffic::lines;

/// Largest payload sent, in bytes; leaves room for the topic.
pub const MAX_PAYLOAD_BYTES: usize = MAX_PACKET_BYTES - 64 * 1024;

/// Longest wait for the broker to close after a goodbye; the work is done by then.
const GOODBYE: Duration = Duration::from_millis(500);

/// Talks to the broker as a person would.
#[derive(Debug, Clone, clap::Args)]
pub struct MqttArgs {
    /// MQTT broker, HOST:PORT (plain TCP).
    #[arg(long)]
    pub broker: BrokerAddress,
    /// Seconds to wait for the whole operation.
    #[arg(long, default_value_t = 10)]
    pub timeout_seconds: u64,
    /// What to do.
    #[command(subcommand)]
    pub verb: MqttVerb,
}

/// The console's verbs.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum MqttVerb {
    /// Publishes one message with QoS 1 and waits for the broker's receipt.
    Publish {
        /// Topic to publish on.
        #[arg(long)]
        topic: String,
        /// The message.
        #[arg(
            long,
            conflicts_with = "payload_file",
            required_unless_present = "payload_file"
        )]
        payload: Option<String>,
        /// File that holds the message.
        #[arg(long)]
        payload_file: Option<PathBuf>,
    },
    /// Prints the shadow service's answer to get, accepted or rejected.
    GetShadow {
        /// Thing the shadow belongs to.
        #[arg(long)]
        thing: String,
        /// Name of the shadow; without it the classic one.
        #[arg(long)]
        name: Option<String>,
    },
}

/// A console operation that failed.
#[derive(Debug, thiserror::Error)]
pub enum MqttError {
    /// The connection broke or never came about.
    #[error("could not talk to the broker {broker}")]
    Connection {
        /// The broker.
        broker: BrokerAddress,
        /// What went wrong.
        #[source]
        source: Box<ConnectionError>,
    },
    /// The request could not be queued.
    #[error("could not queue the request for the broker {broker}")]
    Request {
        /// The broker.
        broker: BrokerAddress,
        /// What went wrong.
        #[source]
        source: Box<ClientError>,
    },
    /// The broker refused the subscription.
    #[error("the broker {broker} refused the subscription to the answers of {topic}")]
    Refused {
        /// The broker.
        broker: BrokerAddress,
        /// Request topic.
        topic: String,
    },
    /// Nothing came in time.
    #[error("no {awaited} from {broker} within {} ms", limit.as_millis())]
    Timeout {
        /// The broker.
        broker: BrokerAddress,
        /// What was waited for.
        awaited: &'static str,
        /// How long.
        limit: Duration,
    },
    /// The payload is too large to send.
    #[error("the payload has {bytes} bytes, at most {MAX_PAYLOAD_BYTES} can be sent")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The topic cannot be published on.
    #[error("{topic:?} is not a topic to publish on: it is empty or has a wildcard")]
    Topic {
        /// What was given.
        topic: String,
    },
    /// The payload file cannot be read.
    #[error("could not read the payload file {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: std::io::Error,
    },
    /// The answer is not JSON.
    #[error("could not read the answer on {topic} as JSON")]
    Answer {
        /// Topic of the answer.
        topic: String,
        /// What the parser says.
        #[source]
        source: serde_json::Error,
    },
}

/// The shadow service's answer to `get`.
#[derive(Debug, Clone, PartialEq)]
pub struct ShadowAnswer {
    /// Whether it came on `get/accepted`.
    pub accepted: bool,
    /// The document.
    pub document: Value,
}

/// Runs one verb; prints what it learns as one line of JSON.
pub async fn run(args: MqttArgs) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let limit = Duration::from_secs(args.timeout_seconds);
    match args.verb {
        MqttVerb::Publish {
            topic,
            payload,
            payload_file,
        } => {
            let payload = match (payload, payload_file) {
                (_, Some(path)) => read_payload(path)?,
                (payload, None) => payload.unwrap_or_default().into_bytes(),
            };
            let bytes = payload.len();
            publish(&args.broker, &topic, payload, limit).await?;
            lines::print(&json!({"event": "published", "topic": topic, "bytes": bytes}))?;
        }
        MqttVerb::GetShadow { thing, name } => {
            let answer = get_shadow(&args.broker, &ShadowId { thing, name }, limit).await?;
            lines::print(&answer.document)?;
        }
    }
    Ok(())
}

/// Publishes one message with QoS 1; returns when the broker has acknowledged it.
pub async fn publish(
    broker: &BrokerAddress,
    topic: &str,
    payload: Vec<u8>,
    limit: Duration,
) -> Result<(), MqttError> {
    if payload.len() > MAX_PAYLOAD_BYTES {
        return Err(MqttError::TooLarge { bytes: payload.len() });
    }
    check_topic(topic)?;
    let mut console = Console::new(broker);
    let work = async {
        console.request(
            console
                .client
                .publish(topic, QoS::AtLeastOnce, false, payload)
                .await,
        )?;
        while !matches!(console.next().await?, Packet::PubAck(_)) {}
        console.goodbye().await;
        Ok(())
    };
    within(broker, "receipt of the message", limit, work).await
}

/// Asks the shadow service for a whole shadow.
pub async fn get_shadow(
    broker: &BrokerAddress,
    id: &ShadowId,
    limit: Duration,
) -> Result<ShadowAnswer, MqttError> {
    let topic = format!("{}/get", id.prefix());
    check_topic(&topic)?;
    let mut console = Console::new(broker);
    let work = async {
        console.subscribe_answers(&topic).await?;
        let token = unique_name();
        let request = json!({"clientToken": token}).to_string();
        console.request(
            console
                .client
                .publish(&topic, QoS::AtLeastOnce, false, request)
                .await,
        )?;
        let answer = loop {
            if let Packet::Publish(publish) = console.next().await?
                && let Some(answer) = own_answer(&publish, &topic, &token)?
            {
                break answer;
            }
        };
        console.goodbye().await;
        Ok(answer)
    };
    within(broker, "answer of the shadow service", limit, work).await
}

/// The answer, when it carries our token. A rejection may lack the token; then it is taken as ours.
fn own_answer(publish: &Publish, topic: &str, token: &str) -> Result<Option<ShadowAnswer>, MqttError> {
    let accepted = match publish.topic.strip_prefix(topic) {
        Some("/accepted") => true,
        Some("/rejected") => false,
        _ => return Ok(None),
    };
    let document: Value = serde_json::from_slice(&publish.payload).map_err(|source| MqttError::Answer {
        topic: publish.topic.clone(),
        source,
    })?;
    let ours = match document.get("clientToken") {
        Some(seen) => seen == token,
        None => !accepted,
    };
    Ok(ours.then_some(ShadowAnswer { accepted, document }))
}

/// One short-lived connection.
struct Console {
    broker: BrokerAddress,
    client: AsyncClient,
    event_loop: EventLoop,
}

impl Console {
    fn new(broker: &BrokerAddress) -> Self {
        let (client, event_loop) = broker::client(broker, &unique_name());
        Self {
            broker: broker.clone(),
            client,
            event_loop,
        }
    }

    fn request(&self, outcome: Result<(), ClientError>) -> Result<(), MqttError> {
        outcome.map_err(|source| MqttError::Request {
            broker: self.broker.clone(),
            source: Box::new(source),
        })
    }

    async fn next(&mut self) -> Result<Packet, MqttError> {
        loop {
            match self.event_loop.poll().await {
                Ok(Event::Incoming(packet)) => return Ok(packet),
                Ok(Event::Outgoing(_)) => {}
                Err(source) => {
                    return Err(MqttError::Connection {
                        broker: self.broker.clone(),
                        source: Box::new(source),
                    });
                }
            }
        }
    }

    async fn subscribe_answers(&mut self, topic: &str) -> Result<(), MqttError> {
        let filters = ["accepted", "rejected"]
            .map(|kind| SubscribeFilter::new(format!("{topic}/{kind}"), QoS::AtLeastOnce));
        self.request(self.client.subscribe_many(filters).await)?;
        loop {
            if let Packet::SubAck(ack) = self.next().await? {
                let refused = ack.return_codes.contains(&SubscribeReasonCode::Failure);
                return if refused {
                    Err(MqttError::Refused {
                        broker: self.broker.clone(),
                        topic: topic.to_owned(),
                    })
                } else {
                    Ok(())
                };
            }
        }
    }

    /// Says goodbye so that the broker does not log a lost client; failure to do so changes nothing.
    async fn goodbye(&mut self) {
        if self.client.disconnect().await.is_ok() {
            let closed = async { while self.event_loop.poll().await.is_ok() {} };
            let _closed_in_time = timeout(GOODBYE, closed).await;
        }
    }
}

async fn within<T>(
    broker: &BrokerAddress,
    awaited: &'static str,
    limit: Duration,
    work: impl Future<Output = Result<T, MqttError>>,
) -> Result<T, MqttError> {
    timeout(limit, work).await.unwrap_or_else(|_| {
        Err(MqttError::Timeout {
            broker: broker.clone(),
            awaited,
            limit,
        })
    })
}

fn check_topic(topic: &str) -> Result<(), MqttError> {
    if topic.is_empty() || topic.contains(['+', '#']) {
        return Err(MqttError::Topic {
            topic: topic.to_owned(),
        });
    }
    Ok(())
}

fn read_payload(path: PathBuf) -> Result<Vec<u8>, MqttError> {
    use std::io::Read;
    let limit = u64::try_from(MAX_PAYLOAD_BYTES)
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    let mut payload = Vec::new();
    let read = std::fs::File::open(&path).and_then(|file| file.take(limit).read_to_end(&mut payload));
    match read {
        Ok(_) => Ok(payload),
        Err(source) => Err(MqttError::File { path, source }),
    }
}

/// A client id and token no other console of this machine uses at the same time.
fn unique_name() -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let nanos = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_nanos();
    format!("lab-{}-{nanos:x}-{count}", std::process::id())
}
