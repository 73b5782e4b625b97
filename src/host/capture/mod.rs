//! Reads frames from every wanted interface and counts them in the shared [`Meter`].
//!
//! In: [`CaptureSettings`]. Out: sums in the meter, [`CaptureEvent`]s that tell the accountant when to look, and a
//! [`CaptureHealth`] that names every interface and what hinders its capture.
//!
//! A supervisor notices interfaces that come and go (`supervisor`). Frames come through one ring for all interfaces
//! (`ring`), or through pnet's own receiver with a thread for each (`stock`): slower, without the kernel's drops,
//! directions and VLAN tags, but for every kernel; chosen by configuration, and taken where a ring cannot be made.
//! Never promiscuous unless asked. Loopback is left out: its traffic leaves no device, and its frames would be counted
//! going out and coming in.

mod ring;
mod stock;
mod supervisor;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crate::lock;
use crate::observe::link::Link;
use crate::observe::meter::Meter;
use supervisor::Supervisor;

/// Decides by name whether an interface is captured.
pub type InterfaceFilter = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// Who reads the frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receiver {
    /// One `TPACKET_V3` ring for all interfaces.
    Ring,
    /// pnet's receiver, one for each interface.
    Pnet,
}

impl Receiver {
    /// As configuration and status call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ring => "ring",
            Self::Pnet => "pnet",
        }
    }
}

/// What to capture and where to count it.
pub struct CaptureSettings {
    /// Interfaces to capture, loopback is never asked for.
    pub wanted: InterfaceFilter,
    pub receiver: Receiver,
    /// Receive frames for other hardware too.
    pub promiscuous: bool,
    /// Counts every frame.
    pub meter: Arc<Mutex<Meter>>,
    /// Hears what happens. Capture ends when nobody listens.
    pub events: SyncSender<CaptureEvent>,
}

#[derive(Debug)]
pub enum CaptureEvent {
    /// The meter knows flows that nobody has asked about.
    NewFlows,
    /// The interfaces, whenever they were looked at.
    Links(Vec<Link>),
    Tick,
}

/// State of capture on one interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaptureState {
    Capturing,
    /// They are not, for this reason.
    Failed(String),
}

/// State of capture, by interface name; interfaces that are not wanted do not appear.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CaptureHealth {
    pub interfaces: BTreeMap<String, CaptureState>,
    /// Who reads; absent before the first interface was seen.
    pub receiver: Option<Receiver>,
    /// Frames the kernel dropped since the ring was opened because they were not read in time; pnet's receiver does
    /// not tell.
    pub lost_frames: Option<u64>,
    /// Why no interface is known at all.
    pub links_fault: Option<String>,
    /// Why there is no ring although one is wanted.
    pub ring_fault: Option<String>,
}

impl CaptureHealth {
    /// Interfaces whose frames are read, by name.
    pub fn reading(&self) -> impl Iterator<Item = &str> {
        let reading = |state: &CaptureState| *state == CaptureState::Capturing;
        self.interfaces
            .iter()
            .filter_map(move |(name, state)| reading(state).then_some(name.as_str()))
    }

    /// Nothing is captured any more, for this reason, which is told.
    fn end(&mut self, why: &str) {
        tracing::error!("{why}");
        self.interfaces.clear();
        self.links_fault = Some(why.to_owned());
    }

    /// One sentence for each thing that hinders capture.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let per_interface = self.interfaces.iter().filter_map(|(name, state)| match state {
            CaptureState::Capturing => None,
            CaptureState::Failed(fault) => Some(format!("interface {name}: {fault}")),
        });
        let general = self.links_fault.iter().chain(&self.ring_fault);
        general.cloned().chain(per_interface).collect()
    }
}

/// Running capture; ends when dropped.
pub struct Capture {
    status: Arc<Mutex<CaptureHealth>>,
    stop: Arc<AtomicBool>,
    supervisor: Option<JoinHandle<()>>,
}

impl Capture {
    /// Starts the supervisor in the network namespace of the calling thread. Never fails; faults are in the status.
    #[must_use]
    pub fn start(settings: CaptureSettings) -> Self {
        let status = Arc::new(Mutex::new(CaptureHealth::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let supervisor = Supervisor::new(settings, Arc::clone(&status), Arc::clone(&stop));
        let spawned = std::thread::Builder::new()
            .name("capture".to_owned())
            .spawn(move || supervisor.run());
        let supervisor = match spawned {
            Ok(handle) => Some(handle),
            Err(error) => {
                lock(&status).links_fault = Some(format!("could not start the capture thread: {error}"));
                None
            }
        };
        Self {
            status,
            stop,
            supervisor,
        }
    }

    /// What is captured and what is not.
    #[must_use]
    pub fn status(&self) -> CaptureHealth {
        let mut status = lock(&self.status);
        // It does not end by itself unless it says so: it panicked, and what it said last is true no more.
        let is_gone = self.supervisor.as_ref().is_some_and(JoinHandle::is_finished);
        if is_gone && !self.stop.swap(true, Ordering::Relaxed) {
            status.end("the capture thread has failed; nothing is counted until the agent is restarted");
        }
        status.clone()
    }
}

impl Drop for Capture {
    /// Has every thread end within a second; nobody waits for them.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// What every reader thread works with.
#[derive(Clone)]
struct ReaderContext {
    meter: Arc<Mutex<Meter>>,
    events: SyncSender<CaptureEvent>,
    stop: Arc<AtomicBool>,
}

impl ReaderContext {
    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Wakes the accountant if there is a flow nobody has asked about. A full channel wakes it all the same.
    fn tell(&self, fresh: bool) {
        if fresh {
            let _full_or_gone = self.events.try_send(CaptureEvent::NewFlows);
        }
    }
}
