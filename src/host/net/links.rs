//! Interfaces of this network namespace: names, addresses, state, stacking, and the kernel's own counters.
//!
//! In: nothing. Out: [`Link`], [`LinkCounters`]. Everything comes from the kernel over rtnetlink, in two lists: it
//! follows the namespace of the calling thread, which `/sys/class/net` does not (it shows the namespace sysfs was
//! mounted in), and its counters are 64 bits wide. Attributes that are not known are passed over: a newer kernel hides
//! nothing.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_sys::protocols::NETLINK_ROUTE;

use super::netlink::{Netlink, NetlinkError, NetlinkRequest, attributes, word};
use super::tunnels::wrapped;
use crate::Gather;
use crate::observe::decode::LinkKind;
use crate::observe::interval::{Counters, LinkCounters};
use crate::observe::link::Link;
use crate::observe::way::InterfaceKind;
use crate::quarantine::lifelines::tunnels::Wrapping;

/// Interfaces looked at; a gateway with a container per service has some dozens. Others are counted.
const MAX_LINKS: usize = 4_096;
/// Interfaces that routes may lead to, of which little is kept.
const MAX_NAMES: usize = 65_536;
/// Addresses kept per interface.
const MAX_ADDRESSES: usize = 256;
/// ARP hardware types whose frames begin with an Ethernet header.
const ETHERNET_TYPES: [u16; 2] = [1, 772];
/// ARP hardware types whose frames begin with an IP header: PPP, cooked raw IP of modems, tun and WireGuard.
const RAW_IP_TYPES: [u16; 3] = [PPP_TYPE, 519, 0xFFFE];
/// The one of PPP, whatever the interface is called (`ARPHRD_PPP`).
const PPP_TYPE: u16 = 512;

/// Every interface of this namespace.
///
/// # Errors
/// If the kernel does not answer.
pub fn links() -> Result<Vec<Link>, NetlinkError> {
    Ok(links_from(&mut Netlink::open(NETLINK_ROUTE)?)?.0)
}

/// The same from a socket that is open already, of `NETLINK_ROUTE`, and how many interfaces there are besides.
///
/// # Errors
/// As [`links`].
pub(crate) fn links_from(netlink: &mut Netlink) -> Result<(Vec<Link>, usize), NetlinkError> {
    let (mut links, more) = without_addresses(netlink)?;
    netlink.ask(list(numbers::RTM_GETADDR, 8), &mut |message| {
        add_address(&mut links, message);
        Ok(())
    })?;
    Ok((links, more))
}

/// An interface among others.
#[derive(Debug)]
pub(super) struct Stacked {
    pub(super) name: String,
    pub(super) master: Option<u32>,
    pub(super) lower: Option<u32>,
    /// As it tells, if it is a tunnel: kind, wrapping, other end.
    pub(super) tunnel: Option<(String, Wrapping, Option<IpAddr>)>,
}

/// Interfaces by their numbers, from a socket of `NETLINK_ROUTE`.
///
/// # Errors
/// As [`links`].
pub(super) fn stacked_from(netlink: &mut Netlink) -> Result<BTreeMap<u32, Stacked>, NetlinkError> {
    let mut links = BTreeMap::new();
    netlink.ask(list(numbers::RTM_GETLINK, 16), &mut |message| {
        if links.len() < MAX_NAMES
            && let Some(link) = link_of(message)
        {
            let stacked = Stacked {
                name: link.name,
                master: link.master,
                lower: link.lower,
                tunnel: tunnel_of(message),
            };
            links.insert(link.index, stacked);
        }
        Ok(())
    })?;
    Ok(links)
}

/// The names of interfaces by their numbers, from a socket of `NETLINK_ROUTE`.
///
/// # Errors
/// As [`links`].
pub(super) fn names_from(netlink: &mut Netlink) -> Result<BTreeMap<u32, String>, NetlinkError> {
    let links = stacked_from(netlink)?.into_iter();
    Ok(links.map(|(index, link)| (index, link.name)).in_map())
}

/// What a tunnel tells of itself; none where its own packets leave in another network namespace.
fn tunnel_of(message: &[u8]) -> Option<(String, Wrapping, Option<IpAddr>)> {
    use numbers as n;
    let find = |within: &'_ [u8], wanted| {
        let found = attributes(within).find(|(number, _)| *number == wanted);
        found.map(|(_, value)| value.to_vec())
    };
    let told = message.get(16..)?;
    if find(told, n::IFLA_LINK_NETNSID).is_some() {
        return None;
    }
    let info = find(told, n::IFLA_LINKINFO)?;
    let kind = text(&find(&info, n::IFLA_INFO_KIND)?);
    wrapped(&kind, &find(&info, n::IFLA_INFO_DATA).unwrap_or_default())
}

/// The interfaces, and how many there are besides.
fn without_addresses(netlink: &mut Netlink) -> Result<(Vec<Link>, usize), NetlinkError> {
    let (mut links, mut more) = (Vec::new(), 0_usize);
    netlink.ask(list(numbers::RTM_GETLINK, 16), &mut |message| {
        if links.len() < MAX_LINKS {
            links.extend(link_of(message));
        } else {
            more = more.saturating_add(1);
        }
        Ok(())
    })?;
    Ok((links, more))
}

/// The kernel's counters of every interface but loopback.
///
/// # Errors
/// If the kernel does not answer.
pub fn counters() -> Result<Vec<LinkCounters>, NetlinkError> {
    let (links, _) = without_addresses(&mut Netlink::open(NETLINK_ROUTE)?)?;
    Ok(links
        .into_iter()
        .filter(|link| !link.loopback)
        .map(|link| LinkCounters {
            name: link.name,
            index: link.index,
            counters: link.counters,
        })
        .collect())
}

/// A request for everything: a header of zeros means "of any family".
fn list(message_type: u16, header: usize) -> NetlinkRequest<'static> {
    const ZEROS: [u8; 16] = [0; 16];
    NetlinkRequest {
        message_type,
        dump: true,
        payload: ZEROS.get(..header).unwrap_or(&ZEROS),
    }
}

/// Numbers of `linux/rtnetlink.h`, `linux/if_link.h` and `linux/if_addr.h`.
mod numbers {
    pub(super) const RTM_GETLINK: u16 = 18;
    pub(super) const RTM_GETADDR: u16 = 22;
    pub(super) const IFF_UP: u32 = 1;
    pub(super) const IFF_LOOPBACK: u32 = 8;
    pub(super) const IFF_RUNNING: u32 = 0x40;
    pub(super) const IFLA_ADDRESS: u16 = 1;
    pub(super) const IFLA_IFNAME: u16 = 3;
    pub(super) const IFLA_LINK: u16 = 5;
    pub(super) const IFLA_MASTER: u16 = 10;
    pub(super) const IFLA_LINKINFO: u16 = 18;
    pub(super) const IFLA_STATS64: u16 = 23;
    pub(super) const IFLA_LINK_NETNSID: u16 = 37;
    pub(super) const IFLA_INFO_KIND: u16 = 1;
    pub(super) const IFLA_INFO_DATA: u16 = 2;
    pub(super) const IFLA_VLAN_ID: u16 = 1;
    pub(super) const IFA_ADDRESS: u16 = 1;
    pub(super) const IFA_LOCAL: u16 = 2;
    pub(super) const IFA_BROADCAST: u16 = 4;
}

/// An `ifinfomsg` and its attributes.
fn link_of(message: &[u8]) -> Option<Link> {
    use numbers as n;
    let hatype = u16::from_ne_bytes(message.get(2..4)?.try_into().ok()?);
    let flags = word(message, 8)?;
    let mut link = Link {
        name: String::new(),
        index: word(message, 4)?,
        kind: link_kind(hatype),
        hardware: None,
        loopback: flags & n::IFF_LOOPBACK != 0,
        up: flags & n::IFF_UP != 0,
        running: flags & n::IFF_UP != 0 && flags & n::IFF_RUNNING != 0,
        addresses: Vec::new(),
        broadcasts: Vec::new(),
        networks: Vec::new(),
        master: None,
        lower: None,
        device: InterfaceKind::Other,
        counters: Counters::default(),
    };
    let mut elsewhere = false;
    for (number, value) in attributes(message.get(16..)?) {
        match number {
            n::IFLA_IFNAME => link.name = text(value),
            n::IFLA_ADDRESS => {
                link.hardware = value.try_into().ok().filter(|hardware| *hardware != [0; 6]);
            }
            n::IFLA_LINK => link.lower = word(value, 0).filter(|lower| *lower != link.index),
            n::IFLA_MASTER => link.master = word(value, 0),
            n::IFLA_LINK_NETNSID => elsewhere = true,
            n::IFLA_LINKINFO => link.device = device(value),
            n::IFLA_STATS64 => link.counters = statistics(value).unwrap_or_default(),
            _ => {}
        }
    }
    if elsewhere {
        link.lower = None;
    }
    if hatype == PPP_TYPE {
        link.device = InterfaceKind::Ppp;
    }
    (!link.name.is_empty()).then_some(link)
}

/// How frames of an ARP hardware type begin.
#[must_use]
pub fn link_kind(hatype: u16) -> LinkKind {
    if ETHERNET_TYPES.contains(&hatype) {
        LinkKind::Ethernet
    } else if RAW_IP_TYPES.contains(&hatype) {
        LinkKind::RawIp
    } else {
        LinkKind::Unsupported(hatype)
    }
}

/// A string that ends with a zero byte.
fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(value.get(..end).unwrap_or_default()).into_owned()
}

fn device(info: &[u8]) -> InterfaceKind {
    use numbers as n;
    let find = |wanted| attributes(info).find_map(|(number, value)| (number == wanted).then_some(value));
    match find(n::IFLA_INFO_KIND).map(text).as_deref() {
        Some("bridge") => InterfaceKind::Bridge,
        Some("bond" | "team") => InterfaceKind::Bond,
        Some("macvlan" | "macvtap") => InterfaceKind::Macvlan,
        Some("vrf") => InterfaceKind::Vrf,
        Some("vlan") => attributes(find(n::IFLA_INFO_DATA).unwrap_or_default())
            .find(|(number, _)| *number == n::IFLA_VLAN_ID)
            .and_then(|(_, id)| Some(InterfaceKind::Vlan(u16::from_ne_bytes(id.try_into().ok()?))))
            .unwrap_or_default(),
        _ => InterfaceKind::Other,
    }
}

/// `rtnl_link_stats64` begins with packets and bytes of both ways.
fn statistics(value: &[u8]) -> Option<Counters> {
    let number = |position: usize| {
        let bytes = value.get(position * 8..position * 8 + 8)?;
        Some(u64::from_ne_bytes(bytes.try_into().ok()?))
    };
    Some(Counters {
        packets_in: number(0)?,
        packets_out: number(1)?,
        bytes_in: number(2)?,
        bytes_out: number(3)?,
    })
}

/// An `ifaddrmsg` and its attributes.
fn add_address(links: &mut [Link], message: &[u8]) {
    use numbers as n;
    let (Some(prefix), Some(index)) = (message.get(1), word(message, 4)) else {
        return;
    };
    let Some(link) = links.iter_mut().find(|link| link.index == index) else {
        return;
    };
    if link.addresses.len() >= MAX_ADDRESSES {
        return;
    }
    let (mut address, mut local) = (None, None);
    for (number, value) in attributes(message.get(8..).unwrap_or_default()) {
        match number {
            n::IFA_ADDRESS => address = ip(value),
            n::IFA_LOCAL => local = ip(value),
            n::IFA_BROADCAST => link.broadcasts.extend(ip(value)),
            _ => {}
        }
    }
    // Of a point-to-point link the first is the peer's, the second ours; of other links there is one, or both agree.
    link.addresses.extend(local.or(address));
    link.networks
        .extend(address.and_then(|address| IpNet::new(address, *prefix).ok()));
}

pub(super) fn ip(value: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(value) {
        return Some(v4.into());
    }
    <[u8; 16]>::try_from(value).ok().map(IpAddr::from)
}

#[cfg(test)]
#[path = "links_tests.rs"]
mod tests;
