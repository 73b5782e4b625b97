//! The rules of each chain, as text and as types.

use std::net::Ipv6Addr;

use nf_tables::{
    AnonymousSet, Bitwise, ByteOrder, Comparison, Conntrack, Expression, Family, Hook, KeyType, Lookup, Meta,
    MetaKey, ObjectKind, Operator, Payload, PayloadBase, TypeOf,
};

use super::{Allowed, Shape, Written};
use crate::writer::{Side, TCP, UDP, Writer, rule};

/// A chain's name, its hook and its rules.
pub(super) type WrittenChain = (&'static str, u32, Vec<Written>);

impl Shape {
    pub(super) fn chains(&self, family: Family) -> Vec<WrittenChain> {
        let mut chains = match family {
            Family::Inet => {
                let mut output = vec![
                    rule(family)
                        .interface_type(MetaKey::OutputType, "loopback", 772)
                        .accept()
                        .end("loopback"),
                ];
                output.extend(self.lifelines_out(family, 0));
                output.extend(self.blocks(family, "out"));
                output.extend(self.limited(family, "out"));
                output.extend(self.allowed(family, Side::Destination));
                let mut input = self.lifelines_in();
                input.extend(self.blocks(family, "in"));
                input.extend(self.allowed(family, Side::Source));
                let mut forward = self.blocks(family, "forward");
                forward.extend(self.limited(family, "forward"));
                vec![
                    ("output", Hook::OUTPUT, output),
                    ("input", Hook::INPUT, input),
                    ("forward", Hook::FORWARD, forward),
                ]
            }
            Family::Bridge => {
                let mut forward = self.routed(family);
                forward.extend(self.blocks(family, "bridged"));
                vec![("forward", Hook::FORWARD, forward)]
            }
            _ => {
                let mut egress = self.routed(family);
                egress.extend(self.frames());
                egress.extend(self.lifelines_out(family, 18));
                egress.extend(self.blocks(family, "raw"));
                egress.extend(self.allowed(family, Side::Destination));
                vec![("egress", Hook::EGRESS, egress)]
            }
        };
        if self.isolates {
            for (name, _, rules) in &mut chains {
                rules.push(self.cut(&rule(family), &format!("{name}_isolated"), "rest"));
            }
        }
        chains
    }

    fn cut(&self, condition: &Writer, counter: &str, comment: &str) -> Written {
        let counted = |prefix: &str| condition.clone().count(&format!("{prefix}{counter}"));
        if self.counts_only {
            counted("would_").accept().end(comment)
        } else {
            counted("").drop().end(comment)
        }
    }

    fn routed(&self, family: Family) -> Vec<Written> {
        if !self.counts_only {
            return Vec::new();
        }
        let routed = rule(family)
            .text("meta rtclassid >= 0")
            .step(Meta::first(MetaKey::RouteRealm))
            .step(ByteOrder::to_network())
            .step(Comparison::first(Operator::GreaterOrEqual, [0; 4]));
        vec![routed.accept().end("routed")]
    }

    fn frames(&self) -> Vec<Written> {
        let ethernet = || rule(Family::Netdev).interface_type(MetaKey::OutputType, "ether", 1);
        let link = |offset, length| Payload::first(PayloadBase::Link, offset, length);
        let bits = TypeOf::Bits {
            base: 1,
            offset: 96,
            length: 16,
        };
        let keys = [0x888e_u16, 0x88c7].map(u16::to_be_bytes);
        let protocols = [0x8863_u16, 0x8864].map(u16::to_be_bytes);
        let mut rules = vec![
            ethernet()
                .text("@ll,0,48 & 0xfffffffffff0 == 0x0180c2000000")
                .step(link(0, 6))
                .step(Bitwise::mask([0xff, 0xff, 0xff, 0xff, 0xff, 0xf0]))
                .step(Expression::equal([1, 0x80, 0xc2, 0, 0, 0]))
                .rate(100, ("second", 1), 200)
                .accept()
                .end("link-groups"),
            ethernet()
                .text("@ll,96,16 { 0x888e, 0x88c7 }")
                .step(link(12, 2))
                .step(Lookup::one_of(AnonymousSet::of_values(
                    KeyType::INTEGER,
                    bits,
                    keys,
                )))
                .rate(100, ("second", 1), 200)
                .accept()
                .end("link-keys"),
            rule(Family::Netdev)
                .text("arp htype 1 arp ptype ip arp hlen 6 arp plen 4")
                .step(Meta::first(MetaKey::Protocol))
                .step(Expression::equal([8, 6]))
                .step(Payload::first(PayloadBase::Network, 0, 4))
                .step(Expression::equal([0, 1, 8, 0]))
                .step(Payload::first(PayloadBase::Network, 4, 2))
                .step(Expression::equal([6, 4]))
                .at_most(64)
                .rate(100, ("second", 1), 200)
                .accept()
                .end("arp"),
        ];
        if self.pppoe {
            let meta = TypeOf::Meta(MetaKey::Protocol.number());
            let pppoe = rule(Family::Netdev)
                .text("meta protocol { 0x8863, 0x8864 } @nh,0,8 0x11")
                .step(Meta::first(MetaKey::Protocol))
                .step(Lookup::one_of(AnonymousSet::of_values(
                    KeyType::ETHERNET_TYPE,
                    meta,
                    protocols,
                )))
                .step(Payload::first(PayloadBase::Network, 0, 1))
                .step(Expression::equal([0x11]));
            rules.push(pppoe.accept().end("pppoe"));
        }
        rules
    }

    fn lifelines_out(&self, family: Family, header: u32) -> Vec<Written> {
        let mut rules = neighbours_out(family, header);
        if self.dhcp {
            rules.extend(dhcp_out(family, header));
        }
        for (v4, set, name) in [
            (true, "endpoints4", "endpoint4"),
            (false, "endpoints6", "endpoint6"),
        ] {
            let endpoint = rule(family).endpoint_in(v4, Side::Destination, set);
            rules.push(endpoint.accept().end(name));
        }
        if self.wide {
            let wide = rule(family).ports(TCP, Side::Destination, WIDE);
            rules.push(wide.accept().end("endpoint-wide"));
            let names = rule(family).port(UDP, Side::Destination, 53);
            rules.push(names.accept().end("dns-wide"));
        }
        rules
    }

    fn lifelines_in(&self) -> Vec<Written> {
        let inet = || rule(Family::Inet);
        let loopback = inet().interface_type(MetaKey::InputType, "loopback", 772);
        let neighbours = inet().icmp(false, NEIGHBOURS).hop_limit(255);
        let listeners = inet()
            .icmp(false, &[("mld-listener-query", 130)])
            .block(Side::Source, LINK_LOCAL.into(), 10)
            .hop_limit(1);
        let related = |writer: Writer| writer.state("related", Conntrack::RELATED).accept();
        let mut rules = vec![
            loopback.accept().end("loopback"),
            neighbours.accept().end("neighbours"),
            listeners.accept().end("multicast-listener"),
            related(inet().icmp(true, ERRORS)).end("errors"),
            related(inet().icmp(false, ERRORS6)).end("errors6"),
        ];
        if self.dhcp {
            let answers = |writer: Writer| writer.at_most(1_500).rate(50, ("second", 1), 50).accept();
            rules.push(answers(inet().udp(67, 68)).end("dhcp"));
            let six = inet().block(Side::Source, LINK_LOCAL.into(), 10).udp(547, 546);
            rules.push(answers(six).end("dhcp6"));
        }
        for (v4, set) in [(true, "endpoints4"), (false, "endpoints6")] {
            let from = || inet().endpoint_in(v4, Side::Source, set);
            rules.push(from().not_syn().accept().end("tcp"));
            let answer = udp_answer(from().transport_protocol("udp", UDP));
            rules.push(answer.accept().end("udp"));
        }
        if self.wide {
            let wide = inet().ports(TCP, Side::Source, WIDE).not_syn().reply();
            rules.push(wide.accept().end("endpoint-wide"));
            let names = udp_answer(inet().port(UDP, Side::Source, 53));
            rules.push(names.accept().end("dns-wide"));
        }
        rules
    }

    fn blocks(&self, family: Family, way: &str) -> Vec<Written> {
        let mut rules = Vec::new();
        for (v4, suffix) in [(true, '4'), (false, '6')] {
            for kind in ["hosts", "nets"] {
                for side in [Side::Destination, Side::Source] {
                    let condition = rule(family).address_in(v4, side, &format!("{kind}{suffix}"));
                    rules.push(self.cut(&condition, &format!("{way}_remote"), kind));
                }
            }
        }
        for protocol in [TCP, UDP] {
            let own = self.ports.iter().filter(|(of, _)| *of == protocol);
            let ports: Vec<u16> = own.map(|(_, port)| *port).collect();
            if !ports.is_empty() {
                for side in [Side::Destination, Side::Source] {
                    let condition = rule(family).ports(protocol, side, &ports);
                    rules.push(self.cut(&condition, &format!("{way}_port"), "port"));
                }
            }
        }
        rules
    }

    fn limited(&self, family: Family, way: &str) -> Vec<Written> {
        let mut rules = Vec::new();
        for (index, (rate, quota)) in self.limits.iter().enumerate() {
            if rate.is_some() {
                let condition = rule(family).object(ObjectKind::Limit, &format!("rate{index}"));
                rules.push(self.cut(&condition, &format!("{way}_rate"), "rate"));
            }
            if quota.is_some() {
                let condition = rule(family).object(ObjectKind::Quota, &format!("quota{index}"));
                rules.push(self.cut(&condition, &format!("{way}_quota"), "quota"));
            }
        }
        rules
    }

    fn allowed(&self, family: Family, side: Side) -> Vec<Written> {
        let allow = |(remote, bits, protocol, ports, out): &Allowed| {
            let opens = (side == Side::Destination) == *out;
            let port = if opens { Side::Destination } else { Side::Source };
            let writer = rule(family)
                .block(side, *remote, *bits)
                .ports(*protocol, port, ports);
            let writer = match (opens, *protocol, family) {
                (false, TCP, _) => writer.not_syn(),
                (false, _, Family::Inet) => udp_answer(writer),
                _ => writer,
            };
            writer.accept().end("allowance")
        };
        self.allow.iter().map(allow).collect()
    }
}

fn udp_answer(writer: Writer) -> Writer {
    writer.state("established", Conntrack::ESTABLISHED).reply()
}

const WIDE: &[u16] = &[443, 8443, 8883];
const NEIGHBOURS: &[(&str, u8)] = &[
    ("nd-router-solicit", 133),
    ("nd-router-advert", 134),
    ("nd-neighbor-solicit", 135),
    ("nd-neighbor-advert", 136),
];
const ERRORS: &[(&str, u8)] = &[
    ("destination-unreachable", 3),
    ("time-exceeded", 11),
    ("parameter-problem", 12),
];
const ERRORS6: &[(&str, u8)] = &[
    ("destination-unreachable", 1),
    ("packet-too-big", 2),
    ("time-exceeded", 3),
    ("parameter-problem", 4),
];
const LISTENERS: &[(&str, u8)] = &[
    ("mld-listener-report", 131),
    ("mld2-listener-report", 143),
    ("mld-listener-done", 132),
];
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0);
const GROUPS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0);
const DHCP_SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);

fn neighbours_out(family: Family, header: u32) -> Vec<Written> {
    let groups = rule(family).destinations6(&[(LINK_LOCAL, 10), (GROUPS, 16)]);
    let unicast = rule(family).icmp(false, &NEIGHBOURS[2..]).hop_limit(255);
    let listeners = rule(family).icmp(false, LISTENERS).hop_limit(1);
    vec![
        groups.icmp(false, NEIGHBOURS).accept().end("neighbours"),
        unicast
            .at_most(80 + header)
            .rate(10, ("second", 1), 20)
            .accept()
            .end("neighbour-unicast"),
        listeners.accept().end("multicast-listener"),
    ]
}

fn dhcp_out(family: Family, header: u32) -> Vec<Written> {
    let slow = |writer: Writer| writer.at_most(1_500 + header).rate(20, ("minute", 60), 20);
    let all = rule(family).block(Side::Destination, "255.255.255.255".parse().unwrap(), 32);
    let renewal = rule(family).udp(68, 67).at_most(620 + header);
    let servers = rule(family).destinations6(&[(LINK_LOCAL, 10), (DHCP_SERVERS, 128)]);
    vec![
        slow(all.udp(68, 67)).accept().end("dhcp"),
        renewal.rate(4, ("minute", 60), 4).accept().end("dhcp-renewal"),
        slow(servers.udp(546, 547)).accept().end("dhcp6"),
    ]
}
