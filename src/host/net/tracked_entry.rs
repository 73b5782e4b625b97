//! One entry of connection tracking's table, as a list has it.
//!
//! In: a message of `ctnetlink`. Out: the flow, and the order that takes just this entry out. What cannot be read is no entry.

use std::net::{IpAddr, SocketAddr};

use super::conntrack::{
    CTA_IP_V4_DST, CTA_IP_V4_SRC, CTA_IP_V6_DST, CTA_IP_V6_SRC, CTA_PROTO_DST_PORT, CTA_PROTO_NUM,
    CTA_PROTO_SRC_PORT, CTA_TUPLE_IP, CTA_TUPLE_ORIG, CTA_TUPLE_PROTO, CTA_TUPLE_REPLY, HEADER,
};
use super::netlink::{attributes, push_attribute};
use crate::quarantine::orders::order::Protocol;
use crate::quarantine::plan::tracked::{FlowKind, TrackedFlow};

const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// An entry.
pub(super) struct Entry<'a> {
    pub(super) flow: TrackedFlow,
    family: u8,
    tuple: &'a [u8],
    id: &'a [u8],
    zone: Option<&'a [u8]>,
}

impl<'a> Entry<'a> {
    /// Reads one.
    pub(super) fn of(message: &'a [u8]) -> Option<Self> {
        let (header, rest) = message.split_at_checked(HEADER)?;
        let (mut began, mut answers, mut id, mut zone) = (None, None, None, None);
        for (number, value) in attributes(rest) {
            let place = match number {
                CTA_TUPLE_ORIG => &mut began,
                CTA_TUPLE_REPLY => &mut answers,
                CTA_ID => &mut id,
                CTA_ZONE => &mut zone,
                _ => continue,
            };
            *place = Some(value);
        }
        let tuple = began?;
        let (number, began) = direction(tuple)?;
        let (_, answers) = direction(answers?)?;
        let kind = match number {
            TCP => FlowKind::Ports(Protocol::Tcp),
            UDP => FlowKind::Ports(Protocol::Udp),
            ICMP | ICMPV6 => FlowKind::Icmp,
            _ => FlowKind::Other,
        };
        Some(Self {
            flow: TrackedFlow { kind, began, answers },
            family: *header.first()?,
            tuple,
            id: id?,
            zone,
        })
    }

    /// What takes it out, and no other one that has come in its place. Without a tuple that would be all of them; there is one.
    pub(super) fn order(&self) -> Vec<u8> {
        let mut order = vec![self.family, 0, 0, 0];
        push_attribute(&mut order, CTA_TUPLE_ORIG, true, self.tuple);
        push_attribute(&mut order, CTA_ID, false, self.id);
        if let Some(zone) = self.zone {
            push_attribute(&mut order, CTA_ZONE, false, zone);
        }
        order
    }
}

/// The protocol's number, from where to where.
fn direction(tuple: &[u8]) -> Option<(u8, (SocketAddr, SocketAddr))> {
    let (mut from, mut to) = (None, None);
    let (mut number, mut ports) = (None, [0, 0]);
    for (part, value) in attributes(tuple) {
        match part {
            CTA_TUPLE_IP => {
                for (end, value) in attributes(value) {
                    match end {
                        CTA_IP_V4_SRC | CTA_IP_V6_SRC => from = address(value),
                        CTA_IP_V4_DST | CTA_IP_V6_DST => to = address(value),
                        _ => {}
                    }
                }
            }
            CTA_TUPLE_PROTO => {
                for (field, value) in attributes(value) {
                    match field {
                        CTA_PROTO_NUM => number = value.first().copied(),
                        CTA_PROTO_SRC_PORT => ports[0] = port(value)?,
                        CTA_PROTO_DST_PORT => ports[1] = port(value)?,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    let ends = (SocketAddr::new(from?, ports[0]), SocketAddr::new(to?, ports[1]));
    Some((number?, ends))
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        return Some(bytes.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

fn port(bytes: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.try_into().ok()?))
}
