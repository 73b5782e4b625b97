//! Decides which way the packets of a flow went, from the addresses this device owns.
//!
//! In: the [`FrameCrossing`] of its frames, the flow, [`OwnAddresses`]. Out: a [`PacketDirection`]. A forwarded packet
//! is seen twice, once on the interface it enters and once on the one it leaves: the first is
//! [`PacketDirection::ForwardedIn`], the second [`PacketDirection::ForwardedOut`], so each way counts it exactly once.
//!
//! Absent: address translation. The outer side of a masqueraded flow has our own address and no socket; attribution
//! asks the connection tracking about those.

use std::collections::HashSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::flow::FlowKey;
use super::way::FrameCrossing;

/// Which way a packet crossed an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PacketDirection {
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

impl PacketDirection {
    /// True for what leaves the interface.
    #[must_use]
    pub(super) const fn is_out(self) -> bool {
        matches!(self, Self::Out | Self::ForwardedOut | Self::StackedOut)
    }
}

/// What this device answers to.
#[derive(Debug, Clone, Default)]
pub(super) struct OwnAddresses {
    addresses: HashSet<IpAddr>,
    broadcasts: HashSet<IpAddr>,
    networks: Vec<IpNet>,
}

impl OwnAddresses {
    /// Adds an address of ours; IPv4-mapped ones are taken as IPv4.
    pub(super) fn add_address(&mut self, address: IpAddr) {
        self.addresses.insert(address.to_canonical());
    }

    /// Adds the broadcast address of one of our subnets.
    pub(super) fn add_broadcast(&mut self, address: IpAddr) {
        self.broadcasts.insert(address);
    }

    /// Adds a network that one of our interfaces is in.
    pub(super) fn add_network(&mut self, network: IpNet) {
        let network = network.trunc();
        if !self.networks.contains(&network) {
            self.networks.push(network);
        }
    }

    /// True for an address that one of our interfaces reaches without a router.
    #[must_use]
    pub(super) fn is_neighbour(&self, address: IpAddr) -> bool {
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
pub(super) fn direction(way: FrameCrossing, flow: Option<&FlowKey>, own: &OwnAddresses) -> PacketDirection {
    match (way, flow) {
        (FrameCrossing::StackedIn, _) => PacketDirection::StackedIn,
        (FrameCrossing::StackedOut, _) => PacketDirection::StackedOut,
        (FrameCrossing::BridgedIn, _) => PacketDirection::ForwardedIn,
        (FrameCrossing::BridgedOut, _) => PacketDirection::ForwardedOut,
        (FrameCrossing::Out, Some(flow)) if !own.is_source(flow.source, true) => {
            PacketDirection::ForwardedOut
        }
        (FrameCrossing::Out, _) => PacketDirection::Out,
        (FrameCrossing::In, Some(flow)) if !own.is_destination(flow.destination) => {
            PacketDirection::ForwardedIn
        }
        (FrameCrossing::In, _) | (FrameCrossing::Unknown, None) => PacketDirection::In,
        // Sent by an upper device with a hardware address of its own that we were not told about.
        (FrameCrossing::Overheard, Some(flow)) if own.is_source(flow.source, false) => PacketDirection::Out,
        (FrameCrossing::Overheard, _) => PacketDirection::Foreign,
        (FrameCrossing::Unknown, Some(flow)) => by_address(flow, own),
    }
}

/// Links without hardware addresses: a forwarded packet does not tell its way and counts as entering.
fn by_address(flow: &FlowKey, own: &OwnAddresses) -> PacketDirection {
    if own.is_source(flow.source, false) {
        PacketDirection::Out
    } else if own.is_destination(flow.destination) {
        PacketDirection::In
    } else {
        PacketDirection::ForwardedIn
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::flow::{IpProtocol, PortPair};

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
            protocol: IpProtocol::Udp,
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            ports: Some(PortPair {
                source: 1,
                destination: 2,
            }),
        }
    }

    #[test]
    fn every_way_is_told() {
        use PacketDirection::{Foreign, ForwardedIn, ForwardedOut, In, Out, StackedIn, StackedOut};
        let cases = [
            (FrameCrossing::Out, Some(("192.0.2.1", "198.51.100.1")), Out),
            (FrameCrossing::Out, Some(("0.0.0.0", "255.255.255.255")), Out),
            (
                FrameCrossing::Out,
                Some(("10.0.0.9", "198.51.100.1")),
                ForwardedOut,
            ),
            (FrameCrossing::In, Some(("198.51.100.1", "192.0.2.1")), In),
            (FrameCrossing::In, Some(("2001:db8::9", "2001:db8::1")), In),
            (FrameCrossing::In, Some(("192.0.2.9", "192.0.2.255")), In),
            (FrameCrossing::In, Some(("192.0.2.9", "224.0.0.251")), In),
            (FrameCrossing::In, Some(("198.51.100.1", "10.0.0.9")), ForwardedIn),
            (
                FrameCrossing::Overheard,
                Some(("198.51.100.1", "10.0.0.9")),
                Foreign,
            ),
            (FrameCrossing::Overheard, Some(("192.0.2.1", "198.51.100.1")), Out),
            (FrameCrossing::Out, None, Out),
            (FrameCrossing::In, None, In),
            (FrameCrossing::Overheard, None, Foreign),
            (FrameCrossing::Unknown, None, In),
            (FrameCrossing::Unknown, Some(("192.0.2.1", "198.51.100.1")), Out),
            (FrameCrossing::Unknown, Some(("198.51.100.1", "192.0.2.1")), In),
            (
                FrameCrossing::Unknown,
                Some(("198.51.100.1", "10.0.0.9")),
                ForwardedIn,
            ),
            (
                FrameCrossing::BridgedIn,
                Some(("192.0.2.1", "10.0.0.9")),
                ForwardedIn,
            ),
            (
                FrameCrossing::BridgedOut,
                Some(("192.0.2.1", "10.0.0.9")),
                ForwardedOut,
            ),
            (
                FrameCrossing::StackedIn,
                Some(("10.0.0.9", "192.0.2.1")),
                StackedIn,
            ),
            (FrameCrossing::StackedOut, None, StackedOut),
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
