//! How the way to the broker is at the moment, and how it is changed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::nucleus::topics::matches;

/// The way as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    /// From one end to the other, in each direction.
    pub(super) delay: Duration,
    /// Nothing arrives; connections stay open, and what was sent arrives when the hole closes, as TCP sends it again.
    pub(super) black_hole: bool,
    /// Nobody listens.
    pub(super) refuse: bool,
    /// MQTT filters of topics that a client may not publish to.
    pub(super) deny: Vec<String>,
    /// The MQTT filter of topics of which one message is lost on its way to each client.
    pub(super) lose: String,
    /// How often that was wanted: one message each time.
    pub(super) losses: u64,
    /// How often all connections were cut. A number, so that no cut is missed and none is taken twice.
    pub(super) cuts: u64,
}

/// One change of the way. What is left out stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Change {
    /// One-way delay, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay_millis: Option<u64>,
    /// Hold everything back, or let it go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub black_hole: Option<bool>,
    /// Listen no more, or again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refuse: Option<bool>,
    /// The whole list of denied topics, MQTT filters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deny: Option<Vec<String>>,
    /// The next message of such a topic, an MQTT filter, does not come to the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lose: Option<String>,
    /// End every connection there is.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
}

impl Settings {
    /// As they are after `change`.
    pub(super) fn apply(&mut self, change: Change) {
        if let Some(millis) = change.delay_millis {
            self.delay = Duration::from_millis(millis);
        }
        self.black_hole = change.black_hole.unwrap_or(self.black_hole);
        self.refuse = change.refuse.unwrap_or(self.refuse);
        if let Some(deny) = change.deny {
            self.deny = deny;
        }
        if let Some(lose) = change.lose {
            self.lose = lose;
            self.losses += 1;
        }
        self.cuts += u64::from(change.cut);
    }

    /// Whether a message of this topic is lost, when so many losses were suffered already.
    pub(super) fn loses(&self, topic: &str, suffered: u64) -> bool {
        suffered < self.losses && matches(&self.lose, topic)
    }

    /// Whether the policy lacks the right to publish there.
    pub(super) fn denies(&self, topic: &str) -> bool {
        self.deny.iter().any(|filter| matches(filter, topic))
    }
}
