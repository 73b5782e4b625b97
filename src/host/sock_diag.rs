//! Asks the kernel about sockets through `NETLINK_SOCK_DIAG`.
//!
//! In: a flow, or nothing. Out: the socket of that flow, or every socket. One netlink socket for each [`SockDiag`]; it
//! belongs to the network namespace of the thread that opened it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags};
use netlink_packet_sock_diag::{SockDiagMessage, constants};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use netlink_sys::{Socket, SocketAddr as NetlinkAddress};
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;

use crate::observe::flow::{LocalFlow, Protocol};
use crate::observe::sockets::{LookupError, OpenSocket, SocketOwner, SocketSnapshot, SocketTable};

/// The kernel never puts more than 32 KiB into one dump message; twice that leaves room for it to change its mind.
const RECEIVE_BUFFER: usize = 65_536;
/// The kernel answers at once; a lost answer must not hang the caller.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
/// Connections kept in a snapshot (100 bytes each); the total is counted beyond it.
pub const MAX_SNAPSHOT: usize = 131_072;
/// "Any cookie" in a request for one socket.
const NO_COOKIE: [u8; 8] = [0xff; 8];

/// Why the kernel's sockets are not known.
#[derive(Debug, thiserror::Error)]
pub enum SockDiagError {
    /// No netlink socket.
    #[error("could not open a sock_diag netlink socket")]
    Open(#[source] std::io::Error),
    /// The request was not taken.
    #[error("could not send a sock_diag request")]
    Send(#[source] std::io::Error),
    /// No answer.
    #[error("could not receive a sock_diag answer")]
    Receive(#[source] std::io::Error),
    /// An answer that makes no sense.
    #[error("could not read a sock_diag answer: {expected}")]
    Answer {
        /// What was wrong.
        expected: String,
    },
    /// The kernel refused.
    #[error("the kernel refused a sock_diag request")]
    Refused(#[source] std::io::Error),
    /// Interface addresses are needed to name a connection's interface.
    #[error("could not list the addresses of the interfaces")]
    Links(#[source] super::links::LinksError),
}

/// An open netlink socket.
pub struct SockDiag {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl SockDiag {
    /// Opens it in the network namespace of the calling thread.
    ///
    /// # Errors
    /// If the kernel has no sock_diag or refuses.
    pub fn open() -> Result<Self, SockDiagError> {
        let mut socket = Socket::new(NETLINK_SOCK_DIAG).map_err(SockDiagError::Open)?;
        socket.bind_auto().map_err(SockDiagError::Open)?;
        socket
            .connect(&NetlinkAddress::new(0, 0))
            .map_err(SockDiagError::Open)?;
        let limit = TimeVal::new(i64::try_from(ANSWER_LIMIT.as_secs()).unwrap_or(1), 0);
        setsockopt(&socket, sockopt::ReceiveTimeout, &limit)
            .map_err(|errno| SockDiagError::Open(errno.into()))?;
        Ok(Self {
            socket,
            sequence: 0,
            buffer: Vec::with_capacity(RECEIVE_BUFFER),
        })
    }

    /// The socket with exactly this local and remote end, or the one bound so that it gets the flow's packets.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn find(&mut self, flow: &LocalFlow, interface: u32) -> Result<Option<SocketOwner>, SockDiagError> {
        let Some(protocol) = number_of(flow.protocol) else {
            return Ok(None);
        };
        let local = (flow.local, flow.local_port);
        let remote = (flow.remote, flow.remote_port);
        // The kernel's UDP lookup takes the ends as an incoming packet has them, its TCP lookup as a socket has them.
        let (source, destination) = if protocol == IPPROTO_UDP {
            (remote, local)
        } else {
            (local, remote)
        };
        let family = if flow.local.is_ipv4() { AF_INET } else { AF_INET6 };
        let request = InetRequest {
            family,
            protocol,
            extensions: ExtensionFlags::empty(),
            states: StateFlags::all(),
            socket_id: SocketId {
                source_port: source.1,
                destination_port: destination.1,
                source_address: source.0,
                destination_address: destination.0,
                interface_id: interface,
                cookie: NO_COOKIE,
            },
        };
        let mut found = None;
        self.request(request, NLM_F_REQUEST, &mut |answer| {
            found = Some(owner_of(answer, protocol));
        })?;
        Ok(found)
    }

    /// Calls `each` for every socket of one family and protocol in one of `states`.
    fn dump(
        &mut self,
        family: u8,
        protocol: u8,
        states: StateFlags,
        each: &mut dyn FnMut(&InetResponse),
    ) -> Result<(), SockDiagError> {
        let socket_id = if family == AF_INET {
            SocketId::new_v4()
        } else {
            SocketId::new_v6()
        };
        let request = InetRequest {
            family,
            protocol,
            extensions: ExtensionFlags::empty(),
            states,
            socket_id,
        };
        self.request(request, NLM_F_REQUEST | NLM_F_DUMP, each)
    }

    /// Every TCP socket in one of `tcp_states` and every UDP socket.
    fn dump_all(
        &mut self,
        tcp_states: &StateFlags,
        each: &mut dyn FnMut(OpenSocket, u8),
    ) -> Result<(), SockDiagError> {
        for protocol in [IPPROTO_TCP, IPPROTO_UDP] {
            let states = if protocol == IPPROTO_TCP {
                tcp_states.clone()
            } else {
                StateFlags::all()
            };
            for family in [AF_INET, AF_INET6] {
                self.dump(family, protocol, states.clone(), &mut |answer| {
                    each(open_socket(answer, protocol), answer.header.state);
                })?;
            }
        }
        Ok(())
    }

    /// What a report needs.
    ///
    /// # Errors
    /// If the kernel cannot be asked; then nothing is known, which is not the same as nothing being there.
    pub fn snapshot(&mut self) -> Result<SocketSnapshot, SockDiagError> {
        let mut snapshot = SocketSnapshot::default();
        let wanted = StateFlags::ESTABLISHED | StateFlags::LISTEN;
        self.dump_all(&wanted, &mut |socket, state| match (socket.protocol, state) {
            (Protocol::Tcp, constants::TCP_LISTEN) => snapshot.listening_tcp.push(socket.local),
            (Protocol::Tcp, _) => {
                snapshot.established_total += 1;
                if snapshot.established.len() < MAX_SNAPSHOT {
                    snapshot.established.push(socket);
                }
            }
            (_, _) if socket.remote.is_none() && socket.local.port() != 0 => {
                snapshot.listening_udp.push(socket.local);
            }
            (_, _) => {}
        })?;
        for list in [&mut snapshot.listening_tcp, &mut snapshot.listening_udp] {
            list.sort_unstable();
            list.dedup();
        }
        for link in super::links::links().map_err(SockDiagError::Links)? {
            let name: std::sync::Arc<str> = link.name.into();
            snapshot
                .interfaces
                .extend(link.addresses.into_iter().map(|address| (address, name.clone())));
        }
        Ok(snapshot)
    }

    fn request(
        &mut self,
        request: InetRequest,
        flags: u16,
        each: &mut dyn FnMut(&InetResponse),
    ) -> Result<(), SockDiagError> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0).map_err(SockDiagError::Send)?;
        let dump = flags & NLM_F_DUMP != 0;
        while !self.receive(dump, each)? {}
        Ok(())
    }

    /// Reads one message of the kernel; true when the answer is complete.
    fn receive(&mut self, dump: bool, each: &mut dyn FnMut(&InetResponse)) -> Result<bool, SockDiagError> {
        self.buffer.clear();
        self.socket
            .recv(&mut self.buffer, 0)
            .map_err(SockDiagError::Receive)?;
        let mut rest = self.buffer.as_slice();
        while !rest.is_empty() {
            let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest).map_err(|error| {
                SockDiagError::Answer {
                    expected: error.to_string(),
                }
            })?;
            // Messages begin at multiples of four bytes.
            let length = (message.header.length as usize).next_multiple_of(4).max(4);
            rest = rest.get(length..).unwrap_or_default();
            if message.header.sequence_number != self.sequence {
                continue; // the late answer to a request that was given up
            }
            match message.payload {
                NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(answer)) => {
                    each(&answer);
                    if !dump {
                        return Ok(true);
                    }
                }
                NetlinkPayload::Done(_) => return Ok(true),
                NetlinkPayload::Error(error) => {
                    let source = error.to_io();
                    if !dump && source.raw_os_error() == Some(Errno::ENOENT as i32) {
                        return Ok(true);
                    }
                    return Err(SockDiagError::Refused(source));
                }
                _ => {}
            }
        }
        Ok(false)
    }
}

fn number_of(protocol: Protocol) -> Option<u8> {
    match protocol {
        Protocol::Tcp => Some(IPPROTO_TCP),
        Protocol::Udp => Some(IPPROTO_UDP),
        Protocol::Icmp | Protocol::Icmpv6 | Protocol::Other(_) => None,
    }
}

fn owner_of(answer: &InetResponse, protocol: u8) -> SocketOwner {
    let header = &answer.header;
    let listening = protocol == IPPROTO_TCP && header.state == constants::TCP_LISTEN;
    SocketOwner {
        inode: header.inode,
        uid: header.uid,
        listening,
    }
}

fn open_socket(answer: &InetResponse, protocol: u8) -> OpenSocket {
    let id = &answer.header.socket_id;
    let end = |address: IpAddr, port| SocketAddr::new(address.to_canonical(), port);
    let remote = end(id.destination_address, id.destination_port);
    OpenSocket {
        protocol: Protocol::from_number(protocol),
        local: end(id.source_address, id.source_port),
        remote: (remote.port() != 0).then_some(remote),
        owner: owner_of(answer, protocol),
    }
}

/// A [`SockDiag`] that is opened at the first question and again after an error.
#[derive(Default)]
pub struct Sockets {
    open: Option<SockDiag>,
}

impl Sockets {
    fn with<T>(
        &mut self,
        ask: impl FnOnce(&mut SockDiag) -> Result<T, SockDiagError>,
    ) -> Result<T, LookupError> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => SockDiag::open().map_err(|error| LookupError(crate::error_text(&error)))?,
        };
        let answer = ask(&mut open).map_err(|error| LookupError(crate::error_text(&error)))?;
        self.open = Some(open);
        Ok(answer)
    }
}

impl SocketTable for Sockets {
    fn find(&mut self, flow: &LocalFlow, interface: u32) -> Result<Option<SocketOwner>, LookupError> {
        self.with(|open| open.find(flow, interface))
    }

    fn list(&mut self, limit: usize) -> Result<Vec<OpenSocket>, LookupError> {
        let mut list = Vec::new();
        self.with(|open| {
            open.dump_all(&(StateFlags::all() - StateFlags::LISTEN), &mut |socket, _| {
                if list.len() < limit {
                    list.push(socket);
                }
            })
        })?;
        Ok(list)
    }
}

#[cfg(test)]
#[path = "sock_diag_tests.rs"]
mod tests;
