//! When the next report is due.
//!
//! In: the interval, a seed, `now` (monotonic). Out: due or not, and until when to wait.
//!
//! Invariant: two reports are never closer than the interval, whether the first was accepted, rejected, throttled or
//! lost: the service throttles by arrival, not by success.

use std::time::{Duration, Instant};

/// Shortest time between two reports in seconds, whatever the interval: Device Defender throttles a device that reports
/// more often.
pub(crate) const SERVICE_MINIMUM_INTERVAL: u64 = 300;
const SERVICE_MINIMUM: Duration = Duration::from_secs(SERVICE_MINIMUM_INTERVAL);

/// Slots of one agent.
#[derive(Debug, Clone)]
pub struct Schedule {
    interval: Duration,
    next: Instant,
    last: Option<Instant>,
}

impl Schedule {
    /// The first slot lies anywhere within one interval, so that a fleet switched on together does not report in step;
    /// but not sooner than an interval after a report that was sent before a restart, `since_last` ago.
    #[must_use]
    pub fn new(interval: Duration, seed: u64, now: Instant, since_last: Option<Duration>) -> Self {
        let jitter = fastrand::Rng::with_seed(seed).f64();
        let rest = since_last.map_or(Duration::ZERO, |since| interval.saturating_sub(since));
        Self {
            interval,
            next: now + rest.max(interval.mul_f64(jitter)),
            last: since_last.and_then(|since| now.checked_sub(since)),
        }
    }

    /// The interval as it was last set.
    #[must_use]
    pub const fn interval(&self) -> Duration {
        self.interval
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

    /// From when on the service would take a report that somebody wants now.
    #[must_use]
    pub fn earliest(&self) -> Option<Instant> {
        self.last.map(|last| last + self.interval.min(SERVICE_MINIMUM))
    }

    /// A report was handed over.
    pub fn sent(&mut self, now: Instant) {
        self.last = Some(now);
        self.next = now + self.interval;
    }

    /// The service said that reports come too often: a full interval from its answer on.
    pub fn throttled(&mut self, now: Instant) {
        self.last = Some(now);
        self.next = self.next.max(now + self.interval);
    }

    /// The interval was configured anew; a slot further away than the new interval moves closer, none moves below it.
    pub fn set_interval(&mut self, interval: Duration, now: Instant) {
        self.interval = interval;
        self.next = self
            .last
            .map_or(self.next.min(now + interval), |sent| sent + interval);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(300);

    #[test]
    fn the_first_slot_is_spread_over_one_interval() {
        let now = crate::some_instant();
        let firsts: Vec<Duration> = (0..100)
            .map(|seed| Schedule::new(INTERVAL, seed, now, None).next() - now)
            .collect();
        assert!(firsts.iter().all(|first| *first < INTERVAL));
        let early = firsts.iter().filter(|first| **first < INTERVAL / 2).count();
        assert!((25..75).contains(&early), "{early} of 100 in the first half");
    }

    #[test]
    fn reports_are_an_interval_apart_and_throttling_moves_to_the_next_slot() {
        let now = crate::some_instant();
        let mut schedule = Schedule::new(INTERVAL, 1, now, None);
        let first = schedule.next();
        assert!(!schedule.is_due(first - Duration::from_millis(1)) && schedule.is_due(first));
        let late = first + Duration::from_secs(20);
        schedule.sent(late);
        assert_eq!(schedule.next(), late + INTERVAL);
        schedule.throttled(late + Duration::from_secs(5));
        assert_eq!(schedule.next(), late + Duration::from_secs(305));
        schedule.set_interval(INTERVAL * 2, late);
        assert_eq!(
            schedule.next(),
            late + Duration::from_secs(605),
            "from the throttling on"
        );
    }

    #[test]
    fn a_restart_does_not_report_early_and_a_wish_waits_for_the_service() {
        let now = crate::some_instant() + INTERVAL;
        for seed in 0..100 {
            let since = Duration::from_secs(10);
            let schedule = Schedule::new(INTERVAL, seed, now, Some(since));
            assert!(schedule.next() >= now + INTERVAL - since);
            assert_eq!(schedule.earliest(), Some(now + INTERVAL - since));
        }
        let long = Schedule::new(INTERVAL * 12, 1, now, Some(INTERVAL));
        assert_eq!(
            long.earliest(),
            Some(now),
            "five minutes are enough for the service"
        );
        assert_eq!(Schedule::new(INTERVAL, 1, now, None).earliest(), None);
    }
}
