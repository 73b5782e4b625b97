//! Keeps capture in step with the interfaces.
//!
//! In: the kernel's word that something changed (or every two seconds, where it cannot be had). Out: readers told what
//! to watch, the meter told how interfaces are stacked, the accountant told of links and of time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::ring::Ring;
use super::stock::StockReaders;
use super::{CaptureEvent, CaptureHealth, CaptureSettings, CaptureState, ReaderContext, Receiver};
use crate::host::clock::{self, instant};
use crate::host::net::link_watch::LinkWatch;
use crate::host::net::links::links;
use crate::host::priority::Priority;
use crate::lock;
use crate::observe::decode::LinkKind;
use crate::observe::link::Link;
use crate::observe::way::{InterfaceStack, StackInterface};

/// Housekeeping of later stages runs on these ticks, and the stop signal is looked for.
const TICK: Duration = Duration::from_millis(250);
/// Without word from the kernel the interfaces are looked at this often.
const LINK_POLL: Duration = Duration::from_secs(2);
/// Shortest time between two looks: neighbours can make addresses change all the time.
const LINK_PAUSE: Duration = Duration::from_millis(200);
/// With it, this often all the same: a reader may have failed by itself.
const RECHECK: Duration = Duration::from_secs(15);
/// A capture that could not be opened is tried again after this pause: rights do not change often.
pub(super) const RETRY: Duration = Duration::from_secs(30);
/// Interfaces captured at once; the filter of the ring and the threads of the stock readers are bounded by it.
pub(super) const MAX_CAPTURES: usize = 64;

pub(super) struct Supervisor {
    settings: CaptureSettings,
    status: Arc<Mutex<CaptureHealth>>,
    stop: Arc<AtomicBool>,
    watch: Option<LinkWatch>,
    ring: Option<Ring>,
    /// No ring is opened before this.
    ring_rests: Option<Instant>,
    stock: StockReaders,
}

impl Supervisor {
    pub(super) fn new(
        settings: CaptureSettings,
        status: Arc<Mutex<CaptureHealth>>,
        stop: Arc<AtomicBool>,
    ) -> Self {
        let work = ReaderContext {
            meter: Arc::clone(&settings.meter),
            events: settings.events.clone(),
            stop: Arc::clone(&stop),
        };
        Self {
            stock: StockReaders::new(work),
            settings,
            status,
            stop,
            watch: None,
            ring: None,
            ring_rests: None,
        }
    }

    pub(super) fn run(mut self) {
        // The thread that decides started this one.
        Priority::Ordinary.take();
        self.watch = LinkWatch::open()
            .inspect_err(|error| tracing::warn!(%error, "interfaces that come are noticed late"))
            .ok();
        let (mut next_look, mut last_look) = (instant(), instant());
        while !self.stop.load(Ordering::Relaxed) {
            if instant() >= next_look {
                self.look();
                last_look = instant();
                next_look = instant() + if self.watch.is_some() { RECHECK } else { LINK_POLL };
            }
            if self.settings.events.send(CaptureEvent::Tick).is_err() {
                break;
            }
            if self.has_changed() {
                next_look = next_look.min(last_look + LINK_PAUSE);
            }
            self.count_lost();
        }
        // Also when nobody listens any more, which nobody else would tell.
        if !self.stop.swap(true, Ordering::Relaxed) {
            let mut status = lock(&self.status);
            status.interfaces.clear();
            status.links_fault =
                Some("accounting has ended; nothing is counted until the agent is restarted".into());
        }
        if let Some(ring) = self.ring.take() {
            ring.join();
        }
        self.stock.join();
    }

    /// Waits one tick; true if the kernel says that the interfaces changed.
    fn has_changed(&mut self) -> bool {
        let Some(watch) = &self.watch else {
            clock::pause(TICK);
            return false;
        };
        watch.wait(TICK).unwrap_or_else(|error| {
            tracing::warn!(%error, "interfaces that come are noticed late");
            self.watch = None;
            true
        })
    }

    fn look(&mut self) {
        let links = match links() {
            Ok(links) => links,
            Err(error) => {
                lock(&self.status).links_fault = Some(crate::error_text(&error));
                return;
            }
        };
        lock(&self.status).links_fault = None;
        let wanted: Vec<Link> = links
            .iter()
            .filter(|link| link.up && !link.loopback && (self.settings.wanted)(&link.name))
            .cloned()
            .collect();
        let captured = |link: &Link| {
            !matches!(link.kind, LinkKind::Unsupported(_))
                && wanted.iter().any(|other| other.index == link.index)
        };
        let stack: Vec<StackInterface> = links
            .iter()
            .map(|link| StackInterface {
                index: link.index,
                hardware: link.hardware,
                captured: captured(link),
                master: link.master,
                lower: link.lower,
                kind: link.device,
            })
            .collect();
        lock(&self.settings.meter).set_stack(InterfaceStack::new(&stack));
        // The accountant must know an interface before its first frame.
        if self.settings.events.send(CaptureEvent::Links(links)).is_err() {
            return;
        }
        self.capture(&wanted);
    }

    fn capture(&mut self, wanted: &[Link]) {
        let mut interfaces = BTreeMap::new();
        let mut readable = Vec::new();
        for link in wanted {
            match link.kind {
                LinkKind::Unsupported(hatype) => {
                    let fault = format!("frames of ARP hardware type {hatype} cannot be read");
                    interfaces.insert(link.name.clone(), CaptureState::Failed(fault));
                }
                _ if readable.len() >= MAX_CAPTURES => {
                    let fault = format!("not captured: {MAX_CAPTURES} other interfaces already are");
                    interfaces.insert(link.name.clone(), CaptureState::Failed(fault));
                }
                _ => readable.push(link.clone()),
            }
        }
        let (receiver, ring_fault) = self.choose();
        let states = match &mut self.ring {
            Some(ring) => ring.watch(&readable, self.settings.promiscuous),
            None => self.stock.watch(&readable, self.settings.promiscuous),
        };
        interfaces.extend(states);
        let mut status = lock(&self.status);
        status.interfaces = interfaces;
        status.receiver = Some(receiver);
        status.ring_fault = ring_fault;
    }

    /// Opens a ring if one is wanted and there is none; who reads, and why it is not the ring.
    fn choose(&mut self) -> (Receiver, Option<String>) {
        if self.settings.receiver == Receiver::Pnet {
            return (Receiver::Pnet, None);
        }
        if let Some(fault) = self.ring.as_mut().and_then(Ring::failure) {
            tracing::warn!(%fault, "the packet ring has failed; it is opened again");
            self.ring = None;
        }
        let rests = self.ring_rests.is_some_and(|until| instant() < until);
        if self.ring.is_none() && !rests {
            match Ring::open(self.stock.work()) {
                Ok(ring) => {
                    self.ring = Some(ring);
                    self.ring_rests = None;
                    self.stock.watch(&[], false);
                    lock(&self.status).ring_fault = None;
                }
                Err(fault) => {
                    self.ring_rests = Some(instant() + RETRY);
                    // Without the right to capture, pnet's receiver says the same for each interface.
                    let fault = fault.map(|fault| {
                        format!("{fault}; reading by pnet, next attempt in {} s", RETRY.as_secs())
                    });
                    return (Receiver::Pnet, fault);
                }
            }
        }
        match self.ring {
            Some(_) => (Receiver::Ring, None),
            None => (Receiver::Pnet, lock(&self.status).ring_fault.clone()),
        }
    }

    fn count_lost(&self) {
        let lost = self.ring.as_ref().and_then(Ring::lost_frames);
        lock(&self.status).lost_frames = lost;
    }
}
