//! Probes from outside the agent: does TCP connect, UDP arrive, ICMP come back, an open connection still carry?
//!
//! `Ok(true)` and `Ok(false)` are the network's answer. `Err` is a fault of the lab, kept apart so that a broken probe
//! can never pass for a blocked path.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike as _};

use super::{Ns, Site, SiteError, limit_here, ping};

/// A probe's whole patience: one TCP SYN retransmission (after 1 s) fits, so a single lost packet is not "blocked".
const PROBE_LIMIT: Duration = Duration::from_millis(1500);
/// The same for a connection that has to come about: two retransmissions more.
const OPEN_LIMIT: Duration = Duration::from_secs(8);
/// Datagrams are repeated at this pace within the limit.
const UDP_REPEAT: Duration = Duration::from_millis(100);
/// How soon an echo server notices that it should stop.
const ACCEPT_LOOK: Duration = Duration::from_millis(50);

impl Site {
    /// Whether a TCP connection from `ns` to `address`:`port` is established.
    ///
    /// # Errors
    /// When the lab fails, never for the network's answer.
    pub fn tcp_connects(&self, ns: Ns, address: IpAddr, port: u16) -> Result<bool, SiteError> {
        let to = SocketAddr::new(address, port);
        self.run_in(ns, || {
            TcpStream::connect_timeout(&to, limit_here(PROBE_LIMIT)).is_ok()
        })
    }

    /// Opens a connection for later [`OpenConnection::exchange`]s with an echo server.
    ///
    /// # Errors
    /// When it cannot be established.
    pub fn open_connection(&self, ns: Ns, address: IpAddr, port: u16) -> Result<OpenConnection, SiteError> {
        let to = SocketAddr::new(address, port);
        let failed = |source| SiteError::Socket {
            action: format!("connect from {} to {to}", ns.name()),
            source,
        };
        let stream = self
            .run_in(ns, || TcpStream::connect_timeout(&to, limit_here(OPEN_LIMIT)))?
            .map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        stream
            .set_write_timeout(Some(limit_here(PROBE_LIMIT)))
            .map_err(failed)?;
        Ok(OpenConnection { stream, counter: 0 })
    }

    /// Whether a datagram from `from` arrives at `address`:`port`, an address of namespace `to`.
    ///
    /// The receiver is this probe's own: probes that run at the same time need different ports.
    ///
    /// # Errors
    /// When the receiver cannot be opened.
    pub fn udp_reaches(&self, from: Ns, to: Ns, address: IpAddr, port: u16) -> Result<bool, SiteError> {
        let target = SocketAddr::new(address, port);
        let failed = |action: &str| {
            let action = format!("{action} {target}");
            move |source| SiteError::Socket { action, source }
        };
        let receiver = self
            .run_in(to, || UdpSocket::bind(target))?
            .map_err(failed("receive datagrams at"))?;
        receiver
            .set_read_timeout(Some(UDP_REPEAT))
            .map_err(failed("set the patience of"))?;
        let any: IpAddr = if address.is_ipv4() {
            [0_u8; 4].into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        let sender = self
            .run_in(from, || UdpSocket::bind((any, 0)))?
            .map_err(failed("open a sender to"))?;
        let deadline = Instant::now() + limit_here(PROBE_LIMIT);
        let mut buffer = [0_u8; 64];
        while Instant::now() < deadline {
            // A refusal (EPERM of a firewall, no route) is an answer; the datagram just does not arrive.
            let _ = sender.send_to(b"edgewarden-lab", target);
            if receiver.recv(&mut buffer).is_ok() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether `address` answers an ICMP echo request from `ns`.
    ///
    /// # Errors
    /// When no raw socket is to be had.
    pub fn ping(&self, ns: Ns, address: IpAddr) -> Result<bool, SiteError> {
        self.run_in(ns, || ping::echo(address, limit_here(PROBE_LIMIT)))?
            .map_err(|errno| SiteError::Socket {
                action: format!("ping {address} from {}", ns.name()),
                source: errno.into(),
            })
    }

    /// A TCP server on every address of `ns` that sends back what it gets; stops when dropped.
    ///
    /// # Errors
    /// When the port cannot be opened.
    pub fn echo_server(&self, ns: Ns, port: u16) -> Result<EchoServer, SiteError> {
        let failed = |source| SiteError::Socket {
            action: format!("listen on {} port {port}", ns.name()),
            source,
        };
        let listener = self
            .run_in(ns, || {
                TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))
            })?
            .map_err(failed)?;
        let look = TimeVal::microseconds(ACCEPT_LOOK.subsec_micros().into());
        // On Linux the receive timeout of a listener bounds accept.
        setsockopt(&listener, sockopt::ReceiveTimeout, &look).map_err(|errno| failed(errno.into()))?;
        let stopped = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stopped);
        let thread = std::thread::spawn(move || serve(&listener, &flag));
        Ok(EchoServer {
            stopped,
            thread: Some(thread),
        })
    }
}

/// A connection that stays open between probes: what an attacker holds when the quarantine comes.
#[derive(Debug)]
pub struct OpenConnection {
    stream: TcpStream,
    counter: u64,
}

impl OpenConnection {
    /// Sends a number and waits for it to come back. Answers to earlier, given-up numbers are passed over.
    pub fn exchange(&mut self) -> bool {
        self.counter += 1;
        let deadline = Instant::now() + limit_here(PROBE_LIMIT);
        if self.stream.write_all(&self.counter.to_be_bytes()).is_err() {
            return false;
        }
        let mut number = [0_u8; 8];
        let mut filled = 0;
        while let Some(left) = deadline
            .checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero())
        {
            if self.stream.set_read_timeout(Some(left)).is_err() {
                return false;
            }
            match self.stream.read(&mut number[filled..]) {
                Ok(0) => return false,
                Ok(length) => filled += length,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
            if filled == number.len() {
                if u64::from_be_bytes(number) == self.counter {
                    return true;
                }
                filled = 0;
            }
        }
        false
    }

    /// The local port, to find the connection in listings.
    #[must_use]
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.stream.local_addr().ok()
    }
}

/// See [`Site::echo_server`].
#[derive(Debug)]
pub struct EchoServer {
    stopped: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(listener: &TcpListener, stopped: &AtomicBool) {
    let mut open: Vec<Weak<TcpStream>> = Vec::new();
    while !stopped.load(Ordering::Relaxed) {
        if let Ok((stream, _)) = listener.accept() {
            let stream = Arc::new(stream);
            // A prober that connects for an hour must not use up this process' files.
            open.retain(|stream| stream.strong_count() > 0);
            open.push(Arc::downgrade(&stream));
            std::thread::spawn(move || echo(&stream));
        }
    }
    for stream in open.iter().filter_map(Weak::upgrade) {
        let _ = stream.shutdown(Shutdown::Both);
    }
}

fn echo(mut stream: &TcpStream) {
    // The listener's short receive timeout is inherited; a connection may be silent for as long as it likes.
    if stream.set_read_timeout(None).is_err() || stream.set_nodelay(true).is_err() {
        return;
    }
    let mut buffer = [0_u8; 4096];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..length]).is_err() {
            return;
        }
    }
}
