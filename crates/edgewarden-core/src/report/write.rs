//! The document's shape, once, for both sets of names and both encodings.
//!
//! In: the document's types with the wanted [`NameLength`]. Out: serde's calls. Every object tells its number of
//! members beforehand: CBOR writes it first.

use serde::ser::{Serialize, SerializeMap as _, SerializeSeq as _, Serializer};

use super::custom::{CustomMetric, MetricItem, MetricType};
use super::document::{
    EstablishedList, Header, ListeningPort, ListeningPorts, Metrics, NetworkStats, Report, ReportedConnection,
};
use super::names::{self, FieldName, NameLength};

/// A part of the document that is to be written with these names.
#[derive(Debug, Clone, Copy)]
pub(super) struct WithNames<'a, T: ?Sized>(pub(super) NameLength, pub(super) &'a T);

/// Writes an object of a fixed number of members and of those optional ones that are there.
macro_rules! object {
    ($serializer:expr, $names:expr, [$(($field:expr, $value:expr)),*], [$(($optional:expr, $maybe:expr)),*]) => {{
        let members = 0 $(+ one(&$value))* $(+ usize::from($maybe.is_some()))*;
        let mut object = $serializer.serialize_map(Some(members))?;
        $(entry(&mut object, $field, $names, &$value)?;)*
        $(if let Some(value) = &$maybe {
            entry(&mut object, $optional, $names, value)?;
        })*
        object.end()
    }};
}

/// One, whatever the value.
const fn one<T>(_: &T) -> usize {
    1
}

fn entry<M: serde::ser::SerializeMap>(
    object: &mut M,
    field: FieldName,
    names: NameLength,
    value: &(impl Serialize + ?Sized),
) -> Result<(), M::Error> {
    object.serialize_entry(field.of(names), value)
}

impl Serialize for WithNames<'_, Report> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(names, report) = *self;
        let custom = (!report.custom.is_empty()).then_some(WithNames(names, report.custom.as_slice()));
        object!(
            serializer,
            names,
            [
                (names::HEADER, WithNames(names, &report.header)),
                (names::METRICS, WithNames(names, &report.metrics))
            ],
            [(names::CUSTOM_METRICS, custom)]
        )
    }
}

impl Serialize for WithNames<'_, Header> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(names, header) = *self;
        object!(
            serializer,
            names,
            [
                (names::REPORT_ID, header.report_id),
                (names::VERSION, header.version)
            ],
            []
        )
    }
}

impl Serialize for WithNames<'_, Metrics> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(names, metrics) = *self;
        let tcp = metrics
            .listening_tcp_ports
            .as_ref()
            .map(|ports| WithNames(names, ports));
        let udp = metrics
            .listening_udp_ports
            .as_ref()
            .map(|ports| WithNames(names, ports));
        let stats = metrics
            .network_stats
            .as_ref()
            .map(|stats| WithNames(names, stats));
        let connections = metrics.tcp_connections.as_ref();
        let connections = connections.map(|tcp| EstablishedObject(names, &tcp.established_connections));
        object!(
            serializer,
            names,
            [],
            [
                (names::TCP_PORTS, tcp),
                (names::UDP_PORTS, udp),
                (names::NETWORK_STATS, stats),
                (names::TCP_CONNECTIONS, connections)
            ]
        )
    }
}

/// The object around the established connections.
struct EstablishedObject<'a>(NameLength, &'a EstablishedList);

impl Serialize for EstablishedObject<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(names, established) = *self;
        object!(
            serializer,
            names,
            [(names::ESTABLISHED, WithNames(names, established))],
            []
        )
    }
}

impl Serialize for WithNames<'_, NetworkStats> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(names, stats) = *self;
        object!(
            serializer,
            names,
            [
                (names::BYTES_IN, stats.bytes_in),
                (names::BYTES_OUT, stats.bytes_out),
                (names::PACKETS_IN, stats.packets_in),
                (names::PACKETS_OUT, stats.packets_out)
            ],
            []
        )
    }
}

impl Serialize for WithNames<'_, ListeningPorts> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(names, block) = *self;
        let ports = block.ports.as_ref().map(|ports| WithNamesList(names, ports));
        object!(
            serializer,
            names,
            [(names::TOTAL, block.total)],
            [(names::PORTS, ports)]
        )
    }
}

impl Serialize for WithNames<'_, ListeningPort> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(names, port) = *self;
        object!(
            serializer,
            names,
            [(names::PORT, port.port)],
            [(names::INTERFACE, port.interface)]
        )
    }
}

impl Serialize for WithNames<'_, EstablishedList> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(names, block) = *self;
        let connections = block.connections.as_ref().map(|list| WithNamesList(names, list));
        object!(
            serializer,
            names,
            [(names::TOTAL, block.total)],
            [(names::CONNECTIONS, connections)]
        )
    }
}

impl Serialize for WithNames<'_, ReportedConnection> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(names, connection) = *self;
        object!(
            serializer,
            names,
            [
                (names::LOCAL_PORT, connection.local_port),
                (names::REMOTE_ADDRESS, connection.remote_addr)
            ],
            [(names::LOCAL_INTERFACE, connection.local_interface)]
        )
    }
}

impl Serialize for WithNames<'_, [CustomMetric]> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(Some(self.1.len()))?;
        for metric in self.1 {
            object.serialize_entry(&metric.name, metric)?;
        }
        object.end()
    }
}

/// The value alone, in its array of exactly one object.
impl Serialize for CustomMetric {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut array = serializer.serialize_seq(Some(1))?;
        array.serialize_element(&Value(self.kind, &self.items))?;
        array.end()
    }
}

/// `{"number": 1}` or `{"number_list": [1]}`.
struct Value<'a>(MetricType, &'a [MetricItem]);

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(Some(1))?;
        match (self.0, self.1) {
            (MetricType::Number, [number, ..]) => object.serialize_entry(self.0.key(), number)?,
            (kind, items) => object.serialize_entry(kind.key(), items)?,
        }
        object.end()
    }
}

/// A list of parts of the document.
struct WithNamesList<'a, T>(NameLength, &'a [T]);

impl<'a, T> Serialize for WithNamesList<'a, T>
where
    WithNames<'a, T>: Serialize,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.1.iter().map(|item| WithNames(self.0, item)))
    }
}
