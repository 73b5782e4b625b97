//! Packet sockets in any namespace of the lab: frames go out as they are, ears hear what arrives.

use std::fs::File;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use edgewarden_lab::site::{limit_here, wait_until};
use nix::ifaddrs::getifaddrs;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, bind, recv, send,
    sendto, setsockopt, socket, sockopt,
};
use rustix::net::{Protocol, SocketFlags, SocketType};

use super::frames::{Frame, Mac};
use crate::common::packet::marker;

/// How long frames may be under way; the namespaces are joined by veth pairs.
const FLIGHT: Duration = Duration::from_millis(300);
/// Bytes that an ear keeps until somebody listens, which may take a second on a busy machine.
const KEPT: usize = 32 << 20;
/// Of an Ethernet frame.
const HEADER: usize = 14;
/// The protocol of sockets that give whole packets (`IPPROTO_RAW`).
const HEADER_INCLUDED: u32 = 255;
/// Users.
pub(crate) const ROOT: u32 = 0;
pub(crate) const NOBODY: u32 = 65_534;
/// Repetitions of each frame.
const SENDS: usize = 3;

/// Runs `work` in a namespace of the lab; a thread that entered one ends there.
pub(crate) fn within<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> T {
    let file = File::open(Path::new("/run/netns").join(namespace)).unwrap();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(&file, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        });
        thread.join().unwrap()
    })
}

/// The names of these frames that an ear hears, sorted.
pub(crate) fn heard(ear: &Ear, frames: &[Frame]) -> Vec<&'static str> {
    let deadline = Instant::now() + limit_here(FLIGHT);
    let mut heard = Vec::new();
    while Instant::now() < deadline && heard.len() < frames.len() {
        for bytes in ear.drain() {
            let is = |frame: &&Frame| is_this(&bytes, frame);
            heard.extend(frames.iter().find(is).map(|frame| frame.name));
        }
        heard.sort_unstable();
        heard.dedup();
        std::thread::sleep(Duration::from_millis(5));
    }
    heard
}

/// Has the IP stack of a namespace send what these frames of IPv4 carry, with the headers that they have; gives the names of those
/// that an ear hears.
pub(crate) fn arrivals_of_packets(namespace: &str, ear: &Ear, frames: &[Frame]) -> Vec<&'static str> {
    ear.drain();
    let socket = packets_of(namespace, ROOT);
    for frame in frames.iter().cycle().take(frames.len() * SENDS) {
        hand_over(&socket, &frame.bytes[HEADER..]);
    }
    heard(ear, frames)
}

/// A socket of that user's that gives the IP stack packets of IPv4 with the headers that they have.
pub(crate) fn packets_of(namespace: &str, user: u32) -> OwnedFd {
    within(namespace, || {
        // Of this thread only.
        nix::unistd::setfsuid(user.into());
        let protocol = Protocol::from_raw(std::num::NonZeroU32::new(HEADER_INCLUDED).unwrap());
        rustix::net::socket(rustix::net::AddressFamily::INET, SocketType::RAW, Some(protocol)).unwrap()
    })
}

/// Gives it one, to where it says.
pub(crate) fn hand_over(socket: &OwnedFd, packet: &[u8]) {
    let [a, b, c, d] = *packet[16..20].as_array().unwrap();
    let to = SockaddrIn::new(a, b, c, d, 0);
    // What the packet filter drops is refused.
    let _refused = sendto(socket.as_raw_fd(), packet, &to, MsgFlags::empty());
}

/// An interface of a namespace.
pub(crate) struct Port {
    namespace: String,
    link: LinkAddr,
}

impl Port {
    pub(crate) fn find(namespace: &str, interface: &str) -> Option<Self> {
        let link = within(namespace, || {
            let mut all = getifaddrs().unwrap();
            all.find_map(|found| {
                let address = found.address.filter(|_| found.interface_name == interface)?;
                address.as_link_addr().copied()
            })
        });
        Some(Self {
            namespace: namespace.into(),
            link: link?,
        })
    }

    pub(crate) fn of(namespace: &str, interface: &str) -> Self {
        Self::find(namespace, interface).unwrap()
    }

    /// Its hardware address as `ip` and `nft` read it.
    pub(crate) fn mac_text(&self) -> String {
        self.mac().map(|byte| format!("{byte:02x}")).join(":")
    }

    pub(crate) fn mac(&self) -> Mac {
        self.link.addr().unwrap()
    }

    /// A socket that sends as this interface; `said` is what it says its frames are.
    pub(crate) fn sender(&self, said: u16) -> OwnedFd {
        self.sender_as(said, ROOT)
    }

    /// The same of another user, who has the right to packet sockets and no other.
    pub(crate) fn sender_as(&self, said: u16, user: u32) -> OwnedFd {
        within(&self.namespace, || {
            // Of this thread only; a socket belongs to whom its thread was when it was opened.
            nix::unistd::setfsuid(user.into());
            let raw = u32::from(said.to_be());
            let protocol = std::num::NonZeroU32::new(raw).map(Protocol::from_raw);
            let socket = rustix::net::socket_with(
                rustix::net::AddressFamily::PACKET,
                SocketType::RAW,
                SocketFlags::CLOEXEC,
                protocol,
            );
            let socket = socket.unwrap();
            // The address found has no protocol: the socket keeps its own.
            bind(socket.as_raw_fd(), &self.link).unwrap();
            socket
        })
    }

    /// Sends every frame and gives the names of those that an ear hears.
    pub(crate) fn arrivals(&self, ear: &Ear, frames: &[Frame]) -> Vec<&'static str> {
        ear.drain();
        for frame in frames.iter().cycle().take(frames.len() * SENDS) {
            emit(&self.sender(frame.said), &frame.bytes);
        }
        heard(ear, frames)
    }

    /// Sends one frame `count` times as fast as it goes; gives how many an ear heard, and in which time they were sent.
    pub(crate) fn flood(&self, ear: &Ear, frame: &Frame, count: usize) -> (usize, Duration) {
        ear.drain();
        let socket = self.sender(frame.said);
        let begin = Instant::now();
        let mut heard = 0;
        let mut hear = || {
            let all = ear.drain();
            heard += all.iter().filter(|bytes| is_this(bytes, frame)).count();
        };
        for number in 0..count {
            emit(&socket, &frame.bytes);
            // Also an ear without a right to more keeps some hundreds.
            if number % 32 == 0 {
                hear();
            }
        }
        let took = begin.elapsed();
        let deadline = Instant::now() + limit_here(FLIGHT);
        while Instant::now() < deadline {
            hear();
            std::thread::sleep(Duration::from_millis(5));
        }
        (heard, took)
    }
}

/// Names of frames.
pub(crate) fn names(frames: &[Frame]) -> Vec<&'static str> {
    let mut names: Vec<_> = frames.iter().map(|frame| frame.name).collect();
    names.sort_unstable();
    names
}

/// Whatever the kernel says to it: a refusal only means that the frame does not arrive.
pub(crate) fn emit(socket: &OwnedFd, frame: &[u8]) {
    let _ = send(socket.as_raw_fd(), frame, MsgFlags::empty());
}

/// By its hardware addresses too: an answer may quote it.
fn is_this(bytes: &[u8], frame: &Frame) -> bool {
    let wanted = marker(frame.name);
    bytes.get(..12) == frame.bytes.get(..12) && bytes.windows(wanted.len()).any(|part| part == wanted)
}

/// Hears every frame that arrives in a namespace.
pub(crate) struct Ear(OwnedFd);

impl Ear {
    pub(crate) fn open(namespace: &str) -> Self {
        let open = || {
            socket(
                AddressFamily::Packet,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC,
                SockProtocol::EthAll,
            )
        };
        let heard = within(namespace, open).unwrap();
        // Without that right the kernel keeps some hundreds.
        let _refused = setsockopt(&heard, sockopt::RcvBufForce, &KEPT);
        Self(heard)
    }

    /// What has arrived since the last time.
    pub(crate) fn drain(&self) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        let mut buffer = [0_u8; 4_096];
        while let Ok(length) = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
            all.push(buffer[..length].to_vec());
        }
        all
    }

    /// Whether something with that mark arrives in time, whatever is around it.
    pub(crate) fn hears_mark(&self, mark: &[u8], time: Duration) -> bool {
        let has_mark = |heard: Vec<u8>| heard.windows(mark.len()).any(|part| part == mark);
        wait_until(time, "it arrives", || self.drain().into_iter().any(has_mark)).is_ok()
    }

    /// Whether a frame arrives within the flight time.
    pub(crate) fn hears(&self, from: &Port, frame: &Frame) -> bool {
        !from.arrivals(self, std::slice::from_ref(frame)).is_empty()
    }
}

/// Sends one frame for ever.
pub(crate) struct Flood {
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    /// `pause`: from one to the next.
    pub(crate) fn begin(socket: OwnedFd, frame: Vec<u8>, pause: Duration) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&ends);
        let thread = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                emit(&socket, &frame);
                std::thread::sleep(pause);
            }
        });
        Self {
            ends,
            thread: Some(thread),
        }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
