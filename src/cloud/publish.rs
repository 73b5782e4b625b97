//! Publishing to IoT Core through the nucleus.
//!
//! In: topic and payload. Out: handed to the nucleus, or why not. Absent: QoS 1. What is not delivered at once must not
//! arrive later from the nucleus' spooler: an old report pollutes the series, an old shadow request says what is no longer true.
//! Whoever publishes asks again by itself.

use greengrass_ipc::Qos;

use super::link::{CloudError, Nucleus};

impl Nucleus {
    /// Hands a message over, at most once.
    ///
    /// # Errors
    /// The nucleus' refusal, or no connection.
    pub(crate) async fn publish(&self, topic: &str, payload: &[u8]) -> Result<(), CloudError> {
        let handed = self.client.publish_to_iot_core(topic, Qos::AtMostOnce, payload);
        Ok(handed.await?)
    }

    /// The longest payload in bytes that this nucleus takes for this topic, as far as is known.
    pub(crate) fn max_payload(&self, topic: &str) -> usize {
        self.client.max_iot_core_payload(topic)
    }
}
