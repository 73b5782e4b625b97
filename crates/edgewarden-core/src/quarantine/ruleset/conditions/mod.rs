//! One rule said twice with the same words: as the text that `nft` reads and as the expressions that the kernel takes.
//!
//! In: what a packet must be like, condition by condition. Out: both forms. It does what nft does between the two: what a
//! header needs is asked once in each rule, neighbouring fields that are compared are loaded together, a list of one is a
//! comparison; so that the kernel has the same rules whichever form it was given, and nft lists ours as its own. The pairs
//! are those of `nft --debug=netlink`; tests/library/nft_oracle compares whole rulesets.

mod claims;
mod exceptions;
mod filled_sets;
mod frames;
mod marks;
mod rates;
mod routes;
mod senders;
mod streams;
mod tracking;

pub(super) use claims::{Claim, Ours};
pub(super) use exceptions::{Detour, HarmlessOption, Sender};
pub(super) use filled_sets::{FilledSet, LIFE_SECONDS};
pub(super) use frames::TypePlace;
pub(super) use rates::Bucket;
pub(super) use routes::number_text;
pub(super) use streams::Streams;

use std::fmt::Display;
use std::net::IpAddr;

use ipnet::IpNet;
use nf_tables::{
    AnonymousSet, Bitwise, ByteOrder, Comparison, Expression, Header, Interval, KeyType, Lookup, Meta,
    MetaKey, ObjectKind, ObjectReference, Operator, Payload, PayloadBase, Register, TypeOf, Value,
};

use super::{Layer, Rule};
use crate::quarantine::orders::order::Protocol;

/// Transport protocols by number.
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
/// Network protocols by Ethernet type.
pub(super) const IP: u16 = 0x0800;
pub(super) const IP6: u16 = 0x86dd;
/// The same as the IP stack's hooks know them (`NFPROTO_*`).
const FAMILY_IP: u8 = 2;
const FAMILY_IP6: u8 = 10;
/// Hardware types of interfaces.
const ETHERNET: u16 = 1;
const LOOPBACK: u16 = 772;
/// Bytes of an interface's name in a key.
const NAME: usize = 16;
/// Flags of a TCP header.
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// Which end of a packet something is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Source,
    Destination,
}

impl End {
    /// The letter that nft begins its fields with.
    const fn letter(self) -> char {
        match self {
            Self::Source => 's',
            Self::Destination => 'd',
        }
    }
}

/// A number with the name that nft has for it.
pub(super) type Named = (&'static str, u8);

/// How often something may pass.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    pub(super) packets: u64,
    pub(super) per: TimeUnit,
    pub(super) burst: u32,
}

/// A unit of time, as nft writes it.
#[derive(Debug, Clone, Copy)]
pub(super) enum TimeUnit {
    Second,
    Minute,
}

/// A rule while it is written.
#[derive(Clone)]
pub(super) struct Conditions {
    layer: Layer,
    text: String,
    expressions: Vec<Expression>,
    /// Network and transport protocols that were asked for.
    asked: Vec<u16>,
    /// The set that it fills.
    fills: Option<FilledSet>,
}

impl Conditions {
    /// Every packet of this layer.
    pub(super) fn of(layer: Layer) -> Self {
        Self {
            layer,
            text: String::new(),
            expressions: Vec::new(),
            asked: Vec::new(),
            fills: None,
        }
    }

    /// What is like that passes.
    pub(super) fn accept(self, what: &str) -> Rule {
        let accepts = self.said("accept").step(Expression::accept());
        Rule {
            fills: accepts.fills,
            ..Rule::new(what, accepts.text, accepts.expressions, None)
        }
    }

    /// What is like that is counted, and dropped or not.
    pub(super) fn count(self, what: &str, counter: String, drops: bool) -> Rule {
        let counted = self
            .said(format_args!("counter name {counter}"))
            .step(ObjectReference {
                kind: ObjectKind::Counter,
                name: counter.clone(),
            });
        let (word, verdict) = if drops {
            ("drop", Expression::drop())
        } else {
            ("accept", Expression::accept())
        };
        let Self {
            text, expressions, ..
        } = counted.said(word).step(verdict);
        Rule::new(what, text, expressions, Some(counter))
    }

    fn said(mut self, words: impl Display) -> Self {
        if !self.text.is_empty() {
            self.text.push(' ');
        }
        self.text.push_str(&words.to_string());
        self
    }

    fn step(mut self, expression: impl Into<Expression>) -> Self {
        self.expressions.push(expression.into());
        self
    }

    fn meta_is(self, key: MetaKey, value: impl Into<Value>) -> Self {
        self.step(Meta::first(key)).step(Expression::equal(value))
    }

    /// Whether it was not asked for before.
    fn asks(&mut self, protocol: u16) -> bool {
        let is_news = !self.asked.contains(&protocol);
        if is_news {
            self.asked.push(protocol);
        }
        is_news
    }

    fn network(mut self, v4: bool) -> Self {
        let (ethernet, family) = if v4 { (IP, FAMILY_IP) } else { (IP6, FAMILY_IP6) };
        if !self.asks(ethernet) {
            return self;
        }
        match self.layer {
            Layer::Inet => self.meta_is(MetaKey::NetworkFamily, [family]),
            Layer::Bridge | Layer::Netdev | Layer::Arp => {
                self.meta_is(MetaKey::Protocol, ethernet.to_be_bytes())
            }
        }
    }

    fn transport(mut self, protocol: u8) -> Self {
        if self.asks(protocol.into()) {
            self.meta_is(MetaKey::TransportProtocol, [protocol])
        } else {
            self
        }
    }

    pub(super) fn loopback(self, end: End) -> Self {
        self.interface(end, "loopback", LOOPBACK)
    }

    fn interface(self, end: End, name: &str, number: u16) -> Self {
        let (word, key) = match end {
            End::Source => ("iiftype", MetaKey::InputType),
            End::Destination => ("oiftype", MetaKey::OutputType),
        };
        self.said(format_args!("meta {word} {name}"))
            .meta_is(key, number.to_ne_bytes())
    }

    pub(super) fn at_most(self, length: u32) -> Self {
        self.said(format_args!("meta length <= {length}"))
            .step(Meta::first(MetaKey::Length))
            .step(ByteOrder::to_network())
            .step(Comparison::first(Operator::LessOrEqual, length.to_be_bytes()))
    }

    /// Above the table's limit, or quota, of that name.
    pub(super) fn above(self, kind: ObjectKind, name: String) -> Self {
        let word = if kind == ObjectKind::Limit {
            "limit"
        } else {
            "quota"
        };
        self.said(format_args!("{word} name \"{name}\""))
            .step(ObjectReference { kind, name })
    }

    fn load_address(self, v4: bool, end: End) -> Self {
        let (offset, length) = address_field(v4, end);
        self.network(v4)
            .step(Payload::first(PayloadBase::Network, offset, length))
    }

    /// Its address is in this block.
    pub(super) fn in_block(self, end: End, block: IpNet) -> Self {
        let v4 = block.addr().is_ipv4();
        let bits = usize::from(block.prefix_len());
        let written = self.said(format_args!("{} {}addr {block}", ip(v4), end.letter()));
        let (offset, _) = address_field(v4, end);
        let whole = octets(block.network());
        if bits > 0 && bits.is_multiple_of(8) {
            let first = whole
                .bytes()
                .get(..bits / 8)
                .and_then(Value::new)
                .unwrap_or(whole);
            let length = u32::from(block.prefix_len() / 8);
            return written
                .network(v4)
                .step(Payload::first(PayloadBase::Network, offset, length))
                .step(Expression::equal(first));
        }
        written
            .load_address(v4, end)
            .step(Bitwise::mask(octets(block.netmask())))
            .step(Expression::equal(whole))
    }

    /// Its destination is in one of these blocks of IPv6, which are disjoint and ascending.
    pub(super) fn destined6(self, blocks: &[IpNet]) -> Self {
        let names: Vec<String> = blocks.iter().map(|block| short(*block)).collect();
        let intervals = blocks
            .iter()
            .map(|block| Interval::prefix(octets(block.addr()), block.prefix_len().into()));
        let type_of = TypeOf::Field {
            header: Header::Ip6,
            field: 9,
        };
        let set = AnonymousSet::of_intervals(KeyType::IPV6, type_of, intervals);
        self.said(format_args!("ip6 daddr {{ {} }}", names.join(", ")))
            .load_address(false, End::Destination)
            .step(Lookup::one_of(set))
    }

    /// Its address is in the set of that name.
    pub(super) fn address_in(self, v4: bool, end: End, set: &str) -> Self {
        self.said(format_args!("{} {}addr @{set}", ip(v4), end.letter()))
            .load_address(v4, end)
            .step(Lookup::named(set))
    }

    /// Its address, protocol and port are in the set of that name.
    pub(super) fn endpoint_in(self, v4: bool, end: End, set: &str) -> Self {
        let letter = end.letter();
        let protocol = behind(Register::FIRST, if v4 { 4 } else { 16 });
        self.said(format_args!(
            "{} {letter}addr . meta l4proto . th {letter}port @{set}",
            ip(v4)
        ))
        .load_address(v4, end)
        .step(Meta {
            destination: protocol,
            key: MetaKey::TransportProtocol,
        })
        .step(Payload {
            destination: behind(protocol, 1),
            ..Payload::first(PayloadBase::Transport, port_offset(end), 2)
        })
        .step(Lookup::named(set))
    }

    /// Its source is one of these addresses, which are of one IP version.
    pub(super) fn sent_as_one_of(self, v4: bool, addresses: &[IpAddr]) -> Self {
        let names: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let (key_type, header, field) = if v4 {
            (KeyType::IPV4, Header::Ip, 11)
        } else {
            (KeyType::IPV6, Header::Ip6, 8)
        };
        self.said(format_args!("{} saddr {{ {} }}", ip(v4), names.join(", ")))
            .load_address(v4, End::Source)
            .one_of(
                key_type,
                TypeOf::Field { header, field },
                addresses.iter().map(|address| octets(*address)),
            )
    }

    /// An ICMP message of one of these types.
    pub(super) fn icmp(self, types: &[Named]) -> Self {
        self.message(true, types)
    }

    /// An ICMPv6 message of one of these types.
    pub(super) fn icmp6(self, types: &[Named]) -> Self {
        self.message(false, types)
    }

    fn message(self, v4: bool, types: &[Named]) -> Self {
        let names: Vec<&str> = types.iter().map(|(name, _)| *name).collect();
        let (word, protocol, key_type, header) = if v4 {
            ("icmp", ICMP, KeyType::ICMP_TYPE, Header::Icmp)
        } else {
            ("icmpv6", ICMPV6, KeyType::ICMPV6_TYPE, Header::Icmp6)
        };
        let loaded = self
            .said(format_args!("{word} type {{ {} }}", names.join(", ")))
            .network(v4)
            .transport(protocol)
            .step(Payload::first(PayloadBase::Transport, 0, 1));
        let values = types.iter().map(|(_, number)| [*number]);
        loaded.one_of(key_type, TypeOf::Field { header, field: 1 }, values)
    }

    pub(super) fn hop_limit(self, limit: u8) -> Self {
        self.said(format_args!("ip6 hoplimit {limit}"))
            .network(false)
            .step(Payload::first(PayloadBase::Network, 7, 1))
            .step(Expression::equal([limit]))
    }

    /// UDP from one port to another.
    pub(super) fn udp_between(self, from: u16, to: u16) -> Self {
        let [a, b] = from.to_be_bytes();
        let [c, d] = to.to_be_bytes();
        self.said(format_args!("udp sport {from} udp dport {to}"))
            .transport(UDP)
            .step(Payload::first(PayloadBase::Transport, 0, 4))
            .step(Expression::equal([a, b, c, d]))
    }

    pub(super) fn port(self, protocol: Protocol, end: End, port: u16) -> Self {
        self.said(format_args!("{protocol} {}port {port}", end.letter()))
            .load_port(protocol, end)
            .step(Expression::equal(port.to_be_bytes()))
    }

    /// Its port is one of these.
    pub(super) fn ports(self, protocol: Protocol, end: End, ports: &[u16]) -> Self {
        let names: Vec<String> = ports.iter().map(u16::to_string).collect();
        let type_of = TypeOf::Field {
            header: match protocol {
                Protocol::Tcp => Header::Tcp,
                Protocol::Udp => Header::Udp,
            },
            field: match end {
                End::Source => 1,
                End::Destination => 2,
            },
        };
        self.said(format_args!(
            "{protocol} {}port {{ {} }}",
            end.letter(),
            names.join(", ")
        ))
        .load_port(protocol, end)
        .one_of(
            KeyType::PORT,
            type_of,
            ports.iter().map(|port| port.to_be_bytes()),
        )
    }

    fn load_port(self, protocol: Protocol, end: End) -> Self {
        self.transport(transport_number(protocol)).step(Payload::first(
            PayloadBase::Transport,
            port_offset(end),
            2,
        ))
    }

    /// Its transport protocol is one of these numbers.
    pub(super) fn of_protocols(self, numbers: &[u8]) -> Self {
        let names: Vec<String> = numbers.iter().map(u8::to_string).collect();
        let type_of = TypeOf::Meta(MetaKey::TransportProtocol.number());
        let values = numbers.iter().map(|number| [*number]);
        let set = AnonymousSet::of_host_values(KeyType::TRANSPORT_PROTOCOL, type_of, values);
        self.said(format_args!("meta l4proto {{ {} }}", names.join(", ")))
            .step(Meta::first(MetaKey::TransportProtocol))
            .step(Lookup::one_of(set))
    }

    /// What was loaded is one of these.
    fn one_of<V: Into<Value>>(
        self,
        key_type: KeyType,
        type_of: TypeOf,
        values: impl ExactSizeIterator<Item = V>,
    ) -> Self {
        let mut values = values.peekable();
        if values.len() == 1
            && let Some(only) = values.next()
        {
            return self.step(Expression::equal(only));
        }
        self.step(Lookup::one_of(AnonymousSet::of_values(key_type, type_of, values)))
    }

    /// A segment that does not ask for a new connection.
    pub(super) fn not_syn(self) -> Self {
        self.said("tcp flags & (syn | ack) != syn")
            .transport(TCP)
            .flags(SYN | ACK, Operator::NotEqual, SYN)
    }
}

/// As IP headers have it.
pub(super) const fn transport_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => TCP,
        Protocol::Udp => UDP,
    }
}

const fn ip(v4: bool) -> &'static str {
    if v4 { "ip" } else { "ip6" }
}

/// The register behind so many bytes of a key that begins in this one.
fn behind(register: Register, bytes: usize) -> Register {
    register.behind(bytes).unwrap_or(register)
}

/// Offset and length of an address in its header.
const fn address_field(v4: bool, end: End) -> (u32, u32) {
    match (v4, end) {
        (true, End::Source) => (12, 4),
        (true, End::Destination) => (16, 4),
        (false, End::Source) => (8, 16),
        (false, End::Destination) => (24, 16),
    }
}

const fn port_offset(end: End) -> u32 {
    match end {
        End::Source => 0,
        End::Destination => 2,
    }
}

/// A block as nft writes it in lists: a host without its length.
fn short(block: IpNet) -> String {
    if block.prefix_len() == block.max_prefix_len() {
        block.addr().to_string()
    } else {
        block.to_string()
    }
}

/// An address as the kernel compares it.
pub(super) fn octets(address: IpAddr) -> Value {
    match address {
        IpAddr::V4(address) => address.octets().into(),
        IpAddr::V6(address) => address.octets().into(),
    }
}

/// An address of the kernel's.
pub(super) fn address_of(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        return Some(bytes.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

/// A transport protocol of the kernel's.
pub(super) const fn protocol_of(number: u8) -> Option<Protocol> {
    match number {
        TCP => Some(Protocol::Tcp),
        UDP => Some(Protocol::Udp),
        _ => None,
    }
}
