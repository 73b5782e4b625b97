//! The rules of each hook.
//!
//! In: [`Plan`], [`Hooks`], [`CutAction`]. Out: chains. What passes on the way out is written once and used by the hook
//! of the IP stack and by the egress hook of the interfaces; there it is told without connection tracking, which that
//! hook does not have, and counts the frame's header in its lengths.

use ipnet::IpNet;

use super::{Chain, CutAction, Hooks, Rule, WOULD_CUT, quota_name};
use crate::quarantine::orders::order::{Allowance, Direction, Posture, Protocol};
use crate::quarantine::plan::Plan;
use crate::quarantine::ruleset::SetElements;

/// Neighbour discovery. What arrives with a hop limit of 255 was sent on this link; what leaves stays on it by its
/// destination.
const NEIGHBOURS: &str = "nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert";
/// Neighbours are also asked and answered at their global addresses. Those could be routed away, so only what such a
/// message needs passes: 40 bytes of IPv6 header, 24 of message, 8 of link-layer option, 8 of nonce; and few of them.
const NEIGHBOUR_UNICAST: &str = "nd-neighbor-solicit, nd-neighbor-advert";
const NEIGHBOUR_LENGTH: u32 = 80;
/// Errors about packets of ours, path MTU among them; only inbound, and only when they belong to a known flow.
const ICMP_ERRORS: &str =
    "icmp type { destination-unreachable, time-exceeded, parameter-problem } ct state related";
const ICMPV6_ERRORS: &str = "icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem } ct state related";
/// A segment that does not ask for a new connection.
const NOT_SYN: &str = "tcp flags & (syn | ack) != syn";
/// A datagram that answers one of ours.
const UDP_ANSWER: &str = "ct state established ct direction reply";
/// The client speaks seldom; the limits keep its ports from being a way out or in.
const DHCP_LENGTH: u32 = 1_500;
const DHCP_RATE: &str = "limit rate 20/minute burst 20 packets";
/// Nobody may starve the lease: the limit is far above what an honest server sends.
const DHCP_ANSWERS: &str = "limit rate 50/second burst 50 packets";
/// A renewal goes to the lease's server, wherever that is.
const DHCP_RENEWAL_LENGTH: u32 = 620;
const DHCP_RENEWAL_RATE: &str = "limit rate 4/minute burst 4 packets";
/// What an Ethernet frame has before its IP header, with one VLAN tag.
const FRAME_HEADER: u32 = 18;
/// Frames are told by their own bytes: what a sender says of them apart from those is not what goes out, and `ether`
/// asks for the interface of arrival, which a frame that leaves does not have.
/// Groups that no bridge passes on (IEEE 802.1D): spanning tree, link aggregation, LLDP, which some switches power
/// ports by. They speak some frames a second.
const LINK_LOCAL_GROUPS: &str =
    "meta oiftype ether @ll,0,48 & 0xfffffffffff0 == 0x0180c2000000 limit rate 100/second burst 200 packets";
/// 802.1X and the keys of a wireless network: without them the link itself goes down. Few, as ARP.
const LINK_KEYS: &str =
    "meta oiftype ether @ll,96,16 { 0x888e, 0x88c7 } limit rate 100/second burst 200 packets";
/// PPP's discovery and session frames, by the first byte that all of them have: they may be tagged for a VLAN. What is
/// inside was filtered on the PPP interface, or was made by hand.
const PPPOE: &str = "meta protocol { 0x8863, 0x8864 } @nh,0,8 0x11";
/// ARP at the pace of a busy link, and small: more would be a way out to the next neighbour. By its header: it may be
/// tagged for a VLAN, and an IP packet that is called ARP has other bytes there.
const ARP: &str = "arp htype 1 arp ptype ip arp hlen 6 arp plen 4 meta length <= 64 limit rate 100/second burst 200 packets";
/// What the IP stack has sent, forwarded, or been shown by a bridge has a route, and its own hooks have counted it: where
/// nothing is dropped it comes by again, and one packet must count once. Any realm will do, so this asks for the route.
const ROUTED: &str = "meta rtclassid >= 0";

/// The way that a hook watches, as counters name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HookPath {
    Out,
    In,
    Forward,
    Bridged,
    Raw,
}

impl HookPath {
    fn name(self) -> &'static str {
        match self {
            Self::Out => "out",
            Self::In => "in",
            Self::Forward => "forward",
            Self::Bridged => "bridged",
            Self::Raw => "raw",
        }
    }
}

/// Which end of a packet is the other side's.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RemoteSide {
    Leaving,
    Arriving,
}

/// Writes the chains of one plan.
pub(super) struct RuleWriter<'a> {
    pub(super) plan: &'a Plan,
    pub(super) hooks: &'a Hooks,
    pub(super) effect: CutAction,
    pub(super) elements: &'a SetElements,
}

fn accept(what: &str, statement: impl Into<String>) -> Rule {
    Rule::new(what, format!("{} accept", statement.into()), None)
}

impl RuleWriter<'_> {
    pub(super) fn inet(&self) -> Vec<Chain> {
        let mut output = vec![accept("loopback", "meta oiftype loopback")];
        output.extend(self.lifelines_out(0));
        output.extend(self.blocks(HookPath::Out));
        output.extend(self.limits(HookPath::Out));
        let out = |allowance| allow_rule(allowance, RemoteSide::Leaving, UDP_ANSWER);
        output.extend(self.plan.allow.iter().map(out));
        let mut input = self.lifelines_in();
        input.extend(self.blocks(HookPath::In));
        let arriving = |allowance| allow_rule(allowance, RemoteSide::Arriving, UDP_ANSWER);
        input.extend(self.plan.allow.iter().map(arriving));
        let mut forward = self.blocks(HookPath::Forward);
        forward.extend(self.limits(HookPath::Forward));
        vec![
            self.chain("output", HookPath::Out, output),
            self.chain("input", HookPath::In, input),
            self.chain("forward", HookPath::Forward, forward),
        ]
    }

    pub(super) fn bridge(&self) -> Vec<Chain> {
        let mut rules = self.counted_before();
        rules.extend(self.blocks(HookPath::Bridged));
        vec![self.chain("forward", HookPath::Bridged, rules)]
    }

    pub(super) fn netdev(&self) -> Vec<Chain> {
        let mut rules = self.counted_before();
        rules.extend([
            accept("link-groups", LINK_LOCAL_GROUPS),
            accept("link-keys", LINK_KEYS),
            accept("arp", ARP),
        ]);
        if self.hooks.pppoe {
            rules.push(accept("pppoe", PPPOE));
        }
        rules.extend(self.lifelines_out(FRAME_HEADER));
        rules.extend(self.blocks(HookPath::Raw));
        let out = |allowance| allow_rule(allowance, RemoteSide::Leaving, "");
        rules.extend(self.plan.allow.iter().map(out));
        let mut chain = self.chain("egress", HookPath::Raw, rules);
        chain.devices.clone_from(&self.hooks.egress);
        vec![chain]
    }

    /// What a hook below the IP stack leaves alone where nothing was dropped above it.
    fn counted_before(&self) -> Vec<Rule> {
        match self.effect {
            CutAction::Cut => Vec::new(),
            CutAction::Count => vec![accept("routed", ROUTED)],
        }
    }

    fn chain(&self, hook: &'static str, way: HookPath, mut rules: Vec<Rule>) -> Chain {
        let isolates = self.plan.posture == Posture::Isolate;
        if isolates {
            rules.push(self.cut("rest", "", way, "isolated"));
        }
        Chain {
            hook,
            devices: Vec::new(),
            policy: if isolates && self.effect == CutAction::Cut {
                "drop"
            } else {
                "accept"
            },
            rules,
        }
    }

    /// A rule that counts and drops, or would.
    fn cut(&self, what: &str, condition: &str, way: HookPath, reason: &str) -> Rule {
        let (prefix, verdict) = match self.effect {
            CutAction::Cut => ("", "drop"),
            CutAction::Count => (WOULD_CUT, "accept"),
        };
        let counter = format!("{prefix}{}_{reason}", way.name());
        let statement = format!("{condition} counter name {counter} {verdict}");
        Rule::new(what, statement.trim_start().to_owned(), Some(counter))
    }

    /// What leaves whatever is ordered; `header` is what lengths have besides the IP packet.
    fn lifelines_out(&self, header: u32) -> Vec<Rule> {
        let at_most = |length: u32| format!("meta length <= {}", length + header);
        let mut rules = vec![
            accept(
                "neighbours",
                format!("ip6 daddr {{ fe80::/10, ff02::/16 }} icmpv6 type {{ {NEIGHBOURS} }}"),
            ),
            accept(
                "neighbour-unicast",
                format!(
                    "icmpv6 type {{ {NEIGHBOUR_UNICAST} }} ip6 hoplimit 255 {} limit rate 10/second burst 20 packets",
                    at_most(NEIGHBOUR_LENGTH)
                ),
            ),
            accept(
                "multicast-listener",
                "icmpv6 type { mld-listener-report, mld2-listener-report, mld-listener-done } ip6 hoplimit 1",
            ),
        ];
        if self.plan.lifelines.dhcp {
            let length = at_most(DHCP_LENGTH);
            rules.push(accept(
                "dhcp",
                format!("ip daddr 255.255.255.255 udp sport 68 udp dport 67 {length} {DHCP_RATE}"),
            ));
            rules.push(accept(
                "dhcp-renewal",
                format!(
                    "udp sport 68 udp dport 67 {} {DHCP_RENEWAL_RATE}",
                    at_most(DHCP_RENEWAL_LENGTH)
                ),
            ));
            rules.push(accept(
                "dhcp6",
                format!(
                    "ip6 daddr {{ fe80::/10, ff02::1:2 }} udp sport 546 udp dport 547 {length} {DHCP_RATE}"
                ),
            ));
        }
        rules.push(accept(
            "endpoint4",
            "ip daddr . meta l4proto . th dport @endpoints4",
        ));
        rules.push(accept(
            "endpoint6",
            "ip6 daddr . meta l4proto . th dport @endpoints6",
        ));
        if let Some(ports) = wide_ports(self.plan) {
            rules.push(accept("endpoint-wide", format!("tcp dport {{ {ports} }}")));
            rules.push(accept("dns-wide", "udp dport 53"));
        }
        rules
    }

    fn lifelines_in(&self) -> Vec<Rule> {
        let mut rules = vec![
            accept("loopback", "meta iiftype loopback"),
            accept(
                "neighbours",
                format!("icmpv6 type {{ {NEIGHBOURS} }} ip6 hoplimit 255"),
            ),
            accept(
                "multicast-listener",
                "icmpv6 type { mld-listener-query } ip6 saddr fe80::/10 ip6 hoplimit 1",
            ),
            accept("errors", ICMP_ERRORS),
            accept("errors6", ICMPV6_ERRORS),
        ];
        if self.plan.lifelines.dhcp {
            let answers = format!("meta length <= {DHCP_LENGTH} {DHCP_ANSWERS}");
            rules.push(accept("dhcp", format!("udp sport 67 udp dport 68 {answers}")));
            rules.push(accept(
                "dhcp6",
                format!("ip6 saddr fe80::/10 udp sport 547 udp dport 546 {answers}"),
            ));
        }
        for (family, suffix) in [("ip", '4'), ("ip6", '6')] {
            let from = format!("{family} saddr . meta l4proto . th sport @endpoints{suffix}");
            rules.push(accept(&format!("tcp{suffix}"), format!("{from} {NOT_SYN}")));
            rules.push(accept(
                &format!("udp{suffix}"),
                format!("{from} meta l4proto udp {UDP_ANSWER}"),
            ));
        }
        if let Some(ports) = wide_ports(self.plan) {
            rules.push(accept(
                "endpoint-wide",
                format!("tcp sport {{ {ports} }} {NOT_SYN} ct direction reply"),
            ));
            rules.push(accept("dns-wide", format!("udp sport 53 {UDP_ANSWER}")));
        }
        rules
    }

    fn blocks(&self, way: HookPath) -> Vec<Rule> {
        let mut rules = Vec::new();
        for (family, suffix, v4) in [("ip", '4', true), ("ip6", '6', false)] {
            let (hosts, nets) = self.elements.blocks(v4);
            for (kind, any) in [("hosts", hosts), ("nets", nets)] {
                for (side, address) in [("to", "daddr"), ("from", "saddr")] {
                    if any {
                        let condition = format!("{family} {address} @{kind}{suffix}");
                        rules.push(self.cut(&format!("{kind}-{side}{suffix}"), &condition, way, "remote"));
                    }
                }
            }
        }
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let blocked = &self.plan.block.ports;
            let ports = list(blocked.iter().filter(|b| b.protocol == protocol).map(|b| b.port));
            if !ports.is_empty() {
                let to = format!("{protocol} dport {{ {ports} }}");
                rules.push(self.cut("port", &to, way, "port"));
                // Also the answers, so that a connection which is open already dies.
                let from = format!("{protocol} sport {{ {ports} }}");
                rules.push(self.cut("port-answer", &from, way, "port"));
            }
        }
        rules
    }

    fn limits(&self, way: HookPath) -> Vec<Rule> {
        let mut rules = Vec::new();
        for (index, limit) in self.plan.limits.iter().enumerate() {
            // The quota first: what the rate drops would have been counted as sent.
            if limit.bytes_per_second.is_some() {
                let condition = format!("limit name \"rate{index}\"");
                rules.push(self.cut("rate", &condition, way, "rate"));
            }
            if let Some(quota) = limit.quota {
                let condition = format!("quota name \"{}\"", quota_name(&limit.order, quota.since));
                rules.push(self.cut("quota", &condition, way, "quota"));
            }
        }
        rules
    }
}

fn wide_ports(plan: &Plan) -> Option<String> {
    let ports = plan.wide_ports();
    (!ports.is_empty()).then(|| list(ports))
}

fn list(ports: impl IntoIterator<Item = u16>) -> String {
    let ports: Vec<String> = ports.into_iter().map(|port| port.to_string()).collect();
    ports.join(", ")
}

fn allow_rule(allowance: &Allowance, side: RemoteSide, udp_answer: &str) -> Rule {
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
    let address = if side == RemoteSide::Leaving {
        "daddr"
    } else {
        "saddr"
    };
    let opens = (side == RemoteSide::Leaving) == (*direction == Direction::Out);
    // The allowed ports are the accepting side's: the remote's for `out`, ours for `in`. A packet towards the
    // accepting side carries them as destination, its answer as source.
    let port = if opens { "dport" } else { "sport" };
    let ports = list(ports.iter().copied());
    let answer = match (opens, protocol) {
        (true, _) => "",
        (false, Protocol::Tcp) => NOT_SYN,
        (false, Protocol::Udp) => udp_answer,
    };
    let statement = format!("{family} {address} {remote} {protocol} {port} {{ {ports} }} {answer}");
    accept("allowance", statement.trim_end())
}
