//! Puts one interval together: what the ledger has counted beside what the kernel has.
//!
//! In: where the interval began, the page of the ledger, the kernel's counters now. Out: an [`Interval`].

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use super::interval::{Counters, InterfaceTraffic, Interval, LinkCounters, UnattributedTraffic};
use super::ledger::LedgerPage;

/// Where the running interval began.
pub struct IntervalStart {
    pub at: Timestamp,
    /// The kernel's counters by interface index; `None`: they could not be read, and this interval has no growth.
    pub kernel: Option<HashMap<u32, Counters>>,
    /// Frames lost until then; absent where the receiver does not tell.
    pub lost_frames: Option<u64>,
}

/// What capture says of itself when an interval is closed.
pub struct CaptureCondition {
    /// Frames lost since capture began; absent where the receiver does not tell.
    pub lost_frames: Option<u64>,
    /// What hinders it, one sentence each.
    pub faults: Vec<String>,
}

/// The interval from `begun` to `now`. `names` are those of the interfaces by index, `current` the kernel's counters;
/// without them no interface has growth.
pub fn assemble(
    begun: &IntervalStart,
    now: Timestamp,
    page: &LedgerPage,
    names: &HashMap<u32, String>,
    current: Option<&[LinkCounters]>,
    capture: CaptureCondition,
) -> Interval {
    let unattributed_by_reason: Vec<UnattributedTraffic> = page.unattributed();
    let lost_frames = capture.lost_frames.map(|lost| {
        // A ring that was opened again counts from zero.
        let before = begun.lost_frames.unwrap_or_default();
        lost.checked_sub(before).unwrap_or(lost)
    });
    Interval {
        started: begun.at,
        ended: now,
        interfaces: interfaces(begun, page, names, current),
        processes: page.processes(|index| name(names, index)),
        forwarded: page.forwarded(),
        forwarded_by_peer: page.forwarded_by_peer(),
        other_forwarded: page.other_forwarded(),
        stacked: page.stacked(),
        unattributed: unattributed_by_reason.iter().map(|item| item.counters).sum(),
        unattributed_by_reason,
        other: page.other(),
        captured_total: page.captured_total(),
        unparsed: page.unparsed(),
        lost_frames,
        capture_faults: capture.faults,
    }
}

fn name(names: &HashMap<u32, String>, index: u32) -> String {
    names.get(&index).cloned().unwrap_or_else(|| format!("#{index}"))
}

/// By index: a renamed interface goes on, a replaced one has another.
pub fn by_interface(counters: &[LinkCounters]) -> HashMap<u32, Counters> {
    counters.iter().map(|link| (link.index, link.counters)).collect()
}

/// Kernel growth beside captured traffic, by name. An interface that came within the interval counts from zero.
fn interfaces(
    begun: &IntervalStart,
    page: &LedgerPage,
    names: &HashMap<u32, String>,
    current: Option<&[LinkCounters]>,
) -> Vec<InterfaceTraffic> {
    let mut list: BTreeMap<(String, u32), InterfaceTraffic> = BTreeMap::new();
    for link in current.unwrap_or_default() {
        // An interface that came within the interval counts from zero.
        let before = begun.kernel.as_ref().map(|kernel| {
            let known = kernel.get(&link.index);
            known.copied().unwrap_or_default()
        });
        list.insert(
            (link.name.clone(), link.index),
            InterfaceTraffic {
                name: link.name.clone(),
                kernel: before.map(|before| link.counters.growth_since(&before)),
                captured: Counters::default(),
                forwarded: Counters::default(),
            },
        );
    }
    for index in page.interface_indexes() {
        let name = name(names, index);
        let item = list.entry((name.clone(), index)).or_insert(InterfaceTraffic {
            name,
            kernel: None,
            captured: Counters::default(),
            forwarded: Counters::default(),
        });
        item.captured = page.interface(index);
        item.forwarded = page.forwarded_on(index);
    }
    list.into_values().chain(page.uncounted_interfaces()).collect()
}
