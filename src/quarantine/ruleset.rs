//! A plan as nft text, and what the kernel must list once the text is loaded.
//!
//! In: [`Plan`]. Out: [`Ruleset`]: one transaction that replaces our table and nothing else, with the [`Expected`]
//! listing. Facts about the syntax: nftables.md (tried on nft 1.0.6).
//!
//! Invariants: one table, `inet edgewarden`. `ct state established accept` appears nowhere: a flow lives only while
//! its lifeline or allowance says so, whatever conntrack remembers, so an attacker's open connection dies with the
//! load. TCP replies of lifelines are matched without conntrack (a non-SYN from the endpoint), so a connection that
//! was open before conntrack began to look survives. Lifelines come before blocks: no order can cut them.

use std::fmt::Write as _;
use std::net::IpAddr;

use ipnet::IpNet;

use super::lifeline::DATA_ENDPOINT_PORTS;
use super::order::{Allowance, Direction, Posture, Protocol};
use super::plan::{Plan, Scope};

/// Our table.
pub const TABLE: &str = "edgewarden";
/// Counters of what was cut, one a hook; read for `status`.
pub const COUNTERS: [&str; 3] = ["blocked_out", "blocked_in", "blocked_forward"];

/// A rule as it must be listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedRule {
    /// `ew:<what>:<digest of the statement>`; unique enough to name the rule and to notice another statement.
    pub comment: String,
    /// Whether it ends in accept, drop or neither.
    pub verdict: Option<&'static str>,
}

/// A base chain as it must be listed; its hook is its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedChain {
    /// `input`, `output` or `forward`.
    pub hook: &'static str,
    /// `drop` or `accept`.
    pub policy: &'static str,
    /// Its rules in order.
    pub rules: Vec<ExpectedRule>,
}

/// What the kernel must list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expected {
    /// Base chains; none when the table must be absent.
    pub chains: Vec<ExpectedChain>,
    /// Lifeline addresses as (address, protocol, port).
    pub endpoints: Vec<(IpAddr, Protocol, u16)>,
    /// Blocked remotes.
    pub blocked: Vec<IpNet>,
}

/// Text to load and listing to expect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruleset {
    /// For `nft -f`.
    pub text: String,
    /// For [`super::verify::verify`].
    pub expected: Expected,
}

struct Rule {
    what: &'static str,
    statement: String,
}

fn rule(what: &'static str, statement: impl Into<String>) -> Rule {
    Rule {
        what,
        statement: statement.into(),
    }
}

/// The transaction that makes the kernel obey `plan`. A normal plan removes the table.
pub fn render(plan: &Plan) -> Ruleset {
    // `destroy table` is unknown to nft 1.0.6: add, then delete, works whether or not the table exists.
    let mut text = format!("add table inet {TABLE}\ndelete table inet {TABLE}\n");
    if plan.is_normal() {
        return Ruleset {
            text,
            expected: Expected::default(),
        };
    }
    let mut endpoints: Vec<_> = plan
        .endpoints
        .iter()
        .map(|e| (e.address, e.protocol, e.port))
        .collect();
    endpoints.sort_unstable();
    endpoints.dedup();
    let mut expected = Expected {
        chains: Vec::new(),
        endpoints,
        blocked: plan.block.remotes.clone(),
    };
    let _ = writeln!(text, "table inet {TABLE} {{");
    for counter in COUNTERS {
        let _ = writeln!(text, "  counter {counter} {{\n  }}");
    }
    write_sets(&mut text, &expected);
    for (hook, counter, rules) in [
        ("output", COUNTERS[0], output_rules(plan)),
        ("input", COUNTERS[1], input_rules(plan)),
        ("forward", COUNTERS[2], block_rules(plan, COUNTERS[2])),
    ] {
        expected
            .chains
            .push(write_chain(&mut text, plan.posture, hook, counter, rules));
    }
    text.push_str("}\n");
    Ruleset { text, expected }
}

fn write_sets(text: &mut String, expected: &Expected) {
    for (suffix, v4) in [("4", true), ("6", false)] {
        let kind = if v4 { "ipv4_addr" } else { "ipv6_addr" };
        let endpoints = expected
            .endpoints
            .iter()
            .filter(|(address, ..)| address.is_ipv4() == v4);
        let elements: Vec<_> = endpoints
            .map(|(address, protocol, port)| format!("{address} . {protocol} . {port}"))
            .collect();
        write_set(
            text,
            &format!("endpoints{suffix}"),
            &format!("type {kind} . inet_proto . inet_service"),
            &elements,
        );
        let blocked = expected
            .blocked
            .iter()
            .filter(|net| matches!(net, IpNet::V4(_)) == v4);
        let elements: Vec<_> = blocked.map(ToString::to_string).collect();
        write_set(
            text,
            &format!("blocked{suffix}"),
            &format!("type {kind}\n    flags interval"),
            &elements,
        );
    }
}

fn write_set(text: &mut String, name: &str, kind: &str, elements: &[String]) {
    let _ = writeln!(text, "  set {name} {{\n    {kind}");
    if !elements.is_empty() {
        let _ = writeln!(text, "    elements = {{ {} }}", elements.join(", "));
    }
    text.push_str("  }\n");
}

fn write_chain(
    text: &mut String,
    posture: Posture,
    hook: &'static str,
    counter: &str,
    mut rules: Vec<Rule>,
) -> ExpectedChain {
    let policy = if posture == Posture::Isolate {
        "drop"
    } else {
        "accept"
    };
    if posture == Posture::Isolate {
        rules.push(rule("rest", format!("counter name {counter} drop")));
    }
    // Priority 0 runs after destination NAT, so what is compared is where a packet really goes.
    let _ = writeln!(
        text,
        "  chain {hook} {{\n    type filter hook {hook} priority 0\n    policy {policy}"
    );
    let mut expected = Vec::new();
    for Rule { what, statement } in rules {
        let comment = format!("ew:{what}:{:08x}", crc32fast::hash(statement.as_bytes()));
        let _ = writeln!(text, "    {statement} comment \"{comment}\"");
        let verdict = ["accept", "drop"]
            .into_iter()
            .find(|verdict| statement.ends_with(verdict));
        expected.push(ExpectedRule { comment, verdict });
    }
    text.push_str("  }\n");
    ExpectedChain {
        hook,
        policy,
        rules: expected,
    }
}

/// Neighbour discovery. What arrives with a hop limit of 255 was sent on this link; what leaves stays on it by its
/// destination.
const NEIGHBOURS: &str = "nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert";
/// Neighbours are also asked and answered at their global addresses. Those could be routed away, so only what such a
/// message needs passes: 40 bytes of IPv6 header, 24 of message, 8 of link-layer option, 8 of nonce; and few of them.
const NEIGHBOUR_UNICAST: &str = "nd-neighbor-solicit, nd-neighbor-advert";
const NEIGHBOUR_LIMIT: &str = "ip6 hoplimit 255 meta length <= 80 limit rate 10/second burst 20 packets";
/// Errors about packets of ours, path MTU among them; only inbound, and only when they belong to a known flow.
const ICMP_ERRORS: &str =
    "icmp type { destination-unreachable, time-exceeded, parameter-problem } ct state related";
const ICMPV6_ERRORS: &str = "icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem } ct state related";
/// A segment that does not ask for a new connection.
const NOT_SYN: &str = "tcp flags & (syn | ack) != syn";
/// A datagram that answers one of ours.
const UDP_ANSWER: &str = "ct state established ct direction reply";
/// The client speaks seldom; the limits keep its ports from being a way out or in.
const DHCP_LIMIT: &str = "meta length <= 1500 limit rate 20/minute burst 20 packets";
/// A renewal goes to the lease's server, wherever that is.
const DHCP_RENEWAL_LIMIT: &str = "meta length <= 620 limit rate 4/minute burst 4 packets";

fn output_rules(plan: &Plan) -> Vec<Rule> {
    let mut rules = vec![
        rule("loopback", "meta oiftype loopback accept"),
        rule(
            "neighbours",
            format!("ip6 daddr {{ fe80::/10, ff02::/16 }} icmpv6 type {{ {NEIGHBOURS} }} accept"),
        ),
        rule(
            "neighbour-unicast",
            format!("icmpv6 type {{ {NEIGHBOUR_UNICAST} }} {NEIGHBOUR_LIMIT} accept"),
        ),
        rule(
            "multicast-listener",
            "icmpv6 type { mld-listener-report, mld2-listener-report, mld-listener-done } ip6 hoplimit 1 accept",
        ),
    ];
    if plan.lifelines.dhcp {
        rules.push(rule(
            "dhcp",
            format!("ip daddr 255.255.255.255 udp sport 68 udp dport 67 {DHCP_LIMIT} accept"),
        ));
        rules.push(rule(
            "dhcp-renewal",
            format!("udp sport 68 udp dport 67 {DHCP_RENEWAL_LIMIT} accept"),
        ));
        rules.push(rule(
            "dhcp6",
            format!("ip6 daddr {{ fe80::/10, ff02::1:2 }} udp sport 546 udp dport 547 {DHCP_LIMIT} accept"),
        ));
    }
    rules.push(rule(
        "endpoint4",
        "ip daddr . meta l4proto . th dport @endpoints4 accept",
    ));
    rules.push(rule(
        "endpoint6",
        "ip6 daddr . meta l4proto . th dport @endpoints6 accept",
    ));
    if let Some(ports) = wide_ports(plan) {
        rules.push(rule("endpoint-wide", format!("tcp dport {{ {ports} }} accept")));
        rules.push(rule("dns-wide", "udp dport 53 accept"));
    }
    rules.extend(block_rules(plan, COUNTERS[0]));
    rules.extend(
        plan.allow
            .iter()
            .map(|allowance| allow_rule(allowance, Side::Leaving)),
    );
    rules
}

fn input_rules(plan: &Plan) -> Vec<Rule> {
    let mut rules = vec![
        rule("loopback", "meta iiftype loopback accept"),
        rule(
            "neighbours",
            format!("icmpv6 type {{ {NEIGHBOURS} }} ip6 hoplimit 255 accept"),
        ),
        rule(
            "multicast-listener",
            "icmpv6 type { mld-listener-query } ip6 saddr fe80::/10 ip6 hoplimit 1 accept",
        ),
        rule("errors", format!("{ICMP_ERRORS} accept")),
        rule("errors6", format!("{ICMPV6_ERRORS} accept")),
    ];
    if plan.lifelines.dhcp {
        rules.push(rule(
            "dhcp",
            format!("udp sport 67 udp dport 68 {DHCP_LIMIT} accept"),
        ));
        rules.push(rule(
            "dhcp6",
            format!("ip6 saddr fe80::/10 udp sport 547 udp dport 546 {DHCP_LIMIT} accept"),
        ));
    }
    for (family, suffix) in [("ip", '4'), ("ip6", '6')] {
        let from = format!("{family} saddr . meta l4proto . th sport @endpoints{suffix}");
        let (tcp, udp) = if suffix == '4' {
            ("tcp4", "udp4")
        } else {
            ("tcp6", "udp6")
        };
        rules.push(rule(tcp, format!("{from} {NOT_SYN} accept")));
        rules.push(rule(udp, format!("{from} meta l4proto udp {UDP_ANSWER} accept")));
    }
    if let Some(ports) = wide_ports(plan) {
        rules.push(rule(
            "endpoint-wide",
            format!("tcp sport {{ {ports} }} {NOT_SYN} ct direction reply accept"),
        ));
        rules.push(rule("dns-wide", format!("udp sport 53 {UDP_ANSWER} accept")));
    }
    rules.extend(block_rules(plan, COUNTERS[1]));
    rules.extend(
        plan.allow
            .iter()
            .map(|allowance| allow_rule(allowance, Side::Arriving)),
    );
    rules
}

fn wide_ports(plan: &Plan) -> Option<String> {
    let widened =
        plan.scope == Scope::Wide && plan.lifelines.data_endpoint && plan.posture == Posture::Isolate;
    widened.then(|| {
        let known = plan
            .endpoints
            .iter()
            .filter(|e| e.protocol == Protocol::Tcp && e.port != 53)
            .map(|e| e.port);
        let ports: std::collections::BTreeSet<u16> = DATA_ENDPOINT_PORTS.into_iter().chain(known).collect();
        ports
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", ")
    })
}

fn block_rules(plan: &Plan, counter: &str) -> Vec<Rule> {
    let mut rules = Vec::new();
    if plan.block.remotes.iter().any(|net| matches!(net, IpNet::V4(_))) {
        rules.push(rule(
            "blocked-to4",
            format!("ip daddr @blocked4 counter name {counter} drop"),
        ));
        rules.push(rule(
            "blocked-from4",
            format!("ip saddr @blocked4 counter name {counter} drop"),
        ));
    }
    if plan.block.remotes.iter().any(|net| matches!(net, IpNet::V6(_))) {
        rules.push(rule(
            "blocked-to6",
            format!("ip6 daddr @blocked6 counter name {counter} drop"),
        ));
        rules.push(rule(
            "blocked-from6",
            format!("ip6 saddr @blocked6 counter name {counter} drop"),
        ));
    }
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let ports: Vec<_> = plan
            .block
            .ports
            .iter()
            .filter(|blocked| blocked.protocol == protocol)
            .map(|blocked| blocked.port.to_string())
            .collect();
        if !ports.is_empty() {
            let ports = ports.join(", ");
            rules.push(rule(
                "blocked-port",
                format!("{protocol} dport {{ {ports} }} counter name {counter} drop"),
            ));
            // Also the answers, so that a connection which is open already dies.
            rules.push(rule(
                "blocked-answer",
                format!("{protocol} sport {{ {ports} }} counter name {counter} drop"),
            ));
        }
    }
    rules
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Leaving,
    Arriving,
}

fn allow_rule(allowance: &Allowance, side: Side) -> Rule {
    let Allowance {
        remote,
        protocol,
        ports,
        direction,
    } = allowance;
    let family = if matches!(remote, IpNet::V4(_)) {
        "ip"
    } else {
        "ip6"
    };
    let address = if side == Side::Leaving { "daddr" } else { "saddr" };
    let opens = (side == Side::Leaving) == (*direction == Direction::Out);
    // The allowed ports are the accepting side's: the remote's for `out`, ours for `in`. A packet towards the
    // accepting side carries them as destination, its answer as source.
    let port = if opens { "dport" } else { "sport" };
    let ports = ports
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ");
    let answer = match (opens, protocol) {
        (true, _) => String::new(),
        (false, Protocol::Tcp) => format!(" {NOT_SYN}"),
        (false, Protocol::Udp) => format!(" {UDP_ANSWER}"),
    };
    rule(
        "allowance",
        format!("{family} {address} {remote} {protocol} {port} {{ {ports} }}{answer} accept"),
    )
}

#[cfg(test)]
mod tests;
