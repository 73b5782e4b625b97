//! The device-side metrics Detect can judge by count.
//!
//! Deliberately absent: metrics that are sets (ports, addresses) and custom metrics.

use std::fmt;
use std::str::FromStr;

/// A countable device-side metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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
    /// Listening TCP ports.
    NumListeningTcpPorts,
    /// Listening UDP ports.
    NumListeningUdpPorts,
}

impl Metric {
    /// Every metric.
    pub const ALL: [Self; 7] = [
        Self::AllBytesOut,
        Self::AllBytesIn,
        Self::AllPacketsOut,
        Self::AllPacketsIn,
        Self::NumEstablishedTcpConnections,
        Self::NumListeningTcpPorts,
        Self::NumListeningUdpPorts,
    ];

    /// Name in security profiles.
    pub fn name(self) -> &'static str {
        match self {
            Self::AllBytesOut => "aws:all-bytes-out",
            Self::AllBytesIn => "aws:all-bytes-in",
            Self::AllPacketsOut => "aws:all-packets-out",
            Self::AllPacketsIn => "aws:all-packets-in",
            Self::NumEstablishedTcpConnections => "aws:num-established-tcp-connections",
            Self::NumListeningTcpPorts => "aws:num-listening-tcp-ports",
            Self::NumListeningUdpPorts => "aws:num-listening-udp-ports",
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A name that is not a countable metric.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not a metric that can be counted, such as aws:all-bytes-out")]
pub struct UnknownMetric {
    /// What was given.
    pub name: String,
}

impl FromStr for Metric {
    type Err = UnknownMetric;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|metric| metric.name() == name)
            .ok_or_else(|| UnknownMetric {
                name: name.to_owned(),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_reads_back_and_others_are_refused() {
        for metric in Metric::ALL {
            assert_eq!(metric.name().parse(), Ok(metric));
        }
        assert!(
            "aws:listening-tcp-ports".parse::<Metric>().is_err(),
            "a set is not a count"
        );
    }
}
