//! Behaviours, written as in AWS's CreateSecurityProfile.
//!
//! A behaviour says what is **normal**: `less-than 35000` raises an alarm at 35,000. In: JSON. Out: typed rules and
//! their faults. Not supported, and refused by name when written: dimensions, statistics, machine learning, set
//! metrics.

use serde::{Deserialize, Serialize};

/// Behaviours of one profile, as in AWS.
pub(super) const MAX_BEHAVIORS: usize = 100;
/// Windows AWS knows, in seconds.
const DURATIONS: [u32; 5] = [300, 600, 900, 1_800, 3_600];

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Behavior {
    /// 1 to 128 characters of `[a-zA-Z0-9:_-]`.
    pub name: String,
    pub metric: Metric,
    /// What is normal.
    pub criteria: Criteria,
}

/// What is normal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Criteria {
    /// How the value has to stand to the threshold to be normal.
    pub comparison_operator: ComparisonOperator,
    pub value: Threshold,
    /// For traffic: the sum over this many seconds is compared instead of one report's value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<u32>,
    /// Reports in a row that are not normal before the alarm, 1 to 10.
    #[serde(default = "one")]
    pub consecutive_datapoints_to_alarm: u32,
    /// Reports in a row that are normal before the alarm ends, 1 to 10.
    #[serde(default = "one")]
    pub consecutive_datapoints_to_clear: u32,
}

fn one() -> u32 {
    1
}

/// A number to compare with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Threshold {
    /// Bytes, packets, ports or connections.
    pub count: u64,
}

/// Comparison of value and threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ComparisonOperator {
    /// Value below threshold is normal.
    LessThan,
    /// Value below or at threshold is normal.
    LessThanEquals,
    /// Value above threshold is normal.
    GreaterThan,
    /// Value above or at threshold is normal.
    GreaterThanEquals,
}

impl ComparisonOperator {
    /// True if the value is normal.
    #[must_use]
    pub const fn is_normal(self, value: u64, threshold: u64) -> bool {
        match self {
            Self::LessThan => value < threshold,
            Self::LessThanEquals => value <= threshold,
            Self::GreaterThan => value > threshold,
            Self::GreaterThanEquals => value >= threshold,
        }
    }
}

/// Device-side metrics with a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Metric {
    /// Bytes sent since the last report.
    #[serde(rename = "aws:all-bytes-out")]
    AllBytesOut,
    /// Bytes received since the last report.
    #[serde(rename = "aws:all-bytes-in")]
    AllBytesIn,
    /// Packets sent since the last report.
    #[serde(rename = "aws:all-packets-out")]
    AllPacketsOut,
    /// Packets received since the last report.
    #[serde(rename = "aws:all-packets-in")]
    AllPacketsIn,
    #[serde(rename = "aws:num-established-tcp-connections")]
    NumEstablishedTcpConnections,
    #[serde(rename = "aws:num-listening-tcp-ports")]
    NumListeningTcpPorts,
    #[serde(rename = "aws:num-listening-udp-ports")]
    NumListeningUdpPorts,
}

impl Metric {
    /// True for what adds up over time.
    #[must_use]
    pub(crate) const fn is_traffic(self) -> bool {
        matches!(
            self,
            Self::AllBytesOut | Self::AllBytesIn | Self::AllPacketsOut | Self::AllPacketsIn
        )
    }
}

impl Behavior {
    /// Everything wrong with it, one sentence each with the path of the value; empty if it is valid.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let allowed = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, ':' | '_' | '-');
        if self.name.is_empty() || self.name.len() > 128 || !self.name.chars().all(allowed) {
            faults.push(format!(
                "name: {:?} is not 1 to 128 characters of a-z A-Z 0-9 : _ -",
                self.name
            ));
        }
        let criteria = &self.criteria;
        for (path, value) in [
            (
                "consecutiveDatapointsToAlarm",
                criteria.consecutive_datapoints_to_alarm,
            ),
            (
                "consecutiveDatapointsToClear",
                criteria.consecutive_datapoints_to_clear,
            ),
        ] {
            if !(1..=10).contains(&value) {
                faults.push(format!("criteria.{path}: {value} is not between 1 and 10"));
            }
        }
        match criteria.duration_seconds {
            Some(_) if !self.metric.is_traffic() => {
                faults.push("criteria.durationSeconds: only traffic metrics have a duration".to_owned());
            }
            Some(seconds) if !DURATIONS.contains(&seconds) => {
                faults.push(format!(
                    "criteria.durationSeconds: {seconds} is none of {DURATIONS:?}"
                ));
            }
            _ => {}
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_example_is_read_and_written_back() {
        let text = r#"{"name":"BytesOut","metric":"aws:all-bytes-out","criteria":{"comparisonOperator":"less-than",
            "value":{"count":35000},"durationSeconds":300,"consecutiveDatapointsToAlarm":1,
            "consecutiveDatapointsToClear":1}}"#;
        let behavior: Behavior = serde_json::from_str(text).unwrap();
        assert!(behavior.faults().is_empty());
        let written: serde_json::Value = serde_json::to_value(&behavior).unwrap();
        assert_eq!(written, serde_json::from_str::<serde_json::Value>(text).unwrap());
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        let cases = [
            (
                r#"{"name":"a","metric":"aws:all-bytes-out","metricDimension":{},"criteria":{}}"#,
                "metricDimension",
            ),
            (
                r#"{"name":"a","metric":"aws:all-bytes-out","criteria":{"comparisonOperator":"less-than",
                "value":{"count":1},"statisticalThreshold":{"statistic":"p90"}}}"#,
                "statisticalThreshold",
            ),
            (
                r#"{"name":"a","metric":"aws:destination-ip-addresses","criteria":{}}"#,
                "aws:destination-ip-addresses",
            ),
        ];
        for (text, named) in cases {
            let error = serde_json::from_str::<Behavior>(text).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn all_faults_come_at_once() {
        let text = r#"{"name":"with blank","metric":"aws:num-listening-tcp-ports","criteria":{
            "comparisonOperator":"less-than","value":{"count":1},"durationSeconds":300,
            "consecutiveDatapointsToAlarm":0,"consecutiveDatapointsToClear":11}}"#;
        let behavior: Behavior = serde_json::from_str(text).unwrap();
        assert_eq!(behavior.faults().len(), 4, "{:?}", behavior.faults());
    }
}
