//! Conditions of frames, by their own bytes and by what their sender says of them.

use nf_tables::{
    AnonymousSet, Bitwise, Comparison, Expression, KeyType, Lookup, Meta, MetaKey, Operator, Payload,
    PayloadBase, TypeOf,
};

use super::super::told_otherwise::VLAN;
use super::claims::sign;
use super::{Conditions, ETHERNET, End, number_text};
use crate::quarantine::lifelines::ways::InterfaceName;

/// Ethernet type of ARP.
const ARP: u16 = 0x0806;

/// A packet's kind that everything has which is made here (`PACKET_HOST`).
const TO_THIS_HOST: u8 = 0;

/// Where a frame has an Ethernet type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum TypePlace {
    /// Behind its addresses.
    First,
    /// Behind one VLAN tag.
    BehindTag,
    /// Behind two.
    BehindTwo,
    /// Behind the headers of LLC and SNAP (IEEE 802.2), where a length stands in the place of the frame's own type.
    BehindSnap,
}

impl TypePlace {
    pub(super) const fn byte(self) -> u32 {
        match self {
            Self::First => 12,
            Self::BehindTag => 16,
            Self::BehindTwo | Self::BehindSnap => 20,
        }
    }
}

impl Conditions {
    /// The frame goes to one of the groups that no bridge passes on.
    pub(in super::super) fn link_local_group(self) -> Self {
        self.sent_to_groups([0x01, 0x80, 0xc2, 0, 0, 0])
    }

    /// The frame goes to one of the sixteen groups from this one on.
    pub(in super::super) fn sent_to_groups(self, first: [u8; 6]) -> Self {
        self.said(format_args!(
            "@ll,0,48 & 0xfffffffffff0 == {}",
            number_text(&first)
        ))
        .step(Payload::first(PayloadBase::Link, 0, 6))
        .step(Bitwise::mask([0xff, 0xff, 0xff, 0xff, 0xff, 0xf0]))
        .step(Expression::equal(first))
    }

    /// The type that stands there is one of these.
    pub(in super::super) fn frame_type(self, place: TypePlace, types: &[u16]) -> Self {
        self.types(Some(place), types, true)
    }

    /// The type that stands there is none of these.
    pub(in super::super) fn frame_type_other(self, place: TypePlace, types: &[u16]) -> Self {
        self.types(Some(place), types, false)
    }

    /// What the sender says that it is, is one of these Ethernet types.
    pub(in super::super) fn declared(self, types: &[u16]) -> Self {
        self.types(None, types, true)
    }

    /// What the sender says that it is, is none of these Ethernet types.
    pub(in super::super) fn declared_other(self, types: &[u16]) -> Self {
        self.types(None, types, false)
    }

    /// Whether the type at a place, or without one what the sender says, is one of these.
    fn types(self, place: Option<TypePlace>, types: &[u16], among: bool) -> Self {
        let (word, load, key_type, type_of) = match place {
            Some(place) => {
                let (bits, length) = (place.byte() * 8, 16);
                (
                    format!("@ll,{bits},{length}"),
                    Expression::from(Payload::first(PayloadBase::Link, place.byte(), 2)),
                    KeyType::INTEGER,
                    TypeOf::Bits {
                        base: 1,
                        offset: bits,
                        length,
                    },
                )
            }
            None => (
                "meta protocol".to_owned(),
                Meta::first(MetaKey::Protocol).into(),
                KeyType::ETHERNET_TYPE,
                TypeOf::Meta(MetaKey::Protocol.number()),
            ),
        };
        let negation = if among { "" } else { " !=" };
        let names: Vec<String> = types.iter().map(|number| format!("0x{number:04x}")).collect();
        let names = names.join(", ");
        if let [only] = types {
            let operator = if among {
                Operator::Equal
            } else {
                Operator::NotEqual
            };
            return self
                .said(format_args!("{word}{negation} {names}"))
                .step(load)
                .step(Comparison::first(operator, only.to_be_bytes()));
        }
        let values = types.iter().map(|number| number.to_be_bytes());
        let set = AnonymousSet::of_values(key_type, type_of, values);
        let asked = if among {
            Lookup::one_of(set)
        } else {
            Lookup::none_of(set)
        };
        self.said(format_args!("{word}{negation} {{ {names} }}"))
            .step(load)
            .step(asked)
    }

    /// It has headers of LLC and SNAP as IP has them on other links than Ethernet (RFC 1042, IEEE 802.1H), with one of these types.
    /// What stands in the place of its own type is none: a length, or too small.
    pub(in super::super) fn snap(self, types: &[u16]) -> Self {
        self.said("@ll,96,16 & 0xf800 == 0x0000 @ll,112,40 0xaaaa030000")
            .step(Payload::first(PayloadBase::Link, 12, 2))
            .step(Bitwise::mask([0xf8, 0]))
            .step(Expression::equal([0, 0]))
            .step(Payload::first(PayloadBase::Link, 14, 5))
            .step(Expression::equal([0xaa, 0xaa, 3, 0, 0]))
            .frame_type(TypePlace::BehindSnap, types)
    }

    /// The first byte of the tag behind the frame's own type, under a mask.
    pub(in super::super) fn tag_begins_with(self, mask: u8, byte: u8) -> Self {
        self.said(format_args!("@ll,112,8 & 0x{mask:02x} == 0x{byte:02x}"))
            .step(Payload::first(PayloadBase::Link, 14, 1))
            .step(Bitwise::mask([mask]))
            .step(Expression::equal([byte]))
    }

    /// The two bytes behind the first two of what the sender says is the network header.
    pub(in super::super) fn behind_first_word(self, word: u16) -> Self {
        self.said(format_args!("@nh,16,16 0x{word:04x}"))
            .step(Payload::first(PayloadBase::Network, 2, 2))
            .step(Expression::equal(word.to_be_bytes()))
    }

    /// The first byte behind the frame's header, under a mask.
    pub(in super::super) fn begins_under(self, mask: u8, byte: u8) -> Self {
        self.said(format_args!("@nh,0,8 & 0x{mask:02x} == 0x{byte:02x}"))
            .step(Payload::first(PayloadBase::Network, 0, 1))
            .step(Bitwise::mask([mask]))
            .step(Expression::equal([byte]))
    }

    /// The first byte behind the frame's header is another one under a mask.
    pub(in super::super) fn begins_without(self, mask: u8, byte: u8) -> Self {
        self.said(format_args!("@nh,0,8 & 0x{mask:02x} != 0x{byte:02x}"))
            .step(Payload::first(PayloadBase::Network, 0, 1))
            .step(Bitwise::mask([mask]))
            .step(Comparison::first(Operator::NotEqual, [byte]))
    }

    /// It is of one of these types, behind so many tags, two at most.
    pub(in super::super) fn type_behind(self, tags: u8, types: &[u16]) -> Self {
        match tags {
            0 => self.frame_type(TypePlace::First, types),
            1 => self
                .frame_type(TypePlace::First, VLAN)
                .frame_type(TypePlace::BehindTag, types),
            _ => self
                .frame_type(TypePlace::First, VLAN)
                .frame_type(TypePlace::BehindTag, VLAN)
                .frame_type(TypePlace::BehindTwo, types),
        }
    }

    /// It leaves by one of these interfaces.
    pub(in super::super) fn leaves_by(self, ports: &[InterfaceName]) -> Self {
        self.by_one_of(("oifname", MetaKey::OutputName), ports, true)
    }

    /// It leaves by none of these interfaces, of which there may be none.
    pub(in super::super) fn leaves_by_none_of(self, interfaces: &[InterfaceName]) -> Self {
        if interfaces.is_empty() {
            return self;
        }
        self.by_one_of(("oifname", MetaKey::OutputName), interfaces, false)
    }

    /// It arrives by one of these interfaces.
    pub(in super::super) fn arrives_by(self, interfaces: &[InterfaceName]) -> Self {
        self.by_one_of(("iifname", MetaKey::InputName), interfaces, true)
    }

    fn by_one_of(self, (word, key): (&str, MetaKey), interfaces: &[InterfaceName], among: bool) -> Self {
        let names: Vec<String> = interfaces.iter().map(|name| format!("\"{name}\"")).collect();
        let (negation, flags) = sign(among);
        if let [only] = interfaces {
            let operator = if among {
                Operator::Equal
            } else {
                Operator::NotEqual
            };
            return self
                .said(format_args!("meta {word} {negation}{}", names.concat()))
                .step(Meta::first(key))
                .step(Comparison::first(operator, *only.bytes()));
        }
        let values = interfaces.iter().map(|name| *name.bytes());
        let type_of = TypeOf::Meta(key.number());
        let set = AnonymousSet::of_host_values(KeyType::INTERFACE_NAME, type_of, values);
        self.said(format_args!("meta {word} {negation}{{ {} }}", names.join(", ")))
            .step(Meta::first(key))
            .step(Lookup {
                flags,
                ..Lookup::one_of(set)
            })
    }

    /// The same, and no program of this device has made it: it was taken in for another host, or for all.
    pub(in super::super) fn passed_on_by(self, ports: &[InterfaceName]) -> Self {
        self.leaves_by(ports)
            .said("meta pkttype != host")
            .step(Meta::first(MetaKey::PacketType))
            .step(Comparison::first(Operator::NotEqual, [TO_THIS_HOST]))
    }

    pub(in super::super) fn leaves_by_ethernet(self) -> Self {
        self.interface(End::Destination, "ether", ETHERNET)
    }

    /// It leaves by an interface that is none of Ethernet: what is sent there begins with its network header.
    pub(in super::super) fn leaves_by_others(self) -> Self {
        self.said("meta oiftype != ether")
            .step(Meta::first(MetaKey::OutputType))
            .step(Comparison::first(Operator::NotEqual, ETHERNET.to_ne_bytes()))
    }

    /// The first byte behind the frame's header.
    pub(in super::super) fn begins_with(self, byte: u8) -> Self {
        self.said(format_args!("@nh,0,8 0x{byte:02x}"))
            .step(Payload::first(PayloadBase::Network, 0, 1))
            .step(Expression::equal([byte]))
    }

    /// A question or an answer of ARP for IPv4 on Ethernet, by its header.
    pub(in super::super) fn arp(self) -> Self {
        let bits = TypeOf::Bits {
            base: 2,
            offset: 48,
            length: 16,
        };
        let operations = AnonymousSet::of_values(KeyType::INTEGER, bits, [[0, 1], [0, 2]]);
        self.said("arp htype 1 arp ptype ip arp hlen 6 arp plen 4 @nh,48,16 { 1, 2 }")
            .meta_is(MetaKey::Protocol, ARP.to_be_bytes())
            .step(Payload::first(PayloadBase::Network, 0, 4))
            .step(Expression::equal([0, 1, 8, 0]))
            .step(Payload::first(PayloadBase::Network, 4, 2))
            .step(Expression::equal([6, 4]))
            .step(Payload::first(PayloadBase::Network, 6, 2))
            .step(Lookup::one_of(operations))
    }
}
