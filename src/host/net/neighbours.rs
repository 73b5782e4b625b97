//! Who is behind the addresses of next hops on their links, as the kernel has learned it.
//!
//! In: ways. Out: that what was learned of their next hops is forgotten. The kernel then asks everybody on the link, which tells the
//! next hop, and the switches on the way to it, anew where this device is and where it is itself. Absent: what an owner has
//! fixed by hand or a routing daemon has told, which stays.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::links::{ip, names_from};
use super::netlink::{Netlink, NetlinkError, NetlinkRequest, attributes, push_attribute};
use crate::Gather;
use crate::quarantine::lifelines::ways::{InterfaceName, Way};

/// Numbers of `linux/rtnetlink.h` and `linux/neighbour.h`.
mod numbers {
    pub(super) const RTM_DELNEIGH: u16 = 29;
    pub(super) const RTM_GETNEIGH: u16 = 30;
    pub(super) const NDA_DST: u16 = 1;
    pub(super) const NUD_NOARP: u16 = 0x40;
    pub(super) const NUD_PERMANENT: u16 = 0x80;
    pub(super) const NTF_EXT_LEARNED: u8 = 0x10;
}

/// Bytes of an `ndmsg`.
const HEADER: usize = 12;
/// Next hops that are forgotten at once.
const MAX_HOPS: usize = 256;

/// Forgets what was learned of the next hops of these ways; the socket is one of `NETLINK_ROUTE`.
///
/// # Errors
/// If the kernel does not answer, or refuses all of it.
pub(crate) fn forget_from(netlink: &mut Netlink, ways: &[Way]) -> Result<(), NetlinkError> {
    use numbers as n;
    let wanted: BTreeSet<(InterfaceName, IpAddr)> =
        ways.iter().map(|way| (way.interface, way.next_hop)).in_set();
    let names = names_from(netlink)?;
    let mut learned = Vec::new();
    let question = NetlinkRequest {
        message_type: n::RTM_GETNEIGH,
        dump: true,
        payload: &[0; HEADER],
    };
    netlink.ask(question, &mut |message| {
        let is_wanted = learned_of(message).is_some_and(|(index, hop)| {
            let name = names.get(&index).and_then(|name| InterfaceName::new(name));
            name.is_some_and(|name| wanted.contains(&(name, hop)))
        });
        if is_wanted && learned.len() < MAX_HOPS {
            learned.push(forgets(message));
        }
        Ok(())
    })?;
    let kept = learned
        .into_iter()
        .map(|order| netlink.instruct(n::RTM_DELNEIGH, &order));
    // One that has ended meanwhile is refused, which is as well.
    match kept
        .filter_map(Result::err)
        .find(|error| error.refusal().is_none())
    {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// By which interface an address was learned, and which; none of what nobody has learned.
fn learned_of(message: &[u8]) -> Option<(u32, IpAddr)> {
    use numbers as n;
    let index = u32::from_ne_bytes(message.get(4..8)?.try_into().ok()?);
    let state = u16::from_ne_bytes(message.get(8..10)?.try_into().ok()?);
    let is_fixed = state & (n::NUD_NOARP | n::NUD_PERMANENT) != 0;
    let is_told = message.get(10)? & n::NTF_EXT_LEARNED != 0;
    let mut told = attributes(message.get(HEADER..)?);
    let hop = told
        .find(|(number, _)| *number == n::NDA_DST)
        .and_then(|(_, value)| ip(value))?;
    (!is_fixed && !is_told).then_some((index, hop))
}

/// The order that forgets what a message tells.
fn forgets(message: &[u8]) -> Vec<u8> {
    let mut order = message.get(..HEADER).unwrap_or_default().to_vec();
    let address =
        attributes(message.get(HEADER..).unwrap_or_default()).find(|(number, _)| *number == numbers::NDA_DST);
    if let Some((number, value)) = address {
        push_attribute(&mut order, number, false, value);
    }
    order
}
