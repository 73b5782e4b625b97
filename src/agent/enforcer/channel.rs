//! What is known of the control channel.

use std::time::Duration;

use crate::moment::Now;

/// How long ago the channel may have been seen to work for new rules to be blamed for its silence: one lost answer right
/// before does not mean that it did not. Two do, and one behind rules that it was seen to work behind.
const LATELY: Duration = Duration::from_secs(120);

/// Questions in a row that were not answered, after which there is an outage, and rules that come then are not to blame.
const OUTAGE: u32 = 2;

/// How long a nucleus may take to notice its dead connection and make another, after rules of ours that cut it are away.
const RECONNECTS: Duration = Duration::from_secs(240);

/// Whether the owner's channel works, as far as was told.
#[derive(Debug, Default)]
pub(super) struct ControlChannel {
    works: bool,
    /// Questions since the last answer that were not answered.
    failed: u32,
    /// Nobody is there to be asked.
    alone: bool,
    /// Uptime at which the newest answered question was sent.
    newest: Option<Duration>,
    /// Uptime at which rules of ours were last seen to close on a channel that had worked, and to be opened again.
    opened: Option<Duration>,
}

impl ControlChannel {
    /// It was told to work, or not; whether a `nucleus` is there to be asked. What is silent behind rules that it has worked behind
    /// (`was_confirmed`) is so for another reason.
    pub(super) fn note(&mut self, works: bool, nucleus: bool, was_confirmed: bool) {
        self.works = works;
        self.alone = !works && !nucleus;
        self.failed = match (works, nucleus) {
            (true, _) => 0,
            (false, true) => self.failed.saturating_add(1),
            // That is no question.
            (false, false) => self.failed,
        };
        if self.failed >= OUTAGE || (self.failed > 0 && was_confirmed) {
            self.newest = None;
        }
    }

    /// Whether it was told that nobody is there to be asked.
    pub(super) const fn is_alone(&self) -> bool {
        self.alone
    }

    /// A question sent at that uptime was answered.
    pub(super) fn note_round_trip(&mut self, sent: Duration) {
        (self.works, self.failed, self.alone) = (true, 0, false);
        self.newest = self.newest.max(Some(sent));
    }

    /// Rules that had closed on a channel that worked are away.
    pub(super) const fn note_opened(&mut self, now: Now) {
        self.opened = Some(now.uptime);
    }

    /// Whether it works, or did a moment ago; or would have been seen to, had not rules of ours been closed.
    pub(super) fn works_lately(&self, now: Now) -> bool {
        let within = |at: Option<Duration>, limit| at.is_some_and(|at| now.uptime.saturating_sub(at) < limit);
        self.works || within(self.newest, LATELY) || within(self.opened, RECONNECTS)
    }
}
