//! The time that orders end by: the wall clock, as far as it can be believed.
//!
//! In: both clocks ([`Now`]), the shadow service's own time, what an earlier run noted. Out: the trusted time, and for
//! people what is wrong with the wall clock. Pure.
//!
//! NTP is a lifeline, so whoever sits on the way may set the wall clock. Invariants: a wall clock that steps never ends
//! an order early by more than two minutes and never delays one; only the service's time moves the trusted time in
//! either direction; without a service it goes on by uptime. A device that booted in 1970 ends orders late, not early.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::moment::Now;

/// How far the wall clock may be ahead and still be believed: time servers correct by less, and an order that ends two
/// minutes early is no escape.
const TOLERANCE: SignedDuration = SignedDuration::from_mins(2);
/// What is kept is rounded down to this, or every second would be written to disk.
const MINUTE: i64 = 60;

/// The trusted time as it is kept in the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptTime {
    /// The newest trusted time, a whole minute.
    pub time: Timestamp,
    /// The uptime in milliseconds at that time.
    pub uptime: u64,
    /// What that uptime is counted from: a boot, or a time namespace in it.
    pub boot: String,
}

impl KeptTime {
    /// Whether keeping `self` instead of `other` is worth a write.
    pub fn is_news(&self, other: &Self) -> bool {
        self.time != other.time || self.boot != other.boot
    }
}

/// The trusted time as it is kept beside a journal that need not be written again for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeBeside {
    /// The newest trusted time.
    #[serde(flatten)]
    pub kept: KeptTime,
    /// What the journal says that it was kept beside.
    pub journal: Option<KeptTime>,
}

impl TimeBeside {
    /// The time, if it is newer than what this journal says. The later one of two is no sign of that: the service's time
    /// moves it back, too.
    pub fn newer_than(self, journal: Option<&KeptTime>) -> Option<KeptTime> {
        (self.journal.as_ref() == journal).then_some(self.kept)
    }
}

/// A time that is trusted, and the uptime at which it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedClock {
    time: Timestamp,
    uptime: Duration,
    boot: String,
}

impl TrustedClock {
    /// The clock of a run. The same boot goes on by uptime; after another boot the wall clock is believed, unless it
    /// lies before what an earlier run knew.
    pub fn start(now: Now, boot: &str, kept: Option<&KeptTime>) -> Self {
        let (time, uptime) = match kept {
            Some(kept) if kept.boot == boot && Duration::from_millis(kept.uptime) <= now.uptime => {
                (kept.time, Duration::from_millis(kept.uptime))
            }
            Some(kept) => (now.wall.max(kept.time), now.uptime),
            None => (now.wall, now.uptime),
        };
        Self {
            time,
            uptime,
            boot: boot.to_owned(),
        }
    }

    /// The service said that it is `time`, just now.
    pub fn service(&mut self, now: Now, time: Timestamp) {
        self.time = time;
        self.uptime = now.uptime;
    }

    /// `now` with the trusted time in place of the wall clock's.
    pub fn now(&self, now: Now) -> Now {
        let by_uptime = self.by_uptime(now);
        let ahead = now.wall.duration_since(by_uptime);
        let believed = !ahead.is_negative() && ahead <= TOLERANCE;
        Now {
            wall: if believed { now.wall } else { by_uptime },
            uptime: now.uptime,
        }
    }

    /// What is wrong with the wall clock, if it matters.
    pub fn doubt(&self, now: Now) -> Option<String> {
        let ahead = now.wall.duration_since(self.by_uptime(now));
        if ahead.abs() <= TOLERANCE {
            return None;
        }
        let seconds = ahead.as_secs().unsigned_abs();
        let much = if seconds >= 7200 {
            format!("{} hours", seconds.saturating_add(1800) / 3600)
        } else {
            format!("{} minutes", seconds.saturating_add(30) / 60)
        };
        let side = if ahead.is_negative() { "behind" } else { "ahead" };
        Some(format!(
            "the clock is doubted: it is {much} {side} of what uptime and the shadow service say; orders end by those"
        ))
    }

    /// What the journal should hold.
    pub fn keep(&self, now: Now) -> KeptTime {
        let time = self.by_uptime(now);
        let into_minute = time.as_second().rem_euclid(MINUTE);
        let minute = Timestamp::from_second(time.as_second() - into_minute).unwrap_or(time);
        let passed = Duration::try_from(time.duration_since(minute)).unwrap_or_default();
        KeptTime {
            time: minute,
            uptime: u64::try_from(now.uptime.saturating_sub(passed).as_millis()).unwrap_or(u64::MAX),
            boot: self.boot.clone(),
        }
    }

    fn by_uptime(&self, now: Now) -> Timestamp {
        let passed = now.uptime.saturating_sub(self.uptime);
        let passed = SignedDuration::try_from(passed).unwrap_or(SignedDuration::MAX);
        self.time.checked_add(passed).unwrap_or(Timestamp::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn now(wall: &str, uptime: u64) -> Now {
        Now {
            wall: at(wall),
            uptime: Duration::from_secs(uptime),
        }
    }

    fn clock() -> TrustedClock {
        TrustedClock::start(now("2026-01-01T12:00:00Z", 1000), "boot", None)
    }

    #[test]
    fn an_honest_wall_clock_is_believed() {
        let later = now("2026-01-01T12:10:01Z", 1600);
        assert_eq!(clock().now(later), later);
        assert_eq!(clock().doubt(later), None);
    }

    #[test]
    fn a_step_ahead_counts_up_to_two_minutes_and_not_beyond_however_often() {
        let seen = |wall| clock().now(now(wall, 1010)).wall;
        assert_eq!(seen("2026-01-01T12:02:10Z"), at("2026-01-01T12:02:10Z"));
        for forged in [
            "2026-01-01T12:02:11Z",
            "2026-01-02T12:00:00Z",
            "9999-01-01T00:00:00Z",
        ] {
            assert_eq!(seen(forged), at("2026-01-01T12:00:10Z"), "{forged}");
            let doubt = clock().doubt(now(forged, 1010)).unwrap();
            assert!(doubt.contains("ahead"), "{doubt}");
        }
    }

    #[test]
    fn a_step_back_does_not_count() {
        for forged in [
            "2026-01-01T12:00:09Z",
            "2025-12-31T12:00:00Z",
            "1970-01-01T00:00:00Z",
        ] {
            assert_eq!(
                clock().now(now(forged, 1010)).wall,
                at("2026-01-01T12:00:10Z"),
                "{forged}"
            );
        }
        let doubt = clock().doubt(now("2025-12-31T12:00:10Z", 1010)).unwrap();
        assert!(doubt.contains("24 hours behind"), "{doubt}");
    }

    #[test]
    fn the_services_time_counts_in_both_directions() {
        let mut clock = clock();
        clock.service(now("2026-01-02T12:00:00Z", 1010), at("2026-01-02T12:00:00Z"));
        let honest = now("2026-01-02T12:00:05Z", 1015);
        assert_eq!((clock.now(honest), clock.doubt(honest)), (honest, None));
        clock.service(honest, at("2025-06-01T00:00:00Z"));
        assert_eq!(
            clock.now(now("2026-01-02T12:00:10Z", 1020)).wall,
            at("2025-06-01T00:00:05Z")
        );
    }

    #[test]
    fn a_device_without_a_battery_is_late_until_the_service_speaks() {
        let kept = TrustedClock::start(now("2026-01-01T12:00:30Z", 500), "before", None)
            .keep(now("2026-01-01T12:00:30Z", 500));
        assert_eq!((kept.time, kept.uptime), (at("2026-01-01T12:00:00Z"), 470_000));
        let mut clock = TrustedClock::start(now("1970-01-01T00:00:05Z", 5), "after", Some(&kept));
        assert_eq!(
            clock.now(now("1970-01-01T00:00:15Z", 15)).wall,
            at("2026-01-01T12:00:10Z")
        );
        // NTP alone could be anybody.
        assert_eq!(
            clock.now(now("2026-03-01T00:00:00Z", 20)).wall,
            at("2026-01-01T12:00:15Z")
        );
        clock.service(now("2026-03-01T00:00:05Z", 25), at("2026-03-01T00:00:05Z"));
        assert_eq!(
            clock.now(now("2026-03-01T00:00:10Z", 30)).wall,
            at("2026-03-01T00:00:10Z")
        );
    }

    #[test]
    fn a_restart_goes_on_by_uptime_and_another_boot_believes_a_later_wall_clock() {
        let kept = clock().keep(now("2026-01-05T00:00:00Z", 1090));
        assert_eq!((kept.time, kept.uptime), (at("2026-01-01T12:01:00Z"), 1_060_000));
        let forged = now("2026-01-09T00:00:00Z", 1100);
        let again = TrustedClock::start(forged, "boot", Some(&kept));
        assert_eq!(again.now(forged).wall, at("2026-01-01T12:01:40Z"));
        let after = now("2026-01-09T00:00:00Z", 30);
        let booted = TrustedClock::start(after, "other", Some(&kept));
        assert_eq!(booted.now(after), after);
        assert!(!kept.is_news(&clock().keep(now("2026-01-05T00:00:00Z", 1119))));
        assert!(kept.is_news(&clock().keep(now("2026-01-05T00:00:00Z", 1120))));
    }
}
