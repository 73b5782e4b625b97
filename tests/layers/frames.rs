//! Frames made by hand, byte by byte.

use std::net::IpAddr;

/// Ethertypes.
pub(crate) const IPV4: u16 = 0x0800;
pub(crate) const ARP: u16 = 0x0806;
pub(crate) const VLAN: u16 = 0x8100;
pub(crate) const IPV6: u16 = 0x86dd;
pub(crate) const PPPOE_SESSION: u16 = 0x8864;
pub(crate) const EAPOL: u16 = 0x888e;
pub(crate) const LLDP: u16 = 0x88cc;
/// For experiments (IEEE 802): nobody knows it.
pub(crate) const UNKNOWN: u16 = 0x88b5;
/// IP protocol numbers.
pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMPV6: u8 = 58;

/// A hardware address.
pub(crate) type Mac = [u8; 6];
pub(crate) const BROADCAST: Mac = [0xff; 6];

/// A frame, and the name that its content carries.
#[derive(Clone)]
pub(crate) struct Frame {
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
    /// What the sender tells the kernel the frame is; what it is when zero.
    pub(crate) said: u16,
}

pub(crate) fn marker(name: &str) -> Vec<u8> {
    format!("<<{name}>>").into_bytes()
}

/// Between two hardware addresses; `content` makes the frame's content of the marker.
pub(crate) struct Between {
    pub(crate) from: Mac,
    pub(crate) to: Mac,
}

impl Between {
    pub(crate) fn frame(
        &self,
        name: &'static str,
        kind: u16,
        content: impl FnOnce(Vec<u8>) -> Vec<u8>,
    ) -> Frame {
        let header = [self.to.as_slice(), &self.from, &kind.to_be_bytes()].concat();
        let bytes = [header, content(marker(name))].concat();
        Frame { name, bytes, said: 0 }
    }
}

pub(crate) fn vlan(id: u16, kind: u16, content: &[u8]) -> Vec<u8> {
    [&id.to_be_bytes(), &kind.to_be_bytes(), content].concat()
}

fn sum(parts: &[&[u8]]) -> [u8; 2] {
    let bytes = parts.concat();
    let pairs = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = pairs.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let [_, _, high, low] = (!sum).to_be_bytes();
    [high, low]
}

/// UDP without a checksum.
pub(crate) fn udp(from: u16, to: u16, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + data.len()).unwrap();
    let words = [from, to, length, 0].map(u16::to_be_bytes).concat();
    [&words, data].concat()
}

/// TCP; where it arrives nobody looks at the checksum.
pub(crate) fn tcp(from: u16, to: u16, data: &[u8]) -> Vec<u8> {
    let ports = [from, to].map(u16::to_be_bytes).concat();
    let rest = [0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0x20, 0, 0, 0, 0, 0];
    [&ports, rest.as_slice(), data].concat()
}

pub(crate) fn icmp(kind: u8, data: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, 0, 0, 0, 0x45, 0x57, 0, 1], data].concat();
    let checksum = sum(&[&message]);
    message[2..4].copy_from_slice(&checksum);
    message
}

/// IPv4 or IPv6, as the addresses are. `fragment` is the IPv4 word of flags and offset.
pub(crate) fn ip(from: IpAddr, to: IpAddr, protocol: u8, fragment: u16, data: &[u8]) -> Vec<u8> {
    let length = |of: usize| u16::try_from(of).unwrap().to_be_bytes();
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut header = vec![0x45, 0];
            header.extend(length(20 + data.len()));
            header.extend([0x45, 0x57]);
            header.extend(fragment.to_be_bytes());
            header.extend([64, protocol, 0, 0]);
            header.extend(from.octets());
            header.extend(to.octets());
            let checksum = sum(&[&header]);
            header[10..12].copy_from_slice(&checksum);
            [&header, data].concat()
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let mut header = vec![0x60, 0, 0, 0];
            header.extend(length(data.len()));
            header.extend([protocol, 255]);
            header.extend(from.octets());
            header.extend(to.octets());
            [&header, data].concat()
        }
        _ => Vec::new(),
    }
}

/// An ARP request with something behind it, as padding.
pub(crate) fn arp(from: Mac, source: [u8; 4], asked: [u8; 4], padding: &[u8]) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, 1];
    [head.as_slice(), &from, &source, &[0; 6], &asked, padding].concat()
}
