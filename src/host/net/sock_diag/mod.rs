//! Asks the kernel about sockets through `NETLINK_SOCK_DIAG`.
//!
//! In: a flow, or nothing. Out: the socket of that flow, or every socket; [`destroy`] closes one. One netlink socket
//! for each [`SockDiag`]; it belongs to the network namespace of the thread that opened it.

mod acknowledged;
pub(crate) mod destroy;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use netlink_packet_core::{Emitable, Parseable};
use netlink_packet_sock_diag::constants::{
    self, AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP, SOCK_DIAG_BY_FAMILY,
};
use netlink_packet_sock_diag::inet::{
    ExtensionFlags, InetRequest, InetResponseHeader, SocketId, StateFlags, Timer,
};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use nix::errno::Errno;

use super::conntrack::Conntrack;
use super::netlink::{Netlink, NetlinkError, NetlinkRequest};
use crate::Arrange;
use crate::host::processes::pace::{Pace, thread_time};
use crate::observe::flow::{IpProtocol, LocalFlow};
use crate::observe::sockets::{LookupError, OpenSocket, SocketOwner, SocketSnapshot, SocketTable};

/// Connections kept in a snapshot (100 bytes each); the total is counted beyond it.
pub const MAX_SNAPSHOT: usize = 131_072;
/// "Any cookie" in a request for one socket.
const NO_COOKIE: [u8; 8] = [0xff; 8];

/// What a list of sockets tells besides who talks to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketDetail {
    /// As the kernel numbers TCP's states (`netlink_packet_sock_diag::constants`), UDP's alike.
    pub state: u8,
    /// Index of the interface the socket is bound to, 0 for none.
    pub bound_to: u32,
}

/// How a TCP connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TcpCondition {
    /// It stands.
    Established {
        /// How often in a row what is under way was sent again; 0 when everything was acknowledged, or nothing is late.
        retransmits: u8,
    },
    /// It is being made or ended.
    Other,
}

/// An open netlink socket.
pub struct SockDiag {
    netlink: Netlink,
}

impl SockDiag {
    /// Opens it in the network namespace of the calling thread.
    ///
    /// # Errors
    /// If the kernel has no sock_diag or refuses.
    pub fn open() -> Result<Self, NetlinkError> {
        Ok(Self {
            netlink: Netlink::open(NETLINK_SOCK_DIAG)?,
        })
    }

    /// The socket with exactly this local and remote end, or the one bound so that it gets the flow's packets.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn find(&mut self, flow: &LocalFlow, interface: u32) -> Result<Option<SocketOwner>, NetlinkError> {
        let Some(protocol) = number_of(flow.protocol) else {
            return Ok(None);
        };
        let local = SocketAddr::new(flow.local, flow.local_port);
        let remote = SocketAddr::new(flow.remote, flow.remote_port);
        // The kernel's UDP lookup takes the ends as an incoming packet has them, its TCP lookup as a socket has them.
        let ends = if protocol == IPPROTO_UDP {
            (remote, local)
        } else {
            (local, remote)
        };
        let mut found = None;
        self.ask_for_one(protocol, ends, interface, &mut |answer| {
            found = Some(owner_of(answer, protocol));
        })?;
        Ok(found)
    }

    /// How the connection between these ends is, its socket's inode first; none when there is no such socket. `bound_to`: index of
    /// the interface that the socket is bound to, 0 for none. A question for one socket costs the same however many there are.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub(crate) fn condition(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
        bound_to: u32,
    ) -> Result<Option<(u32, TcpCondition)>, NetlinkError> {
        let mut found = None;
        self.ask_for_one(IPPROTO_TCP, (local, remote), bound_to, &mut |answer| {
            let retransmits = match answer.timer {
                Some(Timer::Retransmit(_, times)) => times,
                _ => 0,
            };
            let established = answer.state == constants::TCP_ESTABLISHED;
            let condition = established.then_some(TcpCondition::Established { retransmits });
            found = Some((answer.inode, condition.unwrap_or(TcpCondition::Other)));
        })?;
        Ok(found)
    }

    /// One socket; `each` is not called when there is none.
    fn ask_for_one(
        &mut self,
        protocol: u8,
        (source, destination): (SocketAddr, SocketAddr),
        interface: u32,
        each: &mut dyn FnMut(&InetResponseHeader),
    ) -> Result<(), NetlinkError> {
        let request = InetRequest {
            family: if source.is_ipv4() { AF_INET } else { AF_INET6 },
            protocol,
            extensions: ExtensionFlags::empty(),
            states: StateFlags::all(),
            socket_id: SocketId {
                source_port: source.port(),
                destination_port: destination.port(),
                source_address: source.ip(),
                destination_address: destination.ip(),
                interface_id: interface,
                cookie: NO_COOKIE,
            },
        };
        match self.request(&request, false, each) {
            Err(error) if error.refusal() == Some(Errno::ENOENT) => Ok(()),
            asked => asked,
        }
    }

    /// Calls `each` for every TCP connection that stands or is being made.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub(crate) fn connections(
        &mut self,
        each: &mut dyn FnMut(OpenSocket, SocketDetail),
    ) -> Result<(), NetlinkError> {
        let states = StateFlags::ESTABLISHED | StateFlags::SYN_SENT;
        for family in [AF_INET, AF_INET6] {
            self.dump(family, IPPROTO_TCP, states.clone(), &mut |answer| {
                each(open_socket(answer, IPPROTO_TCP), detail_of(answer));
            })?;
        }
        Ok(())
    }

    /// Calls `each` for every socket of one family and protocol in one of `states`.
    fn dump(
        &mut self,
        family: u8,
        protocol: u8,
        states: StateFlags,
        each: &mut dyn FnMut(&InetResponseHeader),
    ) -> Result<(), NetlinkError> {
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
        self.request(&request, true, each)
    }

    /// Every TCP socket in one of `tcp_states` and every UDP socket.
    fn dump_all(
        &mut self,
        tcp_states: &StateFlags,
        each: &mut dyn FnMut(OpenSocket, SocketDetail),
    ) -> Result<(), NetlinkError> {
        for protocol in [IPPROTO_TCP, IPPROTO_UDP] {
            let states = if protocol == IPPROTO_TCP {
                tcp_states.clone()
            } else {
                StateFlags::all()
            };
            for family in [AF_INET, AF_INET6] {
                self.dump(family, protocol, states.clone(), &mut |answer| {
                    each(open_socket(answer, protocol), detail_of(answer));
                })?;
            }
        }
        Ok(())
    }

    /// Calls `each` for every TCP and UDP socket of this namespace.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub fn every_socket(
        &mut self,
        each: &mut dyn FnMut(OpenSocket, SocketDetail),
    ) -> Result<(), NetlinkError> {
        self.dump_all(&StateFlags::all(), each)
    }

    /// What a report needs.
    ///
    /// # Errors
    /// If the kernel cannot be asked; then nothing is known, which is not the same as nothing being there.
    pub fn snapshot(&mut self) -> Result<SocketSnapshot, NetlinkError> {
        let mut snapshot = SocketSnapshot::default();
        let wanted = StateFlags::ESTABLISHED | StateFlags::LISTEN;
        self.dump_all(&wanted, &mut |mut socket, detail| {
            socket.local = scoped(socket.local, detail.bound_to);
            match (socket.protocol, detail.state) {
                (IpProtocol::Tcp, constants::TCP_LISTEN) => snapshot.listening_tcp.push(socket.local),
                (IpProtocol::Tcp, _) => {
                    snapshot.established_total += 1;
                    if snapshot.established.len() < MAX_SNAPSHOT {
                        snapshot.established.push(socket);
                    }
                }
                (_, _) if socket.remote.is_none() && socket.local.port() != 0 => {
                    snapshot.listening_udp.push(socket.local);
                }
                (_, _) => {}
            }
        })?;
        for list in [&mut snapshot.listening_tcp, &mut snapshot.listening_udp] {
            list.arrange();
            list.dedup();
        }
        for link in super::links::links()? {
            let name: std::sync::Arc<str> = link.name.into();
            snapshot.names.insert(link.index, name.clone());
            snapshot
                .interfaces
                .extend(link.addresses.into_iter().map(|address| (address, name.clone())));
        }
        Ok(snapshot)
    }

    /// The fixed head of every answer is all that is read: no attribute was asked for.
    fn request(
        &mut self,
        request: &InetRequest,
        dump: bool,
        each: &mut dyn FnMut(&InetResponseHeader),
    ) -> Result<(), NetlinkError> {
        let payload = payload_of(request);
        let question = NetlinkRequest {
            message_type: SOCK_DIAG_BY_FAMILY,
            dump,
            payload: &payload,
        };
        self.netlink.ask(question, &mut |answer| {
            let header = InetResponseHeader::parse(answer).map_err(|error| NetlinkError::Answer {
                expected: error.to_string(),
            })?;
            each(&header);
            Ok(())
        })
    }
}

fn payload_of(request: &InetRequest) -> Vec<u8> {
    let mut payload = vec![0; request.buffer_len()];
    request.emit(&mut payload);
    payload
}

fn number_of(protocol: IpProtocol) -> Option<u8> {
    match protocol {
        IpProtocol::Tcp => Some(IPPROTO_TCP),
        IpProtocol::Udp => Some(IPPROTO_UDP),
        IpProtocol::Icmp | IpProtocol::Icmpv6 | IpProtocol::Other(_) => None,
    }
}

fn owner_of(header: &InetResponseHeader, protocol: u8) -> SocketOwner {
    let listening = protocol == IPPROTO_TCP && header.state == constants::TCP_LISTEN;
    SocketOwner {
        inode: header.inode,
        uid: header.uid,
        listening,
    }
}

/// A link-local end is of the interface that its socket is bound to: others may have the same address.
fn scoped(end: SocketAddr, interface: u32) -> SocketAddr {
    match end {
        SocketAddr::V6(mut end) if end.ip().is_unicast_link_local() => {
            end.set_scope_id(interface);
            end.into()
        }
        other => other,
    }
}

fn detail_of(answer: &InetResponseHeader) -> SocketDetail {
    SocketDetail {
        state: answer.state,
        bound_to: answer.socket_id.interface_id,
    }
}

fn open_socket(answer: &InetResponseHeader, protocol: u8) -> OpenSocket {
    let id = &answer.socket_id;
    let end = |address: IpAddr, port| SocketAddr::new(address.to_canonical(), port);
    let remote = end(id.destination_address, id.destination_port);
    OpenSocket {
        protocol: IpProtocol::from_number(protocol),
        local: end(id.source_address, id.source_port),
        remote: (remote.port() != 0).then_some(remote),
        owner: owner_of(answer, protocol),
    }
}

/// Shortest time between two lists of all sockets.
const LIST_PAUSE: Duration = Duration::from_secs(1);
/// They take at most one part in so many of a core's time: a machine with a large table of connections needs 25 ms for
/// an empty list.
const LIST_SHARE: u32 = 500;

/// A [`SockDiag`] and a [`Conntrack`], each opened at the first question and again after an error.
pub struct KernelSockets {
    sockets: Option<SockDiag>,
    translations: Option<Conntrack>,
    lists: Pace,
}

impl Default for KernelSockets {
    fn default() -> Self {
        Self {
            sockets: None,
            translations: None,
            lists: Pace::new(LIST_PAUSE, LIST_SHARE),
        }
    }
}

/// Asks what is open, or opens it; what failed is not kept.
fn with<C, T>(
    kept: &mut Option<C>,
    open: impl FnOnce() -> Result<C, NetlinkError>,
    ask: impl FnOnce(&mut C) -> Result<T, NetlinkError>,
) -> Result<T, LookupError> {
    let explain = |error: NetlinkError| LookupError(crate::error_text(&error));
    let mut channel = match kept.take() {
        Some(channel) => channel,
        None => open().map_err(explain)?,
    };
    let answer = ask(&mut channel).map_err(explain)?;
    *kept = Some(channel);
    Ok(answer)
}

impl SocketTable for KernelSockets {
    fn find(&mut self, flow: &LocalFlow, interface: u32) -> Result<Option<SocketOwner>, LookupError> {
        with(&mut self.sockets, SockDiag::open, |open| {
            open.find(flow, interface)
        })
    }

    fn translated_for(&mut self, flow: &LocalFlow) -> Result<Option<IpAddr>, LookupError> {
        with(&mut self.translations, Conntrack::open, |open| {
            open.inner_end(flow)
        })
    }

    fn list(&mut self, limit: usize, now: Instant) -> Result<Option<Vec<OpenSocket>>, LookupError> {
        if !self.lists.is_due(now) {
            return Ok(None);
        }
        let began = thread_time();
        let mut list = Vec::new();
        with(&mut self.sockets, SockDiag::open, |open| {
            open.dump_all(&(StateFlags::all() - StateFlags::LISTEN), &mut |socket, _| {
                if list.len() < limit {
                    list.push(socket);
                }
            })
        })?;
        self.lists.done(now, thread_time().saturating_sub(began));
        Ok(Some(list))
    }
}

#[cfg(test)]
mod tests;
