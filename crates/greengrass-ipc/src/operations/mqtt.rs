//! What an MQTT message is made of besides its topic and payload, in both directions.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::wire;

/// MQTT quality of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Qos {
    /// 0: at most once.
    #[serde(rename = "0")]
    AtMostOnce,
    /// 1: at least once.
    #[serde(rename = "1")]
    AtLeastOnce,
}

/// What the publisher says the payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PayloadFormat {
    /// Bytes of any kind.
    #[serde(rename = "0")]
    Bytes,
    /// UTF-8 text.
    #[serde(rename = "1")]
    Utf8,
}

/// A pair of texts the publisher attached. The same key may come more than once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserProperty {
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// The properties of MQTT 5. Classic takes them from version 2.10 on; lite ignores them and never sends any.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MqttProperties {
    /// Whether the broker keeps the message for later subscribers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retain: Option<bool>,
    /// Pairs of texts for the receiver.
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
    /// What the payload is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload_format: Option<PayloadFormat>,
    /// Media type of the payload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
}
