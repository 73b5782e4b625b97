//! What Detect can judge: the device-side metrics of AWS and the custom metrics of the account, and their values.
//!
//! In: names. Out: [`Metric`] and [`MetricValue`]. Deliberately absent: cloud-side metrics, how they are judged.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde_json::{Value, json};

use super::shadow::is_name;

/// Longest custom metric name in characters.
pub const MAX_CUSTOM_METRIC_CHARS: usize = 128;

/// A device-side or custom metric.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    /// Bytes sent since the last report.
    AllBytesOut,
    /// Bytes received since the last report.
    AllBytesIn,
    /// Packets sent since the last report.
    AllPacketsOut,
    /// Packets received since the last report.
    AllPacketsIn,
    /// TCP connections in state ESTABLISHED.
    NumEstablishedTcpConnections,
    /// Listening TCP ports, their number.
    NumListeningTcpPorts,
    /// Listening UDP ports, their number.
    NumListeningUdpPorts,
    /// Listening TCP ports themselves.
    ListeningTcpPorts,
    /// Listening UDP ports themselves.
    ListeningUdpPorts,
    /// Remote addresses of the TCP connections.
    DestinationIpAddresses,
    /// A metric of the account, by its name.
    Custom(String),
}

impl Metric {
    /// Every metric that AWS defines.
    pub const AWS: [Self; 10] = [
        Self::AllBytesOut,
        Self::AllBytesIn,
        Self::AllPacketsOut,
        Self::AllPacketsIn,
        Self::NumEstablishedTcpConnections,
        Self::NumListeningTcpPorts,
        Self::NumListeningUdpPorts,
        Self::ListeningTcpPorts,
        Self::ListeningUdpPorts,
        Self::DestinationIpAddresses,
    ];

    /// Name in security profiles.
    pub fn name(&self) -> &str {
        match self {
            Self::AllBytesOut => "aws:all-bytes-out",
            Self::AllBytesIn => "aws:all-bytes-in",
            Self::AllPacketsOut => "aws:all-packets-out",
            Self::AllPacketsIn => "aws:all-packets-in",
            Self::NumEstablishedTcpConnections => "aws:num-established-tcp-connections",
            Self::NumListeningTcpPorts => "aws:num-listening-tcp-ports",
            Self::NumListeningUdpPorts => "aws:num-listening-udp-ports",
            Self::ListeningTcpPorts => "aws:listening-tcp-ports",
            Self::ListeningUdpPorts => "aws:listening-udp-ports",
            Self::DestinationIpAddresses => "aws:destination-ip-addresses",
            Self::Custom(name) => name,
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A name that no metric can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name:?} is neither a device-side metric such as aws:all-bytes-out nor 1 to {MAX_CUSTOM_METRIC_CHARS} of [a-zA-Z0-9:_-]"
)]
pub struct UnknownMetric {
    /// What was given.
    pub name: String,
}

impl FromStr for Metric {
    type Err = UnknownMetric;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let defined = Self::AWS.into_iter().find(|metric| metric.name() == name);
        let custom = || {
            (is_name(name, MAX_CUSTOM_METRIC_CHARS) && !name.starts_with("aws:"))
                .then(|| Self::Custom(name.to_owned()))
        };
        defined.or_else(custom).ok_or_else(|| UnknownMetric {
            name: name.to_owned(),
        })
    }
}

/// What a report says about one metric: one data point.
#[derive(Debug, Clone, PartialEq)]
pub enum MetricValue {
    /// Of a countable metric of AWS.
    Count(u64),
    /// Of a custom metric of type number.
    Number(f64),
    /// Listening ports.
    Ports(Vec<u16>),
    /// Remote addresses, or a custom metric of type ip-address-list.
    Addresses(Vec<IpAddr>),
    /// Of a custom metric of type number-list.
    Numbers(Vec<f64>),
    /// Of a custom metric of type string-list.
    Strings(Vec<String>),
}

impl MetricValue {
    /// `metricValue` of an alarm.
    pub fn document(&self) -> Value {
        match self {
            Self::Count(count) => json!({"count": count}),
            Self::Number(number) => json!({"number": number}),
            Self::Ports(ports) => json!({"ports": ports}),
            Self::Addresses(addresses) => json!({"cidrs": addresses}),
            Self::Numbers(numbers) => json!({"numbers": numbers}),
            Self::Strings(strings) => json!({"strings": strings}),
        }
    }

    /// The value without its type, as events show it.
    pub fn plain(&self) -> Value {
        match self.document() {
            Value::Object(fields) => fields.into_iter().next().map_or(Value::Null, |(_, value)| value),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_reads_back_and_others_are_refused() {
        for metric in Metric::AWS {
            assert_eq!(metric.name().parse(), Ok(metric));
        }
        let custom = Metric::Custom("eth0:bytes_out-1".to_owned());
        assert_eq!(custom.name().parse(), Ok(custom));
        for name in ["aws:cpu", "", "a b", &"x".repeat(129)] {
            assert!(name.parse::<Metric>().is_err(), "{name}");
        }
    }
}
