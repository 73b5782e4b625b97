//! Conditions of what is said on a link of whose an address is.
//!
//! In: the set of what this device is called there, its addresses. Out: that a message tells the truth, or speaks of an address of
//! this device.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use nf_tables::{
    AnonymousSet, Comparison, Expression, KeyType, Lookup, LookupFlags, Meta, MetaKey, Operator, Payload,
    PayloadBase, Register, TypeOf,
};

use super::super::exceptions::ARP;
use super::routes::number_text;
use super::{Conditions, NAME, behind, octets};

/// A packet's kind that everything has which is made here (`PACKET_HOST`).
const MADE_HERE: u8 = 0;
/// Length of a header of Ethernet without tags.
const ETHERNET_HEADER: u32 = 14;
/// Bytes of a VLAN's tag.
const TAG: u32 = 4;
/// Where a message of ARP has whom it is from: hardware address, address.
const ARP_HARDWARE: u32 = 8;
const ARP_ADDRESS: u32 = 14;
/// Where the first option of a router's solicitation begins behind the IPv6 header: its kind and length, and its address.
const OPTION: u32 = 8;
const OPTION_ADDRESS: u32 = 10;
/// The option that tells the sender's hardware address, eight bytes long.
const OWN_HARDWARE: [u8; 2] = [1, 1];
/// Length of a solicitation with that option and no other.
const SOLICITATION: u16 = 16;
/// Where an IPv6 header has whom it is from.
const SOURCE6: u32 = 8;
/// Where a neighbour's advertisement has whom it speaks of.
const TARGET: u32 = 8;

/// Where a client's message to a server of leases has, behind the header of UDP, the address that it has and whose it is.
const LEASED_ADDRESS: u32 = 8 + 12;
const LEASED_HARDWARE: u32 = 8 + 28;

/// Length of a packet of IPv4, without options, up to there.
const TOLD_WHOSE: u16 = 20 + 8 + 28 + 6;

/// Length of an option that tells a hardware address of Ethernet.
const OPTION_LENGTH: u16 = 8;

/// A message that says where an address is.
#[derive(Debug, Clone, Copy)]
pub(in super::super) enum Claim {
    /// Of ARP, behind so many tags, which are among the bytes or shown in their place, and whatever its sender calls it: he may call it
    /// tagged where it is not. It speaks of its sender.
    Arp(u8),
    /// Who looks for a router, and tells its own hardware address.
    RouterSolicitation,
    /// Who looks for a neighbour, likewise.
    Solicitation,
    /// Who answers for an address.
    Advertisement,
}

/// What this device is called on a link: a set of that name.
#[derive(Debug, Clone, Copy)]
pub(in super::super) enum Ours<'a> {
    /// Where it is known by which interface each is sent.
    There(&'a str),
    /// By whichever.
    Anywhere(&'a str),
}

/// Where something of six bytes stands that is a hardware address.
#[derive(Debug, Clone, Copy)]
pub(super) struct LinkPlace {
    base: PayloadBase,
    offset: u32,
}

impl LinkPlace {
    /// The frame's own sender.
    pub(super) const SENDER: Self = Self::at(PayloadBase::Link, 6);
    /// Whom it is handed to.
    pub(super) const RECEIVER: Self = Self::at(PayloadBase::Link, 0);

    const fn at(base: PayloadBase, offset: u32) -> Self {
        Self { base, offset }
    }

    const fn load(self) -> Payload {
        Payload::first(self.base, self.offset, 6)
    }
}

impl fmt::Display for LinkPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&place(self.base, self.offset, 48))
    }
}

impl Claim {
    pub(in super::super) const ALL: [Self; 6] = [
        Self::Arp(0),
        Self::Arp(1),
        Self::Arp(2),
        Self::RouterSolicitation,
        Self::Solicitation,
        Self::Advertisement,
    ];

    pub(in super::super) const fn is_of_v4(self) -> bool {
        matches!(self, Self::Arp(_))
    }

    /// Where it has the address that it speaks of.
    const fn address(self) -> (PayloadBase, u32) {
        match self {
            Self::Arp(tags) => (PayloadBase::Link, Self::header(tags) + ARP_ADDRESS),
            Self::RouterSolicitation | Self::Solicitation => (PayloadBase::Network, SOURCE6),
            Self::Advertisement => (PayloadBase::Transport, TARGET),
        }
    }

    /// And where that is: messages about neighbours in their only option.
    const fn hardware(self) -> LinkPlace {
        match self {
            Self::Arp(tags) => LinkPlace::at(PayloadBase::Link, Self::header(tags) + ARP_HARDWARE),
            _ => LinkPlace::at(PayloadBase::Transport, self.body() as u32 + 2),
        }
    }

    const fn header(tags: u8) -> u32 {
        ETHERNET_HEADER + tags as u32 * TAG
    }

    /// Length of a message about neighbours without options, behind the IPv6 header.
    const fn body(self) -> u16 {
        match self {
            Self::RouterSolicitation => 8,
            _ => 24,
        }
    }

    /// The kind of that option, and its length in eights.
    const fn option(self) -> [u8; 2] {
        match self {
            Self::Advertisement => [2, 1],
            _ => OWN_HARDWARE,
        }
    }

    /// Such a message.
    fn of(self, frame: Conditions) -> Conditions {
        match self {
            Self::Arp(tags) => frame.type_behind(tags, &[ARP]),
            Self::RouterSolicitation => frame.icmp6(&[("nd-router-solicit", 133)]),
            Self::Solicitation => frame.icmp6(&[("nd-neighbor-solicit", 135)]),
            Self::Advertisement => frame.icmp6(&[("nd-neighbor-advert", 136)]),
        }
    }

    /// A frame that speaks of one of these addresses, of its family.
    pub(in super::super) fn of_one_of(self, frame: Conditions, own: &[IpAddr]) -> Conditions {
        self.of(frame).bits(self.address(), own)
    }

    /// A frame that speaks of an address that is at home where it leaves.
    pub(in super::super) fn of_home(self, frame: Conditions) -> Conditions {
        self.at_home(self.of(frame), true)
    }

    /// The address is at home there, or is not.
    pub(in super::super) fn at_home(self, spoken: Conditions, is_so: bool) -> Conditions {
        let set = self.set("homes");
        let (negation, flags) = sign(is_so);
        spoken
            .said(format_args!(
                "meta oifname . {} {negation}@{set}",
                self.address_text()
            ))
            .step(Meta::first(MetaKey::OutputName))
            .step(self.load_address(behind(Register::FIRST, NAME)))
            .step(Lookup {
                flags,
                ..Lookup::named(&set)
            })
    }

    /// It says that the address is where it is not at home.
    pub(in super::super) fn misplaces(self, spoken: Conditions) -> Conditions {
        self.called_otherwise(self.with_option(spoken))
    }

    /// The same of one whose shape is known.
    pub(in super::super) fn called_otherwise(self, spoken: Conditions) -> Conditions {
        let set = self.set("called");
        let (text, hardware) = (self.address_text(), self.hardware());
        let (_, none) = sign(false);
        spoken
            .said(format_args!("{text} . {hardware} != @{set}"))
            .step(self.load_address(Register::FIRST))
            .step(Payload {
                destination: behind(Register::FIRST, if self.is_of_v4() { 4 } else { 16 }),
                ..hardware.load()
            })
            .step(Lookup {
                flags: none,
                ..Lookup::named(&set)
            })
    }

    /// It says that the address is at none of our hardware addresses.
    pub(in super::super) fn none_of(self, spoken: Conditions, ours: Ours<'_>) -> Conditions {
        let spoken = self.with_option(spoken);
        match ours {
            Ours::There(set) => spoken.listed(self.hardware(), set, false),
            Ours::Anywhere(set) => spoken.listed_alone(self.hardware(), set, false),
        }
    }

    /// Of messages about neighbours those that have neither no option nor that one alone, so that it is not read where it stands.
    pub(in super::super) fn shapes_of_no_kernel(self, spoken: &Conditions) -> Vec<Conditions> {
        if self.is_of_v4() {
            return Vec::new();
        }
        let lengths = [self.body(), self.body() + OPTION_LENGTH];
        let other_length = lengths.into_iter().fold(spoken.clone(), Conditions::length_other);
        let (begins, kind) = (u32::from(self.body()), self.option());
        let other_kind = self
            .with_option(spoken.clone())
            .said(format_args!("@th,{},16 != {}", begins * 8, number_text(&kind)))
            .step(Payload::first(PayloadBase::Transport, begins, 2))
            .step(Comparison::first(Operator::NotEqual, kind));
        vec![other_length, other_kind]
    }

    fn with_option(self, spoken: Conditions) -> Conditions {
        match self {
            Self::Arp(_) => spoken,
            _ => spoken.length(self.body() + OPTION_LENGTH),
        }
    }

    fn set(self, kind: &str) -> String {
        format!("{kind}{}", if self.is_of_v4() { '4' } else { '6' })
    }

    fn address_text(self) -> String {
        let (base, offset) = self.address();
        place(base, offset, if self.is_of_v4() { 32 } else { 128 })
    }

    fn load_address(self, destination: Register) -> Payload {
        let (base, offset) = self.address();
        Payload {
            destination,
            ..Payload::first(base, offset, if self.is_of_v4() { 4 } else { 16 })
        }
    }
}

impl Conditions {
    /// It was not taken in from anywhere: what a bridge passes on, or comes by a pair of interfaces, has another kind.
    pub(in super::super) fn made_here(self) -> Self {
        self.said("meta pkttype host")
            .meta_is(MetaKey::PacketType, [MADE_HERE])
    }

    /// A message of ARP that says of an address of ours, or of none yet, that it is where the interface says that it is.
    pub(in super::super) fn arp_of_ours(self, set: &str, own: &[IpAddr]) -> Self {
        let own = std::iter::once(IpAddr::V4(Ipv4Addr::UNSPECIFIED)).chain(own.iter().copied());
        let own: Vec<IpAddr> = own.collect();
        self.arp_speaks_of(&own)
            .listed(LinkPlace::at(PayloadBase::Network, ARP_HARDWARE), set, true)
    }

    /// A message of ARP that says of one of these addresses where it is.
    pub(in super::super) fn arp_speaks_of(self, addresses: &[IpAddr]) -> Self {
        self.bits((PayloadBase::Network, ARP_ADDRESS), addresses)
    }

    /// A neighbour's advertisement that speaks of one of these addresses.
    pub(in super::super) fn advertises(self, addresses: &[IpAddr]) -> Self {
        self.bits((PayloadBase::Transport, TARGET), addresses)
    }

    /// A router's solicitation with nothing but where we are.
    pub(in super::super) fn solicits_as_ours(self, set: &str) -> Self {
        let place = OPTION * 8;
        self.length(SOLICITATION)
            .said(format_args!("@th,{place},16 0x0101"))
            .step(Payload::first(PayloadBase::Transport, OPTION, 2))
            .step(Expression::equal(OWN_HARDWARE))
            .listed(LinkPlace::at(PayloadBase::Transport, OPTION_ADDRESS), set, true)
    }

    /// So many bytes follow the IPv6 header.
    fn length(self, bytes: u16) -> Self {
        self.said(format_args!("@nh,32,16 {bytes}"))
            .step(Payload::first(PayloadBase::Network, 4, 2))
            .step(Expression::equal(bytes.to_be_bytes()))
    }

    fn length_other(self, bytes: u16) -> Self {
        self.said(format_args!("@nh,32,16 != {bytes}"))
            .step(Payload::first(PayloadBase::Network, 4, 2))
            .step(Comparison::first(Operator::NotEqual, bytes.to_be_bytes()))
    }

    /// It ends before a client's message to a server of leases has told whose that is.
    pub(in super::super) fn shorter_than_a_lease(self) -> Self {
        self.said(format_args!("ip length < {TOLD_WHOSE}"))
            .network(true)
            .step(Payload::first(PayloadBase::Network, 2, 2))
            .step(Comparison::first(Operator::Less, TOLD_WHOSE.to_be_bytes()))
    }

    /// A client's message to a server of leases, for one of the hardware addresses in the set of that name.
    pub(in super::super) fn asks_for_lease_of(self, set: &str) -> Self {
        self.listed_alone(LinkPlace::at(PayloadBase::Transport, LEASED_HARDWARE), set, true)
    }

    /// The same about the lease of one of these addresses.
    pub(in super::super) fn speaks_of_lease_of(self, own: &[IpAddr]) -> Self {
        self.bits((PayloadBase::Transport, LEASED_ADDRESS), own)
    }

    /// The hardware address that stands there is in the set of that name, or is not.
    pub(super) fn listed_alone(self, place: LinkPlace, set: &str, among: bool) -> Self {
        let (negation, flags) = sign(among);
        self.said(format_args!("{place} {negation}@{set}"))
            .step(place.load())
            .step(Lookup {
                flags,
                ..Lookup::named(set)
            })
    }

    /// The interface that it leaves by, with the hardware address that stands there, is in the set of that name, or is not.
    pub(super) fn listed(self, place: LinkPlace, set: &str, among: bool) -> Self {
        let (negation, flags) = sign(among);
        self.said(format_args!("meta oifname . {place} {negation}@{set}"))
            .step(Meta::first(MetaKey::OutputName))
            .step(Payload {
                destination: behind(Register::FIRST, NAME),
                ..place.load()
            })
            .step(Lookup {
                flags,
                ..Lookup::named(set)
            })
    }

    /// One of these addresses, which are of one family, stands there.
    fn bits(self, (base, offset): (PayloadBase, u32), addresses: &[IpAddr]) -> Self {
        let values = addresses.iter().map(|address| octets(*address));
        let length = values.clone().next().map_or(0, |value| value.bytes().len());
        let length = u32::try_from(length).unwrap_or_default();
        let names: Vec<String> = values.clone().map(|value| number_text(value.bytes())).collect();
        let bits = TypeOf::Bits {
            base: match base {
                PayloadBase::Link => 1,
                PayloadBase::Network => 2,
                PayloadBase::Transport | PayloadBase::Inner => 3,
            },
            offset: offset * 8,
            length: length * 8,
        };
        let loaded = self
            .said(format_args!(
                "{} {{ {} }}",
                place(base, offset, length * 8),
                names.join(", ")
            ))
            .step(Payload::first(base, offset, length));
        if let [only] = addresses {
            return loaded.step(Comparison::first(Operator::Equal, octets(*only)));
        }
        loaded.step(Lookup::one_of(AnonymousSet::of_values(
            KeyType::INTEGER,
            bits,
            values,
        )))
    }
}

/// How a look for something among others, or not among them, is written.
pub(super) const fn sign(among: bool) -> (&'static str, LookupFlags) {
    if among {
        ("", LookupFlags::NONE)
    } else {
        ("!= ", LookupFlags::INVERTED)
    }
}

/// As nft writes bytes without a name.
fn place(base: PayloadBase, offset: u32, bits: u32) -> String {
    let base = match base {
        PayloadBase::Link => "ll",
        PayloadBase::Network => "nh",
        PayloadBase::Transport | PayloadBase::Inner => "th",
    };
    format!("@{base},{},{bits}", offset * 8)
}
