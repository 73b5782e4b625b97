//! How often something may be done whose cost others can drive.
//!
//! In: what it took on the processor, `now`. Out: whether it may be done now. Absent: the doing.

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

/// Processor time that may be used at once after a quiet time: enough for a burst of some dozen short processes.
const MOST_SAVED: Duration = Duration::from_millis(100);

/// A share of one core's time: what is not used is saved up to [`MOST_SAVED`], what was used too much is waited for.
pub(crate) struct Pace {
    shortest: Duration,
    share: u32,
    /// When what was used will have been earned again; before it nothing is saved.
    even: Option<Instant>,
    last: Option<Instant>,
}

impl Pace {
    /// One part in `share` of the time, and at least `shortest` from one to the next.
    pub(crate) const fn new(shortest: Duration, share: u32) -> Self {
        Self {
            shortest,
            share,
            even: None,
            last: None,
        }
    }

    /// True if it may be done now.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.last
            .is_none_or(|last| now.saturating_duration_since(last) >= self.shortest)
            && self.even.is_none_or(|even| {
                even.saturating_duration_since(now) < MOST_SAVED.saturating_mul(self.share)
            })
    }

    /// It was done at `now` and `took` as long on the processor: on a busy machine what is done waits itself, and
    /// must not wait for that again.
    pub(crate) fn done(&mut self, now: Instant, took: Duration) {
        self.last = Some(now);
        let from = self.even.map_or(now, |even| even.max(now));
        self.even = Some(from + took.saturating_mul(self.share));
    }
}

/// Time this thread has had on the processor.
pub(crate) fn thread_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .map(Duration::from)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::clock;

    const MILLI: Duration = Duration::from_millis(1);

    #[test]
    fn what_is_used_stays_within_the_share_whatever_is_asked() {
        let mut pace = Pace::new(2 * MILLI, 10);
        let begin = clock::instant();
        let mut used = Duration::ZERO;
        for step in 0..10_000 {
            let now = begin + MILLI * step;
            if pace.is_due(now) {
                pace.done(now, 3 * MILLI);
                used += 3 * MILLI;
            }
        }
        let share = 10_000 * MILLI / 10;
        assert!(used >= share, "{used:?}");
        assert!(used <= share + MOST_SAVED + 3 * MILLI, "{used:?}");
    }

    #[test]
    fn several_may_follow_each_other_after_a_quiet_time_but_not_at_once() {
        let mut pace = Pace::new(2 * MILLI, 10);
        let now = clock::instant();
        pace.done(now, 6 * MILLI);
        assert!(!pace.is_due(now + MILLI), "not at once");
        let (mut at, mut used) = (now + 2 * MILLI, 6 * MILLI);
        while pace.is_due(at) {
            pace.done(at, 6 * MILLI);
            used += 6 * MILLI;
            at += 2 * MILLI;
            assert!(used < 2 * MOST_SAVED, "more than was saved is used");
        }
        assert!(used >= MOST_SAVED, "{used:?}");
        assert!(pace.is_due(at + 60 * MILLI), "earned again");
    }
}
