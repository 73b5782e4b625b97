//! What a moment is: the argument of every decision that depends on time.
//!
//! Read by `host::clock`; nothing else asks what time it is.

use std::time::Duration;

use jiff::Timestamp;

/// One moment, on both clocks that matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Calendar time, for expiry and for people. May step.
    pub wall: Timestamp,
    /// Time since boot including suspend, for windows and intervals. Never steps back.
    pub uptime: Duration,
}
