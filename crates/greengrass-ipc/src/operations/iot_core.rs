//! MQTT with AWS IoT Core through the nucleus.
//!
//! Success of a publish is not a delivery: lite has written it to its socket, classic has put it into its spooler.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::mqtt::{MqttProperties, Qos};
use super::wire;
use crate::client::Client;
use crate::error::IpcError;
use crate::subscription::Subscription;

/// Longest topic AWS IoT Core takes, in bytes. Lite passes longer ones on and loses its MQTT connection for it.
const MAX_TOPIC_BYTES: usize = 256;

/// Basic-ingest topics have their first three levels on top of [`MAX_TOPIC_BYTES`].
const BASIC_INGEST: &str = "$aws/rules/";

/// Publishes to AWS IoT Core. Policy service `aws.greengrass.ipc.mqttproxy`.
///
/// Refused locally: a topic with a wildcard or beyond 256 bytes, which would cost lite its MQTT connection.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct PublishToIotCore<'a> {
    /// Topic to publish to, without wildcards: 256 bytes at most, for basic ingest without its first three levels.
    #[serde(rename = "topicName")]
    pub topic: &'a str,
    /// Quality of service between the nucleus and AWS IoT Core, not between here and the nucleus.
    pub qos: Qos,
    /// The message, before base64; may be empty. [`PublishToIotCore::max_payload`] says how long it may be.
    #[serde(serialize_with = "wire::blob")]
    pub payload: &'a [u8],
    /// Properties of MQTT 5; none by default. They count towards the size of the frame.
    #[serde(flatten)]
    pub properties: MqttProperties,
}

impl<'a> PublishToIotCore<'a> {
    /// A message without properties.
    #[must_use]
    pub fn new(topic: &'a str, qos: Qos, payload: &'a [u8]) -> Self {
        Self {
            topic,
            qos,
            payload,
            properties: MqttProperties::default(),
        }
    }

    /// Largest payload, in bytes, that fits a frame of `max_frame_bytes` with this topic and these properties: exact
    /// for the frame the client builds. 0 when not even an empty payload fits.
    #[must_use]
    pub fn max_payload(&self, max_frame_bytes: usize) -> usize {
        let empty = Self {
            payload: b"",
            ..self.clone()
        };
        let room = Client::frame_bytes(&empty).map_or(0, |used| max_frame_bytes.saturating_sub(used));
        // Base64 makes four characters of up to three bytes.
        room / 4 * 3
    }

    pub(super) fn fault(&self) -> Option<String> {
        let topic = self.topic;
        if topic.is_empty() {
            return Some("the topic is empty".to_owned());
        }
        if topic.contains(['#', '+', '\0']) {
            return Some(format!(
                "topic {topic:?} has a wildcard or a NUL; a publish needs a plain topic"
            ));
        }
        if topic.len() > MAX_TOPIC_BYTES && !topic.starts_with(BASIC_INGEST) {
            return Some(format!(
                "the topic has {} bytes; AWS IoT Core takes {MAX_TOPIC_BYTES}",
                topic.len()
            ));
        }
        None
    }
}

/// Subscribes to a topic filter of AWS IoT Core. Policy service `aws.greengrass.ipc.mqttproxy`.
///
/// On lite the answer does not wait for the broker's; a publish made afterwards is still ordered behind the
/// subscription. On classic the answer waits until the nucleus is online. Overlapping filters multiply deliveries.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct SubscribeToIotCore<'a> {
    /// Topic filter, which may have the wildcards `+` and `#`.
    #[serde(rename = "topicName")]
    pub topic_filter: &'a str,
    /// Highest quality of service of the deliveries.
    pub qos: Qos,
}

impl<'a> SubscribeToIotCore<'a> {
    /// Hears every message whose topic matches `topic_filter`.
    #[must_use]
    pub fn new(topic_filter: &'a str, qos: Qos) -> Self {
        Self { topic_filter, qos }
    }
}

/// A message from AWS IoT Core, as [`SubscribeToIotCore`] hears it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "WireEvent")]
#[non_exhaustive]
pub struct IotCoreMessage {
    /// Topic it was published to, without wildcards.
    pub topic: String,
    /// The message, decoded from base64; may be empty.
    pub payload: Bytes,
    /// Properties of MQTT 5, where the nucleus passes them on: classic does.
    pub properties: MqttProperties,
}

impl IotCoreMessage {
    /// A message without properties, for tests of code that takes one.
    pub fn new(topic: impl Into<String>, payload: impl Into<Bytes>) -> Self {
        Self {
            topic: topic.into(),
            payload: payload.into(),
            properties: MqttProperties::default(),
        }
    }
}

#[derive(Deserialize)]
struct WireEvent {
    message: WireMessage,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireMessage {
    topic_name: String,
    #[serde(default, deserialize_with = "wire::read_blob")]
    payload: Bytes,
    #[serde(flatten)]
    properties: MqttProperties,
}

impl From<WireEvent> for IotCoreMessage {
    fn from(WireEvent { message }: WireEvent) -> Self {
        Self {
            topic: message.topic_name,
            payload: message.payload,
            properties: message.properties,
        }
    }
}

/// Subscribes to the state of the nucleus' connection with AWS IoT Core: first the present state, then every change.
/// Needs no policy. Newer nuclei only: lite has it from 2.7.0 on.
#[derive(Debug, Clone, Copy, Default, Serialize)]
#[non_exhaustive]
pub struct SubscribeToIotCoreConnectionStatus {}

impl SubscribeToIotCoreConnectionStatus {
    /// The request, which has no arguments.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

/// Whether the nucleus is connected with AWS IoT Core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(from = "StatusEvent")]
#[non_exhaustive]
pub enum IotCoreConnectionStatus {
    /// The nucleus has its MQTT connection.
    Connected,
    /// The nucleus has none: lite refuses to publish meanwhile, classic spools.
    Disconnected,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StatusEvent {
    connection_status_event: Status,
}

#[derive(Deserialize)]
struct Status {
    status: StatusName,
}

#[derive(Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum StatusName {
    Connected,
    Disconnected,
}

impl From<StatusEvent> for IotCoreConnectionStatus {
    fn from(event: StatusEvent) -> Self {
        match event.connection_status_event.status {
            StatusName::Connected => Self::Connected,
            StatusName::Disconnected => Self::Disconnected,
        }
    }
}

impl Client {
    /// [`PublishToIotCore`] without properties.
    ///
    /// # Errors
    /// [`IpcError::TooLarge`] when the payload exceeds [`Client::max_iot_core_payload`]; [`IpcError::InvalidRequest`]
    /// for a topic that would cost the nucleus its MQTT connection; see [`IpcError`] for the rest.
    pub async fn publish_to_iot_core(&self, topic: &str, qos: Qos, payload: &[u8]) -> Result<(), IpcError> {
        let publish = PublishToIotCore::new(topic, qos, payload);
        self.request(&publish).await.map(drop)
    }

    /// Largest payload, in bytes, that [`Client::publish_to_iot_core`] can send to `topic` with this client's
    /// [`Client::max_frame_bytes`]. With lite's 10,012-byte frames that is 7,290 bytes for
    /// `$aws/things/gateway-01/defender/metrics/json`. Inbound is different: lite hears no MQTT packet beyond 5,000
    /// bytes.
    #[must_use]
    pub fn max_iot_core_payload(&self, topic: &str) -> usize {
        PublishToIotCore::new(topic, Qos::AtMostOnce, b"").max_payload(self.max_frame_bytes())
    }

    /// [`SubscribeToIotCore`] with a filter that may have the wildcards `+` and `#`.
    ///
    /// # Errors
    /// Of the first attempt only; a subscription that stood once is renewed for ever. See [`IpcError`].
    pub async fn subscribe_to_iot_core(
        &self,
        topic_filter: &str,
        qos: Qos,
    ) -> Result<Subscription<IotCoreMessage>, IpcError> {
        self.subscribe(&SubscribeToIotCore::new(topic_filter, qos)).await
    }
}

#[cfg(test)]
#[path = "iot_core_tests.rs"]
mod tests;
