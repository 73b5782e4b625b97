//! The properties of MQTT 5 as the IPC's JSON has them, both ways. Pure.
//!
//! In: a publish request, or a message of the broker. Out: the other. Only the classic nucleus passes them on;
//! deliberately absent: properties the IPC does not have.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rumqttc::v5::mqttbytes::v5::PublishProperties;
use serde::{Deserialize, Serialize};

/// Most bytes of all texts of a message together: each of them has a length of 16 bits on the wire.
const MAX_PROPERTY_BYTES: usize = 65_535;

/// A pair of texts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct UserProperty {
    key: String,
    value: String,
}

/// What a message has besides topic and payload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Properties {
    #[serde(skip_serializing_if = "Option::is_none")]
    retain: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_properties: Option<Vec<UserProperty>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_expiry_interval_seconds: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_topic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_format: Option<PayloadFormat>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum PayloadFormat {
    #[serde(rename = "0")]
    Bytes,
    #[serde(rename = "1")]
    Utf8,
}

impl Properties {
    /// Whether the broker shall keep the message.
    #[must_use]
    pub fn retain(&self) -> bool {
        self.retain.unwrap_or_default()
    }

    /// For a packet. None when a text is too long or the correlation data are not base64.
    #[must_use]
    pub fn to_mqtt(&self) -> Option<PublishProperties> {
        let correlation_data = match &self.correlation_data {
            Some(encoded) => Some(STANDARD.decode(encoded).ok()?),
            None => None,
        };
        let user_properties: Vec<_> = self
            .user_properties
            .iter()
            .flatten()
            .map(|pair| (pair.key.clone(), pair.value.clone()))
            .collect();
        let pairs = user_properties.iter().map(|(key, value)| key.len() + value.len());
        let texts = [&self.response_topic, &self.content_type]
            .into_iter()
            .flatten()
            .map(String::len);
        let bytes: usize = pairs
            .chain(texts)
            .chain(correlation_data.as_ref().map(Vec::len))
            .sum();
        (bytes <= MAX_PROPERTY_BYTES).then(|| PublishProperties {
            payload_format_indicator: self.payload_format.map(|format| format as u8),
            message_expiry_interval: self.message_expiry_interval_seconds,
            topic_alias: None,
            response_topic: self.response_topic.clone(),
            correlation_data: correlation_data.map(Into::into),
            user_properties,
            subscription_identifiers: Vec::new(),
            content_type: self.content_type.clone(),
        })
    }

    /// Of a packet.
    #[must_use]
    pub fn from_mqtt(retain: bool, properties: Option<&PublishProperties>) -> Self {
        let Some(properties) = properties else {
            return Self {
                retain: Some(retain),
                ..Self::default()
            };
        };
        let pairs = properties
            .user_properties
            .iter()
            .map(|(key, value)| UserProperty {
                key: key.clone(),
                value: value.clone(),
            });
        Self {
            retain: Some(retain),
            user_properties: Some(pairs.collect::<Vec<_>>()).filter(|pairs| !pairs.is_empty()),
            message_expiry_interval_seconds: properties.message_expiry_interval,
            correlation_data: properties
                .correlation_data
                .as_ref()
                .map(|data| STANDARD.encode(data)),
            response_topic: properties.response_topic.clone(),
            payload_format: match properties.payload_format_indicator {
                Some(0) => Some(PayloadFormat::Bytes),
                Some(1) => Some(PayloadFormat::Utf8),
                _ => None,
            },
            content_type: properties.content_type.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(request: Value) -> Properties {
        serde_json::from_value(request).unwrap()
    }

    #[test]
    fn every_property_goes_to_the_broker_and_back() {
        let all = json!({
            "retain": false,
            "userProperties": [{ "key": "k", "value": "v" }, { "key": "k", "value": "w" }],
            "messageExpiryIntervalSeconds": 60,
            "correlationData": "AAH/",
            "responseTopic": "answers",
            "payloadFormat": "1",
            "contentType": "text/plain",
        });
        let properties = read(all.clone());
        let mqtt = properties.to_mqtt().unwrap();
        assert_eq!(mqtt.payload_format_indicator, Some(1));
        let back = Properties::from_mqtt(properties.retain(), Some(&mqtt));
        assert_eq!(serde_json::to_value(back).unwrap(), all);
        assert_eq!(
            read(json!({ "topicName": "t" })).to_mqtt(),
            Some(PublishProperties::default())
        );
    }

    #[test]
    fn what_does_not_fit_a_packet_is_refused() {
        for (bytes, fits) in [(MAX_PROPERTY_BYTES, true), (MAX_PROPERTY_BYTES + 1, false)] {
            let properties = read(json!({ "contentType": "x".repeat(bytes) }));
            assert_eq!(properties.to_mqtt().is_some(), fits);
        }
        assert_eq!(read(json!({ "correlationData": "no base64" })).to_mqtt(), None);
    }
}
