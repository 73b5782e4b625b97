//! Turns the bytes of one captured frame into a [`PacketSummary`].
//!
//! In: frame bytes, the length on the wire when the capture knows it, the [`LinkKind`]. Out: who talks to whom and
//! how many bytes. Nothing else leaves this file: no payload, no names.
//!
//! Bytes are counted as the kernel's link counters count them: the whole frame with its link header and without the
//! frame check sequence. An offloaded super-packet is one packet, as on the interface it was seen on.
//!
//! Invariants: never panics, never allocates, never reads beyond the copy; a frame that makes no sense is
//! [`Decoded::Unparsed`] and still counts.

use std::net::IpAddr;

use pnet::packet::ethernet::{EtherType, EtherTypes, EthernetPacket};
use pnet::packet::ipv4::Ipv4Packet;
use pnet::packet::ipv6::Ipv6Packet;
use pnet::packet::tcp::{TcpFlags, TcpPacket};
use pnet::packet::udp::UdpPacket;
use pnet::packet::vlan::VlanPacket;

use super::flow::{FlowKey, Ports, Protocol};

/// Ethernet header: two addresses and the type.
const ETHERNET_HEADER: usize = 14;
/// IEEE 802.1Q or 802.1ad tag, with the type that follows it.
const VLAN_TAG: usize = 4;
/// Tags looked through; two are in use (QinQ), the bound ends a frame made of nothing but tags.
const MAX_VLAN_TAGS: usize = 8;
/// IPv6 extension headers looked through; RFC 8200 knows seven kinds, each once (destination options twice).
const MAX_EXTENSION_HEADERS: usize = 10;
/// Smallest IPv4 header.
const IPV4_HEADER: usize = 20;
/// The fixed IPv6 header.
const IPV6_HEADER: usize = 40;

/// How the first byte of a frame has to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkKind {
    /// Ethernet header first.
    Ethernet,
    /// An IP packet without link header (tun, WireGuard, PPP).
    RawIp,
    /// A link layer we do not read, by its ARP hardware type; such interfaces are not captured.
    Unsupported(u16),
}

/// Hardware addresses of an Ethernet frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkAddresses {
    /// Who sent the frame on this link.
    pub source: [u8; 6],
    /// Whom it is for on this link.
    pub destination: [u8; 6],
}

/// What accounting needs to know of one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketSummary {
    /// Length on the wire in bytes: link header included, frame check sequence not.
    pub bytes: u64,
    /// Hardware addresses, where the link has them.
    pub link: Option<LinkAddresses>,
    /// What the frame carries.
    pub content: Decoded,
}

/// The readable part of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoded {
    /// An IP packet.
    Ip {
        /// Both ends.
        flow: FlowKey,
        /// A TCP segment with SYN: whatever was known about this flow belongs to an earlier one.
        opens: bool,
    },
    /// A well-formed frame of another protocol (ARP, LLDP, ...).
    NotIp,
    /// Truncated or malformed.
    Unparsed,
}

/// Reads one frame.
///
/// `wire_length` is the true length in bytes, `None` when the capture cut the frame and does not know; then the IP
/// header's own length is believed, which is right for every packet the kernel itself accepted.
#[must_use]
pub fn decode(frame: &[u8], wire_length: Option<usize>, link: LinkKind) -> PacketSummary {
    let (addresses, offset, ether_type) = match link {
        LinkKind::Ethernet => match ethernet(frame) {
            Some((addresses, offset, ether_type)) => (Some(addresses), offset, Some(ether_type)),
            None => (None, frame.len(), None),
        },
        LinkKind::RawIp => (None, 0, raw_ip_type(frame)),
        LinkKind::Unsupported(_) => (None, frame.len(), None),
    };
    let network = frame.get(offset..).unwrap_or_default();
    let (content, network_length) = match ether_type {
        Some(EtherTypes::Ipv4) => ipv4(network),
        Some(EtherTypes::Ipv6) => ipv6(network),
        Some(_) => (Decoded::NotIp, 0),
        None => (Decoded::Unparsed, 0),
    };
    let length = wire_length.unwrap_or_else(|| frame.len().max(offset.saturating_add(network_length)));
    PacketSummary {
        bytes: length as u64,
        link: addresses,
        content,
    }
}

/// Addresses, offset of the network header and its type, behind any stack of VLAN tags.
fn ethernet(frame: &[u8]) -> Option<(LinkAddresses, usize, EtherType)> {
    let view = EthernetPacket::new(frame)?;
    let addresses = LinkAddresses {
        source: view.get_source().octets(),
        destination: view.get_destination().octets(),
    };
    let mut ether_type = view.get_ethertype();
    let mut offset = ETHERNET_HEADER;
    for _ in 0..MAX_VLAN_TAGS {
        if !matches!(
            ether_type,
            EtherTypes::Vlan | EtherTypes::PBridge | EtherTypes::QinQ
        ) {
            return Some((addresses, offset, ether_type));
        }
        ether_type = VlanPacket::new(frame.get(offset..)?)?.get_ethertype();
        offset += VLAN_TAG;
    }
    // Nothing but tags: the addresses are readable, the content is not IP.
    Some((addresses, offset, ether_type))
}

/// A raw-IP link has no type field; the version nibble is all there is.
fn raw_ip_type(packet: &[u8]) -> Option<EtherType> {
    match packet.first()? >> 4 {
        4 => Some(EtherTypes::Ipv4),
        6 => Some(EtherTypes::Ipv6),
        _ => None,
    }
}

/// The packet and the length its header claims in bytes.
fn ipv4(packet: &[u8]) -> (Decoded, usize) {
    let Some(view) = Ipv4Packet::new(packet) else {
        return (Decoded::Unparsed, 0);
    };
    let header = usize::from(view.get_header_length()) * 4;
    if view.get_version() != 4 || header < IPV4_HEADER {
        return (Decoded::Unparsed, 0);
    }
    let protocol = Protocol::from_number(view.get_next_level_protocol().0);
    let transport = if view.get_fragment_offset() == 0 {
        packet.get(header..)
    } else {
        None
    };
    let content = ip(
        view.get_source().into(),
        view.get_destination().into(),
        protocol,
        transport,
    );
    (content, usize::from(view.get_total_length()))
}

/// The packet and the length its header claims in bytes.
fn ipv6(packet: &[u8]) -> (Decoded, usize) {
    let Some(view) = Ipv6Packet::new(packet) else {
        return (Decoded::Unparsed, 0);
    };
    if view.get_version() != 6 {
        return (Decoded::Unparsed, 0);
    }
    let claimed = IPV6_HEADER + usize::from(view.get_payload_length());
    let (protocol, transport) = upper_layer(view.get_next_header().0, packet);
    (
        ip(
            view.get_source().into(),
            view.get_destination().into(),
            protocol,
            transport,
        ),
        claimed,
    )
}

/// Walks the extension headers to the protocol above and, unless this is a later fragment, its header.
fn upper_layer(first: u8, packet: &[u8]) -> (Protocol, Option<&[u8]>) {
    /// Hop-by-hop, routing, destination options, mobility, HIP, shim6: length in units of 8 bytes after the first.
    const GENERIC: [u8; 6] = [0, 43, 60, 135, 139, 140];
    const FRAGMENT: u8 = 44;
    const AUTHENTICATION: u8 = 51;
    let mut next = first;
    let mut offset = IPV6_HEADER;
    for _ in 0..MAX_EXTENSION_HEADERS {
        let Some(header) = packet.get(offset..) else { break };
        let [following, length, high, low] = match header {
            [a, b, c, d, ..] => [*a, *b, *c, *d],
            _ if GENERIC.contains(&next) || next == FRAGMENT || next == AUTHENTICATION => break,
            _ => return (Protocol::from_number(next), Some(header)),
        };
        match next {
            FRAGMENT if (u16::from_be_bytes([high, low]) >> 3) != 0 => {
                return (Protocol::from_number(following), None);
            }
            FRAGMENT => offset += 8,
            AUTHENTICATION => offset += (usize::from(length) + 2) * 4,
            _ if GENERIC.contains(&next) => offset += (usize::from(length) + 1) * 8,
            _ => return (Protocol::from_number(next), Some(header)),
        }
        next = following;
    }
    (Protocol::from_number(next), None)
}

/// Ports and the opening flag, as far as the copy holds them.
fn ip(source: IpAddr, destination: IpAddr, protocol: Protocol, transport: Option<&[u8]>) -> Decoded {
    let (ports, opens) = match (protocol, transport) {
        (Protocol::Tcp, Some(bytes)) => tcp(bytes),
        (Protocol::Udp, Some(bytes)) => match UdpPacket::new(bytes) {
            Some(view) => (
                Some(Ports {
                    source: view.get_source(),
                    destination: view.get_destination(),
                }),
                false,
            ),
            None => (first_ports(bytes), false),
        },
        _ => (None, false),
    };
    Decoded::Ip {
        flow: FlowKey {
            protocol,
            source: canonical(source),
            destination: canonical(destination),
            ports,
        },
        opens,
    }
}

fn tcp(bytes: &[u8]) -> (Option<Ports>, bool) {
    match TcpPacket::new(bytes) {
        Some(view) => (
            Some(Ports {
                source: view.get_source(),
                destination: view.get_destination(),
            }),
            view.get_flags() & TcpFlags::SYN != 0,
        ),
        None => (first_ports(bytes), false),
    }
}

/// TCP and UDP both begin with the ports; a copy cut inside the header still tells them.
fn first_ports(bytes: &[u8]) -> Option<Ports> {
    match bytes {
        [a, b, c, d, ..] => Some(Ports {
            source: u16::from_be_bytes([*a, *b]),
            destination: u16::from_be_bytes([*c, *d]),
        }),
        _ => None,
    }
}

/// IPv4-mapped IPv6 addresses never belong on the wire; sockets use them, so both sides are compared canonical.
fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
