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

/// Which sockets are wanted; everything that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Query {
    /// Only those that wait for others: listening TCP, unconnected UDP.
    pub listening: bool,
    /// A pid, or a part of the name, path or workload.
    pub process: Option<String>,
    /// The other end.
    pub remote: Option<Remote>,
}

/// Remote ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remote {
    /// Addresses.
    pub network: IpNet,
    /// Port, if it matters.
    pub port: Option<u16>,
}

/// Text that is no remote end.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected an address, a network or an address with a port, such as 203.0.113.9, 2001:db8::/32 or [2001:db8::1]:443"
)]
pub struct NotRemote;

impl FromStr for Remote {
    type Err = NotRemote;

    fn from_str(text: &str) -> Result<Self, NotRemote> {
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
        let network = text.parse().map_err(|_| NotRemote)?;
        Ok(Self { network, port: None })
    }
}

/// TCP or UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// State of a socket; in this order they are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// TCP that accepts connections.
    Listening,
    /// UDP that receives from anybody.
    Unconnected,
    /// TCP connection.
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
pub struct Owner {
    /// pid and start time.
    pub identity: ProcessId,
    /// Command name.
    pub name: String,
    /// Path of the program.
    pub exe: Option<String>,
    /// Component, container or service.
    pub workload: Option<String>,
}

/// What its process exchanged with this remote endpoint in the running interval.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Traffic {
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Listed sockets of the process with this endpoint: the bytes are of all of them, and of those closed since.
    pub sockets: u64,
}

/// One socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Connection {
    /// TCP or UDP.
    pub protocol: Transport,
    /// State.
    pub state: State,
    /// Our end, IPv4-mapped addresses as IPv4.
    pub local: SocketAddr,
    /// The other end, if there is one.
    pub remote: Option<SocketAddr>,
    /// Interface it is bound to, or that has the local address.
    pub interface: Option<String>,
    /// User who made it; 0 also where the kernel no longer knows.
    pub uid: u32,
    /// Who holds it; absent when nobody does or nobody could be seen to.
    pub process: Option<Owner>,
    /// Absent without process or remote end, and when nothing was counted.
    pub traffic: Option<Traffic>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionList {
    /// Sockets there are.
    pub open: u64,
    /// Sockets as wanted.
    pub matching: u64,
    /// As many of those as fit, in the order of states, protocols and local ends.
    pub connections: Vec<Connection>,
}

/// Bytes in and out by owner and remote end.
pub type TrafficByEnd = HashMap<(ProcessId, Transport, SocketAddr), (u64, u64)>;

impl Query {
    /// Whether a socket is wanted.
    #[must_use]
    pub fn wants(&self, connection: &Connection) -> bool {
        let listening = matches!(connection.state, State::Listening | State::Unconnected);
        let process = |wanted: &str| {
            connection
                .process
                .as_ref()
                .is_some_and(|owner| owner.is_called(wanted))
        };
        let remote = |wanted: &Remote| {
            connection.remote.is_some_and(|end| {
                wanted.network.contains(&end.ip()) && wanted.port.is_none_or(|port| port == end.port())
            })
        };
        (!self.listening || listening)
            && self.process.as_deref().is_none_or(process)
            && self.remote.as_ref().is_none_or(remote)
    }
}

impl Owner {
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

/// The answer's list: wanted sockets in the order given, with traffic, as many as fit. `open` is how many there are.
/// What does not fit is counted and let go at once.
#[must_use]
pub fn list(
    all: impl Iterator<Item = Connection>,
    open: u64,
    query: &Query,
    traffic: &TrafficByEnd,
) -> ConnectionList {
    let (mut matching, mut kept) = (0, Vec::new());
    let mut sharing: HashMap<(ProcessId, Transport, SocketAddr), u64> = HashMap::new();
    for one in all.filter(|one| query.wants(one)) {
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
                Some(Traffic {
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
    ConnectionList {
        open,
        matching,
        connections,
    }
}

fn end_of(one: &Connection) -> Option<(ProcessId, Transport, SocketAddr)> {
    Some((one.process.as_ref()?.identity, one.protocol, one.remote?))
}

#[cfg(test)]
#[path = "connections_tests.rs"]
mod tests;
