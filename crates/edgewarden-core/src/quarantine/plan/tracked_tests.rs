//! Flows of every kind and what becomes of each.

use super::*;
use crate::quarantine::lifelines::lifeline::{Endpoint, Purpose};
use crate::quarantine::orders::order::{
    Allowance, Authority, Block, BlockedPort, BlockedRemote, Direction, Order,
};
use crate::quarantine::plan::{IsolationSettings, Scope, fold};

const BROKER: &str = "198.51.100.1:8883";
const OWN: &str = "198.51.100.2:40000";
const FAR: &str = "203.0.113.1:4444";
const LAN: &str = "192.168.7.9:5000";

fn plan(change: impl Fn(&mut Order), scope: Scope) -> Plan {
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    let mut order = Order::isolate(Authority::Shadow, "x", None, now);
    change(&mut order);
    let endpoints = vec![Endpoint {
        purpose: Purpose::DataEndpoint,
        address: "198.51.100.1".parse().unwrap(),
        protocol: Protocol::Tcp,
        port: 8883,
    }];
    fold(&[order], &IsolationSettings::default(), endpoints, scope, now)
}

fn translated(kind: FlowKind, began: (&str, &str), answers: (&str, &str)) -> TrackedFlow {
    let ends = |(from, to): (&str, &str)| (from.parse().unwrap(), to.parse().unwrap());
    TrackedFlow {
        kind,
        began: ends(began),
        answers: ends(answers),
    }
}

fn flow(protocol: Protocol, from: &str, to: &str) -> TrackedFlow {
    translated(FlowKind::Ports(protocol), (from, to), (to, from))
}

fn fate_of(plan: &Plan, flow: &TrackedFlow) -> &'static str {
    let own = ["198.51.100.2", "192.168.7.1"].map(|own| own.parse().unwrap());
    match fate(plan, flow, &BTreeSet::from(own)) {
        Fate::Kept => "kept",
        Fate::Forgotten => "forgotten",
        Fate::ForgottenUnlessOf(_) => "asked",
    }
}

#[test]
fn isolation_forgets_what_it_cuts_and_what_stays_inside_and_asks_whose_a_lifeline_is() {
    use Protocol::{Tcp, Udp};
    let plan = plan(|_| {}, Scope::Pinned);
    for (wanted, flow) in [
        ("forgotten", flow(Tcp, OWN, FAR)),
        ("forgotten", flow(Tcp, FAR, "198.51.100.2:22")),
        ("forgotten", flow(Udp, OWN, "198.51.100.1:8883")),
        ("forgotten", flow(Udp, "127.0.0.1:1", "127.0.0.9:2")),
        ("forgotten", flow(Tcp, "192.168.7.1:1", "198.51.100.2:2")),
        ("forgotten", flow(Tcp, LAN, FAR)),
        ("asked", flow(Tcp, OWN, BROKER)),
        ("asked", flow(Tcp, LAN, BROKER)),
        ("kept", flow(Udp, "198.51.100.2:68", "198.51.100.9:67")),
    ] {
        assert_eq!(fate_of(&plan, &flow), wanted, "{flow:?}");
    }
    let other = |kind| translated(kind, (OWN, FAR), (FAR, OWN));
    assert_eq!(fate_of(&plan, &other(FlowKind::Icmp)), "kept");
    assert_eq!(fate_of(&plan, &other(FlowKind::Other)), "forgotten");
}

#[test]
fn a_flow_whose_addresses_are_translated_is_kept_where_either_may_pass() {
    let plan = plan(
        |order| {
            order.allow = vec![Allowance {
                remote: "203.0.113.0/24".parse().unwrap(),
                protocol: Protocol::Udp,
                ports: vec![4444],
                direction: Direction::Out,
            }];
        },
        Scope::Pinned,
    );
    let kind = FlowKind::Ports(Protocol::Udp);
    let sent_on = translated(kind, (OWN, "192.0.2.1:53"), (FAR, OWN));
    assert_eq!(fate_of(&plan, &sent_on), "kept");
    let elsewhere = translated(kind, (OWN, "192.0.2.1:53"), ("192.0.2.2:53", OWN));
    assert_eq!(fate_of(&plan, &elsewhere), "forgotten", "control");
}

#[test]
fn a_restriction_forgets_what_it_names_and_asks_for_no_lifeline() {
    let plan = plan(
        |order| {
            order.posture = Posture::Restrict;
            order.block = Block {
                remotes: vec![BlockedRemote::from(
                    "203.0.113.1/32".parse::<ipnet::IpNet>().unwrap(),
                )]
                .into(),
                ports: vec![BlockedPort {
                    protocol: Protocol::Tcp,
                    port: 23,
                }],
                ..Block::default()
            };
        },
        Scope::Pinned,
    );
    for (wanted, from, to) in [
        ("forgotten", OWN, FAR),
        ("forgotten", LAN, FAR),
        ("forgotten", FAR, LAN),
        ("forgotten", LAN, "192.0.2.1:23"),
        ("forgotten", "127.0.0.1:1", "127.0.0.1:2"),
        ("kept", OWN, "192.0.2.1:443"),
        ("kept", LAN, "192.0.2.1:443"),
        ("kept", OWN, BROKER),
    ] {
        assert_eq!(
            fate_of(&plan, &flow(Protocol::Tcp, from, to)),
            wanted,
            "{from} {to}"
        );
    }
}

#[test]
fn a_table_is_crowded_from_three_quarters_on_and_one_without_a_bound_never() {
    let crowd = |flows, most| Crowd { flows, most };
    assert!(crowd(12_288, 16_384).is_crowded());
    assert!(!crowd(12_287, 16_384).is_crowded());
    assert!(!crowd(u32::MAX, 0).is_crowded());
    assert!(crowd(u32::MAX, u32::MAX).is_crowded());
}
