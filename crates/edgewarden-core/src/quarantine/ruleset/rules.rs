//! The rules of each hook.
//!
//! In: [`Plan`], [`Hooks`], [`CutAction`]. Out: chains. What passes on the way out is written once and used by the hook
//! of the IP stack and by the egress hook of the interfaces; there it is told without connection tracking, which that
//! hook does not have, and counts the frame's header in its lengths.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use nf_tables::ObjectKind;

use super::answers::{segments, udp_answers, untracked_error};
use super::conditions::{Bucket, Conditions, End, Named, Rate, TimeUnit};
use super::streams::UNSENT;
use super::untracked::untracked;
use super::{
    Chain, CutAction, DEVICES_OF_A_CHAIN, EGRESS_CHAINS, FRAMES, Hooks, Lack, Layer, PRIORITY, Rule,
    WOULD_CUT, quota_name, told_otherwise,
};
use crate::quarantine::orders::order::{Allowance, Direction, Posture, Protocol};
use crate::quarantine::plan::Plan;
use crate::quarantine::ruleset::SetElements;

/// Neighbour discovery. What arrives with a hop limit of 255 was sent on this link.
const NEIGHBOURS: &[Named] = &[
    ("nd-router-solicit", 133),
    ("nd-router-advert", 134),
    ("nd-neighbor-solicit", 135),
    ("nd-neighbor-advert", 136),
];
/// What is sent on a link only never has another hop limit.
pub(super) const ON_LINK: u8 = 255;
/// Who asks for the groups that this host listens to.
const LISTENER_QUERY: &[Named] = &[("mld-listener-query", 130)];
/// Such a message does not leave its link.
const LISTENER_HOPS: u8 = 1;
/// Errors about packets of ours, path MTU among them; only inbound, and only when they belong to a known flow.
const ICMP_ERRORS: &[Named] = &[
    ("destination-unreachable", 3),
    ("time-exceeded", 11),
    ("parameter-problem", 12),
];
/// An error quotes what it is about, up to the smallest packet that every link takes.
const ERROR_LENGTH: u32 = 1_280;
const ERROR_RATE: Rate = per_second(100, 200);
const ICMPV6_ERRORS: &[Named] = &[
    ("destination-unreachable", 1),
    ("packet-too-big", 2),
    ("time-exceeded", 3),
    ("parameter-problem", 4),
];
/// Addresses that stay on the link, and its groups.
pub(super) const LINK_LOCAL: (Ipv6Addr, u8) = (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10);
pub(super) const LINK_GROUPS: (Ipv6Addr, u8) = (Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0), 16);
pub(super) const DHCP6_SERVERS: (Ipv6Addr, u8) = (Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2), 128);
/// Ports of a DHCP client and its server.
pub(super) const DHCP: (u16, u16) = (68, 67);
pub(super) const DHCP6: (u16, u16) = (546, 547);
/// What a server answers.
const DHCP_LENGTH: u32 = 1_500;
/// Nobody may starve the lease: the limit is far above what an honest server sends, and that of one link.
const DHCP_ANSWERS: Rate = per_second(50, 50);
pub(super) const DNS: u16 = 53;
pub(super) const fn per_second(packets: u64, burst: u32) -> Rate {
    Rate {
        packets,
        per: TimeUnit::Second,
        burst,
    }
}

pub(super) const fn per_minute(packets: u64, burst: u32) -> Rate {
    Rate {
        packets,
        per: TimeUnit::Minute,
        burst,
    }
}

/// Why a restriction cuts what it cannot read the remote and port of.
pub(super) const DISGUISED: &str = "disguised";

/// The way that a hook watches, as counters name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HookPath {
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

    pub(super) const fn layer(self) -> Layer {
        match self {
            Self::Out | Self::In | Self::Forward => Layer::Inet,
            Self::Bridged => Layer::Bridge,
            Self::Raw => Layer::Netdev,
        }
    }
}

/// What a lifeline's frames leave by.
#[derive(Debug, Clone, Copy)]
enum Borne {
    /// Whatever it is.
    Any,
    /// An interface of Ethernet that bears a way, sent as it sends.
    Own,
    /// An interface of another kind, on which no other namespace's can stand.
    Bare,
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
        let mut output = vec![self.to_itself().accept("loopback")];
        output.extend(self.detours(HookPath::Out));
        output.extend(self.wrapped_in_others_names());
        output.extend(self.lifelines_out(Layer::Inet));
        output.extend(self.lies(HookPath::Out));
        output.extend(self.blocks(HookPath::Out));
        output.extend(self.limits(HookPath::Out));
        let out = |allowance| allow_rules(on(Layer::Inet), Layer::Inet, allowance, End::Destination);
        output.extend(self.plan.allow.iter().flat_map(out));
        let mut input = self.lifelines_in();
        input.extend(self.blocks(HookPath::In));
        let arriving = |allowance| allow_rules(on(Layer::Inet), Layer::Inet, allowance, End::Source);
        input.extend(self.plan.allow.iter().flat_map(arriving));
        let mut forward = self.detours(HookPath::Forward);
        // By hand, on loopback, a stream in our name would pass by what judges ours. By other interfaces it is judged where it is sent;
        // what comes there in our name is our own, by a pair of interfaces and a bridge.
        let as_ours = |reason| {
            let stream = on(Layer::Inet).carries(Protocol::Tcp).sent_from_here();
            self.cut("as-ours", stream.loopback(End::Source), HookPath::Forward, reason)
        };
        forward.extend(self.guarded().map(as_ours));
        forward.extend(self.blocks(HookPath::Forward));
        forward.extend(self.limits(HookPath::Forward));
        let mut chains = vec![
            self.chain("output", HookPath::Out, output),
            self.chain("input", HookPath::In, input),
            self.chain("forward", HookPath::Forward, forward),
        ];
        chains.extend(self.leaving());
        chains.extend(self.mark().map(super::marks::stack_chain));
        if self.hooks.crowded && self.effect == CutAction::Cut {
            chains.extend(untracked());
        }
        chains
    }

    pub(super) fn bridge(&self) -> Vec<Chain> {
        let mut rules = self.counted_before(Layer::Bridge);
        rules.extend(self.blocks(HookPath::Bridged));
        if self.plan.posture != Posture::Isolate && self.blocks_anything() {
            let snap = told_otherwise::snap(Layer::Bridge, &[]);
            rules.push(self.cut("snap", snap, HookPath::Bridged, DISGUISED));
            rules.extend(self.detours(HookPath::Bridged));
            rules.extend(self.of_false_length(HookPath::Bridged));
        }
        vec![self.chain("forward", HookPath::Bridged, rules)]
    }

    pub(super) fn netdev(&self) -> Vec<Chain> {
        let mut rules = self.counted_before(Layer::Netdev);
        rules.extend(self.bridged_streams());
        rules.extend(self.bridged_control());
        // Bridges may pass on what they like, but not whose the addresses of this device are.
        rules.extend(self.false_claims());
        if !self.hooks.passing.is_empty() {
            let passed = on(Layer::Netdev).passed_on_by(&self.hooks.passing);
            rules.push(passed.accept("passed-on"));
        }
        rules.extend(self.told_otherwise());
        rules.extend(self.detours(HookPath::Raw));
        rules.extend(self.streams(HookPath::Raw));
        rules.push(Rule::jump(UNSENT));
        rules.extend(self.sent_as_others());
        rules.extend(self.of_links());
        rules.extend(self.sessions());
        rules.extend(self.lifelines_out(Layer::Netdev));
        rules.extend(self.lies(HookPath::Raw));
        rules.extend(self.blocks(HookPath::Raw));
        rules.extend(self.by_hand());
        let out = |allowance| {
            let sent = self.by_the_stack(Layer::Netdev, on(Layer::Netdev));
            let mut rules = allow_rules(sent.clone(), Layer::Netdev, allowance, End::Destination);
            // The IP stack's own hooks have judged the whole, and only its first piece tells a port.
            if self.asks_for_routes() {
                let to = sent.in_block(End::Destination, allowance.remote);
                let piece = to
                    .carries(allowance.protocol)
                    .later_piece(allowance.remote.addr().is_ipv4());
                rules.push(piece.accept("allowance-piece"));
            }
            rules
        };
        rules.extend(self.plan.allow.iter().flat_map(out));
        let egress = self.chain("egress", HookPath::Raw, rules);
        let groups = self.hooks.egress.chunks(DEVICES_OF_A_CHAIN);
        let chains = EGRESS_CHAINS
            .into_iter()
            .zip(groups)
            .map(|(name, devices)| Chain {
                name,
                devices: devices.to_vec(),
                rules: vec![Rule::jump(FRAMES)],
                ..egress.clone()
            });
        let frames = egress.clone().without_hook(FRAMES);
        [frames, self.unsent(), self.control()]
            .into_iter()
            .chain(chains)
            .collect()
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

    /// Why what cannot be judged is cut; none where nothing is judged by remote or port.
    pub(super) fn unreadable(&self) -> Option<&'static str> {
        match self.plan.posture {
            Posture::Isolate => Some("isolated"),
            _ => self.blocks_anything().then_some(DISGUISED),
        }
    }

    /// Why somebody is cut who speaks in the device's or a lifeline's name; none where nothing is to be ended that way.
    pub(super) fn guarded(&self) -> Option<&'static str> {
        let limits = || (!self.plan.limits.is_empty()).then_some(DISGUISED);
        self.unreadable().or_else(limits)
    }

    pub(super) fn blocks_anything(&self) -> bool {
        let SetElements { hosts, nets, .. } = self.elements;
        !hosts.is_empty() || !nets.is_empty() || !self.plan.block.ports.is_empty()
    }

    fn chain(&self, hook: &'static str, way: HookPath, mut rules: Vec<Rule>) -> Chain {
        let isolates = self.plan.posture == Posture::Isolate;
        if isolates {
            rules.push(self.cut("rest", on(way.layer()), way, "isolated"));
        }
        Chain {
            name: hook,
            hook,
            priority: PRIORITY,
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
    pub(super) fn cut(&self, what: &str, condition: Conditions, way: HookPath, reason: &str) -> Rule {
        let (prefix, drops) = match self.effect {
            CutAction::Cut => ("", true),
            CutAction::Count => (WOULD_CUT, false),
        };
        condition.count(what, format!("{prefix}{}_{reason}", way.name()), drops)
    }

    /// At the hook of interfaces what the IP stack has sent, and its own hooks have judged with interface and next hop: it has a
    /// route. What was made by hand has none, and could go by any interface to any neighbour. Wide lifelines do not ask: if
    /// anything below hides the route, they are what keeps the device reachable.
    fn by_the_stack(&self, layer: Layer, packet: Conditions) -> Conditions {
        let asks = layer == Layer::Netdev && self.asks_for_routes();
        if asks { packet.routed() } else { packet }
    }

    pub(super) fn asks_for_routes(&self) -> bool {
        !self.hooks.unrouted && self.wide_ports().is_empty()
    }

    /// What lifelines are borne by where a hook of interfaces is told. That a frame has a route says only that some IP stack has sent
    /// it, which may be that of another network namespace whose interface stands on ours (a container's macvlan): it has passed
    /// none of our hooks. Where frames have headers of Ethernet, it has another sender.
    fn bearing(&self, layer: Layer) -> &'static [Borne] {
        let Hooks {
            bearers, tags, bare, ..
        } = self.hooks;
        // What puts tags of its own into frames may put them before the sender.
        if layer != Layer::Netdev || self.plan.ties().is_none() || bearers.is_empty() || *tags {
            &[Borne::Any]
        } else if *bare {
            &[Borne::Own, Borne::Bare]
        } else {
            &[Borne::Own]
        }
    }

    /// What leaves whatever is ordered.
    fn lifelines_out(&self, layer: Layer) -> Vec<Rule> {
        let mut rules = self.of_neighbours(layer);
        for (suffix, v4) in [('4', true), ('6', false)] {
            let ways = format!("ways{suffix}");
            let tells_ways = !self.hooks.lacks.contains(&Lack::Route);
            let is_tied = layer == Layer::Inet && self.plan.ties().is_some() && tells_ways;
            for borne in self.bearing(layer) {
                let within = |from: Conditions, set: &str| {
                    let set = format!("{set}{suffix}");
                    let to = self
                        .by_the_stack(layer, from)
                        .endpoint_in(v4, End::Destination, &set);
                    match borne {
                        Borne::Any if is_tied => to.way_in(v4, &ways),
                        Borne::Any => to,
                        Borne::Own => to.borne_by(&format!("bearers{suffix}")),
                        Borne::Bare => to.leaves_by_others(),
                    }
                };
                let both = [Protocol::Udp, Protocol::Tcp];
                let endpoint = |from: Conditions| within(from, "endpoints");
                rules.extend(self.lifeline((layer, &format!("endpoint{suffix}")), &both, endpoint));
                let own = |from: Conditions| within(from, "nucleus");
                rules.extend(self.nucleus_lifeline((layer, &format!("uplink{suffix}")), own));
            }
        }
        let wide = self.wide_ports();
        if !wide.is_empty() {
            let endpoint = |from: Conditions| from.ports(Protocol::Tcp, End::Destination, &wide);
            rules.extend(self.lifeline((layer, "endpoint-wide"), &[Protocol::Tcp], endpoint));
            let names = |from: Conditions| from.port(Protocol::Udp, End::Destination, DNS);
            rules.extend(self.lifeline((layer, "dns-wide"), &[Protocol::Udp], names));
        }
        rules
    }

    fn lifelines_in(&self) -> Vec<Rule> {
        let arrives = || on(Layer::Inet);
        let few = |error: Conditions, what: &str| {
            let small = error.at_most(ERROR_LENGTH);
            small.at_rate(Bucket::Arrival, what, ERROR_RATE).accept(what)
        };
        let mut rules = self.inside();
        rules.extend([
            arrives()
                .icmp6(NEIGHBOURS)
                .hop_limit(ON_LINK)
                .accept("neighbours"),
            arrives()
                .icmp6(LISTENER_QUERY)
                .in_block(End::Source, block(LINK_LOCAL))
                .hop_limit(LISTENER_HOPS)
                .accept("multicast-listener"),
            few(arrives().icmp(ICMP_ERRORS).related(), "errors"),
            few(arrives().icmp6(ICMPV6_ERRORS).related(), "errors6"),
            untracked_error(arrives().icmp(ICMP_ERRORS), "errors-untracked"),
            untracked_error(arrives().icmp6(ICMPV6_ERRORS), "errors6-untracked"),
        ]);
        if self.plan.lifelines.dhcp {
            let answers = |from: Conditions, what: &str| {
                let small = from.at_most(DHCP_LENGTH);
                let few = small.at_rate(Bucket::Arrival, &format!("{what}-answers"), DHCP_ANSWERS);
                few.accept(what)
            };
            let from_server = arrives().udp_between(DHCP.1, DHCP.0);
            rules.push(answers(from_server, "dhcp"));
            let from_server = arrives()
                .in_block(End::Source, block(LINK_LOCAL))
                .udp_between(DHCP6.1, DHCP6.0);
            rules.push(answers(from_server, "dhcp6"));
        }
        let uplinks = self.uplinks();
        for (suffix, v4) in [('4', true), ('6', false)] {
            let one_of = |set: &str| {
                let from = arrives().endpoint_in(v4, End::Source, &format!("{set}{suffix}"));
                match uplinks.as_slice() {
                    [] => from,
                    uplinks => from.arrives_by(uplinks),
                }
            };
            rules.push(one_of("nucleus").not_syn().accept(&format!("uplink{suffix}")));
            let from = || one_of("endpoints");
            rules.push(from().not_syn().accept(&format!("tcp{suffix}")));
            rules.extend(udp_answers(
                &from().carries(Protocol::Udp),
                &format!("udp{suffix}"),
            ));
        }
        let wide = self.wide_ports();
        if !wide.is_empty() {
            let endpoint = arrives().ports(Protocol::Tcp, End::Source, &wide);
            rules.extend(segments(&endpoint.not_syn(), "endpoint-wide"));
            let names = arrives().port(Protocol::Udp, End::Source, DNS);
            rules.extend(udp_answers(&names, "dns-wide"));
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

    pub(super) fn wide_ports(&self) -> Vec<u16> {
        self.plan.wide_ports().into_iter().collect()
    }
}

pub(super) fn on(layer: Layer) -> Conditions {
    Conditions::of(layer)
}

pub(super) fn block((address, bits): (Ipv6Addr, u8)) -> IpNet {
    IpNet::new_assert(IpAddr::V6(address), bits)
}

/// `remote`: which end of a packet is the other side's.
fn allow_rules(packet: Conditions, layer: Layer, allowance: &Allowance, remote: End) -> Vec<Rule> {
    let opens = (remote == End::Destination) == (allowance.direction == Direction::Out);
    // The allowed ports are the accepting side's: the remote's for `out`, ours for `in`. A packet towards the
    // accepting side carries them as destination, its answer as source.
    let port = if opens { End::Destination } else { End::Source };
    let condition =
        packet
            .in_block(remote, allowance.remote)
            .ports(allowance.protocol, port, &allowance.ports);
    let condition = match (opens, allowance.protocol, layer) {
        (false, Protocol::Tcp, _) => condition.not_syn(),
        // The hooks of interfaces know no flows.
        (false, Protocol::Udp, Layer::Inet) => return udp_answers(&condition, "allowance").into(),
        (false, Protocol::Udp, _) | (true, ..) => condition,
    };
    vec![condition.accept("allowance")]
}
