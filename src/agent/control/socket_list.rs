//! Open sockets with their owners, for `edgewarden connections`.
//!
//! In: the kernel's sock_diag dump and interfaces, `/proc`, the running interval. Out: a [`ConnectionList`]. Blocks for
//! some milliseconds (a busy gateway: some hundred), so it is called off the thread that decides. Sees the agent's own
//! network namespace only: the sockets in a container's are its own.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use netlink_packet_sock_diag::constants::{
    TCP_CLOSE_WAIT, TCP_CLOSING, TCP_ESTABLISHED, TCP_FIN_WAIT1, TCP_FIN_WAIT2, TCP_LAST_ACK, TCP_LISTEN,
    TCP_SYN_RECV, TCP_SYN_SENT, TCP_TIME_WAIT,
};

use crate::agent::observer::Observer;
use crate::control::connections::{
    Connection, ConnectionList, Owner, Query, State, TrafficByEnd, Transport, list,
};
use crate::host::clock;
use crate::host::net::links;
use crate::host::net::netlink::NetlinkError;
use crate::host::net::sock_diag::{SockDiag, SocketDetail};
use crate::host::processes::procfs::ProcessIndex;
use crate::observe::flow::IpProtocol;
use crate::observe::sockets::{HolderLookup, OpenSocket, ProcessTable as _};
use crate::process::Process;

/// Sockets looked at, 16 MiB while the answer is made; the total is counted beyond it.
const MAX_SOCKETS: usize = 131_072;

/// What the kernel says about one socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Socket {
    protocol: Transport,
    state: State,
    local: SocketAddr,
    remote: Option<SocketAddr>,
    bound_to: u32,
    uid: u32,
    inode: u32,
}

/// The list that `query` wants.
///
/// # Errors
/// If the kernel cannot be asked.
pub(super) fn connections(observer: &Observer, query: &Query) -> Result<ConnectionList, NetlinkError> {
    let (mut sockets, open) = sockets()?;
    sockets.sort_by_key(|one| (one.state, one.protocol, one.local, one.remote));
    let names = Names::read()?;
    // One walk of /proc after the dump finds every holder; what it does not find has none.
    let (mut index, now) = (ProcessIndex::default(), clock::instant());
    index.look_again();
    let all = sockets.into_iter().map(|socket| Connection {
        protocol: socket.protocol,
        state: socket.state,
        local: socket.local,
        remote: socket.remote,
        interface: names.of(&socket),
        uid: socket.uid,
        process: match (socket.inode != 0).then(|| index.holder(socket.inode, now)) {
            Some(HolderLookup::Process(process)) => Some(owner(&process)),
            Some(HolderLookup::Nobody | HolderLookup::AskLater) | None => None,
        },
        traffic: None,
    });
    Ok(list(all, open, query, &traffic(observer)))
}

/// Every TCP and UDP socket with an address, up to [`MAX_SOCKETS`], and how many there are.
fn sockets() -> Result<(Vec<Socket>, u64), NetlinkError> {
    let (mut sockets, mut open) = (Vec::new(), 0);
    SockDiag::open()?.every_socket(&mut |found, detail| {
        if let Some(socket) = socket(&found, detail) {
            open += 1;
            if sockets.len() < MAX_SOCKETS {
                sockets.push(socket);
            }
        }
    })?;
    Ok((sockets, open))
}

/// Nothing for a socket without any address: nobody can reach it and it reaches nobody.
fn socket(found: &OpenSocket, detail: SocketDetail) -> Option<Socket> {
    let protocol = match found.protocol {
        IpProtocol::Tcp => Transport::Tcp,
        IpProtocol::Udp => Transport::Udp,
        IpProtocol::Icmp | IpProtocol::Icmpv6 | IpProtocol::Other(_) => return None,
    };
    (found.local.port() != 0 || found.remote.is_some()).then(|| Socket {
        protocol,
        state: state(protocol, detail.state, found.remote.is_some()),
        local: found.local,
        remote: found.remote,
        bound_to: detail.bound_to,
        uid: found.owner.uid,
        inode: found.owner.inode,
    })
}

const fn state(protocol: Transport, number: u8, has_remote: bool) -> State {
    match (protocol, number) {
        (Transport::Udp, _) if has_remote => State::Connected,
        (Transport::Udp, _) => State::Unconnected,
        (_, TCP_LISTEN) => State::Listening,
        (_, TCP_ESTABLISHED) => State::Established,
        (_, TCP_SYN_SENT) => State::SynSent,
        // 12: a request that has no socket of its own yet.
        (_, TCP_SYN_RECV | 12) => State::SynReceived,
        (_, TCP_CLOSE_WAIT) => State::CloseWait,
        (_, TCP_FIN_WAIT1 | TCP_FIN_WAIT2 | TCP_LAST_ACK | TCP_CLOSING) => State::Closing,
        (_, TCP_TIME_WAIT) => State::TimeWait,
        _ => State::Closed,
    }
}

fn owner(process: &Process) -> Owner {
    Owner {
        identity: process.identity,
        name: process.name.clone(),
        exe: process.exe.clone(),
        workload: process.workload.as_ref().map(ToString::to_string),
    }
}

/// Names of interfaces, by index and by address.
struct Names {
    by_index: HashMap<u32, String>,
    by_address: HashMap<IpAddr, String>,
}

impl Names {
    fn read() -> Result<Self, NetlinkError> {
        let mut names = Self {
            by_index: HashMap::new(),
            by_address: HashMap::new(),
        };
        for link in links::links()? {
            for address in link.addresses {
                names.by_address.insert(address, link.name.clone());
            }
            names.by_index.insert(link.index, link.name);
        }
        Ok(names)
    }

    fn of(&self, socket: &Socket) -> Option<String> {
        let found = match self.by_index.get(&socket.bound_to) {
            None if socket.local.ip().is_loopback() => Some("lo"),
            found => found
                .or_else(|| self.by_address.get(&socket.local.ip()))
                .map(String::as_str),
        };
        found.map(str::to_owned)
    }
}

fn traffic(observer: &Observer) -> TrafficByEnd {
    let mut sums = TrafficByEnd::new();
    for process in observer.peek(clock::now().wall).processes {
        for remote in process.remotes {
            let protocol = match remote.protocol {
                IpProtocol::Tcp => Transport::Tcp,
                IpProtocol::Udp => Transport::Udp,
                IpProtocol::Icmp | IpProtocol::Icmpv6 | IpProtocol::Other(_) => continue,
            };
            let end = SocketAddr::new(remote.address, remote.port);
            let sum = sums.entry((process.identity, protocol, end)).or_default();
            sum.0 += remote.counters.bytes_in;
            sum.1 += remote.counters.bytes_out;
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "makes the sockets it looks for")]

    use super::*;

    #[test]
    fn our_own_sockets_are_listed_with_their_state() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let end = listener.local_addr().unwrap();
        let client = std::net::TcpStream::connect(end).unwrap();
        let (sockets, open) = sockets().unwrap();
        assert!(open >= 3 && open >= sockets.len() as u64);
        let state_of = |local: SocketAddr, remote: Option<SocketAddr>| {
            let found = sockets
                .iter()
                .find(|one| (one.local, one.remote) == (local, remote));
            found.map(|one| (one.state, one.inode != 0))
        };
        assert_eq!(state_of(end, None), Some((State::Listening, true)));
        let local = client.local_addr().unwrap();
        assert_eq!(state_of(local, Some(end)), Some((State::Established, true)));
        // Nobody has accepted this side, so nobody holds it.
        assert_eq!(state_of(end, Some(local)), Some((State::Established, false)));
    }

    #[test]
    fn every_state_has_a_name() {
        assert_eq!(state(Transport::Udp, 7, false), State::Unconnected);
        assert_eq!(state(Transport::Udp, 1, true), State::Connected);
        let closing = [4, 5, 9, 11].map(|number| state(Transport::Tcp, number, true));
        assert_eq!(closing, [State::Closing; 4]);
        assert_eq!(state(Transport::Tcp, 200, true), State::Closed);
    }
}
