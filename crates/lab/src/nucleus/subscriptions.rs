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
use rumqttc::v5::mqttbytes::v5::Publish;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::personality::Personality;
use super::properties::Properties;
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
    IotCore {
        filter: String,
    },
    ConnectionStatus,
    /// Local publish/subscribe; `others_only` leaves out what the component itself publishes.
    Local {
        filter: String,
        others_only: bool,
    },
    Configuration {
        component: String,
        path: Vec<String>,
    },
    Validation,
    ComponentUpdates,
}

impl Interest {
    /// Name of its events in the service model.
    fn shape(&self) -> &'static str {
        match self {
            Self::IotCore { .. } => "IoTCoreMessage",
            Self::ConnectionStatus => "IoTCoreConnectionStatusEvent",
            Self::Local { .. } => "SubscriptionResponseMessage",
            Self::Configuration { .. } => "ConfigurationUpdateEvents",
            Self::Validation => "ValidateConfigurationUpdateEvents",
            Self::ComponentUpdates => "ComponentUpdatePolicyEvents",
        }
    }
}

/// Who publishes locally.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sender {
    Component,
    Nucleus,
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

impl Subscription {
    fn send(&self, body: &Bytes) {
        let event = Message::new(MessageKind::ApplicationMessage, self.stream)
            .with_service_model_type(format!("aws.greengrass#{}", self.interest.shape()))
            .with_json(body.clone());
        self.outbox.send_event(&event);
    }
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
            // Lite binds before it answers, but for the connection's status.
            answered: self.personality.is_lite() && interest != Interest::ConnectionStatus,
            interest,
            outbox,
        });
        true
    }

    /// The reply is on its way; a subscriber to the connection's status gets the present one behind it.
    pub(super) fn mark_answered(&self, client: u64, stream: i32, connected: bool) {
        let mut list = self.list();
        let own = list
            .iter_mut()
            .filter(|entry| entry.client == client && entry.stream == stream);
        for entry in own {
            entry.answered = true;
            if entry.interest == Interest::ConnectionStatus {
                entry.send(&Bytes::from(connection_status(connected).to_string()));
            }
        }
    }

    /// Whether anybody has this interest.
    pub(super) fn has(&self, interest: &Interest) -> bool {
        self.list().iter().any(|entry| entry.interest == *interest)
    }

    pub(super) fn remove(&self, client: u64, stream: i32) -> Vec<Interest> {
        self.extract(|entry| entry.client == client && entry.stream == stream)
    }

    pub(super) fn remove_client(&self, client: u64) -> Vec<Interest> {
        self.extract(|entry| entry.client == client)
    }

    /// Nobody hears the cloud any more, and nobody is told.
    pub(super) fn forget_iot_core(&self) {
        self.extract(|entry| matches!(entry.interest, Interest::IotCore { .. }));
    }

    /// Nobody hears of configurations any more, and nobody is told.
    pub(super) fn forget_configurations(&self) {
        self.extract(|entry| matches!(entry.interest, Interest::Configuration { .. }));
    }

    fn extract(&self, gone: impl Fn(&Subscription) -> bool) -> Vec<Interest> {
        self.list()
            .extract_if(.., |entry| gone(entry))
            .map(|entry| entry.interest)
            .collect()
    }

    /// Passes an MQTT message on, once for every subscription it matches.
    pub(super) fn deliver(&self, message: &Publish) {
        let topic = String::from_utf8_lossy(&message.topic);
        let mut body = json!({ "topicName": topic, "payload": STANDARD.encode(&message.payload) });
        if !self.personality.is_lite() {
            let properties = Properties::from_mqtt(message.retain, message.properties.as_ref());
            if let (Some(body), Ok(Value::Object(more))) =
                (body.as_object_mut(), serde_json::to_value(properties))
            {
                body.extend(more);
            }
        }
        self.send_to(
            &json!({ "message": body }),
            |interest| matches!(interest, Interest::IotCore { filter } if topics::matches(filter, &topic)),
        );
    }

    /// Passes a local message on, once for every subscription it matches.
    pub(super) fn deliver_local(&self, topic: &str, event: &Value, sender: Sender) {
        self.send_to(event, |interest| {
            matches!(interest, Interest::Local { filter, others_only }
                if !(*others_only && sender == Sender::Component) && topics::matches(filter, topic))
        });
    }

    /// Tells who watches `changed` of `component`'s configuration.
    pub(super) fn configuration_changed(&self, component: &str, changed: &[String]) {
        let body = json!({ "configurationUpdateEvent": { "componentName": component, "keyPath": changed } });
        self.send_to(&body, |interest| {
            matches!(interest, Interest::Configuration { component: watched, path }
                if watched == component && (changed.starts_with(path) || path.starts_with(changed)))
        });
    }

    /// Tells the state of the connection with the broker.
    pub(super) fn connection_changed(&self, connected: bool) {
        self.tell(&Interest::ConnectionStatus, &connection_status(connected));
    }

    /// Sends `event` to all with exactly this interest; how many these are.
    pub(super) fn tell(&self, interest: &Interest, event: &Value) -> usize {
        self.send_to(event, |other| other == interest)
    }

    fn send_to(&self, body: &Value, wants: impl Fn(&Interest) -> bool) -> usize {
        let text = Bytes::from(body.to_string());
        let list = self.list();
        let told = list
            .iter()
            .filter(|entry| entry.answered && wants(&entry.interest));
        told.inspect(|entry| entry.send(&text)).count()
    }
}

fn connection_status(connected: bool) -> Value {
    let status = if connected { "CONNECTED" } else { "DISCONNECTED" };
    json!({ "connectionStatusEvent": { "status": status } })
}
