//! The one plan that follows from all live orders.
//!
//! In: orders, the configured isolation settings, lifeline addresses, the scope chosen by confirm-or-roll-back, `now`.
//! Out: [`Plan`]. A pure fold: the strictest posture wins, restrictions add up, an allowance of orders counts only
//! when every isolating order grants it (the detector's is not asked where an owner isolates), standing allowances of the configuration always count.

mod cutting;
mod disjoint;
mod folded;
mod lines;
pub mod overruled;
pub mod preview;
pub mod processes;
pub mod severed;
pub mod tracked;

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::lifelines::lifeline::{DATA_ENDPOINT_PORTS, DNS_PORT, Endpoint, EndpointKey, Lifelines};
use super::lifelines::nucleus_users::NucleusUsers;
use super::lifelines::ways::{Way, Ways};
use super::orders::order::{Allowance, Authority, Block, Limit, Order, Posture, ProcessRule};
use super::orders::remotes::RemoteList;
use crate::Gather;

pub use cutting::Cutting;
pub use folded::FoldedRemotes;

/// Names a plan's content. Addresses of lifelines are left out: a refreshed address does not need a new confirmation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PlanId(String);

impl fmt::Display for PlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How exactly the control channel's lifeline is drawn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Only known addresses.
    #[default]
    Pinned,
    /// Any address on the control channel's ports, and any resolver: the fallback when known addresses do not work.
    Wide,
}

/// What the configuration adds to every plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IsolationSettings {
    /// Lifelines that are on.
    pub lifelines: Lifelines,
    pub allow: Vec<Allowance>,
    /// Processes stopped by every isolation.
    pub processes: Vec<ProcessRule>,
}

/// How much of a kind may leave within the running period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Quota {
    pub bytes: u64,
    /// When the running period began.
    pub since: Timestamp,
    pub until: Timestamp,
}

/// The limit of one order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedLimit {
    /// Whose: `authority:id`.
    pub order: String,
    pub bytes_per_second: Option<u64>,
    /// Bytes of the running period.
    pub quota: Option<Quota>,
}

/// Everything enforcement needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    id: PlanId,
    #[serde(skip)]
    cutting: Cutting,
    pub posture: Posture,
    /// Ids of the orders it follows from.
    pub orders: Vec<String>,
    /// Lifelines that are on.
    pub lifelines: Lifelines,
    /// How exactly the control channel is drawn.
    pub scope: Scope,
    /// Addresses of the lifelines.
    pub endpoints: Vec<Endpoint>,
    /// By which ways these are reached.
    pub ways: Ways,
    /// Those of the addresses that only the nucleus' own sockets name.
    pub nucleus_alone: BTreeSet<EndpointKey>,
    /// Whom the shares of lifelines do not bound.
    pub nucleus_users: NucleusUsers,
    /// Allowances that count.
    pub allow: Vec<Allowance>,
    /// What is cut besides the posture; its remotes are disjoint and sorted.
    pub block: Block,
    /// How much may leave; all of them hold.
    pub limits: Vec<PlannedLimit>,
    /// Processes to stop.
    pub processes: Vec<ProcessRule>,
}

/// Folds all live orders into one plan.
pub fn fold(
    orders: &[Order],
    settings: &IsolationSettings,
    endpoints: Vec<Endpoint>,
    scope: Scope,
    now: Timestamp,
) -> Plan {
    fold_again(
        &mut FoldedRemotes::default(),
        orders,
        settings,
        endpoints,
        scope,
        now,
    )
}

/// As [`fold`], with what was folded last time: the remotes of orders that are the same are not folded again.
pub fn fold_again(
    last: &mut FoldedRemotes,
    orders: &[Order],
    settings: &IsolationSettings,
    endpoints: Vec<Endpoint>,
    scope: Scope,
    now: Timestamp,
) -> Plan {
    let posture = orders.iter().map(|order| order.posture).max().unwrap_or_default();
    let mut plan = Plan {
        id: PlanId(String::new()),
        cutting: Cutting::default(),
        posture,
        orders: orders.iter().map(|order| order.id.clone()).collect(),
        lifelines: settings.lifelines.clone(),
        scope,
        endpoints,
        ways: Ways::default(),
        nucleus_alone: BTreeSet::new(),
        nucleus_users: NucleusUsers::default(),
        allow: if posture == Posture::Isolate {
            allowances(orders, settings)
        } else {
            Vec::new()
        },
        block: blocks(last, orders, now),
        limits: orders.iter().filter_map(|order| limit_of(order, now)).collect(),
        processes: process_rules(orders, settings, posture),
    };
    plan.id = id_of(&plan, orders);
    plan.cutting = Cutting::of(&plan, orders);
    plan
}

/// The orders that isolate and are asked what passes: an alarm takes away nothing that an owner's order grants.
fn asked(orders: &[Order]) -> impl Iterator<Item = &Order> {
    let isolating = || orders.iter().filter(|order| order.posture == Posture::Isolate);
    let is_owners = |order: &&Order| order.authority != Authority::Detector;
    let has_owner = isolating().any(|order| is_owners(&order));
    isolating().filter(move |order| !has_owner || is_owners(order))
}

/// The standing allowances, and those that every isolating order grants.
fn allowances(orders: &[Order], settings: &IsolationSettings) -> Vec<Allowance> {
    let isolating = || asked(orders);
    let granted = isolating().next().into_iter().flat_map(|first| &first.allow);
    let by_all = granted.filter(|allowance| isolating().all(|order| order.allow.contains(allowance)));
    let allowances: BTreeSet<_> = settings.allow.iter().chain(by_all).cloned().in_set();
    allowances.into_iter().collect()
}

/// What any order blocks and has not ended at `now`.
fn blocks(last: &mut FoldedRemotes, orders: &[Order], now: Timestamp) -> Block {
    let blocks = || orders.iter().map(|order| &order.block);
    let lists: Vec<RemoteList> = blocks().map(|block| block.remotes.clone()).collect();
    let ports: BTreeSet<_> = blocks().flat_map(|block| block.ports.iter().copied()).in_set();
    Block {
        remotes: last.fold(lists, now),
        ports: ports.into_iter().collect(),
        omitted: 0,
    }
}

/// The rules of all orders; those of the configuration count while the device is isolated.
fn process_rules(orders: &[Order], settings: &IsolationSettings, posture: Posture) -> Vec<ProcessRule> {
    let ordered = orders.iter().flat_map(|order| &order.processes);
    let standing = settings.processes.iter().filter(|_| posture == Posture::Isolate);
    let rules: BTreeSet<_> = ordered.chain(standing).cloned().in_set();
    rules.into_iter().collect()
}

fn limit_of(order: &Order, now: Timestamp) -> Option<PlannedLimit> {
    let Limit {
        egress_bytes_per_second,
        quota_bytes,
        quota_period_seconds,
    } = order.limit?;
    Some(PlannedLimit {
        order: format!("{}:{}", order.authority, order.id),
        bytes_per_second: egress_bytes_per_second,
        quota: quota_bytes
            .zip(quota_period_seconds)
            .map(|(bytes, seconds)| quota_of(bytes, seconds, order.issued, now)),
    })
}

fn quota_of(bytes: u64, seconds: u64, issued: Timestamp, now: Timestamp) -> Quota {
    let period = i64::try_from(seconds).unwrap_or(i64::MAX).max(1);
    // A clock that was set back behind the order's own time counts as its first period.
    let passed = now.duration_since(issued).as_secs().max(0) / period;
    let at = |periods: i64| {
        let offset = SignedDuration::from_secs(period.saturating_mul(periods));
        issued.checked_add(offset).unwrap_or(Timestamp::MAX)
    };
    Quota {
        bytes,
        since: at(passed),
        until: at(passed.saturating_add(1)),
    }
}

/// What passes of time alone does not change the id: a blocked remote that ends, another period of a quota.
fn id_of(plan: &Plan, orders: &[Order]) -> PlanId {
    let limits: Vec<_> = orders
        .iter()
        .map(|order| (&order.block.ports, &order.limit))
        .collect();
    let content = (
        &plan.posture,
        &plan.orders,
        &plan.lifelines,
        &plan.allow,
        limits,
        &plan.processes,
    );
    // Serialising plain data cannot fail; an empty text would only make two plans look alike.
    let text = serde_json::to_string(&content).unwrap_or_default();
    let mut sum = crc32fast::Hasher::new();
    sum.update(text.as_bytes());
    for order in orders {
        sum.combine(order.block.remotes.sum());
    }
    PlanId(format!("{:08x}", sum.finalize()))
}

impl Plan {
    /// Whether there is nothing to enforce.
    pub fn is_normal(&self) -> bool {
        self.posture == Posture::Normal
    }

    /// The id of this content.
    pub fn id(&self) -> PlanId {
        self.id.clone()
    }

    /// What of it may cut the control channel.
    pub fn cutting(&self) -> &Cutting {
        &self.cutting
    }

    /// The ways that the addresses of lifelines are tied to; none while they may be reached by any. Wide lifelines are not tied:
    /// what silenced the control channel may have been a way.
    pub(crate) fn ties(&self) -> Option<&[Way]> {
        match &self.ways {
            Ways::Tied(ways) if self.wide_ports().is_empty() => Some(ways),
            Ways::Tied(_) | Ways::Any { .. } => None,
        }
    }

    /// Why lifelines are not tied to their ways where they should be, a sentence.
    pub fn untied(&self) -> Option<String> {
        match &self.ways {
            Ways::Any { why } if !self.is_normal() && !self.endpoints.is_empty() => Some(format!(
                "lifelines are reached by any interface, also where somebody else has taken their address: {why}"
            )),
            Ways::Any { .. } | Ways::Tied(_) => None,
        }
    }

    /// Whether a remote is blocked by name, whatever the posture.
    pub(crate) fn blocks_remote(&self, address: IpAddr) -> bool {
        let remotes = &self.block.remotes;
        let after = remotes.partition_point(|blocked| blocked.remote.network() <= address);
        after > 0 && remotes[after - 1].remote.contains(&address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quarantine::orders::order::Protocol;
    use crate::quarantine::orders::order::{Authority, BlockedRemote, Direction};

    fn order(authority: Authority, posture: Posture) -> Order {
        let issued = "2026-01-01T00:00:00Z".parse().unwrap();
        Order {
            posture,
            ..Order::isolate(authority, &authority.to_string(), None, issued)
        }
    }

    fn allowance(remote: &str) -> Allowance {
        Allowance {
            remote: remote.parse().unwrap(),
            protocol: Protocol::Tcp,
            ports: vec![22],
            direction: Direction::In,
        }
    }

    fn plan(orders: &[Order]) -> Plan {
        fold(
            orders,
            &IsolationSettings::default(),
            Vec::new(),
            Scope::Pinned,
            at("2026-01-01T00:00:00Z"),
        )
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn no_order_is_normal_and_the_strictest_posture_wins() {
        assert!(plan(&[]).is_normal());
        let both = [
            order(Authority::Shadow, Posture::Restrict),
            order(Authority::Operator, Posture::Isolate),
        ];
        assert_eq!(plan(&both).posture, Posture::Isolate);
    }

    #[test]
    fn the_id_is_the_one_that_journals_of_earlier_agents_remember() {
        let mut first = order(Authority::Operator, Posture::Restrict);
        let until = BlockedRemote {
            remote: "2001:db8::/64".parse().unwrap(),
            expires: Some(at("2026-01-02T00:00:00Z")),
        };
        let block: ipnet::IpNet = "203.0.113.0/24".parse().unwrap();
        first.block.remotes = vec![block.into(), until].into();
        let mut second = order(Authority::Shadow, Posture::Restrict);
        let host: ipnet::IpNet = "198.51.100.7/32".parse().unwrap();
        second.block.remotes = vec![host.into()].into();
        assert_eq!(plan(&[first, second]).id().to_string(), "32dbe89f");
    }

    #[test]
    fn an_allowance_counts_only_when_every_isolating_order_grants_it() {
        let mut first = order(Authority::Shadow, Posture::Isolate);
        first.allow = vec![allowance("192.0.2.1/32"), allowance("192.0.2.2/32")];
        let mut second = order(Authority::Operator, Posture::Isolate);
        assert_eq!(plan(std::slice::from_ref(&first)).allow.len(), 2);
        assert!(plan(&[first.clone(), second.clone()]).allow.is_empty());
        second.allow = vec![allowance("192.0.2.2/32")];
        let both = [first.clone(), second];
        assert_eq!(plan(&both).allow, [allowance("192.0.2.2/32")]);
        let alarm = order(Authority::Detector, Posture::Isolate);
        assert_eq!(plan(&[first, alarm.clone()]).allow.len(), 2);
        assert!(plan(&[alarm]).allow.is_empty());
    }

    #[test]
    fn what_a_plan_cuts_is_compared_without_who_ordered_it() {
        let within = |a: &[Order], b: &[Order]| plan(a).cutting().is_within(plan(b).cutting());
        let isolate = order(Authority::Shadow, Posture::Isolate);
        let again = order(Authority::Detector, Posture::Isolate);
        assert!(within(
            &[isolate.clone(), again.clone()],
            std::slice::from_ref(&isolate)
        ));
        assert!(within(
            std::slice::from_ref(&isolate),
            &[isolate.clone(), again.clone()]
        ));
        let restrict = order(Authority::Operator, Posture::Restrict);
        let one = std::slice::from_ref;
        assert!(within(one(&restrict), one(&isolate)) && !within(one(&isolate), one(&restrict)));
        let mut allowing = isolate.clone();
        allowing.allow = vec![allowance("192.0.2.1/32")];
        assert!(within(one(&allowing), one(&isolate)) && !within(one(&isolate), one(&allowing)));
        // Another order that grants nothing takes back what was granted; an alarm does not.
        assert!(within(&[allowing.clone(), again.clone()], one(&allowing)));
        let again = order(Authority::Operator, Posture::Isolate);
        assert!(!within(&[allowing.clone(), again.clone()], one(&allowing)));
        let mut blocking = isolate.clone();
        blocking.block.remotes = vec!["203.0.113.0/25".parse::<ipnet::IpNet>().unwrap().into()].into();
        assert!(!within(&[isolate.clone(), blocking.clone()], one(&isolate)));
        assert!(within(one(&isolate), one(&blocking)));
        let mut limited = isolate.clone();
        limited.limit = Some(Limit {
            egress_bytes_per_second: Some(1),
            quota_bytes: None,
            quota_period_seconds: None,
        });
        assert!(!within(one(&limited), one(&isolate)) && within(one(&isolate), one(&limited)));
        let mut settings = IsolationSettings::default();
        settings.lifelines.dns = false;
        let time = at("2026-01-01T00:00:00Z");
        let without = fold(one(&isolate), &settings, Vec::new(), Scope::Pinned, time);
        assert!(!without.cutting().is_within(plan(one(&isolate)).cutting()));
    }

    #[test]
    fn restrictions_add_up_and_end_by_themselves() {
        let mut first = order(Authority::Shadow, Posture::Restrict);
        first.block.remotes = vec!["203.0.113.0/25".parse::<ipnet::IpNet>().unwrap().into()].into();
        let mut second = order(Authority::Detector, Posture::Restrict);
        second.block.remotes = vec![BlockedRemote {
            remote: "2001:db8::7/128".parse().unwrap(),
            expires: Some(at("2026-01-01T01:00:00Z")),
        }]
        .into();
        let orders = [first, second];
        let during = plan(&orders);
        let blocks = |plan: &Plan, address: &str| plan.blocks_remote(address.parse().unwrap());
        assert!(blocks(&during, "203.0.113.127") && blocks(&during, "2001:db8::7"));
        assert!(!blocks(&during, "203.0.113.128") && !blocks(&during, "2001:db8::8"));
        assert!(!blocks(&during, "192.0.2.1") && !blocks(&during, "::1"));
        let settings = IsolationSettings::default();
        let after = fold(
            &orders,
            &settings,
            Vec::new(),
            Scope::Pinned,
            at("2026-01-01T01:00:00Z"),
        );
        assert!(!blocks(&after, "2001:db8::7"));
        assert_eq!(after.id(), during.id(), "time alone asks for no new confirmation");
    }

    #[test]
    fn a_quota_counts_by_periods_from_the_order() {
        let mut limited = order(Authority::Shadow, Posture::Restrict);
        limited.limit = Some(Limit {
            egress_bytes_per_second: None,
            quota_bytes: Some(1000),
            quota_period_seconds: Some(3600),
        });
        let at_time = |now: &str| {
            let settings = IsolationSettings::default();
            let plan = fold(
                std::slice::from_ref(&limited),
                &settings,
                Vec::new(),
                Scope::Pinned,
                at(now),
            );
            plan.limits[0].quota.unwrap().since
        };
        assert_eq!(at_time("2026-01-01T00:59:59Z"), at("2026-01-01T00:00:00Z"));
        assert_eq!(at_time("2026-01-01T05:00:00Z"), at("2026-01-01T05:00:00Z"));
        assert_eq!(
            at_time("1970-01-01T00:00:00Z"),
            at("2026-01-01T00:00:00Z"),
            "a clock set back"
        );
    }

    #[test]
    fn the_id_follows_the_content_and_not_the_addresses() {
        let orders = [order(Authority::Shadow, Posture::Isolate)];
        let mut moved = plan(&orders);
        moved.scope = Scope::Wide;
        assert_eq!(moved.id(), plan(&orders).id());
        let mut other = orders.clone();
        other[0].allow.push(allowance("192.0.2.1/32"));
        assert_ne!(plan(&other).id(), plan(&orders).id());
    }
}
