//! Waiting on a value, with a limit.

use std::time::{Duration, Instant};

/// How often a condition is looked at: short against every limit tests use, long against the cost of a probe.
const LOOK_EVERY: Duration = Duration::from_millis(20);

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
    let deadline = Instant::now() + limit;
    loop {
        if condition() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(WaitTimedOut {
                seconds: limit.as_secs_f64(),
                what: what.to_owned(),
            });
        }
        std::thread::sleep(LOOK_EVERY);
    }
}
