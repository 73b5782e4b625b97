//! What of a plan may cut the control channel, apart from who ordered it and why.
//!
//! In: what a plan says. Out: [`Cutting`], and whether one cuts no more than another. Sums stand for content, so it is short and
//! can be remembered. Absent: addresses of lifelines, which are refreshed without another plan.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Plan;
use crate::Gather;
use crate::quarantine::orders::order::{Order, Posture};

/// What may cut the control channel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cutting {
    posture: Posture,
    /// One for each block, limit and rule of processes, and for each lifeline that is off.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    cuts: BTreeSet<u32>,
    /// One for each allowance.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    passes: BTreeSet<u32>,
}

impl Cutting {
    /// Of the plan that was folded of these orders.
    pub(super) fn of(plan: &Plan, orders: &[Order]) -> Self {
        let blocks = orders
            .iter()
            .filter(|order| !(order.block.remotes.is_empty() && order.block.ports.is_empty()));
        let blocks = blocks.map(|order| {
            let mut sum = hasher(&("block", &order.block.ports));
            sum.combine(order.block.remotes.sum());
            sum.finalize()
        });
        let limits = orders.iter().filter_map(|order| order.limit);
        let limits = limits.map(|limit| sum(&("limit", limit)));
        let processes = plan.processes.iter().map(|rule| sum(&("process", rule)));
        let lifelines = off(plan).into_iter().map(|name| sum(&("lifeline", name)));
        Self {
            posture: plan.posture,
            cuts: blocks.chain(limits).chain(processes).chain(lifelines).in_set(),
            passes: plan.allow.iter().map(sum).in_set(),
        }
    }

    /// Whether whatever lives behind `other` lives behind this one.
    pub fn is_within(&self, other: &Self) -> bool {
        // Allowances mean something in isolation only.
        let passes = self.posture < Posture::Isolate || self.passes.is_superset(&other.passes);
        self.posture <= other.posture && self.cuts.is_subset(&other.cuts) && passes
    }

    /// Whether wide lifelines let more pass behind it: a restriction cuts what it names, and nothing that wide ones would open.
    pub fn has_wide_lines(&self) -> bool {
        self.posture != Posture::Restrict
    }

    /// Whether its posture is another one, which cuts more whatever is named.
    pub fn is_stricter_than(&self, other: &Self) -> bool {
        self.posture > other.posture
    }
}

/// The lifelines that are off.
fn off(plan: &Plan) -> Vec<&'static str> {
    let on = &plan.lifelines;
    let each = [
        ("dhcp", on.dhcp),
        ("dns", on.dns),
        ("ntp", on.ntp),
        ("dataEndpoint", on.data_endpoint),
        ("deployments", on.deployments),
        ("logs", on.logs),
        ("tunnel", on.tunnel),
    ];
    each.iter().filter(|(_, on)| !on).map(|(name, _)| *name).collect()
}

fn sum(content: &impl Serialize) -> u32 {
    hasher(content).finalize()
}

fn hasher(content: &impl Serialize) -> crc32fast::Hasher {
    // Serialising plain data cannot fail; an empty text would only make two look alike.
    let text = serde_json::to_string(content).unwrap_or_default();
    let mut sum = crc32fast::Hasher::new();
    sum.update(text.as_bytes());
    sum
}
