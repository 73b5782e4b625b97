//! Closes sockets of other programs (`SOCK_DESTROY`, what `ss -K` does).
//!
//! In: which connections are meant. Out: they are closed, and their programs get an error at once (ECONNABORTED). The
//! kernel compares both ends and the cookie, so a socket that took a closed one's place is never hit.
//! Absent: sockets of other network namespaces, out of reach from here; the choice (`quarantine::plan::severed`).

use std::time::{Duration, Instant};

use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP, TCP_FIN_WAIT2};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, InetResponseHeader, StateFlags};
use nix::errno::Errno;

use super::{SockDiag, open_socket};
use crate::host::net::netlink::NetlinkError;
use crate::host::processes::pace::{Pace, thread_time};
use crate::quarantine::orders::order::Protocol;
use crate::quarantine::plan::severed::SocketEnds;

/// Message type of `linux/sock_diag.h`; `netlink-packet-sock-diag` knows the question only.
const SOCK_DESTROY: u16 = 21;
/// Sockets of one look, 10 MB; more are closed by the next look.
pub(crate) const MAX_FOUND: usize = 65_536;
/// Shortest time between two looks that are not urgent.
const LOOK_PAUSE: Duration = Duration::from_secs(1);
/// These take at most one part in so many of a core's time, as `super::LIST_SHARE`.
const LOOK_SHARE: u32 = 500;

/// A connected socket, so that it can be closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveSocket {
    /// Who talks to whom.
    pub connection: SocketEnds,
    /// Its inode; 0 for one nobody has accepted yet or everybody has closed.
    pub inode: u32,
    /// The ends as the socket has them, and its cookie.
    request: InetRequest,
}

/// What became of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DestroyOutcome {
    Destroyed,
    /// It was closed already.
    Gone,
    /// This kernel cannot (`CONFIG_INET_DIAG_DESTROY`).
    Unsupported,
}

impl SockDiag {
    /// Calls `each` for every socket that is connected: TCP whose handshake has begun at the other side and UDP with a
    /// remote end.
    ///
    /// TCP in SYN-SENT is left alone: it has carried nothing, and a program whose attempts failed at once would only
    /// try more often. So are TIME-WAIT and its like in FIN-WAIT-2: remainders without a socket, which the kernel
    /// refuses to close.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn connected(&mut self, each: &mut dyn FnMut(LiveSocket)) -> Result<(), NetlinkError> {
        let unconnected =
            StateFlags::LISTEN | StateFlags::SYN_SENT | StateFlags::TIME_WAIT | StateFlags::CLOSE;
        for (number, protocol, states) in [
            (IPPROTO_TCP, Protocol::Tcp, StateFlags::all() - unconnected),
            (IPPROTO_UDP, Protocol::Udp, StateFlags::ESTABLISHED),
        ] {
            for family in [AF_INET, AF_INET6] {
                self.dump(family, number, states.clone(), &mut |answer| {
                    if let Some(socket) = live_socket(answer, family, number, protocol) {
                        each(socket);
                    }
                })?;
            }
        }
        Ok(())
    }

    /// Closes just this socket.
    ///
    /// # Errors
    /// If the kernel cannot be asked, or refuses (without `CAP_NET_ADMIN`).
    pub fn destroy(&mut self, socket: &LiveSocket) -> Result<DestroyOutcome, NetlinkError> {
        let payload = super::payload_of(&socket.request);
        match self.netlink.instruct(SOCK_DESTROY, &payload) {
            Ok(()) => Ok(DestroyOutcome::Destroyed),
            Err(error) => match error.refusal() {
                // The second when another socket has the same ends by now: its cookie is another.
                Some(Errno::ENOENT | Errno::ESTALE) => Ok(DestroyOutcome::Gone),
                // The second by kernels that do not know the message at all.
                Some(Errno::EOPNOTSUPP | Errno::EINVAL) => Ok(DestroyOutcome::Unsupported),
                _ => Err(error),
            },
        }
    }
}

fn live_socket(
    answer: &InetResponseHeader,
    family: u8,
    number: u8,
    protocol: Protocol,
) -> Option<LiveSocket> {
    let open = open_socket(answer, number);
    let remainder = number == IPPROTO_TCP && answer.state == TCP_FIN_WAIT2 && answer.inode == 0;
    let remote = open.remote.filter(|_| !remainder)?;
    Some(LiveSocket {
        connection: SocketEnds {
            protocol,
            local: open.local,
            remote,
        },
        inode: answer.inode,
        request: InetRequest {
            family,
            protocol: number,
            extensions: ExtensionFlags::empty(),
            states: StateFlags::all(),
            socket_id: answer.socket_id.clone(),
        },
    })
}

/// Looks for sockets, not more often than it may.
pub(crate) struct SocketFinder {
    sockets: Option<SockDiag>,
    pace: Pace,
}

impl Default for SocketFinder {
    fn default() -> Self {
        Self {
            sockets: None,
            pace: Pace::new(LOOK_PAUSE, LOOK_SHARE),
        }
    }
}

impl SocketFinder {
    /// Up to [`MAX_FOUND`] connected sockets that are `wanted`; `None` if it is too early for another look that is not
    /// `urgent`.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub(crate) fn look(
        &mut self,
        now: Instant,
        urgent: bool,
        wanted: impl Fn(&SocketEnds) -> bool,
    ) -> Result<Option<Vec<LiveSocket>>, NetlinkError> {
        if !urgent && !self.pace.is_due(now) {
            return Ok(None);
        }
        let began = thread_time();
        let mut found = Vec::new();
        self.with(|diag| {
            diag.connected(&mut |socket| {
                if found.len() < MAX_FOUND && wanted(&socket.connection) {
                    found.push(socket);
                }
            })
        })?;
        self.pace.done(now, thread_time().saturating_sub(began));
        Ok(Some(found))
    }

    /// As [`SockDiag::destroy`].
    ///
    /// # Errors
    /// As [`SockDiag::destroy`].
    pub(crate) fn destroy(&mut self, socket: &LiveSocket) -> Result<DestroyOutcome, NetlinkError> {
        self.with(|diag| diag.destroy(socket))
    }

    /// Opens at the first question, and again after an error.
    fn with<T>(
        &mut self,
        ask: impl FnOnce(&mut SockDiag) -> Result<T, NetlinkError>,
    ) -> Result<T, NetlinkError> {
        let mut diag = match self.sockets.take() {
            Some(diag) => diag,
            None => SockDiag::open()?,
        };
        let answer = ask(&mut diag)?;
        self.sockets = Some(diag);
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "makes the sockets it looks for")]

    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;

    fn find(diag: &mut SockDiag, local: std::net::SocketAddr) -> Option<LiveSocket> {
        let mut found = None;
        diag.connected(&mut |socket| {
            if socket.connection.local == local {
                found = Some(socket);
            }
        })
        .unwrap();
        found
    }

    #[test]
    fn connected_sockets_are_listed_and_listeners_are_not() {
        let mut diag = SockDiag::open().unwrap();
        for bind in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(bind).unwrap();
            let end = listener.local_addr().unwrap();
            assert_eq!(find(&mut diag, end), None, "{bind}");
            let client = TcpStream::connect(end).unwrap();
            let socket = find(&mut diag, client.local_addr().unwrap()).unwrap();
            assert_eq!((socket.connection.remote, socket.inode != 0), (end, true));
            let udp = UdpSocket::bind(bind).unwrap();
            assert_eq!(find(&mut diag, udp.local_addr().unwrap()), None);
            udp.connect(end).unwrap();
            let socket = find(&mut diag, udp.local_addr().unwrap()).unwrap();
            assert_eq!(
                (socket.connection.protocol, socket.connection.remote),
                (Protocol::Udp, end)
            );
        }
    }

    #[test]
    fn another_socket_with_the_same_ends_is_not_hit() {
        let mut diag = SockDiag::open().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut socket = find(&mut diag, client.local_addr().unwrap()).unwrap();
        socket.request.socket_id.cookie[0] ^= 1;
        // Without the right to close anything the kernel says so first.
        let outcome = diag.destroy(&socket);
        assert!(
            !matches!(
                outcome,
                Ok(DestroyOutcome::Destroyed | DestroyOutcome::Unsupported)
            ),
            "{outcome:?}"
        );
        assert!(client.take_error().unwrap().is_none());
        assert!(find(&mut diag, client.local_addr().unwrap()).is_some());
    }
}
