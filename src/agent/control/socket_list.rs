//! Open sockets with their owners, for `edgewarden connections`.
//!
//! In: the kernel's sock_diag dump and interfaces, `/proc`, the running interval. Out: a [`SocketList`]. Blocks for
//! some milliseconds (a busy gateway: some hundred), so it is called off the thread that decides. Sees the agent's own
//! network namespace only: the sockets in a container's are its own.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use netlink_packet_sock_diag::constants::{
    TCP_CLOSE_WAIT, TCP_CLOSING, TCP_ESTABLISHED, TCP_FIN_WAIT1, TCP_FIN_WAIT2, TCP_LAST_ACK, TCP_LISTEN,
    TCP_SYN_RECV, TCP_SYN_SENT, TCP_TIME_WAIT,
};

use crate::Arrange;
use crate::agent::observer::Observer;
use crate::control::sockets::{
    ListedSocket, SocketFilter, SocketHolder, SocketList, SocketState, TrafficByEnd, Transport, list,
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

/// Processor time for the holders: a person waits for the answer, and nothing else does. A million open files are seen in
/// it, and whoever opens more only hides names.
const HOLDERS_LIMIT: Duration = Duration::from_secs(3);

/// What the kernel says about one socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct KernelSocket {
    protocol: Transport,
    state: SocketState,
    local: SocketAddr,
    remote: Option<SocketAddr>,
    bound_to: u32,
    uid: u32,
    inode: u32,
}

/// The sockets that pass `filter`.
///
/// # Errors
/// If the kernel cannot be asked.
pub(super) fn socket_list(observer: &Observer, filter: &SocketFilter) -> Result<SocketList, NetlinkError> {
    let (mut sockets, open) = sockets()?;
    sockets.arrange_by_key(|one| (one.state, one.protocol, one.local, one.remote));
    let names = InterfaceNames::read()?;
    // One walk of /proc after the dump finds every holder; what it does not find in time is told to be missing.
    let (mut index, now) = (ProcessIndex::default(), clock::instant());
    index.look_again_for(HOLDERS_LIMIT);
    let all = sockets.into_iter().map(|socket| ListedSocket {
        protocol: socket.protocol,
        state: socket.state,
        local: socket.local,
        remote: socket.remote,
        interface: names.of(&socket),
        uid: socket.uid,
        process: match (socket.inode != 0).then(|| index.holder(socket.inode, now)) {
            Some(HolderLookup::Process(process)) => Some(holder(&process)),
            Some(HolderLookup::Nobody | HolderLookup::AskLater) | None => None,
        },
        traffic: None,
    });
    let mut answer = list(all, open, filter, &traffic(observer));
    answer.every_process_seen = index.has_seen_all();
    Ok(answer)
}

/// Every TCP and UDP socket with an address, up to [`MAX_SOCKETS`], and how many there are.
fn sockets() -> Result<(Vec<KernelSocket>, u64), NetlinkError> {
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
fn socket(found: &OpenSocket, detail: SocketDetail) -> Option<KernelSocket> {
    let protocol = match found.protocol {
        IpProtocol::Tcp => Transport::Tcp,
        IpProtocol::Udp => Transport::Udp,
        IpProtocol::Icmp | IpProtocol::Icmpv6 | IpProtocol::Other(_) => return None,
    };
    (found.local.port() != 0 || found.remote.is_some()).then(|| KernelSocket {
        protocol,
        state: state(protocol, detail.state, found.remote.is_some()),
        local: found.local,
        remote: found.remote,
        bound_to: detail.bound_to,
        uid: found.owner.uid,
        inode: found.owner.inode,
    })
}

const fn state(protocol: Transport, number: u8, has_remote: bool) -> SocketState {
    match (protocol, number) {
        (Transport::Udp, _) if has_remote => SocketState::Connected,
        (Transport::Udp, _) => SocketState::Unconnected,
        (_, TCP_LISTEN) => SocketState::Listening,
        (_, TCP_ESTABLISHED) => SocketState::Established,
        (_, TCP_SYN_SENT) => SocketState::SynSent,
        // 12: a request that has no socket of its own yet.
        (_, TCP_SYN_RECV | 12) => SocketState::SynReceived,
        (_, TCP_CLOSE_WAIT) => SocketState::CloseWait,
        (_, TCP_FIN_WAIT1 | TCP_FIN_WAIT2 | TCP_LAST_ACK | TCP_CLOSING) => SocketState::Closing,
        (_, TCP_TIME_WAIT) => SocketState::TimeWait,
        _ => SocketState::Closed,
    }
}

fn holder(process: &Process) -> SocketHolder {
    SocketHolder {
        identity: process.identity,
        name: process.name.clone(),
        exe: process.exe.clone(),
        workload: process.workload.as_ref().map(ToString::to_string),
    }
}

/// Names of interfaces, by index and by address.
struct InterfaceNames {
    by_index: HashMap<u32, String>,
    by_address: HashMap<IpAddr, String>,
}

impl InterfaceNames {
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

    fn of(&self, socket: &KernelSocket) -> Option<String> {
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
        assert_eq!(state_of(end, None), Some((SocketState::Listening, true)));
        let local = client.local_addr().unwrap();
        assert_eq!(state_of(local, Some(end)), Some((SocketState::Established, true)));
        // Nobody has accepted this side, so nobody holds it.
        assert_eq!(
            state_of(end, Some(local)),
            Some((SocketState::Established, false))
        );
    }

    #[test]
    fn every_state_has_a_name() {
        assert_eq!(state(Transport::Udp, 7, false), SocketState::Unconnected);
        assert_eq!(state(Transport::Udp, 1, true), SocketState::Connected);
        let closing = [4, 5, 9, 11].map(|number| state(Transport::Tcp, number, true));
        assert_eq!(closing, [SocketState::Closing; 4]);
        assert_eq!(state(Transport::Tcp, 200, true), SocketState::Closed);
    }
}
