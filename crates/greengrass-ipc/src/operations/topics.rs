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
    /// Topic to publish to, without wildcards.
    pub topic: &'a str,
    /// The payload and its kind, which receivers are told.
    pub publish_message: PublishMessage<'a>,
}

/// A payload on its way out, of the kind that receivers get it as.
#[derive(Debug, Clone, Copy, Serialize)]
#[non_exhaustive]
pub enum PublishMessage<'a> {
    /// A JSON value, which receivers get as [`TopicPayload::Json`].
    #[serde(rename = "jsonMessage")]
    Json {
        /// Any JSON value, not only an object.
        message: &'a Value,
    },
    /// Bytes, which receivers get as [`TopicPayload::Binary`].
    #[serde(rename = "binaryMessage")]
    Binary {
        /// Bytes of any kind, before base64; may be empty.
        #[serde(serialize_with = "wire::blob")]
        message: &'a [u8],
    },
}

impl<'a> PublishToTopic<'a> {
    /// Publishes a JSON value.
    #[must_use]
    pub fn json(topic: &'a str, message: &'a Value) -> Self {
        let publish_message = PublishMessage::Json { message };
        Self {
            topic,
            publish_message,
        }
    }

    /// Publishes bytes of any kind.
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
    /// Topic filter, which may have the wildcards `+` and `#`.
    #[serde(rename = "topic")]
    pub topic_filter: &'a str,
    /// Whether own messages come back; the nucleus decides when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receive_mode: Option<ReceiveMode>,
}

impl<'a> SubscribeToTopic<'a> {
    /// Hears every message whose topic matches `topic_filter`.
    #[must_use]
    pub fn new(topic_filter: &'a str) -> Self {
        Self {
            topic_filter,
            receive_mode: None,
        }
    }
}

/// Whose messages a subscription hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum ReceiveMode {
    /// Everybody's, the component's own among them.
    #[serde(rename = "RECEIVE_ALL_MESSAGES")]
    All,
    /// Those of other components.
    #[serde(rename = "RECEIVE_MESSAGES_FROM_OTHERS")]
    FromOthers,
}

/// A message of a component of this device, as [`SubscribeToTopic`] hears it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Event")]
#[non_exhaustive]
pub struct TopicMessage {
    /// Topic it was published to, without wildcards, where the nucleus says so.
    pub topic: Option<String>,
    /// The payload and its kind, as the publisher chose it.
    pub payload: TopicPayload,
}

impl TopicMessage {
    /// A message as the nucleus would tell it, for tests of code that takes one.
    #[must_use]
    pub fn new(topic: Option<String>, payload: TopicPayload) -> Self {
        Self { topic, payload }
    }
}

/// A payload of the kind its publisher chose.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TopicPayload {
    /// Any JSON value, not only an object.
    Json(Value),
    /// Bytes of any kind, decoded from base64; may be empty.
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
