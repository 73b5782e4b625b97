//! MQTT with AWS IoT Core through the nucleus.
//!
//! Success of a publish is not a delivery: lite has written it to its socket, classic has put it into its spooler.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::client::Client;
use crate::error::IpcError;
use crate::subscription::Subscription;

const PUBLISH: &str = "PublishToIoTCore";

/// Longest topic AWS IoT Core takes, in bytes. Lite passes longer ones on and loses its MQTT connection for it.
const MAX_TOPIC_BYTES: usize = 256;

/// Basic-ingest topics have their first three levels on top of [`MAX_TOPIC_BYTES`].
const BASIC_INGEST: &str = "$aws/rules/";

/// Blobs are standard base64 with padding; a peer that leaves the padding out is understood too.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// MQTT quality of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Qos {
    /// 0: at most once.
    AtMostOnce,
    /// 1: at least once.
    AtLeastOnce,
}

impl Qos {
    fn as_str(self) -> &'static str {
        match self {
            Self::AtMostOnce => "0",
            Self::AtLeastOnce => "1",
        }
    }
}

/// A message from AWS IoT Core.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IotCoreMessage {
    /// Topic it was published to.
    pub topic: String,
    /// Its payload.
    pub payload: Bytes,
}

#[derive(Deserialize)]
struct Event {
    message: EventMessage,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EventMessage {
    topic_name: String,
    payload: Option<String>,
}

impl Client {
    /// Publishes to AWS IoT Core.
    ///
    /// # Errors
    /// [`IpcError::TooLarge`] when the payload exceeds [`Client::max_iot_core_payload`]; [`IpcError::InvalidRequest`]
    /// for a topic that would cost the nucleus its MQTT connection; see [`IpcError`] for the rest.
    pub async fn publish_to_iot_core(&self, topic: &str, qos: Qos, payload: &[u8]) -> Result<(), IpcError> {
        if let Some(problem) = topic_problem(topic) {
            return Err(IpcError::InvalidRequest {
                operation: PUBLISH.to_owned(),
                problem,
            });
        }
        self.call(PUBLISH, publish_request(topic, qos, payload))
            .await
            .map(drop)
    }

    /// Largest payload, in bytes, that [`Client::publish_to_iot_core`] can send to `topic`: exact for the frame this
    /// client builds and its `max_frame_bytes`. 0 when not even an empty payload fits.
    ///
    /// The client sends the operation, its request shape and the content type with every request, as the official
    /// client does. With lite's 10,012-byte frames that gives 7,290 bytes for
    /// `$aws/things/gateway-01/defender/metrics/json`. Inbound is different: lite hears no MQTT packet beyond 5,000
    /// bytes.
    #[must_use]
    pub fn max_iot_core_payload(&self, topic: &str) -> usize {
        max_payload(topic, self.max_frame_bytes())
    }

    /// Subscribes to a topic filter of AWS IoT Core. On lite the answer does not wait for the broker's; a publish made
    /// afterwards is still ordered behind the subscription. Overlapping filters multiply deliveries.
    ///
    /// # Errors
    /// Of the first attempt only; a subscription that stood once is renewed for ever. See [`IpcError`].
    pub async fn subscribe_to_iot_core(
        &self,
        topic: &str,
        qos: Qos,
    ) -> Result<Subscription<IotCoreMessage>, IpcError> {
        let request = json!({ "topicName": topic, "qos": qos.as_str() });
        self.subscribe("SubscribeToIoTCore", &request, decode_message)
            .await
    }
}

fn publish_request(topic: &str, qos: Qos, payload: &[u8]) -> Value {
    json!({ "topicName": topic, "qos": qos.as_str(), "payload": BASE64.encode(payload) })
}

fn max_payload(topic: &str, max_frame_bytes: usize) -> usize {
    let empty = publish_request(topic, Qos::AtMostOnce, b"");
    let room = Client::frame_bytes(PUBLISH, &empty).map_or(0, |used| max_frame_bytes.saturating_sub(used));
    // Base64 makes four characters of up to three bytes.
    room / 4 * 3
}

fn topic_problem(topic: &str) -> Option<String> {
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

fn decode_message(payload: &[u8]) -> Option<IotCoreMessage> {
    let Event { message } = serde_json::from_slice(payload).ok()?;
    let payload = BASE64.decode(message.payload.unwrap_or_default()).ok()?;
    Some(IotCoreMessage {
        topic: message.topic_name,
        payload: payload.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::LITE_MAX_FRAME_BYTES;

    #[test]
    fn the_largest_payload_is_the_one_seen_on_lite() {
        let topic = "$aws/things/gateway-01/defender/metrics/json";
        assert_eq!(max_payload(topic, LITE_MAX_FRAME_BYTES), 7290);
    }

    #[test]
    fn the_largest_payload_is_exact_for_every_limit() {
        for (topic, limit) in (0..40).map(|extra| ("a/\"quoted\"/b", 600 + extra)) {
            let largest = max_payload(topic, limit);
            let size = |bytes: usize| {
                Client::frame_bytes(
                    PUBLISH,
                    &publish_request(topic, Qos::AtLeastOnce, &vec![7; bytes]),
                )
                .unwrap()
            };
            assert!(
                size(largest) <= limit && size(largest + 1) > limit,
                "limit {limit}, largest {largest}"
            );
        }
        assert_eq!(max_payload("t", 10), 0);
    }

    #[test]
    fn topics_that_would_hurt_the_nucleus_are_refused() {
        for bad in ["", "test/#", "a/+/b", "a\0", &"x".repeat(257)] {
            assert!(topic_problem(bad).is_some(), "{bad:?}");
        }
        let ingest = format!("$aws/rules/rule/{}", "x".repeat(256));
        for good in [
            "$aws/things/gateway-01/shadow/name/q/update",
            &"x".repeat(256),
            &ingest,
        ] {
            assert_eq!(topic_problem(good), None);
        }
    }

    #[test]
    fn events_are_understood_with_and_without_padding_and_payload() {
        let topic = "a/b".to_owned();
        let padded = br#"{"message":{"topicName":"a/b","payload":"aGk=","extra":null}}"#;
        let expected = IotCoreMessage {
            topic: topic.clone(),
            payload: Bytes::from_static(b"hi"),
        };
        assert_eq!(decode_message(padded), Some(expected.clone()));
        let bare = br#"{"message":{"topicName":"a/b","payload":"aGk"}}"#;
        assert_eq!(decode_message(bare), Some(expected));
        let empty = br#"{"message":{"topicName":"a/b"}}"#;
        assert_eq!(
            decode_message(empty),
            Some(IotCoreMessage {
                topic,
                payload: Bytes::new()
            })
        );
        assert_eq!(
            decode_message(br#"{"message":{"topicName":"a/b","payload":"%%"}}"#),
            None
        );
    }
}
