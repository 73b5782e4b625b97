//! The report document of Device Defender, version 1.0, long names.
//!
//! In: [`ReportInput`], the path's size limit, a seed for sampling. Out: a [`Report`] that serializes to at most that
//! many bytes.
//!
//! What may be absent, and what it says to the service:
//! * a block that could not be collected is left out: an empty list would count as conforming and clear an alarm;
//! * a list that was collected and is empty is sent, as `[]` with `total` 0: it is true and has to clear an alarm;
//! * a list of which nothing fits is left out of its block, the true `total` stays.

use serde::Serialize;

use super::fit;
use crate::observe::Counters;
use crate::observe::flow::Protocol;
use crate::observe::sockets::{OpenSocket, SocketSnapshot};

/// Version of the document format this file writes.
const VERSION: &str = "1.0";

/// What a report is made of.
#[derive(Debug, Clone, Copy)]
pub struct ReportInput<'a> {
    /// See [`super::report_id`].
    pub report_id: u64,
    /// Growth of the kernel's interface totals since the last accepted report, loopback left out; `None` if there is
    /// no earlier report or the counters could not be read.
    pub network: Option<Counters>,
    /// Sockets now; `None` if they could not be listed.
    pub sockets: Option<&'a SocketSnapshot>,
}

/// A report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Number and format version.
    pub header: Header,
    /// The metrics.
    pub metrics: Metrics,
}

/// Number and format version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Header {
    /// Strictly rising.
    pub report_id: u64,
    /// `"1.0"`.
    pub version: &'static str,
}

/// All blocks are optional.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Metrics {
    /// TCP ports listened on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listening_tcp_ports: Option<Ports>,
    /// UDP ports listened on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listening_udp_ports: Option<Ports>,
    /// Traffic since the last accepted report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_stats: Option<NetworkStats>,
    /// Connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_connections: Option<TcpConnections>,
}

/// Traffic since the last accepted report, in bytes and packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct NetworkStats {
    /// Received.
    pub bytes_in: u64,
    /// Sent.
    pub bytes_out: u64,
    /// Received.
    pub packets_in: u64,
    /// Sent.
    pub packets_out: u64,
}

impl From<Counters> for NetworkStats {
    fn from(counters: Counters) -> Self {
        let Counters {
            bytes_in,
            bytes_out,
            packets_in,
            packets_out,
        } = counters;
        Self {
            bytes_in,
            bytes_out,
            packets_in,
            packets_out,
        }
    }
}

/// A list of ports and its true length.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Ports {
    /// All of them or a fair sample.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<Vec<Port>>,
    /// How many there are.
    pub total: u64,
}

/// One listening port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Port {
    /// The interface with the address listened on, the address itself if it is `0.0.0.0` or `::`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Port number.
    pub port: u16,
}

/// Connections by state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TcpConnections {
    /// State ESTABLISHED.
    pub established_connections: Established,
}

/// A list of connections and its true length.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Established {
    /// All of them or a fair sample.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<Vec<Connection>>,
    /// How many there are.
    pub total: u64,
}

/// One established connection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Connection {
    /// The interface with our address; absent if none has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_interface: Option<String>,
    /// Our port.
    pub local_port: u16,
    /// `ip:port`, an IPv6 address in brackets.
    pub remote_addr: String,
}

/// A report cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// Even without lists it does not fit.
    #[error("a report needs at least {needed} bytes, the path carries {limit}")]
    TooSmall {
        /// Bytes of the report without lists.
        needed: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The serializer refused.
    #[error("could not write the report as JSON")]
    Serialize {
        /// What it said.
        message: String,
    },
}

impl Report {
    /// The document as sent.
    ///
    /// # Errors
    /// If the serializer refuses, which no content of these types makes it do.
    pub fn to_json(&self) -> Result<Vec<u8>, BuildError> {
        serde_json::to_vec(self).map_err(|error| BuildError::Serialize {
            message: error.to_string(),
        })
    }
}

/// Builds a report of at most `limit_bytes`.
///
/// Lists are sampled at random (`seed`), in turn one element of each list, until nothing more fits: a long list does
/// not push out a short one. Totals are always the true ones.
///
/// # Errors
/// If `limit_bytes` does not even hold the report without lists.
pub fn build(input: &ReportInput<'_>, limit_bytes: usize, seed: u64) -> Result<Report, BuildError> {
    let mut report = Report {
        header: Header {
            report_id: input.report_id,
            version: VERSION,
        },
        metrics: Metrics {
            network_stats: input.network.map(NetworkStats::from),
            ..Metrics::default()
        },
    };
    if let Some(sockets) = input.sockets {
        report.metrics.listening_tcp_ports = Some(empty_ports(sockets.listening_tcp.len()));
        report.metrics.listening_udp_ports = Some(empty_ports(sockets.listening_udp.len()));
        report.metrics.tcp_connections = Some(TcpConnections {
            established_connections: Established {
                connections: None,
                total: sockets.established_total,
            },
        });
    }
    let needed = report.to_json()?.len();
    let Some(mut room) = limit_bytes.checked_sub(needed) else {
        return Err(BuildError::TooSmall {
            needed,
            limit: limit_bytes,
        });
    };
    if let Some(sockets) = input.sockets {
        fill(&mut report, sockets, &mut room, seed)?;
    }
    Ok(report)
}

fn empty_ports(total: usize) -> Ports {
    Ports {
        ports: None,
        total: total as u64,
    }
}

fn fill(
    report: &mut Report,
    sockets: &SocketSnapshot,
    room: &mut usize,
    seed: u64,
) -> Result<(), BuildError> {
    let mut random = fastrand::Rng::with_seed(seed);
    let port = |end: &std::net::SocketAddr| Port {
        interface: sockets.interface_of(end.ip()),
        port: end.port(),
    };
    let connection = |socket: &OpenSocket| connection(sockets, socket);
    let mut tcp = fit::Sampled::new("ports", &sockets.listening_tcp, &port, &mut random);
    let mut udp = fit::Sampled::new("ports", &sockets.listening_udp, &port, &mut random);
    let mut established = fit::Sampled::new("connections", &sockets.established, &connection, &mut random);
    loop {
        let mut grown = tcp.grow(room)?;
        grown |= udp.grow(room)?;
        grown |= established.grow(room)?;
        if !grown {
            break;
        }
    }
    let metrics = &mut report.metrics;
    if let Some(block) = &mut metrics.listening_tcp_ports {
        block.ports = tcp.finish();
    }
    if let Some(block) = &mut metrics.listening_udp_ports {
        block.ports = udp.finish();
    }
    if let Some(block) = &mut metrics.tcp_connections {
        block.established_connections.connections = established.finish();
    }
    Ok(())
}

fn connection(snapshot: &SocketSnapshot, socket: &OpenSocket) -> Connection {
    debug_assert_eq!(
        socket.protocol,
        Protocol::Tcp,
        "only TCP connections are established"
    );
    let remote = socket.remote.map(|remote| remote.to_string());
    Connection {
        local_interface: snapshot.interface_of(socket.local.ip()),
        local_port: socket.local.port(),
        remote_addr: remote.unwrap_or_default(),
    }
}

#[cfg(test)]
#[path = "document_tests.rs"]
mod tests;
