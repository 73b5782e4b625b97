//! The documented report format, version 1, as a strict check.
//!
//! In: a JSON document. Out: the report's id and metric values, or the first [`Fault`] with its path.
//! Long or short names throughout, never both in one report; a field that is not documented is a fault.
//! Deliberately absent: whether totals agree with lists (lists may be samples), history, limits in bytes.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde_json::{Map, Value};

use super::super::metric::{Metric, MetricValue};
use super::custom;

/// Longest number in a version, in digits: enough for any, and short enough to compare.
const MAX_VERSION_DIGITS: usize = 4;

pub(super) type Object = Map<String, Value>;

/// A report that keeps to the format.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Report {
    pub(super) id: u64,
    pub(super) values: BTreeMap<Metric, MetricValue>,
}

/// Where the report leaves the format, and what was expected there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    path: String,
    expected: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.path, self.expected)
    }
}

pub(super) fn fault<T>(path: &str, expected: impl Into<String>) -> Result<T, Fault> {
    let path = if path.is_empty() { "report" } else { path };
    Err(Fault {
        path: path.to_owned(),
        expected: expected.into(),
    })
}

/// Which of the two sets of names a report uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Names {
    Long,
    Short,
}

/// A documented field: long name, short name.
type Field = (&'static str, &'static str);

const HEADER: Field = ("header", "hed");
const REPORT_ID: Field = ("report_id", "rid");
const VERSION: Field = ("version", "v");
const METRICS: Field = ("metrics", "met");
const CUSTOM_METRICS: Field = ("custom_metrics", "cmet");
const TCP_CONNECTIONS: Field = ("tcp_connections", "tc");
const ESTABLISHED: Field = ("established_connections", "ec");
const CONNECTIONS: Field = ("connections", "cs");
const REMOTE_ADDR: Field = ("remote_addr", "rad");
const LOCAL_PORT: Field = ("local_port", "lp");
const LOCAL_INTERFACE: Field = ("local_interface", "li");
const TOTAL: Field = ("total", "t");
const TCP_PORTS: Field = ("listening_tcp_ports", "tp");
const UDP_PORTS: Field = ("listening_udp_ports", "up");
const PORTS: Field = ("ports", "pts");
const PORT: Field = ("port", "pt");
const INTERFACE: Field = ("interface", "if");
const NETWORK_STATS: Field = ("network_stats", "ns");
const COUNTERS: [(Field, Metric); 4] = [
    (("bytes_in", "bi"), Metric::AllBytesIn),
    (("bytes_out", "bo"), Metric::AllBytesOut),
    (("packets_in", "pi"), Metric::AllPacketsIn),
    (("packets_out", "po"), Metric::AllPacketsOut),
];

/// The id of a report whose header can be read, for the answer to a faulty one.
pub(super) fn report_id(document: &Value) -> Option<u64> {
    let long = document.get(HEADER.0).and_then(|header| header.get(REPORT_ID.0));
    let short = document.get(HEADER.1).and_then(|header| header.get(REPORT_ID.1));
    long.or(short)?.as_u64()
}

/// Checks a whole report.
pub(super) fn check(document: &Value) -> Result<Report, Fault> {
    let names = match (document.get(HEADER.0).is_some(), document.get(HEADER.1).is_some()) {
        (true, false) => Names::Long,
        (false, true) => Names::Short,
        (true, true) => return fault("", "header and hed: long and short names may not be mixed"),
        (false, false) => return fault("", "an object with the field header (or hed) is required"),
    };
    let root = Node::root(document, names).object(&[HEADER, METRICS, CUSTOM_METRICS])?;
    let header = root.required(HEADER)?.object(&[REPORT_ID, VERSION])?;
    let id = header.required(REPORT_ID)?.integer(1, i64::MAX.unsigned_abs())?;
    header.required(VERSION)?.version()?;
    let metrics = root.optional(METRICS);
    let custom = root.optional(CUSTOM_METRICS);
    if metrics.is_none() && custom.is_none() {
        return fault("", "at least one of metrics and custom_metrics is required");
    }
    let mut values = BTreeMap::new();
    if let Some(metrics) = metrics {
        check_metrics(&metrics, &mut values)?;
    }
    if let Some(custom) = custom {
        values.extend(custom::check(custom.value, &custom.path)?);
    }
    Ok(Report { id, values })
}

fn check_metrics(metrics: &Node<'_>, values: &mut BTreeMap<Metric, MetricValue>) -> Result<(), Fault> {
    let metrics = metrics.object(&[TCP_CONNECTIONS, TCP_PORTS, UDP_PORTS, NETWORK_STATS])?;
    if let Some(connections) = metrics.optional(TCP_CONNECTIONS) {
        let connections = connections.object(&[ESTABLISHED])?;
        if let Some(established) = connections.optional(ESTABLISHED) {
            let (count, remotes) = established.counted_list(CONNECTIONS, check_connection)?;
            values.extend(count.map(|count| (Metric::NumEstablishedTcpConnections, count)));
            let remotes = remotes.map(MetricValue::Addresses);
            values.extend(remotes.map(|remotes| (Metric::DestinationIpAddresses, remotes)));
        }
    }
    for (field, number, set) in [
        (TCP_PORTS, Metric::NumListeningTcpPorts, Metric::ListeningTcpPorts),
        (UDP_PORTS, Metric::NumListeningUdpPorts, Metric::ListeningUdpPorts),
    ] {
        if let Some(listening) = metrics.optional(field) {
            let (count, ports) = listening.counted_list(PORTS, check_port)?;
            values.extend(count.map(|count| (number, count)));
            let ports = ports.map(|ports| MetricValue::Ports(ports.into_iter().flatten().collect()));
            values.extend(ports.map(|ports| (set, ports)));
        }
    }
    if let Some(stats) = metrics.optional(NETWORK_STATS) {
        let stats = stats.object(&COUNTERS.map(|(field, _)| field))?;
        for (field, metric) in COUNTERS {
            if let Some(counter) = stats.optional(field) {
                values.insert(metric, MetricValue::Count(counter.integer(0, u64::MAX)?));
            }
        }
    }
    Ok(())
}

fn check_connection(connection: &Node<'_>) -> Result<IpAddr, Fault> {
    let connection = connection.object(&[REMOTE_ADDR, LOCAL_PORT, LOCAL_INTERFACE])?;
    let remote = connection.required(REMOTE_ADDR)?.remote_address()?;
    if let Some(port) = connection.optional(LOCAL_PORT) {
        port.port(0)?;
    }
    match connection.optional(LOCAL_INTERFACE) {
        Some(interface) => interface.string().map(|_| remote),
        None => Ok(remote),
    }
}

fn check_port(port: &Node<'_>) -> Result<Option<u16>, Fault> {
    let port = port.object(&[PORT, INTERFACE])?;
    let number = port.optional(PORT).map(|number| number.port(1)).transpose()?;
    match port.optional(INTERFACE) {
        Some(interface) => interface.string().map(|_| number),
        None => Ok(number),
    }
}

/// One value of the report, with the path to it.
struct Node<'a> {
    value: &'a Value,
    path: String,
    names: Names,
}

/// An object whose field names have been checked.
struct Fields<'a> {
    object: &'a Object,
    path: String,
    names: Names,
}

impl<'a> Fields<'a> {
    fn optional(&self, field: Field) -> Option<Node<'a>> {
        let name = pick(field, self.names);
        let path = if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        };
        self.object.get(name).map(|value| Node {
            value,
            path,
            names: self.names,
        })
    }

    fn required(&self, field: Field) -> Result<Node<'a>, Fault> {
        match self.optional(field) {
            Some(node) => Ok(node),
            None => fault(
                &self.path,
                format!("the field {} is required", pick(field, self.names)),
            ),
        }
    }
}

fn pick(field: Field, names: Names) -> &'static str {
    match names {
        Names::Long => field.0,
        Names::Short => field.1,
    }
}

impl<'a> Node<'a> {
    fn root(value: &'a Value, names: Names) -> Self {
        Self {
            value,
            path: String::new(),
            names,
        }
    }

    /// The value as an object that has no other fields than `known`.
    fn object(&self, known: &[Field]) -> Result<Fields<'a>, Fault> {
        let Value::Object(object) = self.value else {
            return fault(&self.path, "an object is expected");
        };
        for name in object.keys() {
            if known.iter().any(|field| pick(*field, self.names) == name) {
                continue;
            }
            let mixed = known.iter().any(|field| field.0 == name || field.1 == name);
            let reason = if mixed {
                "long and short names may not be mixed"
            } else {
                "it is not documented"
            };
            return fault(&self.path, format!("the field {name} is not expected: {reason}"));
        }
        Ok(Fields {
            object,
            path: self.path.clone(),
            names: self.names,
        })
    }

    /// `{list, total}`: checks both; gives the total, or else the length of the list, or else nothing, and what was
    /// made of the list.
    fn counted_list<T>(
        &self,
        list: Field,
        check: fn(&Node<'_>) -> Result<T, Fault>,
    ) -> Result<(Option<MetricValue>, Option<Vec<T>>), Fault> {
        let fields = self.object(&[list, TOTAL])?;
        let checked = fields.optional(list).map(|node| node.list(check)).transpose()?;
        let count = match fields.optional(TOTAL) {
            Some(total) => Some(total.integer(0, u64::MAX)?),
            None => checked.as_ref().and_then(|list| u64::try_from(list.len()).ok()),
        };
        Ok((count.map(MetricValue::Count), checked))
    }

    fn list<T>(&self, check: fn(&Node<'_>) -> Result<T, Fault>) -> Result<Vec<T>, Fault> {
        let Value::Array(items) = self.value else {
            return fault(&self.path, "a list is expected");
        };
        let item = |(index, value)| {
            check(&Node {
                value,
                path: format!("{}[{index}]", self.path),
                names: self.names,
            })
        };
        items.iter().enumerate().map(item).collect()
    }

    fn port(&self, least: u64) -> Result<u16, Fault> {
        let number = self.integer(least, u64::from(u16::MAX))?;
        Ok(u16::try_from(number).unwrap_or(u16::MAX))
    }

    fn integer(&self, least: u64, most: u64) -> Result<u64, Fault> {
        match self.value.as_u64() {
            Some(number) if (least..=most).contains(&number) => Ok(number),
            _ => fault(
                &self.path,
                format!("an integer from {least} to {most} is expected"),
            ),
        }
    }

    fn string(&self) -> Result<&'a str, Fault> {
        match self.value.as_str() {
            Some(text) if !text.is_empty() => Ok(text),
            _ => fault(&self.path, "a string that is not empty is expected"),
        }
    }

    /// `Major.Minor`, both decimal; this service knows major version 1 only.
    fn version(&self) -> Result<(), Fault> {
        let is_number = |part: &str| {
            (1..=MAX_VERSION_DIGITS).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
        };
        match self.string()?.split_once('.') {
            Some(("1", minor)) if is_number(minor) => Ok(()),
            Some((major, minor)) if is_number(major) && is_number(minor) => {
                fault(&self.path, "major version 1 is expected")
            }
            _ => fault(&self.path, "a string Major.Minor such as \"1.0\" is expected"),
        }
    }

    /// `ip:port`; an IPv6 address stands in brackets.
    fn remote_address(&self) -> Result<IpAddr, Fault> {
        match self.string()?.parse::<SocketAddr>() {
            Ok(address) if address.port() > 0 => Ok(address.ip()),
            _ => fault(&self.path, "ip:port is expected, an IPv6 address in brackets"),
        }
    }
}
