//! What is done with every single frame: decode it, find its way and its fragment's ports, add it up.
//!
//! In: [`CapturedFrame`] frames of any receiver. Out: sums by flow ([`Meter::drain`]). It runs once a packet, so it
//! allocates nothing and asks nobody; whose flow it is is asked once a flow, by `accounts`.

use crate::decode::{FrameContent, LinkKind, PacketSummary, decode};
use crate::fragments::Fragments;
use crate::tally::{FlowSum, MAX_FLOWS, Sighting, SightingContent, Tally};
use crate::way::{InterfaceStack, PacketType};

/// One frame as a receiver hands it over.
#[derive(Debug, Clone, Copy)]
pub struct CapturedFrame<'a> {
    /// Interface index.
    pub interface: u32,
    /// The frame's bytes, as many as were kept.
    pub bytes: &'a [u8],
    /// Its length on the wire in bytes; `None` if the receiver does not know.
    pub wire_length: Option<usize>,
    /// How the first byte has to be read.
    pub link: LinkKind,
    /// Which way it went, as far as the receiver knows.
    pub seen: PacketType,
    /// Id of the outermost VLAN tag, if the kernel took it off.
    pub vlan: Option<u16>,
}

/// The stage; shared by the threads that read and the one that accounts.
#[derive(Debug)]
pub struct Meter {
    stack: InterfaceStack,
    fragments: Fragments,
    tally: Tally,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            stack: InterfaceStack::default(),
            fragments: Fragments::default(),
            tally: Tally::new(MAX_FLOWS),
        }
    }
}

impl Meter {
    /// How the interfaces are stacked from now on.
    pub fn set_stack(&mut self, stack: InterfaceStack) {
        self.stack = stack;
    }

    pub fn count(&mut self, frame: &CapturedFrame<'_>) {
        let PacketSummary {
            bytes,
            link,
            vlan,
            content,
        } = decode(frame.bytes, frame.wire_length, frame.link);
        let way = self
            .stack
            .way(frame.interface, frame.seen, frame.vlan.or(vlan), link);
        let (content, opens) = match content {
            FrameContent::Ip {
                mut flow,
                opens,
                fragment,
            } => {
                if let Some(fragment) = fragment {
                    self.fragments.complete(&mut flow, fragment);
                }
                (SightingContent::Ip(flow), opens)
            }
            FrameContent::NotIp => (SightingContent::NotIp, false),
            FrameContent::Unparsed => (SightingContent::Unparsed, false),
        };
        let sighting = Sighting {
            interface: frame.interface,
            way,
            content,
        };
        self.tally.count(&sighting, bytes, opens);
    }

    /// True once after a flow was seen whose owner nobody has asked for.
    pub fn take_fresh(&mut self) -> bool {
        self.tally.take_fresh()
    }

    /// Hands over every sum since the last drain.
    pub fn drain(&mut self, into: &mut Vec<(Sighting, FlowSum)>) {
        self.tally.drain(into);
    }

    /// Forgets flows that were idle since the last call.
    pub fn forget_idle(&mut self) {
        self.tally.forget_idle();
    }
}
