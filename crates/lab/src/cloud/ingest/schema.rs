//! The documented report format, version 1, as a strict check.
//!
//! In: a JSON document. Out: the report's id and metric values, or the first [`Fault`] with its path.
//! Long or short names throughout, never both in one report; a field that is not documented is a fault.
//! Deliberately absent: whether totals agree with lists (lists may be samples), history, limits in bytes.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde_json::{Map, Value};

use super::super::metric::Metric;
use super::super::shadow::is_name;

/// Longest custom metric name in characters.
const MAX_CUSTOM_METRIC_CHARS: usize = 128;

/// Longest number in a version, in digits: enough for any, and short enough to compare.
const MAX_VERSION_DIGITS: usize = 4;

type Object = Map<String, Value>;

/// A report that keeps to the format.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Report {
    pub(super) id: u64,
    pub(super) values: BTreeMap<Metric, u64>,
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

fn fault<T>(path: &str, expected: impl Into<String>) -> Result<T, Fault> {
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
        check_custom_metrics(&custom)?;
    }
    Ok(Report { id, values })
}

fn check_metrics(metrics: &Node<'_>, values: &mut BTreeMap<Metric, u64>) -> Result<(), Fault> {
    let metrics = metrics.object(&[TCP_CONNECTIONS, TCP_PORTS, UDP_PORTS, NETWORK_STATS])?;
    if let Some(connections) = metrics.optional(TCP_CONNECTIONS) {
        let connections = connections.object(&[ESTABLISHED])?;
        if let Some(established) = connections.optional(ESTABLISHED) {
            let count = established.counted_list(CONNECTIONS, check_connection)?;
            values.extend(count.map(|count| (Metric::NumEstablishedTcpConnections, count)));
        }
    }
    for (field, metric) in [
        (TCP_PORTS, Metric::NumListeningTcpPorts),
        (UDP_PORTS, Metric::NumListeningUdpPorts),
    ] {
        if let Some(listening) = metrics.optional(field) {
            let count = listening.counted_list(PORTS, check_port)?;
            values.extend(count.map(|count| (metric, count)));
        }
    }
    if let Some(stats) = metrics.optional(NETWORK_STATS) {
        let stats = stats.object(&COUNTERS.map(|(field, _)| field))?;
        for (field, metric) in COUNTERS {
            if let Some(counter) = stats.optional(field) {
                values.insert(metric, counter.integer(0, u64::MAX)?);
            }
        }
    }
    Ok(())
}

fn check_connection(connection: &Node<'_>) -> Result<(), Fault> {
    let connection = connection.object(&[REMOTE_ADDR, LOCAL_PORT, LOCAL_INTERFACE])?;
    connection.required(REMOTE_ADDR)?.remote_address()?;
    if let Some(port) = connection.optional(LOCAL_PORT) {
        port.integer(0, u64::from(u16::MAX))?;
    }
    match connection.optional(LOCAL_INTERFACE) {
        Some(interface) => interface.string().map(|_| ()),
        None => Ok(()),
    }
}

fn check_port(port: &Node<'_>) -> Result<(), Fault> {
    let port = port.object(&[PORT, INTERFACE])?;
    if let Some(number) = port.optional(PORT) {
        number.integer(1, u64::from(u16::MAX))?;
    }
    match port.optional(INTERFACE) {
        Some(interface) => interface.string().map(|_| ()),
        None => Ok(()),
    }
}

fn check_custom_metrics(custom: &Node<'_>) -> Result<(), Fault> {
    let Value::Object(metrics) = custom.value else {
        return fault(&custom.path, "an object is expected");
    };
    for (name, value) in metrics {
        let path = format!("{}.{name}", custom.path);
        if !is_name(name, MAX_CUSTOM_METRIC_CHARS) || name.starts_with("aws:") {
            return fault(
                &path,
                "a name is 1 to 128 of [a-zA-Z0-9:_-] and does not start with aws:",
            );
        }
        let Some([Value::Object(value)]) = value.as_array().map(Vec::as_slice) else {
            return fault(&path, "an array with exactly one object is expected");
        };
        check_custom_value(&path, value)?;
    }
    Ok(())
}

/// The inner keys have no short form.
fn check_custom_value(path: &str, value: &Object) -> Result<(), Fault> {
    let mut fields = value.iter();
    let (Some((kind, content)), None) = (fields.next(), fields.next()) else {
        return fault(
            path,
            "exactly one of number, number_list, string_list, ip_list is expected",
        );
    };
    let path = format!("{path}.{kind}");
    let every = |is: fn(&Value) -> bool| content.as_array().is_some_and(|items| items.iter().all(is));
    match kind.as_str() {
        "number" if content.is_number() => Ok(()),
        "number" => fault(&path, "a number is expected"),
        "number_list" if every(Value::is_number) => Ok(()),
        "number_list" => fault(&path, "a list of numbers is expected"),
        "string_list" if every(Value::is_string) => Ok(()),
        "string_list" => fault(&path, "a list of strings is expected"),
        "ip_list" if every(is_address) => Ok(()),
        "ip_list" => fault(&path, "a list of IP addresses is expected"),
        _ => fault(
            &path,
            "one of number, number_list, string_list, ip_list is expected",
        ),
    }
}

fn is_address(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.parse::<IpAddr>().is_ok())
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

    /// `{list, total}`: checks both, gives the total, or else the length of the list, or else nothing.
    fn counted_list(
        &self,
        list: Field,
        check: fn(&Node<'_>) -> Result<(), Fault>,
    ) -> Result<Option<u64>, Fault> {
        let fields = self.object(&[list, TOTAL])?;
        let mut length = None;
        if let Some(node) = fields.optional(list) {
            let Value::Array(items) = node.value else {
                return fault(&node.path, "a list is expected");
            };
            for (index, value) in items.iter().enumerate() {
                check(&Node {
                    value,
                    path: format!("{}[{index}]", node.path),
                    names: self.names,
                })?;
            }
            length = u64::try_from(items.len()).ok();
        }
        match fields.optional(TOTAL) {
            Some(total) => total.integer(0, u64::MAX).map(Some),
            None => Ok(length),
        }
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
    fn remote_address(&self) -> Result<(), Fault> {
        match self.string()?.parse::<SocketAddr>() {
            Ok(address) if address.port() > 0 => Ok(()),
            _ => fault(&self.path, "ip:port is expected, an IPv6 address in brackets"),
        }
    }
}
