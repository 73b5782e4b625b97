//! Answers about reports.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The report that would be sent if its time were now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReportPreview {
    /// The MQTT topic it would go to.
    pub topic: String,
    /// `json` or `cbor`.
    pub format: String,
    /// Bytes in this format.
    pub bytes: usize,
    /// Bytes the path carries.
    pub limit: usize,
    /// When the next report is due.
    pub next: Timestamp,
    /// Whether reports are sent at all.
    pub enabled: bool,
    /// Why something is missing, one sentence each.
    pub left_out: Vec<String>,
    /// The document; CBOR shown as JSON.
    pub document: Value,
}

/// The custom metrics that the running configuration yields.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CustomMetricNames {
    /// Name and `metricType` of CreateCustomMetric.
    pub metrics: Vec<(String, String)>,
    /// What is wrong, one sentence each.
    pub faults: Vec<String>,
}
