//! pnet's own receivers, one thread for each interface.
//!
//! In: the interfaces to watch. Out: every frame counted in the meter. The seam is pnet's [`DataLinkReceiver`].
//!
//! Known limits: two system calls a frame, no drop counts, no VLAN tag that the network card took off, no direction
//! (the meter tells it from hardware addresses).

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::os::fd::IntoRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socket, sockopt};
use pnet::datalink::{Channel, Config, DataLinkReceiver, NetworkInterface};
use pnet::util::MacAddr;

use super::supervisor::RETRY;
use super::{CaptureState, ReaderContext};
use crate::Gather;
use crate::host::clock::instant;
use crate::lock;
use crate::observe::decode::LinkKind;
use crate::observe::link::Link;
use crate::observe::meter::CapturedFrame;
use crate::observe::way::PacketType;

/// Room for one frame: the largest offloaded packet (64 KiB), its link header and eight VLAN tags.
const FRAME_BUFFER: usize = 65_536 + 64;
/// Frames wait here while the reader is not scheduled; at 180,000 frames a second of 64 bytes 4 MiB last about 30 ms
/// (the kernel charges some 800 bytes a frame).
const RECEIVE_BUFFER: usize = 4 << 20;
/// A reader looks for its stop signal this often.
const READ_TIMEOUT: Duration = Duration::from_millis(200);
/// A capture that ended is reopened after this pause; the usual cause is an interface that was switched off and on.
const REOPEN: Duration = Duration::from_secs(2);

enum StockReader {
    Running {
        name: String,
        stop: Arc<AtomicBool>,
        thread: JoinHandle<String>,
    },
    Resting {
        name: String,
        until: Instant,
        fault: String,
    },
}

/// The readers, by interface index.
pub(super) struct StockReaders {
    work: ReaderContext,
    readers: BTreeMap<u32, StockReader>,
}

impl StockReaders {
    pub(super) const fn new(work: ReaderContext) -> Self {
        Self {
            work,
            readers: BTreeMap::new(),
        }
    }

    pub(super) const fn work(&self) -> &ReaderContext {
        &self.work
    }

    /// Watches exactly these interfaces.
    pub(super) fn watch(&mut self, wanted: &[Link], promiscuous: bool) -> BTreeMap<String, CaptureState> {
        self.end_readers(wanted);
        wanted
            .iter()
            .map(|link| (link.name.clone(), self.start_reader(link, promiscuous)))
            .in_map()
    }

    /// Waits for the end of all threads; they have been told to stop.
    pub(super) fn join(self) {
        self.readers.into_values().for_each(|reader| drop(reader.join()));
    }

    /// Ends readers of interfaces that are gone or no longer wanted, and collects those that ended by themselves.
    fn end_readers(&mut self, wanted: &[Link]) {
        for (index, mut reader) in std::mem::take(&mut self.readers) {
            let name = reader.name().to_owned();
            if !wanted.iter().any(|link| link.index == index && link.name == name) {
                reader.ask_to_stop();
                reader.join();
                continue;
            }
            if reader.has_ended() {
                reader = StockReader::Resting {
                    name,
                    until: instant() + REOPEN,
                    fault: reader.join(),
                };
            }
            self.readers.insert(index, reader);
        }
    }

    fn start_reader(&mut self, link: &Link, promiscuous: bool) -> CaptureState {
        match self.readers.get(&link.index) {
            Some(StockReader::Running { .. }) => return CaptureState::Capturing,
            Some(StockReader::Resting { until, fault, .. }) if instant() < *until => {
                return CaptureState::Failed(fault.clone());
            }
            _ => {}
        }
        let started = open(link, promiscuous).and_then(|receiver| self.spawn(link, receiver));
        let (reader, state) = match started {
            Ok(reader) => (reader, CaptureState::Capturing),
            Err(fault) => {
                let fault = format!("{fault}; next attempt in {} s", RETRY.as_secs());
                let reader = StockReader::Resting {
                    name: link.name.clone(),
                    until: instant() + RETRY,
                    fault: fault.clone(),
                };
                (reader, CaptureState::Failed(fault))
            }
        };
        self.readers.insert(link.index, reader);
        state
    }

    fn spawn(&self, link: &Link, receiver: Box<dyn DataLinkReceiver>) -> Result<StockReader, String> {
        let stop = Arc::new(AtomicBool::new(false));
        let (work, index, kind) = (self.work.clone(), link.index, link.kind);
        let seen = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name(format!("capture {}", link.name))
            .spawn(move || read(receiver, index, kind, &work, &seen))
            .map_err(|error| format!("could not start a reader thread: {error}"))?;
        Ok(StockReader::Running {
            name: link.name.clone(),
            stop,
            thread,
        })
    }
}

impl StockReader {
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
            Self::Resting { fault, .. } => fault,
        }
    }
}

/// Reads until told to stop or the interface fails; returns why it ended.
fn read(
    mut receiver: Box<dyn DataLinkReceiver>,
    interface: u32,
    link: LinkKind,
    work: &ReaderContext,
    stop: &AtomicBool,
) -> String {
    while !stop.load(Ordering::Relaxed) && !work.is_stopped() {
        match receiver.next() {
            Ok(bytes) => {
                let mut meter = lock(&work.meter);
                meter.count(&CapturedFrame {
                    interface,
                    bytes,
                    // A frame that fills the buffer was cut; then its own header tells the length.
                    wire_length: (bytes.len() < FRAME_BUFFER).then_some(bytes.len()),
                    link,
                    seen: PacketType::Untold,
                    vlan: None,
                });
                let fresh = meter.take_fresh();
                drop(meter);
                work.tell(fresh);
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
fn open(link: &Link, promiscuous: bool) -> Result<Box<dyn DataLinkReceiver>, String> {
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
        promiscuous,
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
}
