//! Messages between components of one device, through the nucleus. No broker is involved.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::wire;

/// Publishes to components of this device. Policy service `aws.greengrass.ipc.pubsub`.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct PublishToTopic<'a> {
    /// Where to.
    pub topic: &'a str,
    /// What.
    pub publish_message: PublishMessage<'a>,
}

/// A payload on its way out.
#[derive(Debug, Clone, Copy, Serialize)]
pub enum PublishMessage<'a> {
    /// JSON, which receivers get as JSON.
    #[serde(rename = "jsonMessage")]
    Json {
        /// The value.
        message: &'a Value,
    },
    /// Bytes of any kind.
    #[serde(rename = "binaryMessage")]
    Binary {
        /// The bytes.
        #[serde(serialize_with = "wire::blob")]
        message: &'a [u8],
    },
}

impl<'a> PublishToTopic<'a> {
    /// A JSON message.
    #[must_use]
    pub fn json(topic: &'a str, message: &'a Value) -> Self {
        let publish_message = PublishMessage::Json { message };
        Self {
            topic,
            publish_message,
        }
    }

    /// A binary message.
    #[must_use]
    pub fn binary(topic: &'a str, message: &'a [u8]) -> Self {
        let publish_message = PublishMessage::Binary { message };
        Self {
            topic,
            publish_message,
        }
    }
}

/// Subscribes to messages of components of this device. Policy service `aws.greengrass.ipc.pubsub`.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct SubscribeToTopic<'a> {
    /// Topic filter, with MQTT wildcards.
    pub topic: &'a str,
    /// Whether own messages come back; the nucleus decides when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receive_mode: Option<ReceiveMode>,
}

impl<'a> SubscribeToTopic<'a> {
    /// A subscription to a filter.
    #[must_use]
    pub fn new(topic: &'a str) -> Self {
        Self {
            topic,
            receive_mode: None,
        }
    }
}

/// Whose messages a subscription gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum ReceiveMode {
    /// Everybody's, the component's own among them.
    #[serde(rename = "RECEIVE_ALL_MESSAGES")]
    All,
    /// Those of other components.
    #[serde(rename = "RECEIVE_MESSAGES_FROM_OTHERS")]
    FromOthers,
}

/// A message of a component of this device.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Event")]
pub struct TopicMessage {
    /// Topic it was published to, where the nucleus says so.
    pub topic: Option<String>,
    /// Its payload.
    pub payload: TopicPayload,
}

/// A payload as its publisher sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicPayload {
    /// JSON.
    Json(Value),
    /// Bytes.
    Binary(Bytes),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    json_message: Option<JsonMessage>,
    binary_message: Option<BinaryMessage>,
}

#[derive(Deserialize)]
struct JsonMessage {
    #[serde(default)]
    message: Value,
    context: Option<Context>,
}

#[derive(Deserialize)]
struct BinaryMessage {
    #[serde(default, deserialize_with = "wire::read_blob")]
    message: Bytes,
    context: Option<Context>,
}

#[derive(Deserialize)]
struct Context {
    topic: Option<String>,
}

impl TryFrom<Event> for TopicMessage {
    type Error = &'static str;

    fn try_from(event: Event) -> Result<Self, Self::Error> {
        let (payload, context) = match (event.json_message, event.binary_message) {
            (Some(json), None) => (TopicPayload::Json(json.message), json.context),
            (None, Some(binary)) => (TopicPayload::Binary(binary.message), binary.context),
            _ => return Err("expected either a jsonMessage or a binaryMessage"),
        };
        Ok(Self {
            topic: context.and_then(|context| context.topic),
            payload,
        })
    }
}
