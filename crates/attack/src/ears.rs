//! What arrives, counted where it would do harm.

use std::io::Read as _;
use std::net::{IpAddr, TcpListener};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use edgewarden_lab::site::{Ns, Site};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

use crate::AttackError;

/// What is under way may take so long to arrive; the namespaces are joined by veth pairs.
const FLIGHT: Duration = Duration::from_millis(400);
/// From one look at whether to go on to the next.
const LOOK_MS: i64 = 50;
/// What a packet socket may keep for its reader, in bytes.
const BUFFER: usize = 8 << 20;

/// Counts in a thread until it is dropped.
pub(crate) struct Ear {
    bytes: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Ear {
    /// Frames on all interfaces of a namespace that carry `mark`.
    pub(crate) fn on(site: &Site, ns: Ns, mark: &'static [u8]) -> Result<Self, AttackError> {
        let opened = site.run_in(ns, || -> nix::Result<OwnedFd> {
            let raw = socket(
                AddressFamily::Packet,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC,
                SockProtocol::EthAll,
            )?;
            setsockopt(&raw, sockopt::ReceiveTimeout, &TimeVal::milliseconds(LOOK_MS))?;
            setsockopt(&raw, sockopt::RcvBufForce, &BUFFER)?;
            Ok(raw)
        })?;
        let raw = opened.map_err(|error| AttackError::Io {
            what: "listen on the wire",
            source: error.into(),
        })?;
        Ok(Self::counting(move |bytes, over| {
            let mut frame = vec![0; 70_000];
            while !over.load(Ordering::Relaxed) {
                let Ok(length) = recv(raw.as_raw_fd(), &mut frame, MsgFlags::empty()) else {
                    continue;
                };
                if frame[..length].windows(mark.len()).any(|part| part == mark) {
                    bytes.fetch_add(length as u64, Ordering::Relaxed);
                }
            }
        }))
    }

    /// What TCP connections to an address of a namespace bring.
    pub(crate) fn tcp(site: &Site, ns: Ns, address: IpAddr, port: u16) -> Result<Self, AttackError> {
        let what = "listen over TCP";
        let opened = site.run_in(ns, || TcpListener::bind((address, port)))?;
        let listener = opened.map_err(|source| AttackError::Io { what, source })?;
        listener
            .set_nonblocking(true)
            .map_err(|source| AttackError::Io { what, source })?;
        Ok(Self::counting(move |bytes, over| {
            let mut streams = Vec::new();
            let mut buffer = vec![0; 1 << 18];
            while !over.load(Ordering::Relaxed) {
                if let Ok((stream, _)) = listener.accept()
                    && stream.set_nonblocking(true).is_ok()
                {
                    streams.push(stream);
                }
                let mut heard = 0;
                for stream in &mut streams {
                    heard += stream.read(&mut buffer).unwrap_or_default();
                }
                bytes.fetch_add(heard as u64, Ordering::Relaxed);
                if heard == 0 {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        }))
    }

    fn counting(work: impl FnOnce(&AtomicU64, &AtomicBool) + Send + 'static) -> Self {
        let (bytes, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let shared = (Arc::clone(&bytes), Arc::clone(&over));
        let thread = std::thread::spawn(move || work(&shared.0, &shared.1));
        Self {
            bytes,
            over,
            thread: Some(thread),
        }
    }

    /// What came since the last time this was asked, with what is still under way.
    pub(crate) fn heard(&self) -> u64 {
        std::thread::sleep(FLIGHT);
        self.bytes.swap(0, Ordering::Relaxed)
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}
