//! Traffic of one or several intervals, as far as custom metrics tell it.
//!
//! In: closed [`Interval`]s. Out: sums by interface, process and remote address. Bounded; what does not fit is left out
//! of the lists (the intervals themselves are bounded the same way).

use std::collections::BTreeMap;
use std::net::IpAddr;

use wildmatch::WildMatch;

use super::settings::TrafficCounter;
use crate::Gather;
use crate::observe::{Counters, Interval};

/// Interfaces, and processes, remembered over intervals that were not accepted.
const MAX_KEPT: usize = 4_096;
/// Pairs of interface and remote address remembered so.
const MAX_REMOTES: usize = 16_384;

/// Sums over the intervals that a report has to tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrafficTotals {
    /// By interface, as the kernel counted; `None` if that was not known for a part of the time.
    pub interfaces: BTreeMap<String, Option<Counters>>,
    /// By command name and program.
    pub processes: BTreeMap<(String, Option<String>), Counters>,
    /// Bytes both ways, by interface and address.
    pub remotes: BTreeMap<(String, IpAddr), u64>,
    pub captured: Counters,
    pub unattributed: Counters,
    /// Lost by capture; `None` if the receiver does not tell.
    pub lost_frames: Option<u64>,
}

impl From<&Interval> for TrafficTotals {
    fn from(interval: &Interval) -> Self {
        let interfaces = interval.interfaces.iter();
        let mut traffic = Self {
            interfaces: interfaces.map(|it| (it.name.clone(), it.kernel)).in_map(),
            captured: interval.captured_total,
            unattributed: interval.unattributed,
            lost_frames: interval.lost_frames,
            ..Self::default()
        };
        for process in &interval.processes {
            let key = (process.name.clone(), process.exe.clone());
            *traffic.processes.entry(key).or_default() += process.counters;
            for remote in &process.remotes {
                let key = (remote.interface.clone(), remote.address);
                let bytes = traffic.remotes.entry(key).or_default();
                *bytes = bytes.saturating_add(remote.counters.bytes());
            }
        }
        traffic
    }
}

impl TrafficTotals {
    /// Adds what came after.
    pub fn add(&mut self, later: &Self) {
        merge(&mut self.interfaces, &later.interfaces, MAX_KEPT, |sum, more| {
            *sum = sum.zip(*more).map(|(sum, more)| [sum, more].into_iter().sum());
        });
        merge(&mut self.processes, &later.processes, MAX_KEPT, |sum, more| {
            *sum += *more;
        });
        merge(&mut self.remotes, &later.remotes, MAX_REMOTES, |sum, more| {
            *sum = sum.saturating_add(*more);
        });
        self.captured += later.captured;
        self.unattributed += later.unattributed;
        let lost = self.lost_frames.zip(later.lost_frames);
        self.lost_frames = lost.map(|(sum, more)| sum.saturating_add(more));
    }
}

fn merge<K: Ord + Clone, V: Clone>(
    sums: &mut BTreeMap<K, V>,
    later: &BTreeMap<K, V>,
    limit: usize,
    add: impl Fn(&mut V, &V),
) {
    for (key, more) in later {
        let room = sums.len() < limit;
        match sums.get_mut(key) {
            Some(sum) => add(sum, more),
            None if room => {
                sums.insert(key.clone(), more.clone());
            }
            None => {}
        }
    }
}

/// Whether one of the patterns (`*` stands for any characters) matches.
#[must_use]
pub fn matches(patterns: &[String], text: &str) -> bool {
    patterns
        .iter()
        .any(|pattern| WildMatch::new(pattern).matches(text))
}

/// One of the four counters.
#[must_use]
pub const fn pick(counter: TrafficCounter, counters: &Counters) -> u64 {
    match counter {
        TrafficCounter::BytesIn => counters.bytes_in,
        TrafficCounter::BytesOut => counters.bytes_out,
        TrafficCounter::PacketsIn => counters.packets_in,
        TrafficCounter::PacketsOut => counters.packets_out,
    }
}
