//! Rules written twice, as nft's text and as expressions, statement by statement.
//!
//! It does what nft does between the two: what a header needs is asked once in each rule, and neighbouring fields that
//! are compared are loaded together. The pairs were taken from `nft --debug=netlink`.

use std::fmt::Display;
use std::net::{IpAddr, Ipv6Addr};

use nf_tables::{
    AnonymousSet, Bitwise, ByteOrder, Comparison, Conntrack, ConntrackKey, Expression, Family, Header,
    Interval, KeyType, Limit, LimitFlags, LimitKind, Lookup, Meta, MetaKey, ObjectKind, ObjectReference,
    Operator, Payload, PayloadBase, Register, Rule, TypeOf, Value,
};

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// A rule while it is written.
#[derive(Clone)]
pub(crate) struct Writer {
    family: Family,
    text: String,
    expressions: Vec<Expression>,
    asked: Vec<u16>,
}

/// Source or destination.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Side {
    Source,
    Destination,
}

impl Side {
    fn letter(self) -> char {
        if self == Self::Source { 's' } else { 'd' }
    }
}

pub(crate) fn rule(family: Family) -> Writer {
    Writer {
        family,
        text: String::new(),
        expressions: Vec::new(),
        asked: Vec::new(),
    }
}

impl Writer {
    /// The statement, and the rule, which has it as its comment.
    pub(crate) fn end(self, comment: &str) -> (String, Rule) {
        let text = format!("{} comment \"{comment}\"", self.text.trim());
        (text, Rule::new(self.expressions, comment))
    }

    pub(crate) fn accept(mut self) -> Self {
        self.say("accept");
        self.step(Expression::accept())
    }

    pub(crate) fn drop(mut self) -> Self {
        self.say("drop");
        self.step(Expression::drop())
    }

    fn say(&mut self, text: impl Display) {
        self.text.push_str(&format!(" {text}"));
    }

    pub(crate) fn step(mut self, expression: impl Into<Expression>) -> Self {
        self.expressions.push(expression.into());
        self
    }

    pub(crate) fn text(mut self, text: impl Display) -> Self {
        self.say(text);
        self
    }

    fn meta_is(self, key: MetaKey, value: impl Into<Value>) -> Self {
        self.step(Meta::first(key)).step(Expression::equal(value))
    }

    /// The hardware type of an interface.
    pub(crate) fn interface_type(self, key: MetaKey, name: &str, number: u16) -> Self {
        let word = if key == MetaKey::InputType {
            "iiftype"
        } else {
            "oiftype"
        };
        self.text(format!("meta {word} {name}"))
            .meta_is(key, number.to_ne_bytes())
    }

    /// Asks for the network protocol, unless it was asked for.
    fn network(mut self, v4: bool) -> Self {
        let key = if v4 { 0x800 } else { 0x86dd };
        if self.asked.contains(&key) {
            return self;
        }
        self.asked.push(key);
        match self.family {
            Family::Inet => self.meta_is(MetaKey::NetworkFamily, [if v4 { 2_u8 } else { 10 }]),
            _ => self.meta_is(MetaKey::Protocol, key.to_be_bytes()),
        }
    }

    fn transport(mut self, protocol: u8) -> Self {
        if self.asked.contains(&u16::from(protocol)) {
            return self;
        }
        self.asked.push(protocol.into());
        self.meta_is(MetaKey::TransportProtocol, [protocol])
    }

    fn address_field(v4: bool, side: Side) -> (u32, u32) {
        match (v4, side) {
            (true, Side::Source) => (12, 4),
            (true, Side::Destination) => (16, 4),
            (false, Side::Source) => (8, 16),
            (false, Side::Destination) => (24, 16),
        }
    }

    fn load_address(self, v4: bool, side: Side) -> Self {
        let (offset, length) = Self::address_field(v4, side);
        self.network(v4)
            .step(Payload::first(PayloadBase::Network, offset, length))
    }

    /// An address block.
    pub(crate) fn block(self, side: Side, address: IpAddr, bits: usize) -> Self {
        let v4 = address.is_ipv4();
        let name = if v4 { "ip" } else { "ip6" };
        let writer = self.text(format!("{name} {}addr {address}/{bits}", side.letter()));
        let bytes = octets(address);
        let (offset, length) = Self::address_field(v4, side);
        if bits > 0 && bits.is_multiple_of(8) {
            let load = Payload::first(PayloadBase::Network, offset, u32::try_from(bits / 8).unwrap());
            let value = Value::new(&bytes[..bits / 8]).unwrap();
            return writer.network(v4).step(load).step(Expression::equal(value));
        }
        let ones = Interval::prefix(Value::zero(length as usize), bits).last;
        let mask: Vec<u8> = ones.bytes().iter().map(|byte| !byte).collect();
        writer
            .load_address(v4, side)
            .step(Bitwise::mask(Value::new(&mask).unwrap()))
            .step(Expression::equal(Value::new(&bytes).unwrap()))
    }

    /// IPv6 destinations, blocks of them.
    pub(crate) fn destinations6(self, blocks: &[(Ipv6Addr, usize)]) -> Self {
        let names: Vec<String> = blocks.iter().map(|(a, bits)| format!("{a}/{bits}")).collect();
        let intervals = blocks
            .iter()
            .map(|(address, bits)| Interval::prefix(address.octets(), *bits));
        let type_of = TypeOf::Field {
            header: Header::Ip6,
            field: 9,
        };
        let set = AnonymousSet::of_intervals(KeyType::IPV6, type_of, intervals);
        self.text(format!("ip6 daddr {{ {} }}", names.join(", ")))
            .load_address(false, Side::Destination)
            .step(Lookup::one_of(set))
    }

    /// An address in a named set.
    pub(crate) fn address_in(self, v4: bool, side: Side, set: &str) -> Self {
        let name = if v4 { "ip" } else { "ip6" };
        self.text(format!("{name} {}addr @{set}", side.letter()))
            .load_address(v4, side)
            .step(Lookup::named(set))
    }

    /// Address, protocol and port in a named set.
    pub(crate) fn endpoint_in(self, v4: bool, side: Side, set: &str) -> Self {
        let name = if v4 { "ip" } else { "ip6" };
        let letter = side.letter();
        let protocol = Register::FIRST.behind(if v4 { 4 } else { 16 }).unwrap();
        self.text(format!(
            "{name} {letter}addr . meta l4proto . th {letter}port @{set}"
        ))
        .load_address(v4, side)
        .step(Meta {
            destination: protocol,
            key: MetaKey::TransportProtocol,
        })
        .step(Payload {
            destination: protocol.behind(1).unwrap(),
            ..Payload::first(PayloadBase::Transport, port_offset(side), 2)
        })
        .step(Lookup::named(set))
    }

    pub(crate) fn transport_protocol(self, name: &str, number: u8) -> Self {
        self.text(format!("meta l4proto {name}"))
            .meta_is(MetaKey::TransportProtocol, [number])
    }

    /// Types of ICMP messages: of one alone nft makes a comparison.
    pub(crate) fn icmp(self, v4: bool, types: &[(&str, u8)]) -> Self {
        let names: Vec<&str> = types.iter().map(|(name, _)| *name).collect();
        let (word, protocol, key_type, header) = if v4 {
            ("icmp", ICMP, KeyType::ICMP_TYPE, Header::Icmp)
        } else {
            ("icmpv6", ICMPV6, KeyType::ICMPV6_TYPE, Header::Icmp6)
        };
        let writer = self
            .text(format!("{word} type {{ {} }}", names.join(", ")))
            .network(v4)
            .transport(protocol)
            .step(Payload::first(PayloadBase::Transport, 0, 1));
        if let [(_, only)] = types {
            return writer.step(Expression::equal([*only]));
        }
        let type_of = TypeOf::Field { header, field: 1 };
        let values = types.iter().map(|(_, number)| [*number]);
        writer.step(Lookup::one_of(AnonymousSet::of_values(key_type, type_of, values)))
    }

    pub(crate) fn hop_limit(self, limit: u8) -> Self {
        self.text(format!("ip6 hoplimit {limit}"))
            .network(false)
            .step(Payload::first(PayloadBase::Network, 7, 1))
            .step(Expression::equal([limit]))
    }

    /// UDP from one port to another, which are loaded together.
    pub(crate) fn udp(self, from: u16, to: u16) -> Self {
        let [a, b] = from.to_be_bytes();
        let [c, d] = to.to_be_bytes();
        self.text(format!("udp sport {from} udp dport {to}"))
            .transport(UDP)
            .step(Payload::first(PayloadBase::Transport, 0, 4))
            .step(Expression::equal([a, b, c, d]))
    }

    pub(crate) fn port(self, protocol: u8, side: Side, port: u16) -> Self {
        self.text(format!("{} {}port {port}", name_of(protocol), side.letter()))
            .transport(protocol)
            .step(Payload::first(PayloadBase::Transport, port_offset(side), 2))
            .step(Expression::equal(port.to_be_bytes()))
    }

    /// Ports: of one alone nft makes a comparison.
    pub(crate) fn ports(self, protocol: u8, side: Side, ports: &[u16]) -> Self {
        let names: Vec<String> = ports.iter().map(ToString::to_string).collect();
        let (name, letter) = (name_of(protocol), side.letter());
        let writer = self
            .text(format!("{name} {letter}port {{ {} }}", names.join(", ")))
            .transport(protocol)
            .step(Payload::first(PayloadBase::Transport, port_offset(side), 2));
        if let [only] = ports {
            return writer.step(Expression::equal(only.to_be_bytes()));
        }
        let type_of = TypeOf::Field {
            header: if protocol == TCP { Header::Tcp } else { Header::Udp },
            field: if side == Side::Source { 1 } else { 2 },
        };
        let values = ports.iter().map(|port| port.to_be_bytes());
        writer.step(Lookup::one_of(AnonymousSet::of_values(
            KeyType::PORT,
            type_of,
            values,
        )))
    }

    pub(crate) fn not_syn(self) -> Self {
        self.text("tcp flags & (syn | ack) != syn")
            .transport(TCP)
            .step(Payload::first(PayloadBase::Transport, 13, 1))
            .step(Bitwise::mask([0x12]))
            .step(Comparison::first(Operator::NotEqual, [2]))
    }

    pub(crate) fn state(self, name: &str, bit: u32) -> Self {
        self.text(format!("ct state {name}"))
            .step(Conntrack::first(ConntrackKey::State))
            .step(Bitwise::mask(bit.to_ne_bytes()))
            .step(Comparison::first(Operator::NotEqual, [0; 4]))
    }

    pub(crate) fn reply(self) -> Self {
        self.text("ct direction reply")
            .step(Conntrack::first(ConntrackKey::Direction))
            .step(Expression::equal(Conntrack::REPLY))
    }

    pub(crate) fn at_most(self, length: u32) -> Self {
        self.text(format!("meta length <= {length}"))
            .step(Meta::first(MetaKey::Length))
            .step(ByteOrder::to_network())
            .step(Comparison::first(Operator::LessOrEqual, length.to_be_bytes()))
    }

    pub(crate) fn rate(self, rate: u64, (unit, seconds): (&str, u64), burst: u32) -> Self {
        self.text(format!("limit rate {rate}/{unit} burst {burst} packets"))
            .step(Limit {
                rate,
                seconds,
                burst,
                kind: LimitKind::Packets,
                flags: LimitFlags::NONE,
            })
    }

    pub(crate) fn object(self, kind: ObjectKind, name: &str) -> Self {
        let word = match kind {
            ObjectKind::Counter => "counter",
            ObjectKind::Quota => "quota",
            ObjectKind::Limit => "limit",
        };
        self.text(format!("{word} name \"{name}\""))
            .step(ObjectReference {
                kind,
                name: name.to_owned(),
            })
    }

    pub(crate) fn count(self, name: &str) -> Self {
        self.object(ObjectKind::Counter, name)
    }
}

fn port_offset(side: Side) -> u32 {
    if side == Side::Source { 0 } else { 2 }
}

fn name_of(protocol: u8) -> &'static str {
    if protocol == TCP { "tcp" } else { "udp" }
}

pub(crate) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
