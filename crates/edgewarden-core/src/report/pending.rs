//! Traffic for custom metrics since the last report the service accepted.
//!
//! In: the traffic of each interval under the number of its report, and which was accepted. Out: the sum of what was
//! not accepted yet. Invariant: an accepted report settles everything up to itself, whatever came between.

use std::collections::VecDeque;

use super::custom::traffic::TrafficTotals;

/// Intervals told apart; older ones become one. An answer later than this many reports is worthless.
const MAX_INTERVALS: usize = 4;

/// Intervals whose reports were not accepted, oldest first, each with its report's number.
#[derive(Debug, Clone, Default)]
pub struct PendingIntervals(VecDeque<(u64, TrafficTotals)>);

impl PendingIntervals {
    /// The interval of the report that is being made; gives what this report has to tell.
    pub fn begin(&mut self, report_id: u64, traffic: TrafficTotals, offline: OfflinePolicy) -> TrafficTotals {
        if offline == OfflinePolicy::Drop {
            self.0.clear();
        }
        if self.0.len() >= MAX_INTERVALS
            && let Some((_, mut oldest)) = self.0.pop_front()
            && let Some((_, next)) = self.0.front_mut()
        {
            oldest.add(next);
            *next = oldest;
        }
        self.0.push_back((report_id, traffic));
        let mut intervals = self.0.iter().map(|(_, traffic)| traffic);
        let mut sum = intervals.next().cloned().unwrap_or_default();
        intervals.for_each(|traffic| sum.add(traffic));
        sum
    }

    /// What this report told need not be told again.
    pub fn settle(&mut self, report_id: u64) {
        if let Some(place) = self.0.iter().position(|(id, _)| *id == report_id) {
            self.0.drain(..=place);
        }
    }
}

/// What becomes of an interval whose report was not accepted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OfflinePolicy {
    /// The next report tells it too.
    #[default]
    Fold,
    /// It is never told.
    Drop,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::Counters;

    fn bytes(count: u64) -> TrafficTotals {
        TrafficTotals {
            captured: Counters::traffic(true, count, 1),
            lost_frames: Some(count),
            ..TrafficTotals::default()
        }
    }

    #[test]
    fn what_was_not_accepted_is_told_again_once() {
        let mut pending = PendingIntervals::default();
        let begin = |pending: &mut PendingIntervals, id, count| {
            pending
                .begin(id, bytes(count), OfflinePolicy::Fold)
                .captured
                .bytes_out
        };
        assert_eq!(begin(&mut pending, 1, 10), 10);
        assert_eq!(begin(&mut pending, 2, 20), 30);
        pending.settle(1);
        assert_eq!(begin(&mut pending, 3, 30), 50);
        pending.settle(3);
        pending.settle(2);
        pending.settle(99);
        assert_eq!(begin(&mut pending, 4, 40), 40);
    }

    #[test]
    fn a_long_outage_is_bounded_and_loses_nothing() {
        let mut pending = PendingIntervals::default();
        for id in 1..=100 {
            let told = pending.begin(id, bytes(1), OfflinePolicy::Fold);
            assert_eq!((told.captured.bytes_out, told.lost_frames), (id, Some(id)));
        }
        assert_eq!(pending.0.len(), MAX_INTERVALS);
        pending.settle(100);
        assert_eq!(
            pending.begin(101, bytes(7), OfflinePolicy::Fold).lost_frames,
            Some(7)
        );
    }

    #[test]
    fn dropping_tells_each_interval_alone() {
        let mut pending = PendingIntervals::default();
        pending.begin(1, bytes(10), OfflinePolicy::Drop);
        assert_eq!(
            pending.begin(2, bytes(20), OfflinePolicy::Drop).lost_frames,
            Some(20)
        );
    }
}
