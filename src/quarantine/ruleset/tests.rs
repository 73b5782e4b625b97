//! The text of each posture, and the properties every text must have.

use super::*;
use crate::quarantine::lifeline::{Endpoint, Purpose};
use crate::quarantine::order::{Authority, Block, BlockedPort, Order};
use crate::quarantine::plan::{IsolationSettings, fold};

fn isolate(allow: Vec<Allowance>, scope: Scope) -> Ruleset {
    let mut order = Order::isolate(
        Authority::Shadow,
        "shadow",
        None,
        "2026-01-01T00:00:00Z".parse().unwrap(),
    );
    order.allow = allow;
    let endpoint = |address: &str, protocol, port| Endpoint {
        purpose: Purpose::DataEndpoint,
        address: address.parse().unwrap(),
        protocol,
        port,
    };
    let endpoints = vec![
        endpoint("198.51.100.1", Protocol::Tcp, 8883),
        endpoint("2001:db8::1", Protocol::Tcp, 8883),
        endpoint("198.51.100.53", Protocol::Udp, 53),
    ];
    render(&fold(&[order], &IsolationSettings::default(), endpoints, scope))
}

#[test]
fn a_normal_plan_only_removes_our_table() {
    let ruleset = render(&fold(
        &[],
        &IsolationSettings::default(),
        Vec::new(),
        Scope::Pinned,
    ));
    assert_eq!(
        ruleset.text,
        "add table inet edgewarden\ndelete table inet edgewarden\n"
    );
    assert!(ruleset.expected.chains.is_empty());
}

#[test]
fn isolation_drops_on_every_hook_and_trusts_no_established_flow() {
    let ruleset = isolate(Vec::new(), Scope::Pinned);
    for chain in &ruleset.expected.chains {
        assert_eq!(chain.policy, "drop", "{}", chain.hook);
        assert_eq!(
            chain.rules.last().unwrap().verdict,
            Some("drop"),
            "{}",
            chain.hook
        );
    }
    let hooks: Vec<_> = ruleset.expected.chains.iter().map(|chain| chain.hook).collect();
    assert_eq!(hooks, ["output", "input", "forward"]);
    for line in ruleset.text.lines().filter(|line| line.contains("established")) {
        assert!(
            line.contains("@endpoints") || line.contains("daddr"),
            "unbounded: {line}"
        );
    }
    assert!(
        ruleset
            .text
            .contains("198.51.100.1 . tcp . 8883, 198.51.100.53 . udp . 53")
    );
}

#[test]
fn only_our_own_table_is_named() {
    let text = isolate(Vec::new(), Scope::Wide).text;
    assert!(!text.contains("flush"), "a flush would hit other tables");
    for line in text.lines().filter(|line| line.contains("table ")) {
        assert!(line.contains("table inet edgewarden"), "{line}");
    }
}

#[test]
fn an_inbound_allowance_opens_our_port_and_lets_only_answers_out() {
    let ssh = Allowance {
        remote: "198.51.100.7/32".parse().unwrap(),
        protocol: Protocol::Tcp,
        ports: vec![22],
        direction: Direction::In,
    };
    let text = isolate(vec![ssh], Scope::Pinned).text;
    assert!(
        text.contains("ip saddr 198.51.100.7/32 tcp dport { 22 } accept"),
        "{text}"
    );
    assert!(
        text.contains("ip daddr 198.51.100.7/32 tcp sport { 22 } tcp flags & (syn | ack) != syn accept"),
        "{text}"
    );
}

#[test]
fn the_wide_scope_opens_ports_of_the_control_channel_only() {
    let text = isolate(Vec::new(), Scope::Wide).text;
    assert!(text.contains("tcp dport { 443, 8443, 8883 } accept"), "{text}");
    assert!(!isolate(Vec::new(), Scope::Pinned).text.contains("wide"));
}

#[test]
fn a_restriction_accepts_by_policy_and_drops_what_it_names_on_every_hook() {
    let issued = "2026-01-01T00:00:00Z".parse().unwrap();
    let order = Order {
        posture: Posture::Restrict,
        block: Block {
            remotes: vec![
                "203.0.113.0/24".parse().unwrap(),
                "2001:db8:bad::/48".parse().unwrap(),
            ],
            ports: vec![BlockedPort {
                protocol: Protocol::Tcp,
                port: 23,
            }],
        },
        ..Order::isolate(Authority::Shadow, "r", None, issued)
    };
    let ruleset = render(&fold(
        &[order],
        &IsolationSettings::default(),
        Vec::new(),
        Scope::Pinned,
    ));
    for chain in &ruleset.expected.chains {
        assert_eq!(chain.policy, "accept");
        let drops = chain
            .rules
            .iter()
            .filter(|rule| rule.verdict == Some("drop"))
            .count();
        assert_eq!(drops, 6, "{}", chain.hook);
    }
}
