//! Flow 1, first half: packets and sockets become one closed interval.
//!
//! ```text
//! host::capture ─► meter (decode, way, fragments, tally) ─► accounts (direction, attribution, ledger) ─► interval
//!                  once a frame                            once a flow, with sockets and processes
//! ```
//!
//! In: frames of every wanted interface, the kernel's sockets, processes and link counters. Out: [`Interval`]s and
//! [`SocketSnapshot`]s. [`Observer`] is the shell that owns the threads; every stage it calls is pure or gets its
//! effects through the traits in [`sockets`].

mod accounts;
pub mod attribution;
pub mod decode;
pub mod direction;
pub mod flow;
pub mod fragments;
pub mod interval;
pub mod ledger;
pub mod meter;
pub mod sockets;
pub mod tally;
pub mod way;

use std::collections::{BTreeMap, HashMap};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use jiff::Timestamp;

use crate::host::capture::{
    Capture, CaptureEvent, CaptureSettings, CaptureStatus, Receiver as FrameReceiver, Wanted,
};
use crate::host::clock::instant;
use crate::host::links;
use crate::host::netlink::NetlinkError;
use crate::host::pace::hurry;
use crate::host::procfs::ProcessIndex;
use crate::host::sock_diag::{SockDiag, Sockets};
use crate::lock;
use accounts::Accounts;
pub use interval::{Counters, Interval, LinkCounters};
use interval::{InterfaceTraffic, UnattributedTraffic};
use ledger::{Limits, Page};
use meter::Meter;
pub use sockets::SocketSnapshot;

/// Wake-ups between the readers and accounting: they carry no frames, one that waits is as good as many.
const QUEUED_EVENTS: usize = 8;

/// What to observe.
#[derive(Clone)]
pub struct ObserveSettings {
    /// Begin of the first interval.
    pub started: Timestamp,
    /// Interfaces to capture, by name; loopback is never captured.
    pub wanted: Wanted,
    /// Who reads the frames.
    pub receiver: FrameReceiver,
    /// Read frames for other hardware too; never unless asked.
    pub promiscuous: bool,
    /// How much is remembered within an interval.
    pub limits: Limits,
}

impl ObserveSettings {
    /// Every interface, ring, default limits.
    #[must_use]
    pub fn all_interfaces(started: Timestamp) -> Self {
        Self {
            started,
            wanted: Arc::new(|_| true),
            receiver: FrameReceiver::Ring,
            promiscuous: false,
            limits: Limits::default(),
        }
    }
}

/// Running observation; ends when dropped.
pub struct Observer {
    capture: Capture,
    accounts: Arc<Mutex<Accounts<Sockets, ProcessIndex>>>,
    accountant: Option<JoinHandle<()>>,
    begun: Mutex<Begun>,
}

/// Where the running interval began.
struct Begun {
    at: Timestamp,
    /// `None`: they could not be read, and this interval has no growth.
    kernel: Option<HashMap<u32, Counters>>,
    lost_frames: Option<u64>,
}

impl Observer {
    /// Starts all threads in the network namespace of the calling thread. Never fails: what does not work is in
    /// [`Observer::status`] and [`Interval::capture_faults`], and is tried again.
    #[must_use]
    pub fn start(settings: ObserveSettings) -> Self {
        let meter = Arc::new(Mutex::new(Meter::default()));
        let accounts = Accounts::new(
            settings.limits,
            Arc::clone(&meter),
            Sockets::default(),
            ProcessIndex::default(),
        );
        let accounts = Arc::new(Mutex::new(accounts));
        let (events, received) = sync_channel(QUEUED_EVENTS);
        let kernel = links::counters().ok().map(|counters| by_interface(&counters));
        let capture = Capture::start(CaptureSettings {
            wanted: settings.wanted,
            receiver: settings.receiver,
            promiscuous: settings.promiscuous,
            meter,
            events,
        });
        let shared = Arc::clone(&accounts);
        let accountant = std::thread::Builder::new()
            .name("accounting".to_owned())
            .spawn(move || account(&received, &shared));
        // Without this thread the channel is closed and capture ends at once; the status then has no interface.
        let accountant = accountant.ok();
        Self {
            capture,
            accounts,
            accountant,
            begun: Mutex::new(Begun {
                at: settings.started,
                kernel,
                lost_frames: None,
            }),
        }
    }

    /// Closes the running interval at `now` and begins the next.
    pub fn take_interval(&self, now: Timestamp) -> Interval {
        let mut begun = lock(&self.begun);
        let current = links::counters();
        let (page, names) = lock(&self.accounts).close(instant());
        let status = self.capture.status();
        let interval = assemble(&begun, now, &page, &names, current.as_deref().ok(), &status);
        begun.at = now;
        begun.lost_frames = status.lost_frames;
        begun.kernel = current.ok().map(|current| by_interface(&current));
        interval
    }

    /// The running interval as it stands at `now`; nothing is closed.
    #[must_use]
    pub fn peek(&self, now: Timestamp) -> Interval {
        let begun = lock(&self.begun);
        let current = links::counters();
        let (page, names) = lock(&self.accounts).look(instant());
        let status = self.capture.status();
        assemble(&begun, now, &page, &names, current.as_deref().ok(), &status)
    }

    /// The kernel's link counters now, loopback left out; reports take their totals from these.
    ///
    /// # Errors
    /// If the kernel does not answer.
    pub fn link_counters(&self) -> Result<Vec<LinkCounters>, NetlinkError> {
        links::counters()
    }

    /// Established connections and listening ports now.
    ///
    /// # Errors
    /// If the kernel does not answer.
    pub fn sockets(&self) -> Result<SocketSnapshot, NetlinkError> {
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
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn account(received: &Receiver<CaptureEvent>, accounts: &Mutex<Accounts<Sockets, ProcessIndex>>) {
    hurry();
    let mut patience = None;
    loop {
        let event = match patience {
            None => received.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(limit) => received.recv_timeout(limit),
        };
        let mut accounts = lock(accounts);
        match event {
            Ok(CaptureEvent::NewFlows) => accounts.settle_sums(instant()),
            Ok(CaptureEvent::Links(links)) => accounts.links(links),
            Ok(CaptureEvent::Tick) => accounts.tick(instant()),
            Err(RecvTimeoutError::Timeout) => accounts.retry(instant()),
            Err(RecvTimeoutError::Disconnected) => return,
        }
        patience = accounts.patience();
    }
}

fn assemble(
    begun: &Begun,
    now: Timestamp,
    page: &Page,
    names: &HashMap<u32, String>,
    current: Option<&[LinkCounters]>,
    status: &CaptureStatus,
) -> Interval {
    let unattributed_by_reason: Vec<UnattributedTraffic> = page.unattributed();
    let lost_frames = status.lost_frames.map(|lost| {
        // A ring that was opened again counts from zero.
        let before = begun.lost_frames.unwrap_or_default();
        lost.checked_sub(before).unwrap_or(lost)
    });
    Interval {
        started: begun.at,
        ended: now,
        interfaces: interfaces(begun, page, names, current),
        processes: page.processes(|index| name(names, index)),
        forwarded: page.forwarded(),
        forwarded_by_peer: page.forwarded_by_peer(),
        other_forwarded: page.other_forwarded(),
        stacked: page.stacked(),
        unattributed: unattributed_by_reason.iter().map(|item| item.counters).sum(),
        unattributed_by_reason,
        other: page.other(),
        captured_total: page.captured_total(),
        unparsed: page.unparsed(),
        lost_frames,
        capture_faults: status.faults(),
    }
}

fn name(names: &HashMap<u32, String>, index: u32) -> String {
    names.get(&index).cloned().unwrap_or_else(|| format!("#{index}"))
}

/// By index: a renamed interface goes on, a replaced one has another.
fn by_interface(counters: &[LinkCounters]) -> HashMap<u32, Counters> {
    counters.iter().map(|link| (link.index, link.counters)).collect()
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
        // An interface that came within the interval counts from zero.
        let before = begun.kernel.as_ref().map(|kernel| {
            let known = kernel.get(&link.index);
            known.copied().unwrap_or_default()
        });
        list.insert(
            (link.name.clone(), link.index),
            InterfaceTraffic {
                name: link.name.clone(),
                kernel: before.map(|before| link.counters.growth_since(&before)),
                captured: Counters::default(),
                forwarded: Counters::default(),
            },
        );
    }
    for index in page.interface_indexes() {
        let name = name(names, index);
        let item = list.entry((name.clone(), index)).or_insert(InterfaceTraffic {
            name,
            kernel: None,
            captured: Counters::default(),
            forwarded: Counters::default(),
        });
        item.captured = page.interface(index);
        item.forwarded = page.forwarded_on(index);
    }
    list.into_values().chain(page.uncounted_interfaces()).collect()
}
