//! Decides which way a packet went, from the addresses this device owns.
//!
//! In: a [`PacketSummary`], [`OwnAddresses`]. Out: a [`Direction`]. A forwarded packet is seen twice, once on the
//! interface it enters and once on the one it leaves: the first is [`Direction::ForwardedIn`], the second
//! [`Direction::ForwardedOut`], so each way counts it exactly once.
//!
//! Absent: routing tables and interface stacking. A frame that is visible on a bridge and on its port is seen on both.

use std::collections::HashSet;
use std::net::IpAddr;

use super::decode::{Decoded, LinkAddresses, PacketSummary};
use super::flow::FlowKey;

/// Which way a packet crossed an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// For this device.
    In,
    /// From this device.
    Out,
    /// For somebody else, on the interface it came in by.
    ForwardedIn,
    /// From somebody else, on the interface it went out by.
    ForwardedOut,
    /// Between two others on the link; we only overheard it.
    Foreign,
}

impl Direction {
    /// True for what leaves the interface.
    #[must_use]
    pub const fn is_out(self) -> bool {
        matches!(self, Self::Out | Self::ForwardedOut)
    }
}

/// What this device answers to.
#[derive(Debug, Clone, Default)]
pub struct OwnAddresses {
    addresses: HashSet<IpAddr>,
    broadcasts: HashSet<IpAddr>,
    hardware: HashSet<[u8; 6]>,
}

impl OwnAddresses {
    /// Adds an address of ours; IPv4-mapped ones are taken as IPv4.
    pub fn add_address(&mut self, address: IpAddr) {
        self.addresses.insert(address.to_canonical());
    }

    /// Adds the broadcast address of one of our subnets.
    pub fn add_broadcast(&mut self, address: IpAddr) {
        self.broadcasts.insert(address);
    }

    /// Adds the hardware address of one of our interfaces.
    pub fn add_hardware(&mut self, address: [u8; 6]) {
        // All zero is what interfaces without an address say.
        if address != [0; 6] {
            self.hardware.insert(address);
        }
    }

    fn is_source(&self, address: IpAddr, from_us: bool) -> bool {
        // DHCP clients and duplicate address detection speak from the unspecified address.
        self.addresses.contains(&address) || (from_us && address.is_unspecified())
    }

    fn is_destination(&self, address: IpAddr) -> bool {
        let limited_broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
        self.addresses.contains(&address)
            || address.is_multicast()
            || limited_broadcast
            || self.broadcasts.contains(&address)
    }
}

/// The direction of one packet.
#[must_use]
pub fn direction(summary: &PacketSummary, own: &OwnAddresses) -> Direction {
    match (&summary.content, summary.link) {
        (Decoded::Ip { flow, .. }, Some(link)) => by_hardware(flow, link, own),
        (Decoded::Ip { flow, .. }, None) => by_address(flow, own),
        (_, Some(link)) if own.hardware.contains(&link.source) => Direction::Out,
        (_, Some(link)) if is_for_us(link, own) => Direction::In,
        (_, Some(_)) => Direction::Foreign,
        (_, None) => Direction::In,
    }
}

fn by_hardware(flow: &FlowKey, link: LinkAddresses, own: &OwnAddresses) -> Direction {
    if own.hardware.contains(&link.source) {
        if own.is_source(flow.source, true) {
            Direction::Out
        } else {
            Direction::ForwardedOut
        }
    } else if is_for_us(link, own) {
        if own.is_destination(flow.destination) {
            Direction::In
        } else {
            Direction::ForwardedIn
        }
    } else if own.is_source(flow.source, false) {
        // Sent by an upper device with a hardware address of its own that we were not told about.
        Direction::Out
    } else {
        Direction::Foreign
    }
}

/// Links without hardware addresses: a forwarded packet does not tell its way and counts as entering.
fn by_address(flow: &FlowKey, own: &OwnAddresses) -> Direction {
    if own.is_source(flow.source, false) {
        Direction::Out
    } else if own.is_destination(flow.destination) {
        Direction::In
    } else {
        Direction::ForwardedIn
    }
}

fn is_for_us(link: LinkAddresses, own: &OwnAddresses) -> bool {
    let group = link.destination.first().is_some_and(|first| first & 1 == 1);
    group || own.hardware.contains(&link.destination)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::flow::{Ports, Protocol};

    const OURS: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const THEIRS: [u8; 6] = [2, 0, 0, 0, 0, 2];
    const THIRD: [u8; 6] = [2, 0, 0, 0, 0, 3];

    fn own() -> OwnAddresses {
        let mut own = OwnAddresses::default();
        own.add_address("192.0.2.1".parse().unwrap());
        own.add_address("2001:db8::1".parse().unwrap());
        own.add_broadcast("192.0.2.255".parse().unwrap());
        own.add_hardware(OURS);
        own.add_hardware([0; 6]);
        own
    }

    fn packet(link: Option<([u8; 6], [u8; 6])>, ends: Option<(&str, &str)>) -> PacketSummary {
        let content = match ends {
            None => Decoded::NotIp,
            Some((source, destination)) => Decoded::Ip {
                flow: FlowKey {
                    protocol: Protocol::Udp,
                    source: source.parse().unwrap(),
                    destination: destination.parse().unwrap(),
                    ports: Some(Ports {
                        source: 1,
                        destination: 2,
                    }),
                },
                opens: false,
            },
        };
        let link = link.map(|(source, destination)| LinkAddresses { source, destination });
        PacketSummary {
            bytes: 60,
            link,
            content,
        }
    }

    #[test]
    fn every_way_is_told() {
        use Direction::{Foreign, ForwardedIn, ForwardedOut, In, Out};
        let group = [0xff; 6];
        let cases = [
            (Some((OURS, THEIRS)), Some(("192.0.2.1", "198.51.100.1")), Out),
            (Some((OURS, group)), Some(("0.0.0.0", "255.255.255.255")), Out),
            (
                Some((OURS, THEIRS)),
                Some(("10.0.0.9", "198.51.100.1")),
                ForwardedOut,
            ),
            (Some((THEIRS, OURS)), Some(("198.51.100.1", "192.0.2.1")), In),
            (Some((THEIRS, OURS)), Some(("2001:db8::9", "2001:db8::1")), In),
            (Some((THEIRS, group)), Some(("192.0.2.9", "192.0.2.255")), In),
            (
                Some((THEIRS, [1, 0, 0x5e, 0, 0, 251])),
                Some(("192.0.2.9", "224.0.0.251")),
                In,
            ),
            (
                Some((THEIRS, OURS)),
                Some(("198.51.100.1", "10.0.0.9")),
                ForwardedIn,
            ),
            (Some((THEIRS, THIRD)), Some(("198.51.100.1", "10.0.0.9")), Foreign),
            (Some((OURS, group)), None, Out),
            (Some((THEIRS, group)), None, In),
            (Some((THEIRS, THIRD)), None, Foreign),
            (None, Some(("192.0.2.1", "198.51.100.1")), Out),
            (None, Some(("198.51.100.1", "192.0.2.1")), In),
            (None, Some(("198.51.100.1", "10.0.0.9")), ForwardedIn),
        ];
        for (link, ends, expected) in cases {
            assert_eq!(
                direction(&packet(link, ends), &own()),
                expected,
                "{link:?} {ends:?}"
            );
        }
    }

    #[test]
    fn a_zero_hardware_address_is_not_ours() {
        let summary = packet(Some(([0; 6], THIRD)), Some(("198.51.100.1", "10.0.0.9")));
        assert_eq!(direction(&summary, &own()), Direction::Foreign);
    }
}
