//! Numbers of reports: strictly rising, close to the time.
//!
//! In: the last number used (from the disk, so over restarts) and the time. Out: the next one. Storing it is the
//! caller's, before the report is sent.

use jiff::Timestamp;

/// JSON readers that keep numbers as doubles hold integers exactly below this.
pub const LIMIT: u64 = 1 << 53;

/// The next report's number: seconds since 1970, or one more than the last if the clock stands or stepped back.
#[must_use]
pub fn next(last: Option<u64>, now: Timestamp) -> u64 {
    let seconds = u64::try_from(now.as_second()).unwrap_or(0);
    // A stored number out of range can only be damage; the clock is the better source then.
    let after_last = last.filter(|last| *last < LIMIT - 1).map_or(1, |last| last + 1);
    seconds.max(after_last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_rise_over_clock_steps_restarts_and_damage() {
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(next(None, at(1_790_000_000)), 1_790_000_000);
        assert_eq!(
            next(Some(1_790_000_000), at(1_790_000_000)),
            1_790_000_001,
            "twice within a second"
        );
        assert_eq!(
            next(Some(1_790_000_001), at(1_789_996_400)),
            1_790_000_002,
            "clock back by an hour"
        );
        assert_eq!(next(Some(5), at(1_790_000_300)), 1_790_000_300);
        assert_eq!(
            next(None, at(-5)),
            1,
            "a clock before 1970 still gives a positive number"
        );
        assert_eq!(next(Some(u64::MAX), at(1_790_000_000)), 1_790_000_000);
        assert_eq!(next(Some(LIMIT - 1), at(1_790_000_000)), 1_790_000_000);
        assert!(next(Some(LIMIT - 2), at(1_790_000_000)) < LIMIT);
    }
}
