//! What the kernel has counted: for people, and quotas for the journal.
//!
//! In: what the kernel's counters and quotas say at each pass. Out: the most that they ever said, and what a table that is
//! loaded goes on from. A table that somebody deletes takes with it what was counted since the last reading, and no more:
//! [`FilterKeeper::spends_quota`] asks for readings a second apart. Absent: counters in the journal; only quotas survive
//! both agent and table.

use std::collections::BTreeMap;

use super::{CarriedCounters, FilterKeeper, Layer, Mission};
use crate::quarantine::plan::PlannedLimit;
use crate::quarantine::ports::PacketFilter;
use crate::quarantine::proof::state::{CutTotals, CutTraffic, QuotaUse};
use crate::quarantine::ruleset::{WOULD_CUT, quota_name};

/// The journal is written when this share of a quota has been used since: one hundredth.
const QUOTA_STEP: u64 = 100;

/// The most that was ever counted while the device was not free.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Packets and bytes by table and counter; of the names that rules can have, so bounded by them.
    counters: BTreeMap<(Layer, String), (u64, u64)>,
    /// What is used of the live quotas.
    pub(super) quotas: Vec<QuotaUse>,
    /// The quotas as a restart should know them: they advance in steps, or every packet would be written to disk.
    pub(super) kept: Vec<QuotaUse>,
}

impl Tally {
    /// As the journal remembers it.
    pub(super) fn restore(quotas: Vec<QuotaUse>) -> Self {
        Self {
            counters: BTreeMap::new(),
            quotas: quotas.clone(),
            kept: quotas,
        }
    }

    /// Takes a reading; gives whether something in it was set back, as `nft reset` does, or by a table made anew.
    fn take(&mut self, read: &CarriedCounters, limits: &[PlannedLimit]) -> bool {
        let mut was_set_back = false;
        for (name, (packets, bytes)) in &read.counters {
            let known = self.counters.entry(name.clone()).or_default();
            if (*packets, *bytes) < *known {
                was_set_back = true;
            } else {
                *known = (*packets, *bytes);
            }
        }
        for quota in used(limits, read) {
            match self.quotas.iter_mut().find(|known| is_same(known, &quota)) {
                Some(known) if quota.used < known.used => was_set_back = true,
                Some(known) => known.used = quota.used,
                None => self.quotas.push(quota),
            }
        }
        self.quotas.retain(|known| {
            let mut live = limits.iter();
            live.any(|limit| {
                limit.order == known.order && limit.quota.is_some_and(|q| q.since == known.since)
            })
        });
        was_set_back
    }

    /// What tables for these limits begin with. What was set back has counted on from nothing, so both count.
    pub(super) fn carried(&self, mut read: CarriedCounters, limits: &[PlannedLimit]) -> CarriedCounters {
        let mut carried = CarriedCounters::default();
        for (name, known) in &self.counters {
            let (packets, bytes) = read.counters.remove(name).unwrap_or(*known);
            let was_set_back = (packets, bytes) < *known;
            let before = if was_set_back { *known } else { (0, 0) };
            let sum = (packets.saturating_add(before.0), bytes.saturating_add(before.1));
            carried.counters.insert(name.clone(), sum);
        }
        carried.counters.append(&mut read.counters);
        let of_kernel = used(limits, &read);
        for limit in limits {
            let Some(quota) = limit.quota else { continue };
            let same = |other: &&QuotaUse| other.order == limit.order && other.since == quota.since;
            let known = self.quotas.iter().find(same).map_or(0, |known| known.used);
            let read = of_kernel.iter().find(same);
            let used = match read.map(|read| read.used) {
                None => known,
                Some(read) if read < known => known.saturating_add(read),
                Some(read) => read,
            };
            let name = (Layer::Inet, quota_name(&limit.order, quota.since));
            carried.quotas.insert(name, used);
        }
        carried
    }

    /// The kernel has taken tables for these limits that began with `carried`.
    pub(super) fn begin(&mut self, carried: &CarriedCounters, limits: &[PlannedLimit]) {
        self.counters.clone_from(&carried.counters);
        self.quotas = used(limits, carried);
    }

    /// Takes quotas that advanced by a step to the journal.
    fn keep(&mut self) {
        let advanced = self.quotas.iter().any(|quota| {
            let kept = self.kept.iter().find(|old| is_same(old, quota));
            let used = kept.map_or(0, |old| old.used);
            quota.used.saturating_sub(used) >= (quota.bytes / QUOTA_STEP).max(1)
        });
        if advanced || self.kept.len() != self.quotas.len() {
            self.kept.clone_from(&self.quotas);
        }
    }

    /// What was cut, and what would have been.
    pub(super) fn totals(&self) -> (CutTotals, CutTotals) {
        let counted = |would: bool| {
            let named = self
                .counters
                .iter()
                .filter_map(move |((_, name), (packets, bytes))| {
                    let name = match (name.strip_prefix(WOULD_CUT), would) {
                        (Some(name), true) => name,
                        (None, false) => name.as_str(),
                        _ => return None,
                    };
                    let cut = CutTraffic {
                        packets: *packets,
                        bytes: *bytes,
                    };
                    Some((name, cut))
                });
            CutTotals::from_counters(named)
        };
        (counted(false), counted(true))
    }
}

impl<F: PacketFilter> FilterKeeper<F> {
    /// Reads the counters; gives whether somebody has set one back.
    pub(super) async fn note_counted(&mut self, mission: &Mission) -> bool {
        if mission.plan.is_normal() {
            self.tally = Tally::default();
            return false;
        }
        // What cannot be read now is read at the next check.
        let Ok(read) = self.kernel.counted().await else {
            return false;
        };
        let was_set_back = self.tally.take(&read, &mission.plan.limits);
        self.tally.keep();
        was_set_back
    }

    /// What a table that replaces another goes on counting from: what the kernel has counted, and what was known of it
    /// before where that is more.
    pub(super) async fn carried_over(&mut self, mission: &Mission) -> CarriedCounters {
        let read = self.kernel.counted().await.unwrap_or_default();
        self.tally.carried(read, &mission.plan.limits)
    }

    /// Whether a quota is being used up: what is used between two readings is lost with the table.
    pub(in crate::agent::enforcer) fn spends_quota(&self) -> bool {
        self.tally.quotas.iter().any(|quota| quota.used < quota.bytes)
    }
}

fn is_same(one: &QuotaUse, other: &QuotaUse) -> bool {
    one.order == other.order && one.since == other.since
}

/// What is used of the quotas of these limits.
fn used(limits: &[PlannedLimit], counted: &CarriedCounters) -> Vec<QuotaUse> {
    let of = |limit: &PlannedLimit| {
        let quota = limit.quota?;
        let name = (Layer::Inet, quota_name(&limit.order, quota.since));
        Some(QuotaUse {
            order: limit.order.clone(),
            used: *counted.quotas.get(&name)?,
            bytes: quota.bytes,
            since: quota.since,
            until: quota.until,
        })
    };
    limits.iter().filter_map(of).collect()
}

#[cfg(test)]
#[path = "counted_tests.rs"]
mod tests;
