//! What these tests stand on: a broker, the stand-in cloud in this process, a device that listens, and what they say.

use std::sync::Arc;
use std::time::Duration;

use edgewarden_lab::cloud::broker::BrokerAddress;
use edgewarden_lab::cloud::mqtt::{self, ShadowAnswer};
use edgewarden_lab::cloud::service::{self, CloudArgs};
use edgewarden_lab::cloud::shadow::ShadowId;
use edgewarden_lab::site::LoopbackBroker;
use edgewarden_lab::traffic::lines::Tell;
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS, SubscribeFilter};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

/// Longest wait for anything; far above what is needed, so that a loaded machine does not fail a test.
pub(super) const LIMIT: Duration = Duration::from_secs(20);

pub(super) const REPORTS: &str = "$aws/things/gw-1/defender/metrics/json";
pub(super) const UPDATE: &str = "$aws/things/gw-1/shadow/update";

/// A real broker that ends with the test.
pub(super) struct Mosquitto {
    broker: LoopbackBroker,
    _folder: tempfile::TempDir,
}

impl Mosquitto {
    pub(super) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            broker: LoopbackBroker::start(folder.path()).unwrap(),
            _folder: folder,
        }
    }

    /// On a port that must be free.
    pub(super) fn start_on(port: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            broker: LoopbackBroker::start_on(folder.path(), port).unwrap(),
            _folder: folder,
        }
    }

    pub(super) fn address(&self) -> BrokerAddress {
        address(self.broker.port)
    }
}

pub(super) fn address(port: u16) -> BrokerAddress {
    BrokerAddress {
        host: "127.0.0.1".to_owned(),
        port,
    }
}

/// JSON objects that arrive one after the other, each with a label.
pub(super) struct Stream {
    arrivals: UnboundedReceiver<(String, Value)>,
    seen: Vec<(String, Value)>,
}

impl Stream {
    pub(super) fn new() -> (UnboundedSender<(String, Value)>, Self) {
        let (sender, arrivals) = unbounded_channel();
        (
            sender,
            Self {
                arrivals,
                seen: Vec::new(),
            },
        )
    }

    /// The next object with this label; what comes before it is passed over.
    pub(super) async fn next(&mut self, label: &str) -> Value {
        self.next_where(label, |_| true).await
    }

    pub(super) async fn next_where(&mut self, label: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let found = tokio::time::timeout(LIMIT, async {
            while let Some((seen, value)) = self.arrivals.recv().await {
                self.seen.push((seen.clone(), value.clone()));
                if seen == label && wanted(&value) {
                    return value;
                }
            }
            panic!("the stream ended without {label:?}: {:#?}", self.seen)
        });
        match found.await {
            Ok(value) => value,
            Err(_) => panic!("no {label:?} in time: {:#?}", self.seen),
        }
    }
}

/// A task that is stopped with the test.
pub(super) struct Running(pub(super) JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Collects a program's JSON lines under the name of their event.
pub(super) fn collector() -> (Tell, Stream) {
    let (sender, stream) = Stream::new();
    let tell: Tell = Arc::new(move |line: &Value| {
        let name = line["event"].as_str().unwrap_or_default().to_owned();
        // The test may have ended already.
        let _ended = sender.send((name, line.clone()));
        Ok(())
    });
    (tell, stream)
}

pub(super) fn start_cloud(args: CloudArgs) -> (Running, Stream) {
    let (tell, stream) = collector();
    let task = tokio::spawn(async move {
        if let Err(error) = service::serve(args, tell).await {
            panic!("the cloud ended: {error}");
        }
    });
    (Running(task), stream)
}

/// A cloud that is connected.
pub(super) async fn cloud(broker: &Mosquitto, change: impl FnOnce(&mut CloudArgs)) -> (Running, Stream) {
    let mut args = CloudArgs::new(broker.address());
    change(&mut args);
    let (running, mut events) = start_cloud(args);
    events.next("connected").await;
    (running, events)
}

/// A device that hears every answer to it, labelled with the topic.
pub(super) async fn device(broker: &Mosquitto) -> (Running, Stream) {
    let (sender, mut stream) = Stream::new();
    let mut options = MqttOptions::new("gw-1", "127.0.0.1", broker.broker.port);
    options.set_max_packet_size(1 << 20, 1 << 20);
    let (client, mut event_loop) = AsyncClient::new(options, 8);
    let filters = [format!("{REPORTS}/+"), format!("{UPDATE}/+")]
        .map(|filter| SubscribeFilter::new(filter, QoS::AtLeastOnce));
    client.subscribe_many(filters).await.expect("queued");
    let task = tokio::spawn(async move {
        let _kept_open = client;
        while let Ok(event) = event_loop.poll().await {
            let arrival = match event {
                Event::Incoming(Packet::SubAck(_)) => ("subscribed".to_owned(), Value::Null),
                Event::Incoming(Packet::Publish(publish)) => (
                    publish.topic,
                    serde_json::from_slice(&publish.payload).expect("answers are JSON"),
                ),
                _ => continue,
            };
            if sender.send(arrival).is_err() {
                return;
            }
        }
    });
    stream.next("subscribed").await;
    (Running(task), stream)
}

pub(super) async fn publish(broker: &Mosquitto, topic: &str, document: &Value) {
    mqtt::publish(&broker.address(), topic, document.to_string().into_bytes(), LIMIT)
        .await
        .expect("published");
}

pub(super) async fn get(broker: &Mosquitto, id: &ShadowId) -> ShadowAnswer {
    mqtt::get_shadow(&broker.address(), id, LIMIT)
        .await
        .expect("an answer")
}

pub(super) fn report(id: u64, bytes_out: u64) -> Value {
    json!({
        "header": {"report_id": id, "version": "1.0"},
        "metrics": {"network_stats": {"bytes_out": bytes_out, "bytes_in": 10}},
    })
}
