//! Frames made by hand, byte by byte.

use crate::common::packet::marker;

/// Ethertypes.
pub(crate) const IPV4: u16 = 0x0800;
pub(crate) const ARP: u16 = 0x0806;
pub(crate) const VLAN: u16 = 0x8100;
pub(crate) const IPV6: u16 = 0x86dd;
pub(crate) const PPPOE_DISCOVERY: u16 = 0x8863;
pub(crate) const PPPOE_SESSION: u16 = 0x8864;
pub(crate) const EAPOL: u16 = 0x888e;
pub(crate) const LLDP: u16 = 0x88cc;
/// What the kernel calls frames with a length in place of a type, and headers of LLC behind it.
pub(crate) const IEEE_802_2: u16 = 0x0004;
/// For experiments (IEEE 802): nobody knows it.
pub(crate) const UNKNOWN: u16 = 0x88b5;

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

/// An ARP request with something behind it, as padding.
pub(crate) fn arp(from: Mac, source: [u8; 4], asked: [u8; 4], padding: &[u8]) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, 1];
    [head.as_slice(), &from, &source, &[0; 6], &asked, padding].concat()
}
