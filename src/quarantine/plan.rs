//! The one plan that follows from all live orders.
//!
//! In: orders, the configured isolation settings, lifeline addresses, the scope chosen by confirm-or-roll-back.
//! Out: [`Plan`]. A pure fold: the strictest posture wins, restrictions add up, an allowance of orders counts only
//! when every isolating order grants it, standing allowances of the configuration always count.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::lifeline::{Endpoint, Lifelines};
use super::order::{Allowance, Block, Order, Posture, ProcessRule};

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
    /// Standing allowances.
    pub allow: Vec<Allowance>,
    /// Processes stopped by every isolation.
    pub processes: Vec<ProcessRule>,
}

/// Everything enforcement needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// How strictly.
    pub posture: Posture,
    /// Ids of the orders it follows from.
    pub orders: Vec<String>,
    /// Lifelines that are on.
    pub lifelines: Lifelines,
    /// How exactly the control channel is drawn.
    pub scope: Scope,
    /// Addresses of the lifelines.
    pub endpoints: Vec<Endpoint>,
    /// Allowances that count.
    pub allow: Vec<Allowance>,
    /// What is cut besides the posture.
    pub block: Block,
    /// Processes to stop.
    pub processes: Vec<ProcessRule>,
}

/// Folds all live orders into one plan.
pub fn fold(orders: &[Order], settings: &IsolationSettings, endpoints: Vec<Endpoint>, scope: Scope) -> Plan {
    let posture = orders.iter().map(|order| order.posture).max().unwrap_or_default();
    let isolating: Vec<&Order> = orders
        .iter()
        .filter(|order| order.posture == Posture::Isolate)
        .collect();
    let granted = isolating.first().map(|first| {
        first
            .allow
            .iter()
            .filter(|a| isolating.iter().all(|order| order.allow.contains(a)))
            .cloned()
    });
    let allow: BTreeSet<Allowance> = settings
        .allow
        .iter()
        .cloned()
        .chain(granted.into_iter().flatten())
        .collect();
    let remotes = orders
        .iter()
        .flat_map(|order| order.block.remotes.iter().copied())
        .collect::<Vec<_>>();
    let ports: BTreeSet<_> = orders
        .iter()
        .flat_map(|order| order.block.ports.iter().copied())
        .collect();
    let standing = settings.processes.iter().filter(|_| posture == Posture::Isolate);
    let processes: BTreeSet<ProcessRule> = orders
        .iter()
        .flat_map(|order| &order.processes)
        .chain(standing)
        .cloned()
        .collect();
    Plan {
        posture,
        orders: orders.iter().map(|order| order.id.clone()).collect(),
        lifelines: settings.lifelines.clone(),
        scope,
        endpoints,
        allow: if posture == Posture::Isolate {
            allow.into_iter().collect()
        } else {
            Vec::new()
        },
        block: Block {
            remotes: ipnet::IpNet::aggregate(&remotes),
            ports: ports.into_iter().collect(),
        },
        processes: processes.into_iter().collect(),
    }
}

impl Plan {
    /// Whether there is nothing to enforce.
    pub fn is_normal(&self) -> bool {
        self.posture == Posture::Normal
    }

    /// The id of this content.
    pub fn id(&self) -> PlanId {
        let content = (
            &self.posture,
            &self.orders,
            &self.lifelines,
            &self.allow,
            &self.block,
            &self.processes,
        );
        // Serialising plain data cannot fail; an empty text would only make two plans look alike.
        let text = serde_json::to_string(&content).unwrap_or_default();
        PlanId(format!("{:08x}", crc32fast::hash(text.as_bytes())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quarantine::order::{Authority, Direction, Protocol};

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
        fold(orders, &IsolationSettings::default(), Vec::new(), Scope::Pinned)
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
    fn an_allowance_counts_only_when_every_isolating_order_grants_it() {
        let mut first = order(Authority::Shadow, Posture::Isolate);
        first.allow = vec![allowance("192.0.2.1/32"), allowance("192.0.2.2/32")];
        let mut second = order(Authority::Operator, Posture::Isolate);
        assert_eq!(plan(std::slice::from_ref(&first)).allow.len(), 2);
        assert!(plan(&[first.clone(), second.clone()]).allow.is_empty());
        second.allow = vec![allowance("192.0.2.2/32")];
        assert_eq!(plan(&[first, second]).allow, [allowance("192.0.2.2/32")]);
    }

    #[test]
    fn restrictions_add_up() {
        let mut first = order(Authority::Shadow, Posture::Restrict);
        first.block.remotes = vec!["203.0.113.0/25".parse().unwrap()];
        let mut second = order(Authority::Detector, Posture::Restrict);
        second.block.remotes = vec!["203.0.113.128/25".parse().unwrap()];
        assert_eq!(
            plan(&[first, second]).block.remotes,
            ["203.0.113.0/24".parse().unwrap()]
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
