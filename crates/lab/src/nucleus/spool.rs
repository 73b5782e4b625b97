//! Outgoing MQTT messages: what may be sent, what waits, what is refused. Pure.
//!
//! In: messages, acknowledgements, connection changes. Out: what to hand to the MQTT client. Lite keeps nothing while
//! offline and little that is unacknowledged; the classic nucleus spools QoS 1 in memory and repeats it after a
//! reconnect. Deliberately absent: rate limits, retry counts, the disk spooler.

use std::collections::VecDeque;

use bytes::Bytes;
use rumqttc::v5::mqttbytes::v5::PublishProperties;

use super::personality::Personality;
use super::refusal::Refusal;

/// Unacknowledged QoS 1 messages lite can remember, over all components.
const LITE_UNACKED_MESSAGES: usize = 10;
/// And their bytes.
const LITE_UNACKED_BYTES: usize = 15_000;
/// The classic spooler's default size in bytes.
const CLASSIC_SPOOL_BYTES: usize = 2_621_440;
/// The classic nucleus' default limit of a payload in bytes.
const CLASSIC_PAYLOAD_BYTES: usize = 131_072;

/// A message on its way to the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Where to.
    pub topic: String,
    /// QoS 1, or else 0.
    pub acknowledged: bool,
    /// Content.
    pub payload: Bytes,
    /// Whether the broker keeps it; never on lite.
    pub retain: bool,
    /// Of MQTT 5; none on lite.
    pub properties: Option<PublishProperties>,
}

/// What the nucleus holds of the messages it promised to send.
#[derive(Debug)]
pub struct Spool {
    personality: Personality,
    connected: bool,
    unacknowledged: VecDeque<Outgoing>,
    waiting: VecDeque<Outgoing>,
}

impl Spool {
    /// Empty and offline.
    #[must_use]
    pub fn new(personality: Personality) -> Self {
        Self {
            personality,
            connected: false,
            unacknowledged: VecDeque::new(),
            waiting: VecDeque::new(),
        }
    }

    /// Whether the broker is connected.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// Takes a message. `Some` is to be sent at once, `None` waits for the connection.
    ///
    /// # Errors
    /// The refusal the component gets.
    pub fn admit(&mut self, message: Outgoing) -> Result<Option<Outgoing>, Refusal> {
        match self.personality {
            Personality::Lite => self.admit_lite(&message)?,
            Personality::Classic => self.admit_classic(&message)?,
        }
        if !self.connected {
            self.waiting.push_back(message);
            return Ok(None);
        }
        if message.acknowledged {
            self.unacknowledged.push_back(message.clone());
        }
        Ok(Some(message))
    }

    fn admit_lite(&self, message: &Outgoing) -> Result<(), Refusal> {
        let bytes: usize = self.unacknowledged.iter().map(|held| held.payload.len()).sum();
        let full = message.acknowledged
            && (self.unacknowledged.len() >= LITE_UNACKED_MESSAGES
                || bytes + message.payload.len() > LITE_UNACKED_BYTES);
        if full || !self.connected {
            return Err(Refusal::service("Failed to publish the message."));
        }
        Ok(())
    }

    fn admit_classic(&self, message: &Outgoing) -> Result<(), Refusal> {
        if message.payload.len() > CLASSIC_PAYLOAD_BYTES {
            return Err(Refusal::arguments(
                "The payload is larger than the 131072 bytes allowed",
            ));
        }
        if !self.connected && !message.acknowledged {
            return Err(Refusal::service("Device is offline. Dropping QoS 0 message."));
        }
        let held = self.waiting.iter().chain(&self.unacknowledged);
        let bytes: usize = held.map(|held| held.payload.len()).sum();
        if bytes + message.payload.len() > CLASSIC_SPOOL_BYTES {
            return Err(Refusal::service("Message spool is full"));
        }
        Ok(())
    }

    /// The broker acknowledged the oldest message.
    pub fn acknowledged(&mut self) {
        self.unacknowledged.pop_front();
    }

    /// The connection is gone.
    pub fn disconnected(&mut self) {
        self.connected = false;
        let unacknowledged = std::mem::take(&mut self.unacknowledged);
        if self.personality == Personality::Classic {
            self.waiting = unacknowledged.into_iter().chain(self.waiting.drain(..)).collect();
        }
    }

    /// The connection is there; what comes back is to be sent, in this order.
    pub fn connected(&mut self) -> Vec<Outgoing> {
        self.connected = true;
        let waiting: Vec<_> = self.waiting.drain(..).collect();
        self.unacknowledged.extend(waiting.iter().cloned());
        waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(topic: &str, acknowledged: bool, bytes: usize) -> Outgoing {
        Outgoing {
            topic: topic.to_owned(),
            acknowledged,
            payload: vec![0; bytes].into(),
            retain: false,
            properties: None,
        }
    }

    #[test]
    fn lite_keeps_nothing_while_offline() {
        let mut spool = Spool::new(Personality::Lite);
        assert!(spool.admit(message("a", true, 1)).is_err());
        spool.connected();
        assert!(spool.admit(message("a", true, 1)).unwrap().is_some());
        spool.disconnected();
        assert!(spool.connected().is_empty());
    }

    #[test]
    fn lite_remembers_ten_messages_and_fifteen_thousand_bytes() {
        let mut spool = Spool::new(Personality::Lite);
        spool.connected();
        for _ in 0..10 {
            spool.admit(message("a", true, 10)).unwrap();
        }
        assert!(spool.admit(message("a", true, 10)).is_err());
        assert!(
            spool.admit(message("a", false, 10)).is_ok(),
            "QoS 0 is not remembered"
        );
        spool.acknowledged();
        assert!(spool.admit(message("a", true, 14_910)).is_ok());
        spool.acknowledged();
        assert!(spool.admit(message("a", true, 11)).is_err());
    }

    #[test]
    fn classic_spools_and_repeats_in_order() {
        let mut spool = Spool::new(Personality::Classic);
        assert!(spool.admit(message("zero", false, 1)).is_err());
        assert_eq!(spool.admit(message("a", true, 1)), Ok(None));
        assert_eq!(spool.connected(), [message("a", true, 1)]);
        spool.admit(message("b", true, 1)).unwrap();
        spool.acknowledged();
        spool.disconnected();
        spool.admit(message("c", true, 1)).unwrap();
        assert_eq!(spool.connected(), [message("b", true, 1), message("c", true, 1)]);
        assert!(
            spool
                .admit(message("d", true, CLASSIC_PAYLOAD_BYTES + 1))
                .is_err()
        );
        spool.disconnected();
        for _ in 0..19 {
            spool.admit(message("e", true, CLASSIC_PAYLOAD_BYTES)).unwrap();
        }
        assert!(
            spool.admit(message("f", true, CLASSIC_PAYLOAD_BYTES)).is_err(),
            "the spool is full"
        );
    }
}
