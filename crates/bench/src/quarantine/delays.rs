//! Delays of one kind as figures: p50, p99, how many. Pure but for the clock.

use std::time::Duration;

use nix::time::ClockId;

use crate::figure::{Aim, Figure};
use crate::report::Report;

/// The kernel's monotonic clock, which the lab's nucleus reads too.
pub(crate) fn now() -> Duration {
    ClockId::CLOCK_MONOTONIC
        .now()
        .map_or(Duration::ZERO, Duration::from)
}

/// Measured delays.
#[derive(Debug, Default)]
pub(crate) struct Delays(Vec<Duration>);

impl Delays {
    pub(crate) fn push(&mut self, delay: Duration) {
        self.0.push(delay);
    }

    /// The smallest that is no less than this share of all, in milliseconds. Of fewer than a hundred the 99th
    /// percentile is the largest.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted
            .get(rank - 1)
            .map_or(0.0, |delay| delay.as_secs_f64() * 1e3)
    }

    /// Adds a row; aims in milliseconds for p50 and p99.
    pub(crate) fn add(&self, report: &mut Report, case: &str, aims: [Option<f64>; 2]) {
        for (metric, percent, aim) in [("p50", 50, aims[0]), ("p99", 99, aims[1])] {
            let figure = Figure::new(case, metric, self.percentile(percent), "ms");
            report.add(aim.map_or(figure.clone(), |aim| {
                figure.against("the aim", aim, Some(Aim::AtMost(1.0)))
            }));
        }
        report.add(Figure::new(case, "runs", self.0.len() as f64, "times"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delays(milliseconds: impl IntoIterator<Item = u64>) -> Delays {
        Delays(milliseconds.into_iter().map(Duration::from_millis).collect())
    }

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let hundred = delays((1..=100).rev());
        assert_eq!(hundred.percentile(50), 50.0);
        assert_eq!(hundred.percentile(99), 99.0);
        assert_eq!(delays([3, 1, 2]).percentile(50), 2.0);
        assert_eq!(delays([3, 1, 2]).percentile(99), 3.0);
        assert_eq!(delays([]).percentile(50), 0.0);
    }

    #[test]
    fn a_row_says_whether_its_aims_are_reached() {
        let mut report = Report::new("quarantine");
        delays([10, 20, 90]).add(&mut report, "case", [Some(15.0), None]);
        let table = report.table();
        assert!(
            table.contains("1.33 times the aim   aim <= 1: MISSED by 33 %"),
            "{table}"
        );
    }

    #[test]
    fn the_clock_goes_on() {
        let before = now();
        assert!(before > Duration::ZERO && now() >= before);
    }
}
