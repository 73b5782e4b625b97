//! Turns the bytes of one captured frame into a [`PacketSummary`].
//!
//! In: frame bytes, the length on the wire when the capture knows it, the [`LinkKind`]. Out: who talks to whom and
//! how many bytes. Nothing else leaves this file: no payload, no names.
//!
//! Bytes are counted as the kernel's link counters count them: the whole frame with its link header and without the
//! frame check sequence. An offloaded super-packet is one packet, as on the interface it was seen on.
//!
//! Invariants: never panics, never allocates, never reads beyond the copy; a frame that makes no sense is
//! [`FrameContent::Unparsed`] and still counts.

use std::net::IpAddr;

use pnet_packet::ethernet::{EtherType, EtherTypes, EthernetPacket};
use pnet_packet::ipv4::{Ipv4Flags, Ipv4Packet};
use pnet_packet::ipv6::Ipv6Packet;
use pnet_packet::tcp::{TcpFlags, TcpPacket};
use pnet_packet::vlan::VlanPacket;

use crate::flow::{FlowKey, IpProtocol, PortPair};
use crate::fragments::FragmentPosition;

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
    /// Id of the outermost VLAN tag in the copy; the kernel often takes that one off.
    pub vlan: Option<u16>,
    pub content: FrameContent,
}

/// The readable part of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameContent {
    Ip {
        flow: FlowKey,
        /// A TCP segment with SYN: whatever was known about this flow belongs to an earlier one.
        opens: bool,
        /// Set for a piece of a larger packet; only the first piece has ports.
        fragment: Option<FragmentPosition>,
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
    let head = match link {
        LinkKind::Ethernet => ethernet(frame),
        LinkKind::RawIp => raw_ip_type(frame).map(|ether_type| LinkHeader {
            addresses: None,
            vlan: None,
            length: 0,
            ether_type,
        }),
        LinkKind::Unsupported(_) => None,
    };
    let offset = head.as_ref().map_or(frame.len(), |head| head.length);
    let network = frame.get(offset..).unwrap_or_default();
    let (content, network_length) = match head.as_ref().map(|head| head.ether_type) {
        Some(EtherTypes::Ipv4) => ipv4(network),
        Some(EtherTypes::Ipv6) => ipv6(network),
        Some(_) => (FrameContent::NotIp, 0),
        None => (FrameContent::Unparsed, 0),
    };
    let length = wire_length.unwrap_or_else(|| frame.len().max(offset.saturating_add(network_length)));
    PacketSummary {
        bytes: length as u64,
        link: head.as_ref().and_then(|head| head.addresses),
        vlan: head.as_ref().and_then(|head| head.vlan),
        content,
    }
}

/// What comes before the network header.
struct LinkHeader {
    addresses: Option<LinkAddresses>,
    vlan: Option<u16>,
    /// Offset of the network header.
    length: usize,
    ether_type: EtherType,
}

/// The Ethernet header and any stack of VLAN tags.
fn ethernet(frame: &[u8]) -> Option<LinkHeader> {
    let view = EthernetPacket::new(frame)?;
    let addresses = LinkAddresses {
        source: view.get_source().octets(),
        destination: view.get_destination().octets(),
    };
    let mut ether_type = view.get_ethertype();
    let mut length = ETHERNET_HEADER;
    let mut vlan = None;
    for _ in 0..MAX_VLAN_TAGS {
        if !matches!(
            ether_type,
            EtherTypes::Vlan | EtherTypes::PBridge | EtherTypes::QinQ
        ) {
            break;
        }
        let tag = VlanPacket::new(frame.get(length..)?)?;
        vlan = vlan.or(Some(tag.get_vlan_identifier()));
        ether_type = tag.get_ethertype();
        length += VLAN_TAG;
    }
    // After nothing but tags the type is still a tag's: readable, and not IP.
    Some(LinkHeader {
        addresses: Some(addresses),
        vlan,
        length,
        ether_type,
    })
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
fn ipv4(packet: &[u8]) -> (FrameContent, usize) {
    let Some(view) = Ipv4Packet::new(packet) else {
        return (FrameContent::Unparsed, 0);
    };
    let header = usize::from(view.get_header_length()) * 4;
    if view.get_version() != 4 || header < IPV4_HEADER {
        return (FrameContent::Unparsed, 0);
    }
    let first = view.get_fragment_offset() == 0;
    let whole = first && view.get_flags() & Ipv4Flags::MoreFragments == 0;
    let upper = UpperLayer {
        protocol: IpProtocol::from_number(view.get_next_level_protocol().0),
        header: if first { packet.get(header..) } else { None },
        fragment: (!whole).then(|| FragmentPosition {
            id: u32::from(view.get_identification()),
            first,
        }),
    };
    let content = ip(view.get_source().into(), view.get_destination().into(), &upper);
    (content, usize::from(view.get_total_length()))
}

/// The packet and the length its header claims in bytes.
fn ipv6(packet: &[u8]) -> (FrameContent, usize) {
    let Some(view) = Ipv6Packet::new(packet) else {
        return (FrameContent::Unparsed, 0);
    };
    if view.get_version() != 6 {
        return (FrameContent::Unparsed, 0);
    }
    let claimed = IPV6_HEADER + usize::from(view.get_payload_length());
    let upper = upper_layer(view.get_next_header().0, packet);
    let content = ip(view.get_source().into(), view.get_destination().into(), &upper);
    (content, claimed)
}

/// What an IP packet carries.
struct UpperLayer<'a> {
    protocol: IpProtocol,
    /// From its first byte, unless this is a later fragment or the copy ends before.
    header: Option<&'a [u8]>,
    fragment: Option<FragmentPosition>,
}

/// Walks the extension headers to the protocol above and, unless this is a later fragment, its header.
fn upper_layer(first: u8, packet: &[u8]) -> UpperLayer<'_> {
    /// Hop-by-hop, routing, destination options, mobility, HIP, shim6: length in units of 8 bytes after the first.
    const GENERIC: [u8; 6] = [0, 43, 60, 135, 139, 140];
    const FRAGMENT: u8 = 44;
    const AUTHENTICATION: u8 = 51;
    let mut upper = UpperLayer {
        protocol: IpProtocol::from_number(first),
        header: None,
        fragment: None,
    };
    let mut next = first;
    let mut offset = IPV6_HEADER;
    for _ in 0..MAX_EXTENSION_HEADERS {
        upper.protocol = IpProtocol::from_number(next);
        let Some(header) = packet.get(offset..) else { break };
        if next != FRAGMENT && next != AUTHENTICATION && !GENERIC.contains(&next) {
            upper.header = Some(header);
            break;
        }
        let [following, length, high, low] = match header {
            [a, b, c, d, ..] => [*a, *b, *c, *d],
            _ => break,
        };
        match next {
            FRAGMENT => {
                let id = header.get(4..8).and_then(|id| id.try_into().ok());
                let place = u16::from_be_bytes([high, low]);
                // Offset zero and no more to come: an "atomic fragment" (RFC 6946) is a whole packet.
                if place & !0b110 != 0 {
                    upper.fragment = id.map(|id| FragmentPosition {
                        id: u32::from_be_bytes(id),
                        first: place >> 3 == 0,
                    });
                }
                if place >> 3 != 0 {
                    upper.protocol = IpProtocol::from_number(following);
                    break;
                }
                offset += 8;
            }
            AUTHENTICATION => offset += (usize::from(length) + 2) * 4,
            _ => offset += (usize::from(length) + 1) * 8,
        }
        next = following;
    }
    upper
}

/// Ports and the opening flag, as far as the copy holds them.
fn ip(source: IpAddr, destination: IpAddr, upper: &UpperLayer<'_>) -> FrameContent {
    let (ports, opens) = match (upper.protocol, upper.header) {
        (IpProtocol::Tcp, Some(bytes)) => tcp(bytes),
        (IpProtocol::Udp, Some(bytes)) => (first_ports(bytes), false),
        _ => (None, false),
    };
    FrameContent::Ip {
        flow: FlowKey {
            protocol: upper.protocol,
            source: canonical(source),
            destination: canonical(destination),
            ports,
        },
        opens,
        fragment: upper.fragment,
    }
}

fn tcp(bytes: &[u8]) -> (Option<PortPair>, bool) {
    match TcpPacket::new(bytes) {
        Some(view) => (
            Some(PortPair {
                source: view.get_source(),
                destination: view.get_destination(),
            }),
            view.get_flags() & TcpFlags::SYN != 0,
        ),
        None => (first_ports(bytes), false),
    }
}

/// TCP and UDP both begin with the ports; a copy cut inside the header still tells them.
fn first_ports(bytes: &[u8]) -> Option<PortPair> {
    match bytes {
        [a, b, c, d, ..] => Some(PortPair {
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
