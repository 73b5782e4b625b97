//! Learns that the nucleus takes no frames beyond lite's limit although the options allow them.
//!
//! In: the lengths of requests, which of them were answered, how the connection ended. Out: whether the limit has to
//! be lowered. Lite says nothing: it resets the connection. So does a nucleus that restarts, hence two such ends in a
//! row are needed, and a single answer to a long request settles it for good: this nucleus takes them.

use std::collections::BTreeSet;

use crate::options::LITE_MAX_FRAME_BYTES;

/// Connections closed in a row with a long request open, after which those are to blame.
const SUSPICIONS: u32 = 2;

/// What is known of the nucleus' limit.
#[derive(Debug, Default)]
pub(super) struct FrameLimit {
    /// Streams of requests beyond lite's limit that were not answered.
    open: BTreeSet<i32>,
    settled: bool,
    suspicions: u32,
}

impl FrameLimit {
    /// A request was sent in a frame of so many bytes.
    pub(super) fn sent(&mut self, stream_id: i32, bytes: usize) {
        if !self.settled && bytes > LITE_MAX_FRAME_BYTES {
            self.open.insert(stream_id);
        }
    }

    /// A message of this stream has come.
    pub(super) fn heard(&mut self, stream_id: i32) {
        if self.open.remove(&stream_id) {
            self.settled = true;
            self.open.clear();
        }
    }

    /// The connection has ended. True when long requests are to be refused from now on.
    pub(super) fn ended(&mut self, closed_by_nucleus: bool) -> bool {
        if self.settled || self.open.is_empty() {
            return false;
        }
        self.open.clear();
        if closed_by_nucleus {
            self.suspicions += 1;
        }
        self.settled = self.suspicions >= SUSPICIONS;
        self.settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: usize = LITE_MAX_FRAME_BYTES + 1;

    #[test]
    fn two_ends_with_a_long_request_open_lower_the_limit_once() {
        let mut limit = FrameLimit::default();
        limit.sent(1, LITE_MAX_FRAME_BYTES);
        assert!(!limit.ended(true), "what lite takes is never to blame");
        limit.sent(1, LONG);
        assert!(!limit.ended(true));
        limit.sent(1, LONG);
        assert!(!limit.ended(false), "we ended it ourselves");
        limit.sent(7, LONG);
        limit.heard(6);
        assert!(limit.ended(true));
        limit.sent(1, LONG);
        assert!(!limit.ended(true), "said once");
    }

    #[test]
    fn an_answer_to_a_long_request_settles_it() {
        let mut limit = FrameLimit::default();
        limit.sent(1, LONG);
        assert!(!limit.ended(true));
        limit.sent(1, LONG);
        limit.sent(2, LONG);
        limit.heard(2);
        for _ in 0..3 {
            assert!(!limit.ended(true));
            limit.sent(1, LONG);
        }
    }
}
