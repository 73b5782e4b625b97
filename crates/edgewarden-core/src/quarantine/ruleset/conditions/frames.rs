//! Conditions of frames, by their own bytes and by what their sender says of them.

use nf_tables::{
    AnonymousSet, Bitwise, Expression, KeyType, Lookup, Meta, MetaKey, Payload, PayloadBase, TypeOf,
};

use super::Conditions;

/// Ethernet type of ARP.
const ARP: u16 = 0x0806;

impl Conditions {
    /// The frame goes to one of the groups that no bridge passes on.
    pub(in super::super) fn link_local_group(self) -> Self {
        self.said("@ll,0,48 & 0xfffffffffff0 == 0x0180c2000000")
            .step(Payload::first(PayloadBase::Link, 0, 6))
            .step(Bitwise::mask([0xff, 0xff, 0xff, 0xff, 0xff, 0xf0]))
            .step(Expression::equal([0x01, 0x80, 0xc2, 0, 0, 0]))
    }

    /// The frame's own type is one of these.
    pub(in super::super) fn frame_types(self, types: &[u16]) -> Self {
        let bits = TypeOf::Bits {
            base: 1,
            offset: 96,
            length: 16,
        };
        let values = types.iter().map(|number| number.to_be_bytes());
        let set = AnonymousSet::of_values(KeyType::INTEGER, bits, values);
        self.said(format_args!("@ll,96,16 {{ {} }}", hexadecimal(types)))
            .step(Payload::first(PayloadBase::Link, 12, 2))
            .step(Lookup::one_of(set))
    }

    /// What the sender says that it is, is one of these Ethernet types.
    pub(in super::super) fn declared_types(self, types: &[u16]) -> Self {
        let meta = TypeOf::Meta(MetaKey::Protocol.number());
        let values = types.iter().map(|number| number.to_be_bytes());
        let set = AnonymousSet::of_values(KeyType::ETHERNET_TYPE, meta, values);
        self.said(format_args!("meta protocol {{ {} }}", hexadecimal(types)))
            .step(Meta::first(MetaKey::Protocol))
            .step(Lookup::one_of(set))
    }

    /// The first byte behind the frame's header.
    pub(in super::super) fn begins_with(self, byte: u8) -> Self {
        self.said(format_args!("@nh,0,8 0x{byte:02x}"))
            .step(Payload::first(PayloadBase::Network, 0, 1))
            .step(Expression::equal([byte]))
    }

    /// ARP for IPv4 on Ethernet, by its header.
    pub(in super::super) fn arp(self) -> Self {
        self.said("arp htype 1 arp ptype ip arp hlen 6 arp plen 4")
            .meta_is(MetaKey::Protocol, ARP.to_be_bytes())
            .step(Payload::first(PayloadBase::Network, 0, 4))
            .step(Expression::equal([0, 1, 8, 0]))
            .step(Payload::first(PayloadBase::Network, 4, 2))
            .step(Expression::equal([6, 4]))
    }
}

fn hexadecimal(numbers: &[u16]) -> String {
    let numbers: Vec<String> = numbers.iter().map(|number| format!("0x{number:04x}")).collect();
    numbers.join(", ")
}
