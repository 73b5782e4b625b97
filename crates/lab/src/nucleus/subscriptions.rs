//! Who listens to what, and the bounded way events take to them.
//!
//! An event for a client that does not read is dropped once its queue is full; nobody else waits. (Lite is single
//! threaded: there such a client stalls everybody for 5 s an event. That is not imitated.)

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use greengrass_ipc::frame::{Message, MessageKind, encode};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::personality::Personality;
use super::topics;

/// Frames queued for one client; behind them lies the socket's own buffer.
pub(super) const QUEUED_FRAMES: usize = 256;
/// How long a reply may wait for a full queue: lite's own send timeout.
const REPLY_LIMIT: Duration = Duration::from_secs(5);

/// The way to one client.
#[derive(Clone, Debug)]
pub(super) struct Outbox {
    frames: mpsc::Sender<Bytes>,
    max_frame_bytes: usize,
}

impl Outbox {
    pub(super) fn new(frames: mpsc::Sender<Bytes>, max_frame_bytes: usize) -> Self {
        Self {
            frames,
            max_frame_bytes,
        }
    }

    /// None when the frame is too long for this nucleus.
    pub(super) fn frame(&self, message: &Message) -> Option<Bytes> {
        encode(message)
            .ok()
            .filter(|frame| frame.len() <= self.max_frame_bytes)
    }

    /// Sends a reply; false when the client is gone or has stopped reading.
    pub(super) async fn send(&self, frame: Bytes) -> bool {
        self.frames.send_timeout(frame, REPLY_LIMIT).await.is_ok()
    }

    fn send_event(&self, message: &Message) {
        if let Some(frame) = self.frame(message) {
            // A full queue loses the event, as a socket that nobody reads does.
            let _ = self.frames.try_send(frame);
        }
    }
}

/// What a subscription is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Interest {
    IotCore { filter: String },
    Configuration { component: String, path: Vec<String> },
}

#[derive(Debug)]
struct Subscription {
    client: u64,
    stream: i32,
    interest: Interest,
    outbox: Outbox,
    /// The classic nucleus drops events that come before its reply.
    answered: bool,
}

/// All subscriptions of all clients.
#[derive(Debug)]
pub(super) struct Subscriptions {
    personality: Personality,
    list: Mutex<Vec<Subscription>>,
}

impl Subscriptions {
    pub(super) fn new(personality: Personality) -> Self {
        Self {
            personality,
            list: Mutex::default(),
        }
    }

    fn list(&self) -> MutexGuard<'_, Vec<Subscription>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// False when the nucleus has no room for more.
    pub(super) fn add(&self, client: u64, stream: i32, interest: Interest, outbox: Outbox) -> bool {
        let mut list = self.list();
        if list.len() >= self.personality.max_subscriptions() {
            return false;
        }
        list.push(Subscription {
            client,
            stream,
            interest,
            outbox,
            answered: self.personality.is_lite(),
        });
        true
    }

    pub(super) fn mark_answered(&self, client: u64, stream: i32) {
        let mut list = self.list();
        let own = list
            .iter_mut()
            .filter(|entry| entry.client == client && entry.stream == stream);
        own.for_each(|entry| entry.answered = true);
    }

    pub(super) fn remove(&self, client: u64, stream: i32) -> Vec<Interest> {
        self.extract(|entry| entry.client == client && entry.stream == stream)
    }

    pub(super) fn remove_client(&self, client: u64) -> Vec<Interest> {
        self.extract(|entry| entry.client == client)
    }

    fn extract(&self, gone: impl Fn(&Subscription) -> bool) -> Vec<Interest> {
        self.list()
            .extract_if(.., |entry| gone(entry))
            .map(|entry| entry.interest)
            .collect()
    }

    /// Passes an MQTT message on, once for every subscription it matches.
    pub(super) fn deliver(&self, topic: &str, payload: &[u8]) {
        let body = json!({ "message": { "topicName": topic, "payload": STANDARD.encode(payload) } });
        self.send_to(
            "IoTCoreMessage",
            &body,
            |interest| matches!(interest, Interest::IotCore { filter } if topics::matches(filter, topic)),
        );
    }

    /// Tells who watches `changed` of `component`'s configuration.
    pub(super) fn configuration_changed(&self, component: &str, changed: &[String]) {
        let body = json!({ "configurationUpdateEvent": { "componentName": component, "keyPath": changed } });
        self.send_to("ConfigurationUpdateEvents", &body, |interest| {
            matches!(interest, Interest::Configuration { component: watched, path }
                if watched == component && (changed.starts_with(path) || path.starts_with(changed)))
        });
    }

    fn send_to(&self, shape: &str, body: &Value, wants: impl Fn(&Interest) -> bool) {
        let text = Bytes::from(body.to_string());
        for entry in self
            .list()
            .iter()
            .filter(|entry| entry.answered && wants(&entry.interest))
        {
            let event = Message::new(MessageKind::ApplicationMessage, entry.stream)
                .with_service_model_type(format!("aws.greengrass#{shape}"))
                .with_json(text.clone());
            entry.outbox.send_event(&event);
        }
    }
}
