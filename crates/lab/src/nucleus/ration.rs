//! How often a component may fail. Pure: failures in, whether it is started again out.
//!
//! Lite's unit has StartLimitBurst=3 in StartLimitIntervalSec=3600: three starts within an hour, whatever came before. The
//! classic nucleus declares BROKEN at the third error while each is younger than an hour at the next: errors chain, one every
//! 59 minutes suffices.

use std::time::{Duration, Instant};

/// Lite's StartLimitBurst, and the classic nucleus' third error.
const LIMIT: usize = 3;
/// Lite's StartLimitIntervalSec, and the time after which the classic nucleus forgets errors.
const PERIOD: Duration = Duration::from_secs(3600);

/// What is counted.
#[derive(Debug)]
pub(super) enum Ration {
    /// Starts.
    Sliding(Vec<Instant>),
    /// Errors, each younger than [`PERIOD`] at the next.
    Chain { errors: usize, last: Option<Instant> },
}

impl Ration {
    pub(super) fn new(chains: bool) -> Self {
        if chains {
            Self::Chain {
                errors: 0,
                last: None,
            }
        } else {
            Self::Sliding(Vec::new())
        }
    }

    /// An orderly stop, or a start that was asked for.
    pub(super) fn clear(&mut self) {
        *self = Self::new(matches!(self, Self::Chain { .. }));
    }

    /// Counts a failure.
    pub(super) fn failed(&mut self, now: Instant) {
        if let Self::Chain { errors, last } = self {
            let is_forgotten = last.is_none_or(|last| now.duration_since(last) >= PERIOD);
            *errors = if is_forgotten { 1 } else { *errors + 1 };
            *last = Some(now);
        }
    }

    /// Counts a start, or says that there is none: how many there were.
    pub(super) fn start(&mut self, now: Instant) -> Result<(), usize> {
        let used = match self {
            Self::Sliding(starts) => {
                starts.retain(|start| now.duration_since(*start) < PERIOD);
                starts.len()
            }
            Self::Chain { errors, .. } => *errors,
        };
        if used >= LIMIT {
            return Err(used);
        }
        if let Self::Sliding(starts) = self {
            starts.push(now);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// How many times it runs, failing at these minutes after its first start.
    fn runs(chains: bool, failures: &[u32]) -> usize {
        let (mut ration, begun) = (Ration::new(chains), Instant::now());
        ration.start(begun).unwrap();
        let mut runs = 1;
        for minute in failures {
            let now = begun + MINUTE * *minute;
            ration.failed(now);
            if ration.start(now).is_err() {
                break;
            }
            runs += 1;
        }
        runs
    }

    #[test]
    fn three_failures_in_a_row_are_the_last_on_both() {
        for chains in [false, true] {
            assert_eq!(runs(chains, &[0, 0, 0, 0]), 3);
        }
    }

    #[test]
    fn errors_chain_on_classic_and_starts_are_forgotten_on_lite() {
        let every_59_minutes = [59, 118, 177, 236];
        assert_eq!(runs(true, &every_59_minutes), 3);
        assert_eq!(runs(false, &every_59_minutes), 5, "never three within an hour");
        let every_hour = [60, 120, 180, 240];
        assert_eq!(runs(true, &every_hour), 5);
        let mut ration = Ration::new(true);
        let now = Instant::now();
        (0..3).for_each(|_| ration.failed(now));
        assert_eq!(ration.start(now), Err(3));
        ration.clear();
        assert_eq!(ration.start(now), Ok(()));
    }
}
