//! Latencies in a table of fixed size, so that counting them does not change the memory that is measured.
//!
//! In: durations. Out: percentiles in whole microseconds.

use std::time::Duration;

/// One count a microsecond; what takes longer is counted as this long. Slower calls than 20 ms are no latency any
/// more but a fault, which the bench sees in the number of calls.
const MICROSECONDS: usize = 20_000;

/// How many calls took how long.
#[derive(Debug)]
pub(crate) struct Latencies {
    counts: Vec<u32>,
    total: u64,
}

impl Latencies {
    pub(crate) fn new() -> Self {
        Self {
            counts: vec![0; MICROSECONDS + 1],
            total: 0,
        }
    }

    pub(crate) fn add(&mut self, latency: Duration) {
        let index = usize::try_from(latency.as_micros()).unwrap_or(MICROSECONDS);
        if let Some(count) = self.counts.get_mut(index.min(MICROSECONDS)) {
            *count += 1;
            self.total += 1;
        }
    }

    /// Calls counted.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// The latency that `share` hundredths of the calls did not exceed, in microseconds.
    pub(crate) fn percentile(&self, share: u64) -> usize {
        let wanted = (self.total * share).div_ceil(100).max(1);
        let mut seen = 0;
        self.counts
            .iter()
            .position(|count| {
                seen += u64::from(*count);
                seen >= wanted
            })
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_the_smallest_value_that_covers_the_share() {
        let mut latencies = Latencies::new();
        for microseconds in 1..=200 {
            latencies.add(Duration::from_micros(microseconds));
        }
        assert_eq!((latencies.percentile(50), latencies.percentile(99)), (100, 198));
        latencies.add(Duration::from_secs(9));
        assert_eq!(
            (latencies.percentile(100), latencies.total()),
            (MICROSECONDS, 201)
        );
        assert_eq!(Latencies::new().percentile(50), 0);
    }
}
