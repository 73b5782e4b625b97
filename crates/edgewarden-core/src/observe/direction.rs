//! Decides which way the packets of a flow went, from the addresses this device owns.
//!
//! In: the [`Way`] of its frames, the flow, [`OwnAddresses`]. Out: a [`Direction`]. A forwarded packet is seen twice,
//! once on the interface it enters and once on the one it leaves: the first is [`Direction::ForwardedIn`], the second
//! [`Direction::ForwardedOut`], so each way counts it exactly once.
//!
//! Absent: address translation. The outer side of a masqueraded flow has our own address and no socket; attribution
//! asks the connection tracking about those.

use std::collections::HashSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::flow::FlowKey;
use super::way::Way;

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
    /// In, and counted on the interface stacked above.
    StackedIn,
    /// Out, and counted on the interface stacked above.
    StackedOut,
}

impl Direction {
    /// True for what leaves the interface.
    #[must_use]
    pub const fn is_out(self) -> bool {
        matches!(self, Self::Out | Self::ForwardedOut | Self::StackedOut)
    }
}

/// What this device answers to.
#[derive(Debug, Clone, Default)]
pub struct OwnAddresses {
    addresses: HashSet<IpAddr>,
    broadcasts: HashSet<IpAddr>,
    networks: Vec<IpNet>,
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

    /// Adds a network that one of our interfaces is in.
    pub fn add_network(&mut self, network: IpNet) {
        let network = network.trunc();
        if !self.networks.contains(&network) {
            self.networks.push(network);
        }
    }

    /// True for an address that one of our interfaces reaches without a router.
    #[must_use]
    pub fn is_neighbour(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&address))
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

/// The direction of the packets of one flow (`None`: not IP, or not readable).
#[must_use]
pub fn direction(way: Way, flow: Option<&FlowKey>, own: &OwnAddresses) -> Direction {
    match (way, flow) {
        (Way::StackedIn, _) => Direction::StackedIn,
        (Way::StackedOut, _) => Direction::StackedOut,
        (Way::BridgedIn, _) => Direction::ForwardedIn,
        (Way::BridgedOut, _) => Direction::ForwardedOut,
        (Way::Out, Some(flow)) if !own.is_source(flow.source, true) => Direction::ForwardedOut,
        (Way::Out, _) => Direction::Out,
        (Way::In, Some(flow)) if !own.is_destination(flow.destination) => Direction::ForwardedIn,
        (Way::In, _) | (Way::Unknown, None) => Direction::In,
        // Sent by an upper device with a hardware address of its own that we were not told about.
        (Way::Overheard, Some(flow)) if own.is_source(flow.source, false) => Direction::Out,
        (Way::Overheard, _) => Direction::Foreign,
        (Way::Unknown, Some(flow)) => by_address(flow, own),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::flow::{Ports, Protocol};

    fn own() -> OwnAddresses {
        let mut own = OwnAddresses::default();
        own.add_address("192.0.2.1".parse().unwrap());
        own.add_address("2001:db8::1".parse().unwrap());
        own.add_broadcast("192.0.2.255".parse().unwrap());
        own.add_network("192.0.2.1/24".parse().unwrap());
        own
    }

    fn flow(source: &str, destination: &str) -> FlowKey {
        FlowKey {
            protocol: Protocol::Udp,
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            ports: Some(Ports {
                source: 1,
                destination: 2,
            }),
        }
    }

    #[test]
    fn every_way_is_told() {
        use Direction::{Foreign, ForwardedIn, ForwardedOut, In, Out, StackedIn, StackedOut};
        let cases = [
            (Way::Out, Some(("192.0.2.1", "198.51.100.1")), Out),
            (Way::Out, Some(("0.0.0.0", "255.255.255.255")), Out),
            (Way::Out, Some(("10.0.0.9", "198.51.100.1")), ForwardedOut),
            (Way::In, Some(("198.51.100.1", "192.0.2.1")), In),
            (Way::In, Some(("2001:db8::9", "2001:db8::1")), In),
            (Way::In, Some(("192.0.2.9", "192.0.2.255")), In),
            (Way::In, Some(("192.0.2.9", "224.0.0.251")), In),
            (Way::In, Some(("198.51.100.1", "10.0.0.9")), ForwardedIn),
            (Way::Overheard, Some(("198.51.100.1", "10.0.0.9")), Foreign),
            (Way::Overheard, Some(("192.0.2.1", "198.51.100.1")), Out),
            (Way::Out, None, Out),
            (Way::In, None, In),
            (Way::Overheard, None, Foreign),
            (Way::Unknown, None, In),
            (Way::Unknown, Some(("192.0.2.1", "198.51.100.1")), Out),
            (Way::Unknown, Some(("198.51.100.1", "192.0.2.1")), In),
            (Way::Unknown, Some(("198.51.100.1", "10.0.0.9")), ForwardedIn),
            (Way::BridgedIn, Some(("192.0.2.1", "10.0.0.9")), ForwardedIn),
            (Way::BridgedOut, Some(("192.0.2.1", "10.0.0.9")), ForwardedOut),
            (Way::StackedIn, Some(("10.0.0.9", "192.0.2.1")), StackedIn),
            (Way::StackedOut, None, StackedOut),
        ];
        for (way, ends, expected) in cases {
            let flow = ends.map(|(source, destination)| flow(source, destination));
            assert_eq!(
                direction(way, flow.as_ref(), &own()),
                expected,
                "{way:?} {ends:?}"
            );
        }
    }

    #[test]
    fn neighbours_are_in_a_network_of_ours() {
        assert!(own().is_neighbour("192.0.2.77".parse().unwrap()));
        assert!(!own().is_neighbour("192.0.3.77".parse().unwrap()));
    }
}
