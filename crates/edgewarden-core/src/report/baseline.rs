//! The growth of the device's network totals since the last report the service accepted.
//!
//! In: the kernel's counters at each report, and which report was accepted. Out: one delta for `network_stats`.
//!
//! Invariants: never negative, whatever interfaces do; a report that was lost or throttled loses no bytes, the next one
//! carries them (unless the operator wants them dropped, or the service refused the report for good); before the first
//! accepted report there is no delta. What an interface counted between the last look and its removal cannot be known
//! and is not in any report.

use std::collections::{BTreeMap, VecDeque};

use super::pending::OfflinePolicy;
use crate::observe::{Counters, LinkCounters};

/// Reports that wait for an answer; an answer that comes later than this many reports is worthless.
const MAX_UNANSWERED: usize = 8;

/// Interfaces remembered, those that are gone included; containers make new ones all the time.
const MAX_INTERFACES: usize = 1_024;

/// Cumulative growth and what of it was reported.
#[derive(Debug, Clone, Default)]
pub struct Baseline {
    /// By interface index: a renamed interface goes on, a replaced one has another. Interfaces that are gone stay
    /// known, so that one that comes back (from a container, or after an incomplete list) is not told from its begin
    /// again.
    last: Option<BTreeMap<u32, Counters>>,
    grown: Counters,
    accepted: Option<Counters>,
    begun: Option<Counters>,
    unanswered: VecDeque<(u64, Counters)>,
}

impl Baseline {
    /// Takes in the kernel's counters. May be called more often than reports are made: each call bounds what a removed
    /// interface can lose.
    ///
    /// An interface not seen before counts from zero, except at the very first call, which only sets the scene.
    pub fn observe(&mut self, links: &[LinkCounters]) {
        let first = self.last.is_none();
        let last = self.last.get_or_insert_default();
        for link in links {
            let before = last.insert(link.index, link.counters);
            if !first {
                self.grown += link.counters.growth_since(&before.unwrap_or_default());
            }
        }
        while last.len() > MAX_INTERFACES.max(links.len()) {
            // The lowest index is the oldest interface; those that are there are put back by the next look.
            let gone = |index: &u32| !links.iter().any(|link| link.index == *index);
            let Some(oldest) = last.keys().copied().find(gone) else {
                break;
            };
            last.remove(&oldest);
        }
    }

    /// The delta for the report that is being made; `None` before the first accepted report. Since then, or with
    /// [`OfflinePolicy::Drop`] since the report before, whatever became of it.
    pub fn begin(&mut self, report_id: u64, offline: OfflinePolicy) -> Option<Counters> {
        if self.unanswered.len() >= MAX_UNANSWERED {
            self.unanswered.pop_front();
        }
        self.unanswered.push_back((report_id, self.grown));
        let before = self.begun.replace(self.grown);
        let accepted = self.accepted?;
        let from = match offline {
            OfflinePolicy::Fold => accepted,
            OfflinePolicy::Drop => before.unwrap_or(accepted),
        };
        Some(self.grown.growth_since(&from))
    }

    /// The service accepted this report: later deltas begin where it ended. Answers may come twice and in any order;
    /// false for a report that is not known or that a later one has overtaken.
    pub fn accepted(&mut self, report_id: u64) -> bool {
        let grown = self.answered(report_id);
        self.accepted = grown.or(self.accepted);
        grown.is_some()
    }

    /// The service will never take what this report told: later deltas begin where it ended, so that they do not grow
    /// for ever. Without any accepted report there is still none.
    pub fn given_up(&mut self, report_id: u64) {
        let grown = self.answered(report_id);
        self.accepted = self.accepted.map(|accepted| grown.unwrap_or(accepted));
    }

    fn answered(&mut self, report_id: u64) -> Option<Counters> {
        let place = self.unanswered.iter().position(|(id, _)| *id == report_id)?;
        // Earlier reports covered less; their late answers would move the baseline back.
        self.unanswered
            .drain(..=place)
            .next_back()
            .map(|(_, grown)| grown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str, index: u32, bytes: u64) -> LinkCounters {
        let counters = Counters {
            bytes_in: bytes,
            bytes_out: 2 * bytes,
            packets_in: 1,
            packets_out: 1,
        };
        LinkCounters {
            name: name.to_owned(),
            index,
            counters,
        }
    }

    fn bytes_in(delta: Option<Counters>) -> Option<u64> {
        delta.map(|counters| counters.bytes_in)
    }

    /// A baseline with one accepted report at 1,000 bytes.
    fn started() -> Baseline {
        let mut baseline = Baseline::default();
        baseline.observe(&[link("eth0", 2, 1_000)]);
        assert_eq!(
            baseline.begin(1, OfflinePolicy::Fold),
            None,
            "the first report has no network_stats"
        );
        baseline.accepted(1);
        baseline
    }

    #[test]
    fn deltas_begin_where_the_last_accepted_report_ended() {
        let mut baseline = started();
        baseline.observe(&[link("eth0", 2, 1_500)]);
        assert_eq!(bytes_in(baseline.begin(2, OfflinePolicy::Fold)), Some(500));
        baseline.observe(&[link("eth0", 2, 1_600)]);
        assert_eq!(
            bytes_in(baseline.begin(3, OfflinePolicy::Fold)),
            Some(600),
            "report 2 was not answered"
        );
        baseline.accepted(3);
        baseline.accepted(2);
        baseline.accepted(99);
        baseline.observe(&[link("eth0", 2, 1_650)]);
        assert_eq!(bytes_in(baseline.begin(4, OfflinePolicy::Fold)), Some(50));
        baseline.accepted(4);
        baseline.accepted(4);
        assert_eq!(bytes_in(baseline.begin(5, OfflinePolicy::Fold)), Some(0));
    }

    #[test]
    fn no_delta_until_a_report_was_accepted() {
        let mut baseline = Baseline::default();
        baseline.observe(&[link("eth0", 2, 1_000)]);
        assert_eq!(baseline.begin(1, OfflinePolicy::Fold), None);
        baseline.observe(&[link("eth0", 2, 3_000)]);
        assert_eq!(baseline.begin(2, OfflinePolicy::Fold), None);
        baseline.accepted(1);
        assert_eq!(
            bytes_in(baseline.begin(3, OfflinePolicy::Fold)),
            Some(2_000),
            "counted from the accepted report on"
        );
    }

    #[test]
    fn interfaces_that_come_go_and_reset_never_give_negative_or_huge_deltas() {
        let mut baseline = started();
        baseline.observe(&[link("eth0", 2, 40)]);
        assert_eq!(
            bytes_in(baseline.begin(2, OfflinePolicy::Fold)),
            Some(40),
            "reset"
        );
        baseline.accepted(2);
        baseline.observe(&[link("eth0", 7, 10)]);
        assert_eq!(
            bytes_in(baseline.begin(3, OfflinePolicy::Fold)),
            Some(10),
            "replaced under the same name"
        );
        baseline.accepted(3);
        baseline.observe(&[]);
        assert_eq!(
            bytes_in(baseline.begin(4, OfflinePolicy::Fold)),
            Some(0),
            "removed"
        );
        baseline.accepted(4);
        baseline.observe(&[link("eth0", 7, 25), link("usb0", 8, 5)]);
        assert_eq!(
            bytes_in(baseline.begin(5, OfflinePolicy::Fold)),
            Some(20),
            "back with 15 more, and one more interface"
        );
        baseline.accepted(5);
        baseline.observe(&[link("wan0", 7, 26), link("usb0", 8, 5)]);
        assert_eq!(
            bytes_in(baseline.begin(6, OfflinePolicy::Fold)),
            Some(1),
            "renamed"
        );
    }

    #[test]
    fn dropped_intervals_and_refused_reports_are_not_told_again() {
        let mut baseline = started();
        for (id, bytes) in [(2, 1_500), (3, 1_600), (4, 1_650)] {
            baseline.observe(&[link("eth0", 2, bytes)]);
            let delta = bytes_in(baseline.begin(id, OfflinePolicy::Drop));
            assert_eq!(
                delta,
                Some(if id == 2 {
                    500
                } else if id == 3 {
                    100
                } else {
                    50
                })
            );
        }
        baseline.given_up(3);
        baseline.given_up(3);
        assert_eq!(
            bytes_in(baseline.begin(5, OfflinePolicy::Fold)),
            Some(50),
            "from report 3 on"
        );
        let mut fresh = Baseline::default();
        fresh.observe(&[link("eth0", 2, 1)]);
        fresh.begin(1, OfflinePolicy::Fold);
        fresh.given_up(1);
        assert_eq!(
            fresh.begin(2, OfflinePolicy::Fold),
            None,
            "nothing was accepted yet"
        );
    }

    #[test]
    fn unanswered_reports_are_bounded() {
        let mut baseline = started();
        for id in 2..1_000 {
            baseline.begin(id, OfflinePolicy::Fold);
        }
        assert_eq!(baseline.unanswered.len(), MAX_UNANSWERED);
    }
}
