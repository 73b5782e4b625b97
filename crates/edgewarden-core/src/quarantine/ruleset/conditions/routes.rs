//! Conditions of a packet's route.

use nf_tables::{
    ByteOrder, Comparison, Lookup, Meta, MetaKey, Operator, Payload, PayloadBase, Register, Route, RouteKey,
};

use super::claims::LinkPlace;
use super::{Conditions, End, NAME, behind, ip};

/// How hardware addresses of virtual routers begin (VRRP, RFC 9568; CARP).
const VIRTUAL_ROUTERS: [u8; 4] = [0, 0, 0x5e, 0];

/// Bytes as nft writes a number.
pub(in super::super) fn number_text(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold("0x".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

impl Conditions {
    /// It has a route: any realm will do.
    pub(in super::super) fn routed(self) -> Self {
        self.said("meta rtclassid >= 0")
            .step(Meta::first(MetaKey::RouteRealm))
            .step(ByteOrder::to_network())
            .step(Comparison::first(Operator::GreaterOrEqual, [0; 4]))
    }

    /// The interface that it leaves by, with the hardware address that it is sent as, is in the set of that name.
    pub(in super::super) fn borne_by(self, set: &str) -> Self {
        self.leaves_by_ethernet().listed(LinkPlace::SENDER, set, true)
    }

    /// The interface that it leaves by, with the hardware address that it is sent as, is not in the set of that name.
    pub(in super::super) fn called_none_of(self, set: &str) -> Self {
        self.leaves_by_ethernet().listed(LinkPlace::SENDER, set, false)
    }

    /// It is sent as a hardware address that is not in the set of that name.
    pub(in super::super) fn sent_as_none_of(self, set: &str) -> Self {
        self.leaves_by_ethernet()
            .listed_alone(LinkPlace::SENDER, set, false)
    }

    /// It is sent as a hardware address that is in the set of that name.
    pub(in super::super) fn called_one_of(self, set: &str) -> Self {
        self.leaves_by_ethernet()
            .listed_alone(LinkPlace::SENDER, set, true)
    }

    /// It is not sent as a virtual router, whose hardware address is made of its number.
    pub(in super::super) fn sent_as_no_virtual_router(self) -> Self {
        self.said(format_args!("@ll,48,32 != {}", number_text(&VIRTUAL_ROUTERS)))
            .step(Payload::first(PayloadBase::Link, 6, 4))
            .step(Comparison::first(Operator::NotEqual, VIRTUAL_ROUTERS))
    }

    /// Its destination, the interface that it leaves by and whom it is handed to are in the set of that name.
    pub(in super::super) fn way_in(self, v4: bool, set: &str) -> Self {
        let interface = behind(Register::FIRST, if v4 { 4 } else { 16 });
        let key = if v4 {
            RouteKey::NextHop4
        } else {
            RouteKey::NextHop6
        };
        let family = ip(v4);
        self.said(format_args!(
            "{family} daddr . meta oifname . rt {family} nexthop @{set}"
        ))
        .load_address(v4, End::Destination)
        .step(Meta {
            destination: interface,
            key: MetaKey::OutputName,
        })
        .step(Route {
            destination: behind(interface, NAME),
            key,
        })
        .step(Lookup::named(set))
    }
}
