//! What the kernel has counted: for people, and quotas for the journal.

use super::{CarriedCounters, FilterKeeper, Layer, Mission};
use crate::quarantine::plan::PlannedLimit;
use crate::quarantine::ports::PacketFilter;
use crate::quarantine::proof::state::{CutTotals, CutTraffic, QuotaUse};
use crate::quarantine::ruleset::quota_name;

/// The journal is written when this share of a quota has been used since: one hundredth.
const QUOTA_STEP: u64 = 100;

impl<F: PacketFilter> FilterKeeper<F> {
    /// Reads the counters, and takes quotas that advanced by a step to the journal.
    pub(super) async fn note_counted(&mut self, mission: &Mission) {
        if mission.plan.is_normal() {
            self.blocked = CutTotals::default();
            self.quotas.clear();
            self.kept_quotas.clear();
            return;
        }
        // What cannot be read now is read at the next check.
        let Ok(counted) = self.kernel.counted().await else {
            return;
        };
        let cuts = counted.counters.iter().map(|((_, name), (packets, bytes))| {
            let cut = CutTraffic {
                packets: *packets,
                bytes: *bytes,
            };
            (name.as_str(), cut)
        });
        self.blocked = CutTotals::from_counters(cuts);
        self.quotas = quotas(&mission.plan.limits, &counted);
        let known = &self.kept_quotas;
        let news = self.quotas.iter().any(|quota| {
            let same = |old: &&QuotaUse| old.order == quota.order && old.since == quota.since;
            let used = known.iter().find(same).map_or(0, |old| old.used);
            quota.used.saturating_sub(used) >= (quota.bytes / QUOTA_STEP).max(1)
        });
        if news || known.len() != self.quotas.len() {
            self.kept_quotas.clone_from(&self.quotas);
        }
    }

    /// What a table that replaces another goes on counting from: what the kernel has counted, and what the journal
    /// says was used before a reboot.
    pub(super) async fn carried_over(&mut self, mission: &Mission) -> CarriedCounters {
        let mut counted = self.kernel.counted().await.unwrap_or_default();
        for (index, limit) in mission.plan.limits.iter().enumerate() {
            let Some(quota) = limit.quota else { continue };
            let same = |old: &&QuotaUse| old.order == limit.order && old.since == quota.since;
            let before = self.kept_quotas.iter().find(same).map_or(0, |old| old.used);
            let used = counted
                .quotas
                .entry((Layer::Inet, quota_name(index, quota.since)))
                .or_default();
            *used = (*used).max(before);
        }
        counted
    }
}

fn quotas(limits: &[PlannedLimit], counted: &CarriedCounters) -> Vec<QuotaUse> {
    let of = |(index, limit): (usize, &PlannedLimit)| {
        let quota = limit.quota?;
        let used = counted
            .quotas
            .get(&(Layer::Inet, quota_name(index, quota.since)))?;
        Some(QuotaUse {
            order: limit.order.clone(),
            used: *used,
            bytes: quota.bytes,
            since: quota.since,
            until: quota.until,
        })
    };
    limits.iter().enumerate().filter_map(of).collect()
}
