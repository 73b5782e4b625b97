//! What is known of the control channel.

use std::time::Duration;

use crate::moment::Now;

/// How long ago the channel may have been seen to work for new rules to be blamed for its silence: one lost answer right
/// before does not mean that it did not.
const LATELY: Duration = Duration::from_secs(120);

/// Whether the owner's channel works, as far as was told.
#[derive(Debug, Default)]
pub(super) struct ControlChannel {
    works: bool,
    /// Uptime at which the newest answered question was sent.
    newest: Option<Duration>,
}

impl ControlChannel {
    /// It was told to work, or not.
    pub(super) const fn note(&mut self, works: bool) {
        self.works = works;
    }

    /// A question sent at that uptime was answered.
    pub(super) fn note_round_trip(&mut self, sent: Duration) {
        self.works = true;
        self.newest = self.newest.max(Some(sent));
    }

    /// Whether it works, or did a moment ago.
    pub(super) fn works_lately(&self, now: Now) -> bool {
        let lately = |sent| now.uptime.saturating_sub(sent) < LATELY;
        self.works || self.newest.is_some_and(lately)
    }
}
