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

use super::{Conditions, NAME, behind, octets};

/// A packet's kind that everything has which is made here (`PACKET_HOST`).
const MADE_HERE: u8 = 0;
/// Length of a header of Ethernet without tags.
const ETHERNET_HEADER: u32 = 14;
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
/// Where a neighbour's advertisement has whom it speaks of.
const TARGET: u32 = 8;

/// Where a client's message to a server of leases has, behind the header of UDP, the address that it has and whose it is.
const LEASED_ADDRESS: u32 = 8 + 12;
const LEASED_HARDWARE: u32 = 8 + 28;

/// Length of a packet of IPv4, without options, up to there.
const TOLD_WHOSE: u16 = 20 + 8 + 28 + 6;

/// Length of an option that tells a hardware address of Ethernet.
const OPTION_LENGTH: u16 = 8;

/// Where a message about neighbours tells its sender's hardware address, or its target's.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct ToldHardware {
    /// Its length without options, behind the IPv6 header.
    pub(in super::super) body: u16,
    /// The option's kind, and its length in eights.
    pub(in super::super) option: [u8; 2],
}

/// What of such a message is not as the kernel says it.
#[derive(Debug, Clone, Copy)]
pub(in super::super) enum Wrong<'a> {
    /// It has neither no option nor that one alone.
    Length,
    /// It has another option of that length.
    Kind,
    /// The address is none of ours.
    Address(Ours<'a>),
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

    /// A message of ARP, behind tags of so many bytes, that says of one of these addresses that it is at none of our hardware addresses.
    /// It is read where a receiver reads it: what its sender calls it says where the kernel takes it to begin.
    pub(in super::super) fn arp_places_elsewhere(self, own: &[IpAddr], ours: Ours<'_>, tags: u32) -> Self {
        let begins = ETHERNET_HEADER + tags;
        self.bits((PayloadBase::Link, begins + ARP_ADDRESS), own)
            .none_of_ours(LinkPlace::at(PayloadBase::Link, begins + ARP_HARDWARE), ours)
    }

    fn none_of_ours(self, place: LinkPlace, ours: Ours<'_>) -> Self {
        match ours {
            Ours::There(set) => self.listed(place, set, false),
            Ours::Anywhere(set) => self.listed_alone(place, set, false),
        }
    }

    /// A message about neighbours with so long a body, and what is wrong with the option that tells a hardware address.
    pub(in super::super) fn option_is_false(self, told: ToldHardware, wrong: Wrong<'_>) -> Self {
        let ToldHardware { body, option } = told;
        let with_option = body + OPTION_LENGTH;
        let (kind, address) = (u32::from(body), u32::from(body) + 2);
        match wrong {
            Wrong::Length => [body, with_option].into_iter().fold(self, Self::length_other),
            Wrong::Kind => self
                .length(with_option)
                .said(format_args!(
                    "@th,{},16 != 0x{:02x}{:02x}",
                    kind * 8,
                    option[0],
                    option[1]
                ))
                .step(Payload::first(PayloadBase::Transport, kind, 2))
                .step(Comparison::first(Operator::NotEqual, option)),
            Wrong::Address(ours) => self
                .length(with_option)
                .none_of_ours(LinkPlace::at(PayloadBase::Transport, address), ours),
        }
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
        let names: Vec<String> = values
            .clone()
            .map(|value| {
                value
                    .bytes()
                    .iter()
                    .fold("0x".to_owned(), |text, byte| format!("{text}{byte:02x}"))
            })
            .collect();
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
const fn sign(among: bool) -> (&'static str, LookupFlags) {
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
