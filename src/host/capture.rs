//! Reads frames from every wanted interface and hands their summaries on.
//!
//! In: [`CaptureSettings`]. Out: [`CaptureEvent`]s through a bounded channel, and a [`CaptureStatus`] that names every
//! interface and what hinders its capture.
//!
//! One supervisor looks for interfaces every two seconds and starts and ends one reader thread for each. The seam is
//! pnet's [`DataLinkReceiver`]: whatever implements it can be read. Never promiscuous. Loopback is left out: its
//! traffic leaves no device, and its frames would be counted going out and coming in.
//!
//! Known limits of the stock receiver: it does not tell the kernel's drops, nor the VLAN tag the network card took
//! off, nor whether a frame was sent or received (hence [`crate::observe::direction`]).

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::os::fd::IntoRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socket, sockopt};
use pnet::datalink::{Channel, Config, DataLinkReceiver, NetworkInterface};
use pnet::util::MacAddr;

use super::clock::instant;
use super::links::{Link, links};
use crate::observe::decode::{LinkKind, PacketSummary, decode};

/// Room for one frame: the largest offloaded packet (64 KiB), its link header and eight VLAN tags.
const FRAME_BUFFER: usize = 65_536 + 64;
/// Frames wait here while the reader is not scheduled; at 180,000 frames a second of 64 bytes 4 MiB last about 30 ms
/// (the kernel charges some 800 bytes a frame).
const RECEIVE_BUFFER: usize = 4 << 20;
/// A reader looks for its stop signal this often.
const READ_TIMEOUT: Duration = Duration::from_millis(200);
/// Interfaces that come and go are noticed within this time.
const LINK_POLL: Duration = Duration::from_secs(2);
/// Housekeeping of later stages runs on these ticks.
const TICK: Duration = Duration::from_millis(250);
/// A capture that could not be opened is tried again after this pause: rights do not change often.
const RETRY: Duration = Duration::from_secs(30);
/// A capture that ended is reopened after this pause; the usual cause is an interface that was switched off and on.
const REOPEN: Duration = Duration::from_secs(2);
/// Interfaces captured at once; each costs a thread and its buffers.
const MAX_CAPTURES: usize = 64;

/// Decides by name whether an interface is captured.
pub type Wanted = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// What to capture and where to hand it.
pub struct CaptureSettings {
    /// Interfaces to capture, loopback is never asked for.
    pub wanted: Wanted,
    /// Receives everything; a full channel holds the readers back, so that the kernel's buffer and not ours grows.
    pub events: SyncSender<CaptureEvent>,
}

/// One thing that happened.
#[derive(Debug)]
pub enum CaptureEvent {
    /// A frame was seen.
    Frame {
        /// Interface index.
        interface: u32,
        /// What it was.
        summary: PacketSummary,
        /// When it was read.
        at: Instant,
    },
    /// The interfaces, whenever they were looked at.
    Links(Vec<Link>),
    /// Time passes.
    Tick(Instant),
}

/// State of capture on one interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaptureState {
    /// Frames are read.
    Capturing,
    /// They are not, for this reason.
    Failed(String),
}

/// State of capture, by interface name; interfaces that are not wanted do not appear.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CaptureStatus {
    /// Per interface.
    pub interfaces: BTreeMap<String, CaptureState>,
    /// Why no interface is known at all.
    pub links_fault: Option<String>,
}

impl CaptureStatus {
    /// One sentence for each thing that hinders capture.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let per_interface = self.interfaces.iter().filter_map(|(name, state)| match state {
            CaptureState::Capturing => None,
            CaptureState::Failed(fault) => Some(format!("interface {name}: {fault}")),
        });
        self.links_fault.iter().cloned().chain(per_interface).collect()
    }
}

/// Running capture; ends when dropped.
pub struct Capture {
    status: Arc<Mutex<CaptureStatus>>,
    stop: Option<Sender<()>>,
    supervisor: Option<JoinHandle<()>>,
}

impl Capture {
    /// Starts the supervisor. Never fails; faults are in the status.
    #[must_use]
    pub fn start(settings: CaptureSettings) -> Self {
        let status = Arc::new(Mutex::new(CaptureStatus::default()));
        let (stop, stopped) = channel();
        let supervisor = Supervisor {
            settings,
            status: Arc::clone(&status),
            readers: BTreeMap::new(),
        };
        let spawned = std::thread::Builder::new()
            .name("capture".to_owned())
            .spawn(move || supervisor.run(&stopped));
        let supervisor = match spawned {
            Ok(handle) => Some(handle),
            Err(error) => {
                lock(&status).links_fault = Some(format!("could not start the capture thread: {error}"));
                None
            }
        };
        Self {
            status,
            stop: Some(stop),
            supervisor,
        }
    }

    /// What is captured and what is not.
    #[must_use]
    pub fn status(&self) -> CaptureStatus {
        lock(&self.status).clone()
    }

    /// Ends every thread and waits for them (at most one read timeout and one full channel).
    pub fn stop(&mut self) {
        self.stop = None;
        if let Some(supervisor) = self.supervisor.take() {
            // A reader that panicked has nothing left to stop.
            let _ended = supervisor.join();
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

enum Reader {
    Running {
        name: String,
        stop: Arc<AtomicBool>,
        thread: JoinHandle<String>,
    },
    Resting {
        name: String,
        until: Instant,
    },
}

struct Supervisor {
    settings: CaptureSettings,
    status: Arc<Mutex<CaptureStatus>>,
    readers: BTreeMap<u32, Reader>,
}

impl Supervisor {
    fn run(mut self, stopped: &Receiver<()>) {
        let mut next_poll = instant();
        loop {
            if instant() >= next_poll {
                next_poll = instant() + LINK_POLL;
                self.poll_links();
            }
            let open = self.settings.events.send(CaptureEvent::Tick(instant())).is_ok();
            match stopped.recv_timeout(TICK) {
                Err(RecvTimeoutError::Timeout) if open => {}
                _ => break,
            }
        }
        for reader in self.readers.values() {
            reader.ask_to_stop();
        }
        for reader in std::mem::take(&mut self.readers).into_values() {
            reader.join();
        }
    }

    fn poll_links(&mut self) {
        let links = match links() {
            Ok(links) => links,
            Err(error) => {
                let cause = std::error::Error::source(&error).map(|source| format!(": {source}"));
                lock(&self.status).links_fault = Some(format!("{error}{}", cause.unwrap_or_default()));
                return;
            }
        };
        lock(&self.status).links_fault = None;
        let wanted: Vec<Link> = links
            .iter()
            .filter(|link| link.up && !link.loopback && (self.settings.wanted)(&link.name))
            .cloned()
            .collect();
        // The receiver must know an interface before its first frame.
        if self.settings.events.send(CaptureEvent::Links(links)).is_err() {
            return;
        }
        self.end_readers(&wanted);
        for link in wanted {
            self.start_reader(&link);
        }
    }

    /// Ends readers of interfaces that are gone or no longer wanted, and collects those that ended by themselves.
    fn end_readers(&mut self, wanted: &[Link]) {
        for (index, mut reader) in std::mem::take(&mut self.readers) {
            let name = reader.name().to_owned();
            if !wanted.iter().any(|link| link.index == index && link.name == name) {
                reader.ask_to_stop();
                reader.join();
                lock(&self.status).interfaces.remove(&name);
                continue;
            }
            if reader.has_ended() {
                let fault = reader.join();
                lock(&self.status)
                    .interfaces
                    .insert(name.clone(), CaptureState::Failed(fault));
                reader = Reader::Resting {
                    name,
                    until: instant() + REOPEN,
                };
            }
            self.readers.insert(index, reader);
        }
    }

    fn start_reader(&mut self, link: &Link) {
        match self.readers.get(&link.index) {
            Some(Reader::Running { .. }) => return,
            Some(Reader::Resting { until, .. }) if instant() < *until => return,
            _ => {}
        }
        let running = self
            .readers
            .values()
            .filter(|reader| matches!(reader, Reader::Running { .. }))
            .count();
        let started = if running >= MAX_CAPTURES {
            Err(format!(
                "not captured: {MAX_CAPTURES} other interfaces already are"
            ))
        } else {
            open(link).and_then(|receiver| self.spawn(link, receiver))
        };
        let name = link.name.clone();
        let (reader, state) = match started {
            Ok(reader) => (reader, CaptureState::Capturing),
            Err(fault) => (
                Reader::Resting {
                    name: name.clone(),
                    until: instant() + RETRY,
                },
                CaptureState::Failed(format!("{fault}; next attempt in {} s", RETRY.as_secs())),
            ),
        };
        self.readers.insert(link.index, reader);
        lock(&self.status).interfaces.insert(name, state);
    }

    fn spawn(&self, link: &Link, receiver: Box<dyn DataLinkReceiver>) -> Result<Reader, String> {
        let stop = Arc::new(AtomicBool::new(false));
        let (events, index, kind) = (self.settings.events.clone(), link.index, link.kind);
        let seen = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name(format!("capture {}", link.name))
            .spawn(move || read(receiver, index, kind, &events, &seen))
            .map_err(|error| format!("could not start a reader thread: {error}"))?;
        Ok(Reader::Running {
            name: link.name.clone(),
            stop,
            thread,
        })
    }
}

impl Reader {
    fn name(&self) -> &str {
        match self {
            Self::Running { name, .. } | Self::Resting { name, .. } => name,
        }
    }

    fn ask_to_stop(&self) {
        if let Self::Running { stop, .. } = self {
            stop.store(true, Ordering::Relaxed);
        }
    }

    fn has_ended(&self) -> bool {
        matches!(self, Self::Running { thread, .. } if thread.is_finished())
    }

    /// Waits for the end and says why it came.
    fn join(self) -> String {
        match self {
            Self::Running { thread, .. } => thread
                .join()
                .unwrap_or_else(|_| "the reader thread failed".to_owned()),
            Self::Resting { .. } => String::new(),
        }
    }
}

/// Reads until told to stop or the interface fails; returns why it ended.
fn read(
    mut receiver: Box<dyn DataLinkReceiver>,
    interface: u32,
    kind: LinkKind,
    events: &SyncSender<CaptureEvent>,
    stop: &AtomicBool,
) -> String {
    while !stop.load(Ordering::Relaxed) {
        match receiver.next() {
            Ok(frame) => {
                // A frame that fills the buffer was cut; then its own header tells the length.
                let wire_length = (frame.len() < FRAME_BUFFER).then_some(frame.len());
                let summary = decode(frame, wire_length, kind);
                if events
                    .send(CaptureEvent::Frame {
                        interface,
                        summary,
                        at: instant(),
                    })
                    .is_err()
                {
                    return "nobody listens".to_owned();
                }
            }
            Err(error) if is_passing(&error) => {}
            Err(error) => return format!("could not read frames: {error}"),
        }
    }
    "stopped".to_owned()
}

fn is_passing(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::TimedOut | ErrorKind::WouldBlock | ErrorKind::Interrupted
    )
}

/// Opens pnet's receiver on one interface.
fn open(link: &Link) -> Result<Box<dyn DataLinkReceiver>, String> {
    if let LinkKind::Unsupported(hatype) = link.kind {
        return Err(format!("frames of ARP hardware type {hatype} cannot be read"));
    }
    // Without protocol the socket receives nothing until pnet binds it to the interface; pnet's own socket would
    // collect frames of every interface in between.
    let fd = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)
        .map_err(|errno| explain("open a packet socket", errno))?;
    // Beyond the system's limit if we may, within it if not; either way capture works.
    if setsockopt(&fd, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
        let _within_limit = setsockopt(&fd, sockopt::RcvBuf, &RECEIVE_BUFFER);
    }
    let config = Config {
        read_buffer_size: FRAME_BUFFER,
        write_buffer_size: 0,
        read_timeout: Some(READ_TIMEOUT),
        promiscuous: false,
        socket_fd: Some(fd.into_raw_fd()),
        ..Config::default()
    };
    let interface = NetworkInterface {
        name: link.name.clone(),
        description: String::new(),
        index: link.index,
        mac: link.hardware.map(MacAddr::from),
        ips: Vec::new(),
        flags: 0,
    };
    match pnet::datalink::channel(&interface, config) {
        Ok(Channel::Ethernet(_sender, receiver)) => Ok(receiver),
        Ok(_) => Err("pnet opened a channel of an unknown kind".to_owned()),
        Err(error) => Err(format!("could not bind a packet socket to it: {error}")),
    }
}

fn explain(action: &str, errno: Errno) -> String {
    match errno {
        Errno::EPERM | Errno::EACCES => format!("could not {action}: the capability CAP_NET_RAW is missing"),
        other => format!("could not {action}: {}", other.desc()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_capability_is_named() {
        assert_eq!(
            explain("open a packet socket", Errno::EPERM),
            "could not open a packet socket: the capability CAP_NET_RAW is missing"
        );
    }

    #[test]
    fn faults_name_their_interface() {
        let mut status = CaptureStatus::default();
        status.interfaces.insert("eth0".into(), CaptureState::Capturing);
        status
            .interfaces
            .insert("eth1".into(), CaptureState::Failed("broken".into()));
        assert_eq!(status.faults(), ["interface eth1: broken"]);
    }
}
