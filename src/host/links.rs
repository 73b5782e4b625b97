//! Interfaces of this network namespace: names, addresses, state, and the kernel's own counters.
//!
//! In: nothing. Out: [`Link`], [`LinkCounters`]. Addresses come from the kernel over netlink (`getifaddrs`), counters
//! from `/proc/thread-self/net/dev`: 64 bits wide, and both follow the namespace of the calling thread, which
//! `/sys/class/net` does not (it shows the namespace sysfs was mounted in).

#![expect(clippy::disallowed_methods, reason = "host is a door")]

use std::net::IpAddr;

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::SockaddrStorage;

use crate::observe::decode::LinkKind;
use crate::observe::interval::{Counters, LinkCounters};

/// Interfaces looked at; a gateway with a container per service has some dozens.
const MAX_LINKS: usize = 1_024;
/// Addresses kept per interface.
const MAX_ADDRESSES: usize = 256;
/// ARP hardware types whose frames begin with an Ethernet header.
const ETHERNET_TYPES: [u16; 2] = [1, 772];
/// ARP hardware types whose frames begin with an IP header: PPP, cooked raw IP of modems, tun and WireGuard.
const RAW_IP_TYPES: [u16; 3] = [512, 519, 0xFFFE];

/// One interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Name.
    pub name: String,
    /// Index; a replaced interface gets another one.
    pub index: u32,
    /// How its frames begin.
    pub kind: LinkKind,
    /// Hardware address, absent if it has none.
    pub hardware: Option<[u8; 6]>,
    /// True for `lo`.
    pub loopback: bool,
    /// Switched on.
    pub up: bool,
    /// Switched on and with carrier.
    pub running: bool,
    /// Addresses of both families.
    pub addresses: Vec<IpAddr>,
    /// IPv4 broadcast addresses.
    pub broadcasts: Vec<IpAddr>,
}

/// The kernel did not answer.
#[derive(Debug, thiserror::Error)]
pub enum LinksError {
    /// `getifaddrs` failed.
    #[error("could not list the network interfaces")]
    List(#[source] nix::Error),
    /// The counters could not be read.
    #[error("could not read the interface counters in {path}")]
    Counters {
        /// File.
        path: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Every interface of this namespace.
///
/// # Errors
/// If the kernel does not answer.
pub fn links() -> Result<Vec<Link>, LinksError> {
    let mut links: Vec<Link> = Vec::new();
    let entries: Vec<InterfaceAddress> = getifaddrs().map_err(LinksError::List)?.collect();
    for entry in &entries {
        if let Some(link) = link_of(entry)
            && links.len() < MAX_LINKS
        {
            links.push(link);
        }
    }
    for entry in &entries {
        // An alias of the old kind ("eth0:1") carries an address of its interface.
        let name = entry.interface_name.split(':').next().unwrap_or_default();
        let Some(link) = links.iter_mut().find(|link| link.name == name) else {
            continue;
        };
        if let Some(address) = entry.address.as_ref().and_then(ip_of)
            && link.addresses.len() < MAX_ADDRESSES
        {
            link.addresses.push(address);
            link.broadcasts.extend(entry.broadcast.as_ref().and_then(ip_of));
        }
    }
    Ok(links)
}

fn link_of(entry: &InterfaceAddress) -> Option<Link> {
    let address = entry.address.as_ref()?.as_link_addr()?;
    let hatype = address.hatype();
    let kind = if ETHERNET_TYPES.contains(&hatype) {
        LinkKind::Ethernet
    } else if RAW_IP_TYPES.contains(&hatype) {
        LinkKind::RawIp
    } else {
        LinkKind::Unsupported(hatype)
    };
    Some(Link {
        name: entry.interface_name.clone(),
        index: u32::try_from(address.ifindex()).ok()?,
        kind,
        hardware: address.addr().filter(|hardware| *hardware != [0; 6]),
        loopback: entry.flags.contains(InterfaceFlags::IFF_LOOPBACK),
        up: entry.flags.contains(InterfaceFlags::IFF_UP),
        running: entry
            .flags
            .contains(InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING),
        addresses: Vec::new(),
        broadcasts: Vec::new(),
    })
}

fn ip_of(address: &SockaddrStorage) -> Option<IpAddr> {
    match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
        (Some(v4), _) => Some(v4.ip().into()),
        (None, Some(v6)) => Some(v6.ip().into()),
        (None, None) => None,
    }
}

/// The kernel's counters of every interface but loopback.
///
/// # Errors
/// If the kernel does not answer.
pub fn counters() -> Result<Vec<LinkCounters>, LinksError> {
    counters_of(&links()?)
}

/// The kernel's counters of those of `links` that are not loopback.
///
/// # Errors
/// If the kernel does not answer.
pub fn counters_of(links: &[Link]) -> Result<Vec<LinkCounters>, LinksError> {
    /// Of the calling thread, so that a thread in another namespace reads its own.
    const PATH: &str = "/proc/thread-self/net/dev";
    let text = std::fs::read_to_string(PATH).map_err(|source| LinksError::Counters { path: PATH, source })?;
    let known: std::collections::HashMap<&str, &Link> =
        links.iter().map(|link| (link.name.as_str(), link)).collect();
    Ok(parse(&text)
        .filter_map(|(name, counters)| {
            let link = known.get(name).filter(|link| !link.loopback)?;
            Some(LinkCounters {
                name: name.to_owned(),
                index: link.index,
                counters,
            })
        })
        .collect())
}

/// Lines of `/proc/net/dev`: name, eight receive columns, eight transmit columns; two heading lines have no colon.
fn parse(text: &str) -> impl Iterator<Item = (&str, Counters)> {
    text.lines().filter_map(|line| {
        let (name, values) = line.rsplit_once(':')?;
        let mut values = values.split_ascii_whitespace().map(str::parse::<u64>);
        let mut next = || values.next()?.ok();
        let (bytes_in, packets_in) = (next()?, next()?);
        for _ in 0..6 {
            next()?;
        }
        let (bytes_out, packets_out) = (next()?, next()?);
        Some((
            name.trim(),
            Counters {
                bytes_in,
                bytes_out,
                packets_in,
                packets_out,
            },
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_64_bits_wide_and_bad_lines_are_left_out() {
        let text = "Inter-|   Receive                |  Transmit\n \
                    face |bytes    packets errs drop|bytes packets\n\
                    eth0: 4730000000000 9 0 0 0 0 0 0 12 3 0 0 0 0 0 0\n\
                    eth0:1: 5 1 0 0 0 0 0 0 6 2 0 0 0 0 0 0\n\
                    bad0: 1 2 three\n";
        let parsed: Vec<_> = parse(text).collect();
        let big = Counters {
            bytes_in: 4_730_000_000_000,
            bytes_out: 12,
            packets_in: 9,
            packets_out: 3,
        };
        let small = Counters {
            bytes_in: 5,
            bytes_out: 6,
            packets_in: 1,
            packets_out: 2,
        };
        assert_eq!(parsed, [("eth0", big), ("eth0:1", small)]);
    }

    #[test]
    fn loopback_is_listed_but_not_counted() {
        let links = links().unwrap();
        let lo = links.iter().find(|link| link.loopback).unwrap();
        assert_eq!((lo.name.as_str(), lo.kind), ("lo", LinkKind::Ethernet));
        assert!(
            counters_of(&links)
                .unwrap()
                .iter()
                .all(|counters| counters.name != "lo")
        );
    }
}
