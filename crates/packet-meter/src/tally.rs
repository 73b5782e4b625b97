//! Adds frames up by flow between the thread that reads them and the one that asks whose they are.
//!
//! In: one [`Sighting`] a frame. Out: [`Tally::drain`], the sums since the last drain. A packet costs one look into a
//! table; sockets and processes are asked once for a sum, not for a packet. Whoever is slow to drain loses nothing: the
//! sums grow, the number of flows is bounded, and what does not fit is summed under [`SightingContent::Overflow`].
//!
//! Within one drain, packets of an old and a new connection with the same ends are one sum. A SYN makes the reader ask
//! for a drain at once, so this lasts some milliseconds.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};

use foldhash::fast::RandomState;

use crate::flow::FlowKey;
use crate::way::FrameCrossing;

/// Flows summed at once between two drains: 3 MiB.
pub(crate) const MAX_FLOWS: usize = 16_384;

/// What frames are told apart by before anybody asks whose they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sighting {
    /// Interface index.
    pub interface: u32,
    /// How the frame crossed it.
    pub way: FrameCrossing,
    /// Who talks to whom.
    pub content: SightingContent,
}

/// The readable part of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SightingContent {
    Ip(FlowKey),
    /// A well-formed frame of another protocol (ARP, LLDP, ...).
    NotIp,
    /// Truncated or malformed.
    Unparsed,
    /// Of a flow that did not fit.
    Overflow,
}

impl Hash for Sighting {
    /// A few wide writes instead of a dozen narrow ones: this runs once a packet.
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(u64::from(self.interface) << 8 | self.way as u64);
        if let SightingContent::Ip(flow) = &self.content {
            flow.hash(state);
        }
    }
}

/// Frames of one sighting since the last drain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FlowSum {
    /// Lengths on the wire in bytes.
    pub bytes: u64,
    pub packets: u64,
    /// A TCP SYN was among them: whatever was known about this flow belongs to an earlier one.
    pub opens: bool,
}

#[derive(Debug, Default)]
struct TallyEntry {
    sum: FlowSum,
    /// Seen since the last [`Tally::forget_idle`].
    used: bool,
}

/// Sums by sighting since the last drain.
#[derive(Debug)]
pub(crate) struct Tally {
    flows: HashMap<Sighting, TallyEntry, RandomState>,
    touched: Vec<Sighting>,
    limit: usize,
    fresh: bool,
}

impl Tally {
    /// Empty, for at most `limit` flows (and one overflow for each interface and way).
    #[must_use]
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            flows: HashMap::default(),
            touched: Vec::new(),
            limit,
            fresh: false,
        }
    }

    /// Counts one frame of `bytes` on the wire. `opens`: a TCP segment with SYN.
    pub(crate) fn count(&mut self, sighting: &Sighting, bytes: u64, opens: bool) {
        self.fresh |= opens;
        if let Some(known) = self.flows.get_mut(sighting) {
            if known.sum.packets == 0 {
                self.touched.push(*sighting);
            }
            known.add(bytes, opens);
            return;
        }
        let full = self.flows.len() >= self.limit;
        let sighting = if full {
            Sighting {
                content: SightingContent::Overflow,
                ..*sighting
            }
        } else {
            self.fresh = true;
            *sighting
        };
        let known = self.flows.entry(sighting).or_default();
        if known.sum.packets == 0 {
            self.touched.push(sighting);
        }
        known.add(bytes, opens);
    }

    /// True once after a flow was seen that was not known, or one that opened: somebody should ask whose it is now.
    pub(crate) fn take_fresh(&mut self) -> bool {
        std::mem::take(&mut self.fresh)
    }

    /// Hands over every sum since the last drain, in the order of their first frames.
    pub(crate) fn drain(&mut self, into: &mut Vec<(Sighting, FlowSum)>) {
        for sighting in self.touched.drain(..) {
            if let Some(known) = self.flows.get_mut(&sighting) {
                into.push((sighting, std::mem::take(&mut known.sum)));
            }
        }
    }

    /// Forgets flows without a frame since the last call; what was not drained stays.
    pub(crate) fn forget_idle(&mut self) {
        self.flows
            .retain(|_, known| std::mem::take(&mut known.used) || known.sum.packets > 0);
    }
}

impl TallyEntry {
    fn add(&mut self, bytes: u64, opens: bool) {
        self.used = true;
        self.sum.bytes = self.sum.bytes.saturating_add(bytes);
        self.sum.packets += 1;
        self.sum.opens |= opens;
    }
}

#[cfg(test)]
#[path = "tally_tests.rs"]
mod tests;
