//! Remembers the ports of fragmented packets: only the first fragment carries them.
//!
//! In: fragments in the order they were seen. Out: the ports of a later fragment, if its first one was seen before it.
//! Bounded: the oldest is forgotten. No clock: an id is used again only after tens of thousands of packets, and then
//! the newer first fragment replaces the older.

use std::collections::VecDeque;
use std::net::IpAddr;

use crate::flow::{FlowKey, IpProtocol, PortPair};

/// Packets under reassembly that are remembered; a scan over them costs less than a microsecond, and only for
/// fragments.
const MAX_PACKETS: usize = 256;

/// Which fragment of which packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FragmentPosition {
    /// The packet's identification: 16 bits in IPv4, 32 in IPv6.
    pub id: u32,
    /// It begins the packet.
    pub first: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FragmentedPacket {
    id: u32,
    protocol: IpProtocol,
    source: IpAddr,
    destination: IpAddr,
}

/// Ports of the packets whose first fragment was seen last.
#[derive(Debug, Default)]
pub(crate) struct Fragments {
    packets: VecDeque<(FragmentedPacket, PortPair)>,
}

impl Fragments {
    /// Gives a later fragment the ports of its first one.
    pub(crate) fn complete(&mut self, flow: &mut FlowKey, fragment: FragmentPosition) {
        let packet = FragmentedPacket {
            id: fragment.id,
            protocol: flow.protocol,
            source: flow.source,
            destination: flow.destination,
        };
        match (fragment.first, flow.ports) {
            (true, Some(ports)) => {
                self.packets.truncate(MAX_PACKETS - 1);
                // The newest comes first, so it is found before an older one with the same id.
                self.packets.push_front((packet, ports));
            }
            (true, None) => {}
            (false, _) => {
                flow.ports = self
                    .packets
                    .iter()
                    .find(|(known, _)| *known == packet)
                    .map(|(_, ports)| *ports);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(source: &str, ports: Option<(u16, u16)>) -> FlowKey {
        FlowKey {
            protocol: IpProtocol::Udp,
            source: source.parse().unwrap(),
            destination: "192.0.2.2".parse().unwrap(),
            ports: ports.map(|(source, destination)| PortPair { source, destination }),
        }
    }

    fn later(fragments: &mut Fragments, source: &str, id: u32) -> Option<u16> {
        let mut flow = flow(source, None);
        fragments.complete(&mut flow, FragmentPosition { id, first: false });
        flow.ports.map(|ports| ports.source)
    }

    fn first(fragments: &mut Fragments, source: &str, id: u32, port: u16) {
        fragments.complete(
            &mut flow(source, Some((port, 53))),
            FragmentPosition { id, first: true },
        );
    }

    #[test]
    fn a_later_fragment_belongs_to_the_flow_of_its_first_one() {
        let mut fragments = Fragments::default();
        assert_eq!(
            later(&mut fragments, "192.0.2.1", 7),
            None,
            "its first was not seen"
        );
        first(&mut fragments, "192.0.2.1", 7, 1_000);
        first(&mut fragments, "192.0.2.9", 7, 2_000);
        assert_eq!(later(&mut fragments, "192.0.2.1", 7), Some(1_000));
        assert_eq!(later(&mut fragments, "192.0.2.9", 7), Some(2_000));
        assert_eq!(later(&mut fragments, "192.0.2.1", 8), None);
        first(&mut fragments, "192.0.2.1", 7, 3_000);
        assert_eq!(
            later(&mut fragments, "192.0.2.1", 7),
            Some(3_000),
            "the id was used again"
        );
    }

    #[test]
    fn the_oldest_is_forgotten() {
        let mut fragments = Fragments::default();
        for id in 0..=u32::try_from(MAX_PACKETS).unwrap() {
            first(&mut fragments, "192.0.2.1", id, 1_000);
        }
        assert_eq!(fragments.packets.len(), MAX_PACKETS);
        assert_eq!(later(&mut fragments, "192.0.2.1", 0), None);
        assert_eq!(later(&mut fragments, "192.0.2.1", 1), Some(1_000));
    }
}
