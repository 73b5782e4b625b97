//! IP packets made by hand, byte by byte.
//!
//! In: addresses, ports and a load. Out: bytes, with the checksums that something on the way looks at.

use std::net::IpAddr;

/// Control messages of IPv4, as IP headers number it.
pub const ICMP: u8 = 1;
/// Streams, as IP headers number it.
pub const TCP: u8 = 6;
/// Datagrams, as IP headers number it.
pub const UDP: u8 = 17;
/// The extension header of an IPv6 fragment, as IP headers number it.
pub const FRAGMENT: u8 = 44;
/// A tunnel, as IP headers number it.
pub const GRE: u8 = 47;
/// Control messages of IPv6, as IP headers number it.
pub const ICMPV6: u8 = 58;
/// An extension header of IPv6, as IP headers number it.
pub const DESTINATION_OPTIONS: u8 = 60;
/// Another transport, as IP headers number it.
pub const SCTP: u8 = 132;
/// Flag of a TCP segment that opens a connection.
pub const SYN: u8 = 0x02;
/// Flag of a TCP segment that acknowledges.
pub const ACK: u8 = 0x10;

/// A load by which a packet is known again where it arrives.
pub fn marker(name: &str) -> Vec<u8> {
    format!("<<{name}>>").into_bytes()
}

/// The checksum of the internet over all of it.
pub fn sum(parts: &[&[u8]]) -> [u8; 2] {
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

/// Source and destination, as TCP, UDP and SCTP begin.
pub fn ports(from: u16, to: u16) -> Vec<u8> {
    [from, to].map(u16::to_be_bytes).concat()
}

/// UDP without a checksum.
///
/// # Panics
/// When the data is longer than a datagram can be.
pub fn udp(from: u16, to: u16, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + data.len()).unwrap();
    let words = [from, to, length, 0].map(u16::to_be_bytes).concat();
    [&words, data].concat()
}

/// TCP; where it arrives nobody looks at the checksum.
pub fn tcp(from: u16, to: u16, flags: u8, data: &[u8]) -> Vec<u8> {
    let rest = [0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0x20, 0, 0, 0, 0, 0];
    [&ports(from, to), rest.as_slice(), data].concat()
}

/// An ICMP message with a checksum; for IPv6 the kernel makes another one.
pub fn icmp(kind: u8, data: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, 0, 0, 0, 0x45, 0x57, 0, 1], data].concat();
    let checksum = sum(&[&message]);
    message[2..4].copy_from_slice(&checksum);
    message
}

/// IPv4 or IPv6, as the addresses are. `fragment` is the IPv4 word of flags and offset.
///
/// # Panics
/// When the addresses are of two families, or the data is too long.
pub fn ip(from: IpAddr, to: IpAddr, protocol: u8, fragment: u16, data: &[u8]) -> Vec<u8> {
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
        _ => panic!("{from} and {to} are of two families"),
    }
}
