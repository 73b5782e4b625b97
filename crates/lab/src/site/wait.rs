//! Waiting on a value, with a limit.
//!
//! In: a limit as it holds on a machine of today, and how much slower this one is ([`TIME_FACTOR`]). Out: the value, or what was
//! waited for in vain. Deliberately absent: any other place that knows of the factor; what is measured is never stretched.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How many times as long everything may take here, 1 where it is not set: an emulated processor is many times slower.
pub const TIME_FACTOR: &str = "EDGEWARDEN_TIME_FACTOR";
/// A factor beyond it would hide that nothing happens at all.
const MOST: f64 = 100.0;

/// The least pause between two looks at a condition: short against every limit tests use.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The longest.
const LOOK_AT_LEAST_EVERY: Duration = Duration::from_millis(200);
/// A pause is at most this part of the time that was waited, so nobody waits noticeably longer than he has to.
const PART_OF_WAIT: u32 = 10;
/// A pause need not be longer than so many looks: then looks take a tenth of a core.
const TIMES_LOOK: u32 = 10;

/// A condition did not become true in time.
#[derive(Debug, thiserror::Error)]
#[error("waited {seconds} s in vain for: {what}")]
pub struct WaitTimedOut {
    /// Seconds waited.
    pub seconds: f64,
    /// What was waited for.
    pub what: String,
}

/// The limit as it is on this machine.
///
/// # Panics
/// When the factor is set and is no number from 1 on: a test would fail, or wait for ever, without a reason that shows.
#[must_use]
pub fn limit_here(limit: Duration) -> Duration {
    limit.mul_f64(factor())
}

/// Whether this machine is slower than those that figures are told of: none is measured here.
///
/// # Panics
/// As [`limit_here`].
#[must_use]
pub fn is_slow_machine() -> bool {
    factor() > 1.0
}

fn factor() -> f64 {
    static FACTOR: OnceLock<f64> = OnceLock::new();
    *FACTOR.get_or_init(|| {
        let Some(text) = std::env::var_os(TIME_FACTOR) else {
            return 1.0;
        };
        let factor = text.to_str().and_then(|text| text.parse().ok());
        factor
            .filter(|factor| (1.0..=MOST).contains(factor))
            .unwrap_or_else(|| panic!("{TIME_FACTOR} is {text:?}, and should be a number from 1 to {MOST}"))
    })
}

/// Waits until `condition` is true, at most `limit` as it is on this machine.
///
/// # Errors
/// [`WaitTimedOut`], naming `what`.
pub fn wait_until(
    limit: Duration,
    what: &str,
    mut condition: impl FnMut() -> bool,
) -> Result<(), WaitTimedOut> {
    let limit = limit_here(limit);
    let begun = Instant::now();
    let deadline = begun + limit;
    loop {
        let look = Instant::now();
        if condition() {
            return Ok(());
        }
        let now = Instant::now();
        if now >= deadline {
            return Err(WaitTimedOut {
                seconds: limit.as_secs_f64(),
                what: what.to_owned(),
            });
        }
        let pause = pause(now - begun, now - look);
        // The last look is at the end of the limit, neither before nor after it.
        std::thread::sleep(pause.min(deadline - now));
    }
}

/// From a look that took so long to the next one. Most looks start a program, and many tests wait at once: looks without a
/// pause would take more of the machine than what is waited for.
fn pause(waited: Duration, look: Duration) -> Duration {
    (waited / PART_OF_WAIT)
        .min(look * TIMES_LOOK)
        .clamp(LOOK_EVERY, LOOK_AT_LEAST_EVERY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cheap_to_look_at_is_looked_at_often() {
        let [minute, look] = [Duration::from_secs(60), Duration::from_micros(10)];
        assert_eq!(pause(minute, look), LOOK_EVERY);
    }

    #[test]
    fn what_costs_is_looked_at_seldom_once_it_is_waited_for_long() {
        let look = Duration::from_millis(15);
        assert_eq!(pause(Duration::from_millis(30), look), LOOK_EVERY);
        assert_eq!(pause(Duration::from_secs(1), look), Duration::from_millis(100));
        assert_eq!(pause(Duration::from_secs(60), look), Duration::from_millis(150));
        assert_eq!(pause(Duration::from_secs(60), look * 10), LOOK_AT_LEAST_EVERY);
    }

    #[test]
    fn a_condition_is_looked_at_once_more_at_the_end_of_the_limit() {
        let mut looks = 0;
        let waited = wait_until(Duration::ZERO, "nothing", || {
            looks += 1;
            false
        });
        assert!(waited.is_err() && looks == 1, "{looks}");
    }
}
