//! A canary: a datagram that the rules must not let leave, sent to see that they do not.
//!
//! In: what the system said when it was sent. Out: what that proves. Deliberately absent: who sends it, and when.

/// What became of a datagram that must not leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CanaryFate {
    /// The packet filter refused it: proof.
    Refused,
    /// There is no route; nothing can leave that way either, but it is no proof of the filter.
    NoRoute,
    /// It was sent: the filter does not hold.
    Left,
    /// It was not sent for a reason of its own: a prohibiting route, a broadcast. It proves nothing.
    Unclear(String),
}
