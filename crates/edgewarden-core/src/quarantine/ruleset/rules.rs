//! The rules of each hook.
//!
//! In: [`Plan`], [`Hooks`], [`CutAction`]. Out: chains. What passes on the way out is written once and used by the hook
//! of the IP stack and by the egress hook of the interfaces; there it is told without connection tracking, which that
//! hook does not have, and counts the frame's header in its lengths.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use nf_tables::ObjectKind;

use super::conditions::{Conditions, End, Named, Rate, TimeUnit};
use super::{Chain, CutAction, Hooks, Layer, Rule, WOULD_CUT, quota_name};
use crate::quarantine::orders::order::{Allowance, Direction, Posture, Protocol};
use crate::quarantine::plan::Plan;
use crate::quarantine::ruleset::SetElements;

/// Neighbour discovery. What arrives with a hop limit of 255 was sent on this link; what leaves stays on it by its
/// destination.
const NEIGHBOURS: &[Named] = &[
    ("nd-router-solicit", 133),
    ("nd-router-advert", 134),
    ("nd-neighbor-solicit", 135),
    ("nd-neighbor-advert", 136),
];
/// Neighbours are also asked and answered at their global addresses. Those could be routed away, so only what such a
/// message needs passes: 40 bytes of IPv6 header, 24 of message, 8 of link-layer option, 8 of nonce; and few of them.
const NEIGHBOUR_UNICAST: &[Named] = &[("nd-neighbor-solicit", 135), ("nd-neighbor-advert", 136)];
const NEIGHBOUR_LENGTH: u32 = 80;
const NEIGHBOUR_RATE: Rate = per_second(10, 20);
/// What is sent on a link only never has another hop limit.
const ON_LINK: u8 = 255;
/// What says which groups this host listens to, and who asks for that.
const LISTENERS: &[Named] = &[
    ("mld-listener-report", 131),
    ("mld2-listener-report", 143),
    ("mld-listener-done", 132),
];
const LISTENER_QUERY: &[Named] = &[("mld-listener-query", 130)];
/// Such a message does not leave its link.
const LISTENER_HOPS: u8 = 1;
/// Errors about packets of ours, path MTU among them; only inbound, and only when they belong to a known flow.
const ICMP_ERRORS: &[Named] = &[
    ("destination-unreachable", 3),
    ("time-exceeded", 11),
    ("parameter-problem", 12),
];
const ICMPV6_ERRORS: &[Named] = &[
    ("destination-unreachable", 1),
    ("packet-too-big", 2),
    ("time-exceeded", 3),
    ("parameter-problem", 4),
];
/// Addresses that stay on the link, and its groups.
const LINK_LOCAL: (Ipv6Addr, u8) = (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10);
const LINK_GROUPS: (Ipv6Addr, u8) = (Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0), 16);
const DHCP6_SERVERS: (Ipv6Addr, u8) = (Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2), 128);
/// Ports of a DHCP client and its server.
const DHCP: (u16, u16) = (68, 67);
const DHCP6: (u16, u16) = (546, 547);
/// The client speaks seldom; the limits keep its ports from being a way out or in.
const DHCP_LENGTH: u32 = 1_500;
const DHCP_RATE: Rate = per_minute(20, 20);
/// Nobody may starve the lease: the limit is far above what an honest server sends.
const DHCP_ANSWERS: Rate = per_second(50, 50);
/// A renewal goes to the lease's server, wherever that is.
const DHCP_RENEWAL_LENGTH: u32 = 620;
const DHCP_RENEWAL_RATE: Rate = per_minute(4, 4);
const DNS: u16 = 53;
/// What an Ethernet frame has before its IP header, with one VLAN tag.
const FRAME_HEADER: u32 = 18;
/// Frames are told by their own bytes: what a sender says of them apart from those is not what goes out, and `ether`
/// asks for the interface of arrival, which a frame that leaves does not have.
/// The groups that no bridge passes on (IEEE 802.1D) are spanning tree, link aggregation, and LLDP, which some switches
/// power ports by. They speak some frames a second; 802.1X and the keys of a wireless network, without which the link
/// itself goes down, as seldom.
const LINK_RATE: Rate = per_second(100, 200);
const LINK_KEYS: &[u16] = &[0x888e, 0x88c7];
/// PPP's discovery and session frames, by the first byte that all of them have: they may be tagged for a VLAN. What is
/// inside was filtered on the PPP interface, or was made by hand.
const PPPOE: &[u16] = &[0x8863, 0x8864];
const PPPOE_BEGINNING: u8 = 0x11;
/// ARP at the pace of a busy link, and small: more would be a way out to the next neighbour. By its header: it may be
/// tagged for a VLAN, and an IP packet that is called ARP has other bytes there.
const ARP_LENGTH: u32 = 64;
const ARP_RATE: Rate = per_second(100, 200);

const fn per_second(packets: u64, burst: u32) -> Rate {
    Rate {
        packets,
        per: TimeUnit::Second,
        burst,
    }
}

const fn per_minute(packets: u64, burst: u32) -> Rate {
    Rate {
        packets,
        per: TimeUnit::Minute,
        burst,
    }
}

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

    const fn layer(self) -> Layer {
        match self {
            Self::Out | Self::In | Self::Forward => Layer::Inet,
            Self::Bridged => Layer::Bridge,
            Self::Raw => Layer::Netdev,
        }
    }
}

/// Writes the chains of one plan.
pub(super) struct RuleWriter<'a> {
    pub(super) plan: &'a Plan,
    pub(super) hooks: &'a Hooks,
    pub(super) effect: CutAction,
    pub(super) elements: &'a SetElements,
}

impl RuleWriter<'_> {
    pub(super) fn inet(&self) -> Vec<Chain> {
        let mut output = vec![on(Layer::Inet).loopback(End::Destination).accept("loopback")];
        output.extend(self.lifelines_out(Layer::Inet));
        output.extend(self.blocks(HookPath::Out));
        output.extend(self.limits(HookPath::Out));
        let out = |allowance| allow_rule(Layer::Inet, allowance, End::Destination);
        output.extend(self.plan.allow.iter().map(out));
        let mut input = self.lifelines_in();
        input.extend(self.blocks(HookPath::In));
        let arriving = |allowance| allow_rule(Layer::Inet, allowance, End::Source);
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
        let mut rules = self.counted_before(Layer::Bridge);
        rules.extend(self.blocks(HookPath::Bridged));
        vec![self.chain("forward", HookPath::Bridged, rules)]
    }

    pub(super) fn netdev(&self) -> Vec<Chain> {
        let mut rules = self.counted_before(Layer::Netdev);
        let ethernet = || on(Layer::Netdev).leaves_by_ethernet();
        rules.extend([
            ethernet()
                .link_local_group()
                .at_rate(LINK_RATE)
                .accept("link-groups"),
            ethernet()
                .frame_types(LINK_KEYS)
                .at_rate(LINK_RATE)
                .accept("link-keys"),
            on(Layer::Netdev)
                .arp()
                .at_most(ARP_LENGTH)
                .at_rate(ARP_RATE)
                .accept("arp"),
        ]);
        if self.hooks.pppoe {
            let frames = on(Layer::Netdev)
                .declared_types(PPPOE)
                .begins_with(PPPOE_BEGINNING);
            rules.push(frames.accept("pppoe"));
        }
        rules.extend(self.lifelines_out(Layer::Netdev));
        rules.extend(self.blocks(HookPath::Raw));
        let out = |allowance| allow_rule(Layer::Netdev, allowance, End::Destination);
        rules.extend(self.plan.allow.iter().map(out));
        let mut chain = self.chain("egress", HookPath::Raw, rules);
        chain.devices.clone_from(&self.hooks.egress);
        vec![chain]
    }

    /// What a hook below the IP stack leaves alone where nothing was dropped above it: what the IP stack has sent, forwarded,
    /// or been shown by a bridge has a route, and its own hooks have counted it. Where nothing is dropped it comes by again,
    /// and one packet must count once.
    fn counted_before(&self, layer: Layer) -> Vec<Rule> {
        match self.effect {
            CutAction::Cut => Vec::new(),
            CutAction::Count => vec![on(layer).routed().accept("routed")],
        }
    }

    fn chain(&self, hook: &'static str, way: HookPath, mut rules: Vec<Rule>) -> Chain {
        let isolates = self.plan.posture == Posture::Isolate;
        if isolates {
            rules.push(self.cut("rest", on(way.layer()), way, "isolated"));
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
    fn cut(&self, what: &str, condition: Conditions, way: HookPath, reason: &str) -> Rule {
        let (prefix, drops) = match self.effect {
            CutAction::Cut => ("", true),
            CutAction::Count => (WOULD_CUT, false),
        };
        condition.count(what, format!("{prefix}{}_{reason}", way.name()), drops)
    }

    /// What leaves whatever is ordered.
    fn lifelines_out(&self, layer: Layer) -> Vec<Rule> {
        let header = if layer == Layer::Netdev { FRAME_HEADER } else { 0 };
        let mut rules = vec![
            on(layer)
                .destined6(&[block(LINK_LOCAL), block(LINK_GROUPS)])
                .icmp6(NEIGHBOURS)
                .accept("neighbours"),
            on(layer)
                .icmp6(NEIGHBOUR_UNICAST)
                .hop_limit(ON_LINK)
                .at_most(NEIGHBOUR_LENGTH + header)
                .at_rate(NEIGHBOUR_RATE)
                .accept("neighbour-unicast"),
            on(layer)
                .icmp6(LISTENERS)
                .hop_limit(LISTENER_HOPS)
                .accept("multicast-listener"),
        ];
        if self.plan.lifelines.dhcp {
            rules.extend(dhcp_out(layer, header));
        }
        for (suffix, v4) in [('4', true), ('6', false)] {
            let endpoint = on(layer).endpoint_in(v4, End::Destination, &format!("endpoints{suffix}"));
            rules.push(endpoint.accept(&format!("endpoint{suffix}")));
        }
        let wide = self.wide_ports();
        if !wide.is_empty() {
            let endpoint = on(layer).ports(Protocol::Tcp, End::Destination, &wide);
            rules.push(endpoint.accept("endpoint-wide"));
            let names = on(layer).port(Protocol::Udp, End::Destination, DNS);
            rules.push(names.accept("dns-wide"));
        }
        rules
    }

    fn lifelines_in(&self) -> Vec<Rule> {
        let arrives = || on(Layer::Inet);
        let mut rules = vec![
            arrives().loopback(End::Source).accept("loopback"),
            arrives()
                .icmp6(NEIGHBOURS)
                .hop_limit(ON_LINK)
                .accept("neighbours"),
            arrives()
                .icmp6(LISTENER_QUERY)
                .in_block(End::Source, block(LINK_LOCAL))
                .hop_limit(LISTENER_HOPS)
                .accept("multicast-listener"),
            arrives().icmp(ICMP_ERRORS).related().accept("errors"),
            arrives().icmp6(ICMPV6_ERRORS).related().accept("errors6"),
        ];
        if self.plan.lifelines.dhcp {
            let answers = |from: Conditions| from.at_most(DHCP_LENGTH).at_rate(DHCP_ANSWERS);
            let from_server = arrives().udp_between(DHCP.1, DHCP.0);
            rules.push(answers(from_server).accept("dhcp"));
            let from_server = arrives()
                .in_block(End::Source, block(LINK_LOCAL))
                .udp_between(DHCP6.1, DHCP6.0);
            rules.push(answers(from_server).accept("dhcp6"));
        }
        for (suffix, v4) in [('4', true), ('6', false)] {
            let from = || arrives().endpoint_in(v4, End::Source, &format!("endpoints{suffix}"));
            rules.push(from().not_syn().accept(&format!("tcp{suffix}")));
            rules.push(udp_answer(from().udp()).accept(&format!("udp{suffix}")));
        }
        let wide = self.wide_ports();
        if !wide.is_empty() {
            let endpoint = arrives().ports(Protocol::Tcp, End::Source, &wide);
            rules.push(endpoint.not_syn().reply().accept("endpoint-wide"));
            let names = arrives().port(Protocol::Udp, End::Source, DNS);
            rules.push(udp_answer(names).accept("dns-wide"));
        }
        rules
    }

    fn blocks(&self, way: HookPath) -> Vec<Rule> {
        let layer = way.layer();
        let mut rules = Vec::new();
        for (suffix, v4) in [('4', true), ('6', false)] {
            let (hosts, nets) = self.elements.blocks(v4);
            for (kind, any) in [("hosts", hosts), ("nets", nets)] {
                for (side, end) in [("to", End::Destination), ("from", End::Source)] {
                    if any {
                        let condition = on(layer).address_in(v4, end, &format!("{kind}{suffix}"));
                        rules.push(self.cut(&format!("{kind}-{side}{suffix}"), condition, way, "remote"));
                    }
                }
            }
        }
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let blocked = self.plan.block.ports.iter();
            let ports: Vec<u16> = blocked
                .filter(|blocked| blocked.protocol == protocol)
                .map(|blocked| blocked.port)
                .collect();
            if !ports.is_empty() {
                let to = on(layer).ports(protocol, End::Destination, &ports);
                rules.push(self.cut("port", to, way, "port"));
                // Also the answers, so that a connection which is open already dies.
                let from = on(layer).ports(protocol, End::Source, &ports);
                rules.push(self.cut("port-answer", from, way, "port"));
            }
        }
        rules
    }

    fn limits(&self, way: HookPath) -> Vec<Rule> {
        let mut rules = Vec::new();
        for (index, limit) in self.plan.limits.iter().enumerate() {
            // The quota first: what the rate drops would have been counted as sent.
            if limit.bytes_per_second.is_some() {
                let above = on(way.layer()).above(ObjectKind::Limit, format!("rate{index}"));
                rules.push(self.cut("rate", above, way, "rate"));
            }
            if let Some(quota) = limit.quota {
                let name = quota_name(&limit.order, quota.since);
                let above = on(way.layer()).above(ObjectKind::Quota, name);
                rules.push(self.cut("quota", above, way, "quota"));
            }
        }
        rules
    }

    fn wide_ports(&self) -> Vec<u16> {
        self.plan.wide_ports().into_iter().collect()
    }
}

fn on(layer: Layer) -> Conditions {
    Conditions::of(layer)
}

fn block((address, bits): (Ipv6Addr, u8)) -> IpNet {
    IpNet::new_assert(IpAddr::V6(address), bits)
}

/// A datagram that answers one of ours.
fn udp_answer(condition: Conditions) -> Conditions {
    condition.established().reply()
}

fn dhcp_out(layer: Layer, header: u32) -> [Rule; 3] {
    let asks = |condition: Conditions| condition.at_most(DHCP_LENGTH + header).at_rate(DHCP_RATE);
    let everybody = IpNet::from(IpAddr::V4(Ipv4Addr::BROADCAST));
    let broadcast = on(layer)
        .in_block(End::Destination, everybody)
        .udp_between(DHCP.0, DHCP.1);
    let renewal = on(layer)
        .udp_between(DHCP.0, DHCP.1)
        .at_most(DHCP_RENEWAL_LENGTH + header)
        .at_rate(DHCP_RENEWAL_RATE);
    let servers = on(layer)
        .destined6(&[block(LINK_LOCAL), block(DHCP6_SERVERS)])
        .udp_between(DHCP6.0, DHCP6.1);
    [
        asks(broadcast).accept("dhcp"),
        renewal.accept("dhcp-renewal"),
        asks(servers).accept("dhcp6"),
    ]
}

/// `remote`: which end of a packet is the other side's.
fn allow_rule(layer: Layer, allowance: &Allowance, remote: End) -> Rule {
    let opens = (remote == End::Destination) == (allowance.direction == Direction::Out);
    // The allowed ports are the accepting side's: the remote's for `out`, ours for `in`. A packet towards the
    // accepting side carries them as destination, its answer as source.
    let port = if opens { End::Destination } else { End::Source };
    let condition =
        on(layer)
            .in_block(remote, allowance.remote)
            .ports(allowance.protocol, port, &allowance.ports);
    let condition = match (opens, allowance.protocol, layer) {
        (false, Protocol::Tcp, _) => condition.not_syn(),
        // The hooks of interfaces know no flows.
        (false, Protocol::Udp, Layer::Inet) => udp_answer(condition),
        (false, Protocol::Udp, _) | (true, ..) => condition,
    };
    condition.accept("allowance")
}
