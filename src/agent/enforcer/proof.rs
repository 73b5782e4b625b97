//! The canary, and what the kernel has counted.
//!
//! In: what is enforced. Out: the proof that a datagram which must not leave does not; counters and quotas for the state.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::Enforcer;
use super::kernel::Target;
use crate::host::net::links;
use crate::host::netfilter::canary::{self, CanaryOutcome};
use crate::host::netfilter::kernel::NftKernel;
use crate::moment::Now;
use crate::quarantine::orders::order::{Posture, Protocol};
use crate::quarantine::plan::{Plan, PlannedLimit};
use crate::quarantine::proof::state::{Blocked, Cut, QuotaUse};
use crate::quarantine::ruleset::{CarriedCounters, Layer, quota_name};

/// From one canary to the next while nothing changes; each one counts as a blocked packet.
const CANARY_EVERY: Duration = Duration::from_secs(60);
/// The discard port: nothing answers there.
const CANARY_PORT: u16 = 9;
/// Documentation addresses (RFC 5737, RFC 3849): no lifeline is there.
const CANARIES: [&str; 2] = ["203.0.113.254", "2001:db8:ffff:ffff::fe"];
/// The journal is written when this share of a quota has been used since: one hundredth.
const QUOTA_STEP: u64 = 100;

impl Enforcer {
    pub(super) fn prove(&mut self, target: &Target, now: Now, loaded: bool) -> Result<(), Vec<String>> {
        let due = self
            .last_canary
            .is_none_or(|last| now.uptime.saturating_sub(last) >= CANARY_EVERY);
        if !target.cuts() || !(due || loaded) {
            return Ok(());
        }
        self.last_canary = Some(now.uptime);
        // What goes to an address of our own goes over loopback, and never leaves.
        let links = links::links().unwrap_or_default();
        let own: Vec<IpAddr> = links.into_iter().flat_map(|link| link.addresses).collect();
        let faults: Vec<String> = canary_targets(&target.plan, &own)
            .into_iter()
            .filter_map(|target| match canary::send(target) {
                CanaryOutcome::Refused | CanaryOutcome::NoRoute => None,
                CanaryOutcome::Left => Some(format!(
                    "the canary to {target} left the device: the rules do not hold"
                )),
                // It was not sent either, for a reason of its own: a prohibiting route, a broadcast. The listing stands.
                CanaryOutcome::Unclear(why) => {
                    tracing::debug!("the canary to {target} proved nothing: {why}");
                    None
                }
            })
            .collect();
        if faults.is_empty() {
            return Ok(());
        }
        // Whatever the listing says, nothing is proven; the next check loads the rules again.
        self.posture = None;
        self.loaded = None;
        self.last_canary = None;
        Err(faults)
    }

    /// Takes the counters and quotas into the state, and quotas into the journal.
    pub(super) fn note_counted(&mut self, target: &Target, kernel: &mut NftKernel) {
        if target.plan.is_normal() {
            self.state.blocked = Blocked::default();
            self.state.quotas.clear();
            self.journal.quotas.clear();
            return;
        }
        // What cannot be read now is read at the next check.
        let Ok(counted) = kernel.counted() else { return };
        let cuts = counted.counters.iter().map(|((_, name), (packets, bytes))| {
            let cut = Cut {
                packets: *packets,
                bytes: *bytes,
            };
            (name.as_str(), cut)
        });
        self.state.blocked = Blocked::from_counters(cuts);
        self.state.quotas = quotas(&target.plan.limits, &counted);
        let known = &self.journal.quotas;
        let news = self.state.quotas.iter().any(|quota| {
            let same = |old: &&QuotaUse| old.order == quota.order && old.since == quota.since;
            let used = known.iter().find(same).map_or(0, |old| old.used);
            quota.used.saturating_sub(used) >= (quota.bytes / QUOTA_STEP).max(1)
        });
        if news || known.len() != self.state.quotas.len() {
            self.journal.quotas.clone_from(&self.state.quotas);
        }
    }

    /// What a table that replaces another goes on counting from: what the kernel has counted, and what the journal
    /// says was used before a reboot.
    pub(super) fn carried_over(&self, target: &Target, kernel: &mut NftKernel) -> CarriedCounters {
        let mut counted = kernel.counted().unwrap_or_default();
        for (index, limit) in target.plan.limits.iter().enumerate() {
            let Some(quota) = limit.quota else { continue };
            let same = |old: &&QuotaUse| old.order == limit.order && old.since == quota.since;
            let before = self.journal.quotas.iter().find(same).map_or(0, |old| old.used);
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

/// Where the plan lets nothing go: documentation addresses in isolation, a blocked remote in restriction.
fn canary_targets(plan: &Plan, own: &[IpAddr]) -> Vec<SocketAddr> {
    let addresses: Vec<IpAddr> = match plan.posture {
        Posture::Normal => Vec::new(),
        Posture::Isolate => CANARIES.iter().filter_map(|text| text.parse().ok()).collect(),
        Posture::Restrict => plan
            .block
            .remotes
            .iter()
            .map(|blocked| host_of(&blocked.remote))
            .filter(is_ordinary)
            .filter(|address| !own.contains(address))
            .take(1)
            .collect(),
    };
    let allowed = |address: &IpAddr| {
        plan.allow.iter().any(|a| {
            a.protocol == Protocol::Udp && a.ports.contains(&CANARY_PORT) && a.remote.contains(address)
        })
    };
    let lifeline = |address: &IpAddr| plan.endpoints.iter().any(|endpoint| endpoint.address == *address);
    addresses
        .into_iter()
        .filter(|address| !allowed(address) && !lifeline(address))
        .map(|address| SocketAddr::new(address, CANARY_PORT))
        .collect()
}

/// An address of a block that is a host's: the first is the network itself.
fn host_of(net: &ipnet::IpNet) -> IpAddr {
    net.hosts().next().unwrap_or_else(|| net.addr())
}

/// Whether a datagram to it would go to a wire and back to nobody else: others prove nothing.
fn is_ordinary(address: &IpAddr) -> bool {
    let broadcast = match address {
        IpAddr::V4(v4) => v4.is_broadcast() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !(address.is_loopback() || address.is_unspecified() || address.is_multicast() || broadcast)
}
