//! How many records others can provoke. In: uptime. Out: whether there is room for one more. Pure.
//!
//! Without it, whoever edits our rules in a loop would rotate the record of how it began out of the history.

use std::time::Duration;

/// Provoked records at once; more in a row is a loop, of which the first ones say everything.
const BURST: u32 = 60;
/// One more each minute: half a megabyte a day, so that what is kept reaches back a week and more.
const REFILL: Duration = Duration::from_secs(60);

/// Room for records of what others do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventBudget {
    left: u32,
    /// Since when the next one has been growing.
    since: Duration,
}

impl EventBudget {
    /// A full one.
    pub fn new(uptime: Duration) -> Self {
        Self {
            left: BURST,
            since: uptime,
        }
    }

    /// Takes one, if there is one.
    pub fn take(&mut self, uptime: Duration) -> bool {
        let grown = uptime.saturating_sub(self.since).as_secs() / REFILL.as_secs();
        let grown = u32::try_from(grown).unwrap_or(BURST).min(BURST);
        self.since = if grown >= BURST {
            uptime
        } else {
            self.since + REFILL * grown
        };
        self.left = (self.left + grown).min(BURST);
        let takes = self.left > 0;
        self.left -= u32::from(takes);
        takes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_one_a_minute() {
        let at = Duration::from_secs;
        let mut budget = EventBudget::new(at(100));
        let burst = (0..1_000).filter(|_| budget.take(at(100))).count();
        assert_eq!(burst, 60);
        let hour = (100..3_700).filter(|second| budget.take(at(*second))).count();
        assert_eq!(hour, 59, "one each full minute");
        assert!(budget.take(at(1_000_000)));
        let burst = (0..1_000).filter(|_| budget.take(at(1_000_000))).count();
        assert_eq!(burst, 59, "never more than a burst is saved");
        assert!(!budget.take(at(0)), "an earlier time gives nothing");
    }
}
