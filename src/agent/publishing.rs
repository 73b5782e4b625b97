//! Publishing for everybody: one place that knows which topics end the nucleus' connection, and spares it.
//!
//! In: messages, what was answered, the end of the nucleus' connection. Out: messages for the nucleus, or why not; the complaint
//! about what is not allowed, in status and log. Decisions are [`Offences`]'.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::channel::Channel;
use crate::cloud::link::{CloudError, Nucleus};
use crate::cloud::offence::{Hold, Offences};
use crate::host::clock;
use crate::lock;

/// Why a message was not handed over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishError {
    /// The nucleus' refusal, or no connection to it.
    #[error(transparent)]
    Nucleus(#[from] CloudError),
    /// It would end, or has a part in ending, the connection of the whole device.
    #[error("{0}")]
    Held(Hold),
}

/// Shared by all who publish.
#[derive(Debug, Clone)]
pub(crate) struct Publishing {
    nucleus: Nucleus,
    channel: Channel,
    offences: Arc<Mutex<Offences>>,
}

impl Publishing {
    pub(crate) fn new(nucleus: Nucleus, channel: Channel) -> Self {
        Self {
            nucleus,
            channel,
            offences: Arc::default(),
        }
    }

    /// Hands a message over, at most once, unless its topic is left alone.
    ///
    /// # Errors
    /// Why it was not handed over.
    pub(crate) async fn publish(&self, topic: &str, payload: &[u8]) -> Result<(), PublishError> {
        let leave = lock(&self.offences).publish(topic, uptime());
        leave.map_err(PublishError::Held)?;
        let handed = self.nucleus.publish(topic, payload).await;
        if handed.is_err() {
            lock(&self.offences).not_published(topic);
        }
        self.tell();
        Ok(handed?)
    }

    /// A publish of ours was answered on this topic; whose an answer is, its token or number says.
    pub(crate) fn answered(&self, topic: &str) {
        lock(&self.offences).answered(topic, uptime());
        self.tell();
    }

    /// The nucleus' connection to the cloud ended.
    pub(crate) fn connection_ended(&self) {
        for offence in lock(&self.offences).connection_ended(uptime()) {
            tracing::warn!("{offence}");
        }
        self.tell();
    }

    /// The nucleus' connection stands.
    pub(crate) fn connection_stands(&self) {
        lock(&self.offences).stands(uptime());
        self.tell();
    }

    /// Nothing comes back through the nucleus' connection at this moment, and nothing that was published arrives.
    pub(crate) fn connection_is_dead(&self) {
        lock(&self.offences).excused();
    }

    fn tell(&self) {
        let offences: Vec<String> = lock(&self.offences)
            .offences()
            .map(|offence| offence.to_string())
            .collect();
        let denied = (!offences.is_empty()).then(|| offences.join("; "));
        self.channel.denied(denied);
    }
}

fn uptime() -> Duration {
    clock::now().uptime
}
