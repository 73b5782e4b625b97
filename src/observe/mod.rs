//! Flow 1, first half: packets and sockets become one closed interval.
//!
//! ```text
//! host::capture ─► decode ─► direction ─► attribution ─► ledger ─► interval
//!                                          (sockets, processes)
//! ```
//!
//! In: frames of every wanted interface, the kernel's sockets, processes and link counters. Out: [`Interval`]s and
//! [`SocketSnapshot`]s. [`Observer`] is the shell that owns the threads; every stage it calls is pure or gets its
//! effects through the traits in [`sockets`].

pub mod attribution;
pub mod decode;
pub mod direction;
pub mod flow;
mod frames;
pub mod interval;
pub mod ledger;
pub mod sockets;

use std::collections::{BTreeMap, HashMap};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use jiff::Timestamp;

use crate::host::capture::{Capture, CaptureEvent, CaptureSettings, CaptureStatus, Wanted};
use crate::host::links::{self, LinksError};
use crate::host::procfs::ProcessIndex;
use crate::host::sock_diag::{SockDiag, SockDiagError, Sockets};
use frames::Frames;
pub use interval::{Counters, Interval, LinkCounters};
use interval::{InterfaceTraffic, UnattributedTraffic};
use ledger::{Limits, Page};
pub use sockets::SocketSnapshot;

/// Frames between the readers and accounting (150 bytes each): half a second at 16,000 frames a second, while an
/// owner is looked up.
const QUEUED_FRAMES: usize = 8_192;

/// What to observe.
#[derive(Clone)]
pub struct ObserveSettings {
    /// Begin of the first interval.
    pub started: Timestamp,
    /// Interfaces to capture, by name; loopback is never captured.
    pub wanted: Wanted,
    /// How much is remembered within an interval.
    pub limits: Limits,
}

impl ObserveSettings {
    /// Every interface, default limits.
    #[must_use]
    pub fn all_interfaces(started: Timestamp) -> Self {
        Self {
            started,
            wanted: Arc::new(|_| true),
            limits: Limits::default(),
        }
    }
}

/// Running observation; ends when dropped.
pub struct Observer {
    capture: Capture,
    frames: Arc<Mutex<Frames<Sockets, ProcessIndex>>>,
    accountant: Option<JoinHandle<()>>,
    begun: Mutex<Begun>,
}

/// Where the running interval began.
struct Begun {
    at: Timestamp,
    kernel: HashMap<(u32, String), Counters>,
}

impl Observer {
    /// Starts all threads in the network namespace of the calling thread. Never fails: what does not work is in
    /// [`Observer::status`] and [`Interval::capture_faults`], and is tried again.
    #[must_use]
    pub fn start(settings: ObserveSettings) -> Self {
        let frames = Frames::new(settings.limits, Sockets::default(), ProcessIndex::default());
        let frames = Arc::new(Mutex::new(frames));
        let (events, received) = sync_channel(QUEUED_FRAMES);
        let kernel = by_interface(&links::counters().unwrap_or_default());
        let capture = Capture::start(CaptureSettings {
            wanted: settings.wanted,
            events,
        });
        let shared = Arc::clone(&frames);
        let accountant = std::thread::Builder::new()
            .name("accounting".to_owned())
            .spawn(move || account(&received, &shared));
        // Without this thread the channel is closed and capture ends at once; the status then has no interface.
        let accountant = accountant.ok();
        Self {
            capture,
            frames,
            accountant,
            begun: Mutex::new(Begun {
                at: settings.started,
                kernel,
            }),
        }
    }

    /// Closes the running interval at `now` and begins the next.
    pub fn take_interval(&self, now: Timestamp) -> Interval {
        let mut begun = lock(&self.begun);
        let current = links::counters();
        let (page, names) = lock(&self.frames).close();
        let interval = self.assemble(&begun, now, &page, &names, current.as_deref().ok());
        begun.at = now;
        if let Ok(current) = current {
            begun.kernel = by_interface(&current);
        }
        interval
    }

    /// The running interval as it stands at `now`; nothing is closed.
    #[must_use]
    pub fn peek(&self, now: Timestamp) -> Interval {
        let begun = lock(&self.begun);
        let current = links::counters();
        let (page, names) = lock(&self.frames).look();
        self.assemble(&begun, now, &page, &names, current.as_deref().ok())
    }

    /// The kernel's link counters now, loopback left out; reports take their totals from these.
    ///
    /// # Errors
    /// If the kernel does not answer.
    pub fn link_counters(&self) -> Result<Vec<LinkCounters>, LinksError> {
        links::counters()
    }

    /// Established connections and listening ports now.
    ///
    /// # Errors
    /// If the kernel does not answer.
    pub fn sockets(&self) -> Result<SocketSnapshot, SockDiagError> {
        SockDiag::open()?.snapshot()
    }

    /// What is captured and what hinders it.
    #[must_use]
    pub fn status(&self) -> CaptureStatus {
        self.capture.status()
    }

    /// Ends all threads and waits for them; less than a second.
    pub fn stop(&mut self) {
        self.capture.stop();
        if let Some(accountant) = self.accountant.take() {
            // Ends with the last sender; if it panicked there is nothing left to stop.
            let _ended = accountant.join();
        }
    }

    fn assemble(
        &self,
        begun: &Begun,
        now: Timestamp,
        page: &Page,
        names: &HashMap<u32, String>,
        current: Option<&[LinkCounters]>,
    ) -> Interval {
        let unattributed_by_reason: Vec<UnattributedTraffic> = page.unattributed();
        Interval {
            started: begun.at,
            ended: now,
            interfaces: interfaces(begun, page, names, current),
            processes: page.processes(),
            forwarded: page.forwarded(),
            unattributed: unattributed_by_reason.iter().map(|item| item.counters).sum(),
            unattributed_by_reason,
            other: page.other(),
            captured_total: page.captured_total(),
            unparsed: page.unparsed(),
            capture_faults: self.capture.status().faults(),
        }
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn account(received: &Receiver<CaptureEvent>, frames: &Mutex<Frames<Sockets, ProcessIndex>>) {
    while let Ok(event) = received.recv() {
        lock(frames).handle(event);
    }
}

fn by_interface(counters: &[LinkCounters]) -> HashMap<(u32, String), Counters> {
    counters
        .iter()
        .map(|link| ((link.index, link.name.clone()), link.counters))
        .collect()
}

/// Kernel growth beside captured traffic, by name. An interface that came within the interval counts from zero.
fn interfaces(
    begun: &Begun,
    page: &Page,
    names: &HashMap<u32, String>,
    current: Option<&[LinkCounters]>,
) -> Vec<InterfaceTraffic> {
    let mut list: BTreeMap<(String, u32), InterfaceTraffic> = BTreeMap::new();
    for link in current.unwrap_or_default() {
        let before = begun
            .kernel
            .get(&(link.index, link.name.clone()))
            .copied()
            .unwrap_or_default();
        list.insert(
            (link.name.clone(), link.index),
            InterfaceTraffic {
                name: link.name.clone(),
                kernel: Some(link.counters.growth_since(&before)),
                captured: Counters::default(),
            },
        );
    }
    for index in page.interface_indexes() {
        let name = names.get(&index).cloned().unwrap_or_else(|| format!("#{index}"));
        let item = list.entry((name.clone(), index)).or_insert(InterfaceTraffic {
            name,
            kernel: None,
            captured: Counters::default(),
        });
        item.captured = page.interface(index);
    }
    list.into_values().chain(page.uncounted_interfaces()).collect()
}
