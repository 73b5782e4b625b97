//! One ring and one thread for all interfaces.
//!
//! In: the interfaces to watch. Out: every frame counted in the meter, which is locked once a block and not once a
//! frame. Directions, VLAN tags and true lengths come from the kernel.

use std::collections::BTreeMap;
use std::thread::JoinHandle;
use std::time::Duration;

use packet_ring::{Frame, FrameKind, PacketRing, RingControl, RingOptions};

use super::{CaptureState, ReaderContext};
use crate::host::net::links::link_kind;
use crate::host::priority::Priority;
use crate::lock;
use crate::observe::link::Link;
use crate::observe::meter::CapturedFrame;
use crate::observe::way::PacketType;

/// The thread looks for its stop signal this often while nothing comes.
const WAIT: Duration = Duration::from_millis(500);

/// A ring that is being read.
pub(super) struct Ring {
    control: RingControl,
    promiscuous: Vec<u32>,
    reader: Option<JoinHandle<String>>,
}

impl Ring {
    /// Opens it and starts to read; nothing is watched yet. The fault is `None` if the right to capture is missing.
    pub(super) fn open(work: &ReaderContext) -> Result<Self, Option<String>> {
        let ring = PacketRing::open(&RingOptions::default())
            .map_err(|error| (!error.is_permission()).then(|| crate::error_text(&error)))?;
        let control = ring.control().clone();
        let work = work.clone();
        let reader = std::thread::Builder::new()
            .name("capture ring".to_owned())
            .spawn(move || read(ring, &work))
            .map_err(|error| Some(format!("could not start a reader thread: {error}")))?;
        Ok(Self {
            control,
            promiscuous: Vec::new(),
            reader: Some(reader),
        })
    }

    /// Watches exactly these interfaces.
    pub(super) fn watch(&mut self, wanted: &[Link], promiscuous: bool) -> BTreeMap<String, CaptureState> {
        let indexes: Vec<u32> = wanted.iter().map(|link| link.index).collect();
        let watched = self.control.watch(&indexes);
        let mut states = BTreeMap::new();
        self.promiscuous.retain(|index| indexes.contains(index));
        for link in wanted {
            let mut state = match &watched {
                Ok(()) => CaptureState::Capturing,
                Err(error) => CaptureState::Failed(crate::error_text(error)),
            };
            if promiscuous && !self.promiscuous.contains(&link.index) {
                match self.control.set_promiscuous(link.index, true) {
                    Ok(()) => self.promiscuous.push(link.index),
                    Err(error) => state = CaptureState::Failed(crate::error_text(&error)),
                }
            }
            states.insert(link.name.clone(), state);
        }
        states
    }

    /// Frames lost since the ring was opened.
    pub(super) fn lost_frames(&self) -> Option<u64> {
        Some(self.control.statistics().ok()?.lost)
    }

    /// Why the ring is no longer read, if so.
    pub(super) fn failure(&mut self) -> Option<String> {
        let reader = self.reader.take_if(|reader| reader.is_finished())?;
        Some(
            reader
                .join()
                .unwrap_or_else(|_| "the reader thread failed".to_owned()),
        )
    }

    /// Waits for the end of the thread.
    pub(super) fn join(self) {
        if let Some(reader) = self.reader {
            // A thread that panicked has nothing left to stop.
            let _ended = reader.join();
        }
    }
}

/// Reads until told to stop or the socket fails; returns why it ended.
fn read(mut ring: PacketRing, work: &ReaderContext) -> String {
    Priority::Accounting.take();
    while !work.is_stopped() {
        // Taken at the first frame of a block: while the thread waits, nobody else has to.
        let mut meter = None;
        let read = ring.read_block(WAIT, |frame| {
            meter
                .get_or_insert_with(|| lock(&work.meter))
                .count(&captured(frame));
        });
        let fresh = meter.as_mut().is_some_and(|meter| meter.take_fresh());
        drop(meter);
        work.tell(fresh);
        if let Err(error) = read {
            return format!("could not read frames: {error}");
        }
    }
    "stopped".to_owned()
}

fn captured<'a>(frame: &Frame<'a>) -> CapturedFrame<'a> {
    CapturedFrame {
        interface: frame.interface,
        bytes: frame.bytes,
        wire_length: Some(frame.wire_length as usize),
        link: link_kind(frame.hardware_type),
        seen: match frame.kind {
            FrameKind::Outgoing => PacketType::Outgoing,
            FrameKind::Host | FrameKind::Broadcast | FrameKind::Multicast => PacketType::ForUs,
            FrameKind::OtherHost => PacketType::ForOther,
            FrameKind::Other(_) => PacketType::Untold,
        },
        vlan: frame.vlan.map(packet_ring::Vlan::id),
    }
}
