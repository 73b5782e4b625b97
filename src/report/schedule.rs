//! When the next report is due.
//!
//! In: the interval, a seed, `now` (monotonic). Out: due or not, and until when to wait.
//!
//! Invariant: two reports are never closer than the interval, whether the first was accepted, rejected, throttled or
//! lost: the service throttles by arrival, not by success.

use std::time::{Duration, Instant};

/// Slots of one agent.
#[derive(Debug, Clone)]
pub struct Schedule {
    interval: Duration,
    next: Instant,
}

impl Schedule {
    /// The first slot lies anywhere within one interval, so that a fleet switched on together does not report in step.
    #[must_use]
    pub fn new(interval: Duration, seed: u64, now: Instant) -> Self {
        let jitter = fastrand::Rng::with_seed(seed).f64();
        Self {
            interval,
            next: now + interval.mul_f64(jitter),
        }
    }

    /// True if a report is due.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        now >= self.next
    }

    /// When the next report is due.
    #[must_use]
    pub const fn next(&self) -> Instant {
        self.next
    }

    /// A report was handed over.
    pub fn sent(&mut self, now: Instant) {
        self.next = now + self.interval;
    }

    /// The service said that reports come too often: a full interval from its answer on.
    pub fn throttled(&mut self, now: Instant) {
        self.next = self.next.max(now + self.interval);
    }

    /// The interval was configured anew; a slot further away than the new interval moves closer, none moves below it.
    pub fn set_interval(&mut self, interval: Duration, last_sent: Option<Instant>, now: Instant) {
        self.interval = interval;
        self.next = last_sent.map_or(self.next.min(now + interval), |sent| sent + interval);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(300);

    #[test]
    fn the_first_slot_is_spread_over_one_interval() {
        let now = crate::host::clock::instant();
        let firsts: Vec<Duration> = (0..100)
            .map(|seed| Schedule::new(INTERVAL, seed, now).next() - now)
            .collect();
        assert!(firsts.iter().all(|first| *first < INTERVAL));
        let early = firsts.iter().filter(|first| **first < INTERVAL / 2).count();
        assert!((25..75).contains(&early), "{early} of 100 in the first half");
    }

    #[test]
    fn reports_are_an_interval_apart_and_throttling_moves_to_the_next_slot() {
        let now = crate::host::clock::instant();
        let mut schedule = Schedule::new(INTERVAL, 1, now);
        let first = schedule.next();
        assert!(!schedule.is_due(first - Duration::from_millis(1)) && schedule.is_due(first));
        let late = first + Duration::from_secs(20);
        schedule.sent(late);
        assert_eq!(schedule.next(), late + INTERVAL);
        schedule.throttled(late + Duration::from_secs(5));
        assert_eq!(schedule.next(), late + Duration::from_secs(305));
        schedule.set_interval(INTERVAL * 2, Some(late), late);
        assert_eq!(schedule.next(), late + INTERVAL * 2);
    }
}
