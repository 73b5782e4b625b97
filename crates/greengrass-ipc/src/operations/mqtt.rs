//! What an MQTT message is made of besides its topic and payload, in both directions.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::wire;

/// MQTT quality of service. Neither nucleus has 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Qos {
    /// 0: sent once and perhaps lost.
    #[serde(rename = "0")]
    AtMostOnce,
    /// 1: sent until it is acknowledged, and perhaps delivered more than once.
    #[serde(rename = "1")]
    AtLeastOnce,
}

/// What the publisher says the payload is, so that a receiver need not guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum PayloadFormat {
    /// 0: bytes without a meaning known to MQTT.
    #[serde(rename = "0")]
    Bytes,
    /// 1: text in UTF-8.
    #[serde(rename = "1")]
    Utf8,
}

/// A pair of texts that the publisher attached. The same key may come more than once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct UserProperty {
    /// First of the pair; need not be unique.
    pub key: String,
    /// Second of the pair.
    pub value: String,
}

impl UserProperty {
    /// A pair of texts.
    pub fn new(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            value: value.into(),
        }
    }
}

/// The properties of MQTT 5. Classic takes them from version 2.10 on; lite ignores them and never sends any.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct MqttProperties {
    /// Whether the broker keeps the message for later subscribers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retain: Option<bool>,
    /// Pairs of texts for the receiver, in the order of the publisher.
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "wire::read_nullable"
    )]
    pub user_properties: Vec<UserProperty>,
    /// Seconds after which the broker drops the message undelivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_expiry_interval_seconds: Option<u32>,
    /// Tells the asker which question an answer belongs to.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "wire::some_blob",
        deserialize_with = "wire::read_some_blob"
    )]
    pub correlation_data: Option<Bytes>,
    /// Topic at which an answer is expected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_topic: Option<String>,
    /// Whether the payload is text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload_format: Option<PayloadFormat>,
    /// Media type of the payload, for instance `application/json`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
}
