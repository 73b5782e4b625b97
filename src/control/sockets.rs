//! What `edgewarden connections` asks and is told. Pure: from sockets, owners and traffic to a bounded list.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::process::ProcessId;

/// Connections in one answer; more than a person reads, and what filters leave is usually far less.
pub const MAX_LISTED: usize = 16_384;
/// Bytes of JSON they may take, well below [`super::protocol::MAX_ANSWER`]: paths are as long as others make them.
const LIST_BYTES: usize = 12 * 1024 * 1024;

/// Which sockets are wanted; a socket must pass every part that is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SocketFilter {
    /// Only those that wait for others: listening TCP, unconnected UDP.
    pub listening: bool,
    /// A pid, or a part of the name, path or workload.
    pub process: Option<String>,
    /// Only those whose other end is one of these.
    pub remote: Option<RemoteFilter>,
}

/// Which other ends are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoteFilter {
    /// A single address is a network of one.
    pub network: IpNet,
    /// Any port when absent.
    pub port: Option<u16>,
}

/// Text that is no remote end.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected an address, a network or an address with a port, such as 203.0.113.9, 2001:db8::/32 or [2001:db8::1]:443"
)]
pub struct NotRemoteFilter;

impl FromStr for RemoteFilter {
    type Err = NotRemoteFilter;

    fn from_str(text: &str) -> Result<Self, NotRemoteFilter> {
        let host = |address: IpAddr, port| Self {
            network: address.to_canonical().into(),
            port,
        };
        if let Ok(end) = text.parse::<SocketAddr>() {
            return Ok(host(end.ip(), Some(end.port())));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(host(address, None));
        }
        let network = text.parse().map_err(|_| NotRemoteFilter)?;
        Ok(Self { network, port: None })
    }
}

/// A protocol whose sockets are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Transport {
    /// Has states of its own.
    Tcp,
    /// Has one remote end, or receives from anybody.
    Udp,
}

/// What a socket is doing; in this order sockets are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SocketState {
    /// TCP that accepts connections.
    Listening,
    /// UDP that receives from anybody.
    Unconnected,
    /// TCP connection that both sides agreed on.
    Established,
    /// UDP with one remote end.
    Connected,
    /// We asked for a connection.
    SynSent,
    /// They asked, nobody has accepted.
    SynReceived,
    /// They have closed, our process has not.
    CloseWait,
    /// Being closed from our side.
    Closing,
    /// Closed, remembered by the kernel.
    TimeWait,
    /// Not in use, or a state we do not know.
    Closed,
}

/// The process that holds a socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SocketHolder {
    /// Its pid may be reused; with the start time it is unique.
    pub identity: ProcessId,
    /// The kernel's command name; the process can change it.
    pub name: String,
    /// Path of the program; absent where it cannot be read.
    pub exe: Option<String>,
    /// The component or container it is part of, in words.
    pub workload: Option<String>,
}

/// What its process exchanged with this remote endpoint in the running interval.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndTraffic {
    /// Received by the process, with link headers.
    pub bytes_in: u64,
    /// Sent by the process, with link headers.
    pub bytes_out: u64,
    /// Listed sockets of the process with this endpoint: the bytes are of all of them, and of those closed since.
    pub sockets: u64,
}

/// An open socket as it was when it was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedSocket {
    /// Listening and connected sockets of both are in one list.
    pub protocol: Transport,
    /// As the kernel says it, with words for UDP of our own.
    pub state: SocketState,
    /// Our end, IPv4-mapped addresses as IPv4.
    pub local: SocketAddr,
    /// The other end, if there is one.
    pub remote: Option<SocketAddr>,
    /// Interface it is bound to, or that has the local address.
    pub interface: Option<String>,
    /// User who made it; 0 also where the kernel no longer knows.
    pub uid: u32,
    /// Who holds it; absent when nobody does or nobody could be seen to.
    pub process: Option<SocketHolder>,
    /// Absent without process or remote end, and when nothing was counted.
    pub traffic: Option<EndTraffic>,
}

/// The answer to [`super::question::ListSockets`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SocketList {
    /// All sockets there are, wanted or not.
    pub open: u64,
    /// Sockets as wanted.
    pub matching: u64,
    /// Whether every process was looked into in time; otherwise the holders of some sockets are missing.
    pub every_process_seen: bool,
    /// As many of those as fit, in the order of states, protocols and local ends.
    pub connections: Vec<ListedSocket>,
}

/// Bytes in and out by owner and remote end.
pub type TrafficByEnd = HashMap<(ProcessId, Transport, SocketAddr), (u64, u64)>;

impl SocketFilter {
    /// Whether a socket is wanted.
    #[must_use]
    pub fn wants(&self, socket: &ListedSocket) -> bool {
        let listening = matches!(socket.state, SocketState::Listening | SocketState::Unconnected);
        let process = |wanted: &str| {
            socket
                .process
                .as_ref()
                .is_some_and(|holder| holder.is_called(wanted))
        };
        let remote = |wanted: &RemoteFilter| {
            socket.remote.is_some_and(|end| {
                wanted.network.contains(&end.ip()) && wanted.port.is_none_or(|port| port == end.port())
            })
        };
        (!self.listening || listening)
            && self.process.as_deref().is_none_or(process)
            && self.remote.as_ref().is_none_or(remote)
    }
}

impl SocketHolder {
    fn is_called(&self, wanted: &str) -> bool {
        let texts = [
            Some(self.name.as_str()),
            self.exe.as_deref(),
            self.workload.as_deref(),
        ];
        wanted.parse() == Ok(self.identity.pid)
            || texts.into_iter().flatten().any(|text| text.contains(wanted))
    }
}

/// The answer's list: wanted sockets in the order given, with traffic, as many as fit, with all their holders. `open` is
/// how many there are.
/// What does not fit is counted and let go at once.
#[must_use]
pub fn list(
    all: impl Iterator<Item = ListedSocket>,
    open: u64,
    filter: &SocketFilter,
    traffic: &TrafficByEnd,
) -> SocketList {
    let (mut matching, mut kept) = (0, Vec::new());
    let mut sharing: HashMap<(ProcessId, Transport, SocketAddr), u64> = HashMap::new();
    for one in all.filter(|one| filter.wants(one)) {
        matching += 1;
        if let Some(end) = end_of(&one).filter(|end| traffic.contains_key(end)) {
            *sharing.entry(end).or_default() += 1;
        }
        if kept.len() < MAX_LISTED {
            kept.push(one);
        }
    }
    let mut room = LIST_BYTES;
    let connections = kept
        .into_iter()
        .map(|mut one| {
            one.traffic = end_of(&one).and_then(|end| {
                let (bytes_in, bytes_out) = *traffic.get(&end)?;
                Some(EndTraffic {
                    bytes_in,
                    bytes_out,
                    sockets: sharing.get(&end).copied().unwrap_or(1),
                })
            });
            one
        })
        .take_while(|one| {
            let size = serde_json::to_vec(one).map_or(usize::MAX, |text| text.len());
            let left = room.checked_sub(size);
            room = left.unwrap_or_default();
            left.is_some()
        })
        .collect();
    SocketList {
        open,
        matching,
        every_process_seen: true,
        connections,
    }
}

fn end_of(one: &ListedSocket) -> Option<(ProcessId, Transport, SocketAddr)> {
    Some((one.process.as_ref()?.identity, one.protocol, one.remote?))
}

#[cfg(test)]
#[path = "sockets_tests.rs"]
mod tests;
