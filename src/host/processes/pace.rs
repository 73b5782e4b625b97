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
    longest: Option<Duration>,
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
            longest: None,
            share,
            even: None,
            last: None,
        }
    }

    /// The same, and never longer than `longest` from one to the next, whatever it costs: somebody waits for it.
    pub(crate) const fn within(mut self, longest: Duration) -> Self {
        self.longest = Some(longest);
        self
    }

    /// True if it may be done now.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        let Some(last) = self.last else { return true };
        let since = now.saturating_duration_since(last);
        let is_earned = self
            .even
            .is_none_or(|even| even.saturating_duration_since(now) < MOST_SAVED.saturating_mul(self.share));
        since >= self.shortest && (is_earned || self.longest.is_some_and(|longest| since >= longest))
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
    fn what_somebody_waits_for_is_done_in_time_whatever_it_costs() {
        let (begin, second) = (clock::instant(), Duration::from_secs(1));
        let times = |pace: &mut Pace| {
            let due = (0..60).filter(|step| {
                let now = begin + second * *step;
                let due = pace.is_due(now);
                if due {
                    pace.done(now, 80 * MILLI);
                }
                due
            });
            due.count()
        };
        assert!(times(&mut Pace::new(second, 500)) < 4, "control");
        assert!(times(&mut Pace::new(second, 500).within(4 * second)) >= 15);
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
