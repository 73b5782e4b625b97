//! Keys of our sets as the kernel lists them.
//!
//! In: an element, or its key. Out: what it stands for; none where it is none that we make.

use std::net::IpAddr;

use nf_tables::{Element, Value};

use super::conditions::{address_of, protocol_of};
use crate::quarantine::lifelines::lifeline::EndpointKey;
use crate::quarantine::lifelines::ways::{Bearer, InterfaceName, NAME_LENGTH, Way};

/// The key of an element that is a key, and perhaps has an end.
pub(super) fn plain(element: &Element) -> Option<Value> {
    let key = element.key?;
    let Element {
        timeout, expiration, ..
    } = *element;
    let same = Element {
        expiration,
        ..Element::new(key).with_timeout(timeout)
    };
    (*element == same).then_some(key)
}

pub(super) fn endpoint_of(key: Value, v4: bool) -> Option<EndpointKey> {
    let (address, rest) = key.bytes().split_at_checked(if v4 { 4 } else { 16 })?;
    let [protocol, 0, 0, 0, high, low, 0, 0] = *rest else {
        return None;
    };
    let port = u16::from_be_bytes([high, low]);
    Some((address_of(address)?, protocol_of(protocol)?, port))
}

pub(super) fn way_of(key: Value, v4: bool) -> Option<Way> {
    let length = if v4 { 4 } else { 16 };
    let (address, rest) = key.bytes().split_at_checked(length)?;
    let (interface, next_hop) = rest.split_at_checked(NAME_LENGTH)?;
    Some(Way {
        address: address_of(address)?,
        interface: InterfaceName::from_bytes(interface)?,
        next_hop: address_of(next_hop)?,
    })
}

pub(super) fn sender_of(key: Value) -> Option<[u8; 6]> {
    key.bytes().try_into().ok()
}

pub(super) fn tag_of(key: Value) -> Option<(InterfaceName, u16)> {
    let (interface, rest) = key.bytes().split_at_checked(NAME_LENGTH)?;
    let [high, low, 0, 0] = *rest else {
        return None;
    };
    Some((
        InterfaceName::from_bytes(interface)?,
        u16::from_be_bytes([high, low]),
    ))
}

pub(super) fn home_of(key: Value, v4: bool) -> Option<(InterfaceName, IpAddr)> {
    let (interface, address) = key.bytes().split_at_checked(NAME_LENGTH)?;
    let address = address_of(address).filter(|address| address.is_ipv4() == v4)?;
    Some((InterfaceName::from_bytes(interface)?, address))
}

pub(super) fn called_of(key: Value, v4: bool) -> Option<(IpAddr, [u8; 6])> {
    let (address, rest) = key.bytes().split_at_checked(if v4 { 4 } else { 16 })?;
    let [hardware @ .., 0, 0] = rest else {
        return None;
    };
    Some((address_of(address)?, hardware.try_into().ok()?))
}

pub(super) fn bearer_of(key: Value) -> Option<Bearer> {
    let (interface, rest) = key.bytes().split_at_checked(NAME_LENGTH)?;
    let [hardware @ .., 0, 0] = rest else {
        return None;
    };
    Some(Bearer {
        interface: InterfaceName::from_bytes(interface)?,
        hardware: hardware.try_into().ok()?,
    })
}
