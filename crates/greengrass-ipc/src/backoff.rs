//! How long to wait before the next attempt.
//!
//! In: the number of failures so far and a random number. Out: a duration. No clock and no randomness of its own.

use std::time::Duration;

/// Shortest wait: a nucleus that restarts needs about this long, and nothing hammers it meanwhile.
const SHORTEST: Duration = Duration::from_millis(200);

/// Longest wait: after an outage of any length the client is back within this time.
const LONGEST: Duration = Duration::from_secs(10);

/// A wait between [`SHORTEST`] and a bound that doubles with every failure up to [`LONGEST`].
///
/// `unit` is a random number in 0..1; it spreads the clients of one nucleus, which all lose it at the same moment.
pub(crate) fn delay(failures: u32, unit: f64) -> Duration {
    let doublings = failures.min(16).saturating_add(1);
    let bound = SHORTEST.saturating_mul(1 << doublings).min(LONGEST);
    SHORTEST + bound.saturating_sub(SHORTEST).mul_f64(unit.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_grows_to_its_longest_and_never_leaves_the_bounds() {
        assert_eq!(delay(0, 0.0), SHORTEST);
        assert_eq!(delay(0, 1.0), Duration::from_millis(400));
        assert_eq!(delay(2, 1.0), Duration::from_millis(1600));
        for failures in [5, 16, 17, u32::MAX] {
            assert_eq!(delay(failures, 0.0), SHORTEST);
            assert_eq!(delay(failures, 1.0), LONGEST);
        }
    }
}
