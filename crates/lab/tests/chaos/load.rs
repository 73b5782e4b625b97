//! One application: publishes, listens, changes its mind, and watches itself.
//!
//! In: a client. Out: [`Heard`], the numbers of publishes that were reported as taken, and counts. Everything ends with
//! the [`JoinSet`] that runs it.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use greengrass_ipc::{
    Client, ClientOptions, IpcError, Liveness, Qos, SubscriptionEvent, UpdateConfiguration,
};
use serde_json::json;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::random::Random;
use crate::scene::COMPONENT;

/// Standing subscriptions of one application to the broker's topics; one more is for its own probe.
pub const TOPICS: usize = 3;
/// Short, so that a minute sees every limit pass many times.
const STALL: Duration = Duration::from_secs(2);
const REQUEST: Duration = Duration::from_secs(5);

/// What came, and what was reported.
#[derive(Default)]
pub struct Notes {
    /// The last payload by topic.
    last: Mutex<HashMap<String, String>>,
    heard_self: Notify,
    pub reported: Mutex<HashSet<u64>>,
    pub configuration_events: AtomicU64,
    pub messages: AtomicU64,
    pub resubscribed: AtomicU64,
    pub refused: AtomicU64,
    pub in_doubt: AtomicU64,
    pub not_sent: AtomicU64,
    pub probes: AtomicU64,
    pub probes_missed: AtomicU64,
}

impl Notes {
    pub fn last(&self, topic: &str) -> Option<String> {
        self.last.lock().unwrap().get(topic).cloned()
    }
}

pub fn topic(application: usize, number: usize) -> String {
    format!("chaos/{application}/{number}")
}

/// An application and everything it does.
pub struct Application {
    pub client: Client,
    pub notes: Arc<Notes>,
    load: JoinSet<()>,
    standing: JoinSet<()>,
}

impl Application {
    /// No two publishers use the same numbers.
    pub fn start(application: usize, socket: PathBuf, token: String, random: &mut Random) -> Self {
        let notes = Arc::new(Notes::default());
        let mut options = ClientOptions::new(socket, token);
        options.component_name = Some(COMPONENT.to_owned());
        options.request_timeout = REQUEST;
        options.handshake_timeout = STALL;
        options.stall_timeout = STALL;
        options.max_queued_events = 32;
        options.liveness = Some(liveness(application, Arc::clone(&notes)));
        let client = Client::start(options);
        let (mut load, mut standing) = (JoinSet::new(), JoinSet::new());
        for number in 0..=TOPICS {
            standing.spawn(listen(
                client.clone(),
                topic(application, number),
                Arc::clone(&notes),
            ));
        }
        standing.spawn(watch_configuration(client.clone(), Arc::clone(&notes)));
        for number in 0..TOPICS {
            let first = u64::try_from(application * TOPICS + number).unwrap() * 1_000_000_000;
            let (client, notes) = (client.clone(), Arc::clone(&notes));
            load.spawn(publish(
                client,
                topic(application, number),
                first,
                notes,
                random.fork(),
            ));
        }
        let fickle = format!("chaos/{application}/fickle");
        load.spawn(change_mind(client.clone(), fickle, random.fork()));
        Self {
            client,
            notes,
            load,
            standing,
        }
    }

    /// No more load; the subscriptions stand.
    pub async fn calm(&mut self) {
        self.load.shutdown().await;
    }

    /// True when a task of the application has ended on its own, which none may.
    pub fn has_failed(&mut self) -> bool {
        self.load.try_join_next().is_some() || self.standing.try_join_next().is_some()
    }

    /// A change of the own configuration, which its watcher must hear.
    pub async fn change_configuration(&self) -> bool {
        let value = json!(self.notes.configuration_events.load(Ordering::SeqCst).to_string());
        let change = UpdateConfiguration::new(&["mark"], &value, SystemTime::now());
        self.client.request(&change).await.is_ok()
    }
}

/// Publishes to itself and waits to hear it.
fn liveness(application: usize, notes: Arc<Notes>) -> Liveness {
    let topic = topic(application, TOPICS);
    let mut liveness = Liveness::by_probe(move |client| {
        let (topic, notes) = (topic.clone(), Arc::clone(&notes));
        async move {
            notes.probes.fetch_add(1, Ordering::SeqCst);
            let heard = notes.heard_self.notified();
            let alive = match client
                .publish_to_iot_core(&topic, Qos::AtLeastOnce, b"probe")
                .await
            {
                Ok(()) => tokio::time::timeout(STALL, heard).await.is_ok(),
                // The nucleus answers; lite does so while it is offline.
                Err(error) => matches!(error, IpcError::Service { .. }),
            };
            notes.probes_missed.fetch_add(u64::from(!alive), Ordering::SeqCst);
            alive
        }
    });
    liveness.period = Duration::from_millis(500);
    liveness.patience = REQUEST + STALL;
    liveness.misses = 2;
    liveness
}

async fn publish(client: Client, topic: String, first: u64, notes: Arc<Notes>, mut random: Random) {
    for number in first.. {
        let payload = number.to_string();
        let publish = client.publish_to_iot_core(&topic, Qos::AtLeastOnce, payload.as_bytes());
        // One in eight callers gives up early.
        let patience = match random.below(8) {
            0 => random.millis(0, 10),
            _ => REQUEST * 2,
        };
        match tokio::time::timeout(patience, publish).await {
            Ok(Ok(())) => drop(notes.reported.lock().unwrap().insert(number)),
            Ok(Err(IpcError::Service { .. })) => drop(notes.refused.fetch_add(1, Ordering::SeqCst)),
            Ok(Err(IpcError::NotConnected { .. })) => drop(notes.not_sent.fetch_add(1, Ordering::SeqCst)),
            Ok(Err(IpcError::ConnectionLost { .. } | IpcError::Timeout { .. })) => {
                notes.in_doubt.fetch_add(1, Ordering::SeqCst);
            }
            Ok(Err(other)) => panic!("a publish failed as it never should: {other}"),
            Err(_) => {}
        }
        tokio::time::sleep(random.millis(5, 30)).await;
    }
}

/// A subscription that must outlive everything. Only the first attempt may fail, and is repeated.
async fn listen(client: Client, topic: String, notes: Arc<Notes>) {
    let mut events = loop {
        if let Ok(events) = client.subscribe_to_iot_core(&topic, Qos::AtLeastOnce).await {
            break events;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    while let Some(event) = events.next().await {
        match event {
            SubscriptionEvent::Message(message) => {
                let payload = String::from_utf8(message.payload.to_vec()).unwrap();
                assert_eq!(message.topic, topic, "an event of another subscription");
                if payload == "probe" {
                    notes.heard_self.notify_waiters();
                }
                notes.messages.fetch_add(1, Ordering::SeqCst);
                notes.last.lock().unwrap().insert(message.topic, payload);
            }
            SubscriptionEvent::Resubscribed => drop(notes.resubscribed.fetch_add(1, Ordering::SeqCst)),
            _ => {}
        }
    }
}

async fn watch_configuration(client: Client, notes: Arc<Notes>) {
    let mut events = loop {
        if let Ok(events) = client.subscribe_to_configuration_update(None, &["mark"]).await {
            break events;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    while let Some(event) = events.next().await {
        if matches!(event, SubscriptionEvent::Message(_)) {
            notes.configuration_events.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Subscribes, and drops the subscription or the attempt.
async fn change_mind(client: Client, topic: String, mut random: Random) {
    loop {
        let patience = random.millis(0, 40);
        let attempt = client.subscribe_to_iot_core(&topic, Qos::AtMostOnce);
        if let Ok(Ok(mut events)) = tokio::time::timeout(patience, attempt).await {
            let _ = tokio::time::timeout(random.millis(0, 40), events.next()).await;
        }
        tokio::time::sleep(random.millis(10, 100)).await;
    }
}
