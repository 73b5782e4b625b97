//! Waiting on a value, with a limit.

use std::time::{Duration, Instant};

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

/// Waits until `condition` is true, at most `limit`.
///
/// # Errors
/// [`WaitTimedOut`], naming `what`.
pub fn wait_until(
    limit: Duration,
    what: &str,
    mut condition: impl FnMut() -> bool,
) -> Result<(), WaitTimedOut> {
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
