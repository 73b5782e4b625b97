//! One frame, as the ring holds it.

/// A frame and what the kernel says about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Its bytes from the link header on, cut to the snap length.
    pub bytes: &'a [u8],
    /// Its length on the wire in bytes, as the interface counts it. A VLAN tag that the kernel took off is not in it.
    pub wire_length: u32,
    /// Outermost VLAN tag, if the kernel took it off.
    pub vlan: Option<Vlan>,
    /// Which way it went.
    pub kind: FrameKind,
    /// Index of the interface.
    pub interface: u32,
    /// ARP hardware type of the interface: how the bytes begin.
    pub hardware_type: u16,
}

/// An IEEE 802.1Q or 802.1ad tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vlan {
    /// Tag protocol, 0x8100 or 0x88a8; 0 if the kernel does not tell.
    pub tpid: u16,
    /// Tag control: priority and, in its low twelve bits, the id.
    pub tci: u16,
}

impl Vlan {
    /// The VLAN's id.
    #[must_use]
    pub const fn id(self) -> u16 {
        self.tci & 0x0fff
    }
}

/// Which way a frame went, as the interface saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// Received, for this interface's own hardware address.
    Host,
    /// Received, for everybody.
    Broadcast,
    /// Received, for a group.
    Multicast,
    /// Received, for somebody else's hardware address.
    OtherHost,
    /// Sent.
    Outgoing,
    /// Another kind, by its number.
    Other(u8),
}

impl FrameKind {
    pub(crate) const fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Host,
            1 => Self::Broadcast,
            2 => Self::Multicast,
            3 => Self::OtherHost,
            4 => Self::Outgoing,
            other => Self::Other(other),
        }
    }
}
