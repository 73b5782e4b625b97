//! The report document of Device Defender, version 1.0.
//!
//! In: [`ReportInput`], the encoding, the path's size limit, a seed for sampling. Out: a [`Report`] that takes at most
//! that many bytes in this encoding. How it is written is `write`'s.
//!
//! What may be absent, and what it says to the service:
//! * a block that could not be collected is left out: an empty list would count as conforming and clear an alarm;
//! * a list that was collected and is empty is sent, as `[]` with `total` 0: it is true and has to clear an alarm;
//! * a list of which nothing fits is left out of its block, the true `total` stays;
//! * a custom metric of which nothing fits is left out and named in [`Report::unfit`].
//!
//! Who goes short when it does not all fit: never header, totals and `network_stats`. Numbers among the custom metrics
//! come next, whole or not at all, in their order. All lists then grow in turn by one element each until nothing more
//! fits, so that a long list does not push out a short one.

use super::custom::CustomMetric;
use super::encoding::Encoding;
use super::fill::Filler;
use super::write::WithNames;
use crate::observe::Counters;
use crate::observe::sockets::SocketSnapshot;

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
    /// Custom metrics; every name once.
    pub custom: &'a [CustomMetric],
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Number and format version.
    pub header: Header,
    pub metrics: Metrics,
    /// Custom metrics, lists possibly cut.
    pub custom: Vec<CustomMetric>,
    /// Names of the custom metrics that did not fit; not part of the document.
    pub unfit: Vec<String>,
}

/// Number and format version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Strictly rising.
    pub report_id: u64,
    /// `"1.0"`.
    pub version: &'static str,
}

/// All blocks are optional.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metrics {
    /// TCP ports listened on.
    pub listening_tcp_ports: Option<ListeningPorts>,
    /// UDP ports listened on.
    pub listening_udp_ports: Option<ListeningPorts>,
    /// Traffic since the last accepted report.
    pub network_stats: Option<NetworkStats>,
    pub tcp_connections: Option<TcpConnections>,
}

/// Traffic since the last accepted report, in bytes and packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetworkStats {
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub packets_in: u64,
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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListeningPorts {
    /// All of them or a fair sample.
    pub ports: Option<Vec<ListeningPort>>,
    /// How many there are.
    pub total: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListeningPort {
    /// The interface with the address listened on, the address itself if it is `0.0.0.0` or `::`.
    pub interface: Option<String>,
    pub port: u16,
}

/// Connections by state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TcpConnections {
    /// State ESTABLISHED.
    pub established_connections: EstablishedList,
}

/// A list of connections and its true length.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EstablishedList {
    /// All of them or a fair sample.
    pub connections: Option<Vec<ReportedConnection>>,
    /// How many there are.
    pub total: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReportedConnection {
    /// The interface with our address; absent if none has it.
    pub local_interface: Option<String>,
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
        limit: usize,
    },
    /// The serializer refused.
    #[error("could not write the report")]
    Serialize { message: String },
}

impl Report {
    /// The document as sent.
    ///
    /// # Errors
    /// If the serializer refuses, which no content of these types makes it do.
    pub fn encode(&self, encoding: Encoding) -> Result<Vec<u8>, BuildError> {
        let mut bytes = Vec::new();
        encoding.write(&WithNames(encoding.names, self), &mut bytes)?;
        Ok(bytes)
    }
}

/// Builds a report that takes at most `limit_bytes` in `encoding`.
///
/// Lists are sampled at random (`seed`); custom lists that are ranked keep their first elements. Totals are always the
/// true ones.
///
/// # Errors
/// If `limit_bytes` does not even hold the report without lists.
pub fn build(
    input: &ReportInput<'_>,
    encoding: Encoding,
    limit_bytes: usize,
    seed: u64,
) -> Result<Report, BuildError> {
    let mut report = bare(input);
    let needed = encoding.size(&WithNames(encoding.names, &report))?;
    let Some(room) = limit_bytes.checked_sub(needed) else {
        return Err(BuildError::TooSmall {
            needed,
            limit: limit_bytes,
        });
    };
    Filler::new(encoding, room, seed).fill(&mut report, input)?;
    Ok(report)
}

/// Everything that is never left out.
fn bare(input: &ReportInput<'_>) -> Report {
    let ports = |total: usize| ListeningPorts {
        ports: None,
        total: total as u64,
    };
    let sockets = input.sockets;
    Report {
        header: Header {
            report_id: input.report_id,
            version: VERSION,
        },
        metrics: Metrics {
            listening_tcp_ports: sockets.map(|sockets| ports(sockets.listening_tcp.len())),
            listening_udp_ports: sockets.map(|sockets| ports(sockets.listening_udp.len())),
            network_stats: input.network.map(NetworkStats::from),
            tcp_connections: sockets.map(|sockets| TcpConnections {
                established_connections: EstablishedList {
                    connections: None,
                    total: sockets.established_total,
                },
            }),
        },
        custom: Vec::new(),
        unfit: Vec::new(),
    }
}

#[cfg(test)]
#[path = "document_tests.rs"]
mod tests;
