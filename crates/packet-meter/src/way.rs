//! Which way a frame crossed its interface, as far as the link layer tells, and whether the same bytes are seen again
//! on an interface stacked above.
//!
//! In: interfaces ([`InterfaceStack::new`]) and what is known of one frame. Out: a [`FrameCrossing`]. No IP addresses:
//! those decide later, once for a whole flow.
//!
//! Stacking: a VLAN, a bond, a bridge and a macvlan show their frames on the lower interface too. Where the upper
//! interface is captured, the lower frame is [`FrameCrossing::StackedIn`] or [`FrameCrossing::StackedOut`]: it counts
//! for the totals of its interface and for nobody else, so that every byte has one owner. A frame for everybody that a
//! bridge floods goes up where it comes in, and is forwarded at every port where it leaves.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::decode::LinkAddresses;

/// How a frame crossed the interface it was seen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FrameCrossing {
    /// Sent by this device (for itself or for others).
    Out,
    /// For this device's hardware, or for everybody.
    In,
    /// A link without hardware addresses, and the capture does not tell.
    Unknown,
    /// For other hardware: overheard.
    Overheard,
    /// Came in at a bridge port for something behind another port.
    BridgedIn,
    /// Left at a bridge port, from something behind another port.
    BridgedOut,
    /// Came in and is seen again on the interface above.
    StackedIn,
    /// Left and was seen before on the interface above.
    StackedOut,
}

/// What the capture itself says about a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketType {
    /// The kernel sent it.
    Outgoing,
    /// It came in for this interface's hardware, or for a group.
    ForUs,
    /// It came in for other hardware.
    ForOther,
    /// The capture does not know (pnet's receiver).
    Untold,
}

/// What other interfaces do with the frames of one.
#[derive(Debug, Clone, Default)]
struct StackedAbove {
    /// VLAN ids that have an interface of their own above.
    vlans: Vec<u16>,
    /// Hardware addresses of interfaces above (macvlan).
    above: Vec<[u8; 6]>,
    role: StackRole,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum StackRole {
    #[default]
    Alone,
    BridgePort,
    /// Every frame is seen on the master.
    Slave,
}

/// An interface, as far as stacking is concerned.
#[derive(Debug, Clone, Default)]
pub struct StackInterface {
    pub index: u32,
    pub hardware: Option<[u8; 6]>,
    /// True if its own frames are captured.
    pub captured: bool,
    /// Index of the bridge or bond it belongs to.
    pub master: Option<u32>,
    /// Index of the interface it is built upon.
    pub lower: Option<u32>,
    pub kind: InterfaceKind,
}

/// Kinds of interfaces that matter for stacking.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum InterfaceKind {
    Bridge,
    /// A bond or team: all frames of its slaves are its own.
    Bond,
    /// A VLAN on `lower`, by its id.
    Vlan(u16),
    /// A macvlan on `lower`: told by its hardware address.
    Macvlan,
    /// Point to point, over whatever.
    Ppp,
    /// A table of routes of their own for those that belong to it, which send by themselves.
    Vrf,
    #[default]
    Other,
}

/// How this device's interfaces are stacked.
#[derive(Debug, Clone, Default)]
pub struct InterfaceStack {
    /// Asked once a frame.
    layers: HashMap<u32, StackedAbove, RandomState>,
    /// A few at most; a scan beats hashing six bytes.
    hardware: Vec<[u8; 6]>,
}

impl InterfaceStack {
    /// From all interfaces of this namespace.
    #[must_use]
    pub fn new(interfaces: &[StackInterface]) -> Self {
        let mut stack = Self::default();
        for interface in interfaces {
            // All zero is what interfaces without an address say.
            if let Some(hardware) = interface.hardware.filter(|hardware| *hardware != [0; 6])
                && !stack.hardware.contains(&hardware)
            {
                stack.hardware.push(hardware);
            }
            let master = interface.master.and_then(|master| {
                interfaces
                    .iter()
                    .find(|other| other.index == master && other.captured)
            });
            match master.map(|master| master.kind) {
                Some(InterfaceKind::Bridge) => stack.layer(interface.index).role = StackRole::BridgePort,
                Some(InterfaceKind::Bond) => stack.layer(interface.index).role = StackRole::Slave,
                _ => {}
            }
            if let Some(lower) = interface.lower.filter(|_| interface.captured) {
                match (interface.kind, interface.hardware) {
                    (InterfaceKind::Vlan(id), _) => stack.layer(lower).vlans.push(id),
                    (InterfaceKind::Macvlan, Some(hardware)) => stack.layer(lower).above.push(hardware),
                    _ => {}
                }
            }
        }
        stack
    }

    fn layer(&mut self, index: u32) -> &mut StackedAbove {
        self.layers.entry(index).or_default()
    }

    /// The way of one frame on `interface`. `vlan` is the id of its outermost VLAN tag.
    #[must_use]
    pub fn way(
        &self,
        interface: u32,
        seen: PacketType,
        vlan: Option<u16>,
        link: Option<LinkAddresses>,
    ) -> FrameCrossing {
        let seen = match (seen, link) {
            (PacketType::Untold, Some(link)) => self.by_hardware(link),
            (known, _) => known,
        };
        let plain = match seen {
            PacketType::Outgoing => FrameCrossing::Out,
            PacketType::ForUs => FrameCrossing::In,
            // A bridge or a macvlan answers to other hardware addresses than the interface below it.
            PacketType::ForOther if link.is_some_and(|link| self.hardware.contains(&link.destination)) => {
                FrameCrossing::In
            }
            PacketType::ForOther => FrameCrossing::Overheard,
            PacketType::Untold => FrameCrossing::Unknown,
        };
        match self.layers.get(&interface) {
            None => plain,
            Some(layer) => self.stacked(layer, plain, vlan, link),
        }
    }

    fn stacked(
        &self,
        layer: &StackedAbove,
        plain: FrameCrossing,
        vlan: Option<u16>,
        link: Option<LinkAddresses>,
    ) -> FrameCrossing {
        let out = plain == FrameCrossing::Out;
        let above = if out {
            FrameCrossing::StackedOut
        } else {
            FrameCrossing::StackedIn
        };
        if layer.role == StackRole::Slave || vlan.is_some_and(|vlan| layer.vlans.contains(&vlan)) {
            return above;
        }
        // The end of the frame that is on our side.
        let ours = link.map(|link| if out { link.source } else { link.destination });
        if ours.is_some_and(|ours| layer.above.contains(&ours)) {
            return above;
        }
        if layer.role != StackRole::BridgePort {
            return plain;
        }
        match plain {
            FrameCrossing::Out if ours.is_some_and(|source| self.hardware.contains(&source)) => {
                FrameCrossing::StackedOut
            }
            FrameCrossing::Out => FrameCrossing::BridgedOut,
            FrameCrossing::In => FrameCrossing::StackedIn,
            _ => FrameCrossing::BridgedIn,
        }
    }

    fn by_hardware(&self, link: LinkAddresses) -> PacketType {
        let group = link.destination.first().is_some_and(|first| first & 1 == 1);
        if self.hardware.contains(&link.source) {
            PacketType::Outgoing
        } else if group || self.hardware.contains(&link.destination) {
            PacketType::ForUs
        } else {
            PacketType::ForOther
        }
    }
}

#[cfg(test)]
#[path = "way_tests.rs"]
mod tests;
