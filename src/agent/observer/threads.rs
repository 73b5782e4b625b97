//! Owns the threads that capture and account.
//!
//! In: which interfaces are wanted. Out: [`Interval`]s and [`SocketSnapshot`]s, closed when asked for. Every question but
//! [`Observer::status`] blocks: it waits for the kernel and the accountant.

use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;

use crate::host::capture::{
    Capture, CaptureEvent, CaptureHealth, CaptureSettings, InterfaceFilter, Receiver as FrameReceiver,
};
use crate::host::clock::instant;
use crate::host::net::links;
use crate::host::net::netlink::NetlinkError;
use crate::host::net::sock_diag::{KernelSockets, SockDiag};
use crate::host::priority::Priority;
use crate::host::processes::procfs::ProcessIndex;
use crate::lock;
use crate::observe::accounts::Accounts;
use crate::observe::closing::{CaptureCondition, IntervalStart, assemble, by_interface};
use crate::observe::ledger::LedgerLimits;
use crate::observe::meter::Meter;
use crate::observe::{Interval, LinkCounters, SocketSnapshot};

/// Wake-ups between the readers and accounting: they carry no frames, one that waits is as good as many.
const QUEUED_EVENTS: usize = 8;

/// What to observe.
#[derive(Clone)]
pub struct ObserveSettings {
    /// Begin of the first interval.
    pub started: Timestamp,
    /// Interfaces to capture, by name; loopback is never captured.
    pub wanted: InterfaceFilter,
    /// Who reads the frames.
    pub receiver: FrameReceiver,
    /// Read frames for other hardware too; never unless asked.
    pub promiscuous: bool,
    /// How much is remembered within an interval.
    pub limits: LedgerLimits,
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
            limits: LedgerLimits::default(),
        }
    }
}

/// Running observation; ends when dropped.
pub struct Observer {
    capture: Capture,
    accounts: Arc<Mutex<Accounts<KernelSockets, ProcessIndex>>>,
    begun: Mutex<IntervalStart>,
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
            KernelSockets::default(),
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
        // It ends with the last sender. Without it the channel is closed and capture ends at once, which the status tells.
        let _accountant = std::thread::Builder::new()
            .name("accounting".to_owned())
            .spawn(move || account(&received, &shared));
        Self {
            capture,
            accounts,
            begun: Mutex::new(IntervalStart {
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
        let interval = assemble(
            &begun,
            now,
            &page,
            &names,
            current.as_deref().ok(),
            condition(&status),
        );
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
        assemble(
            &begun,
            now,
            &page,
            &names,
            current.as_deref().ok(),
            condition(&status),
        )
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
    pub fn status(&self) -> CaptureHealth {
        self.capture.status()
    }
}

fn account(received: &Receiver<CaptureEvent>, accounts: &Mutex<Accounts<KernelSockets, ProcessIndex>>) {
    Priority::Accounting.take();
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

fn condition(status: &CaptureHealth) -> CaptureCondition {
    CaptureCondition {
        lost_frames: status.lost_frames,
        faults: status.faults(),
    }
}
