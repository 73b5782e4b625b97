//! What the command line asks about reports, and the answers.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReportQuestion {
    /// What would be sent now: a [`ReportPreview`].
    Show,
    /// What became of the newest report: a [`crate::report::last::LastReport`] or null.
    Last,
    /// Send one now, if the service would take it.
    Send,
    /// Names and types of custom metrics: [`CustomMetricNames`].
    Metrics,
}

/// What would be sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReportPreview {
    /// Where to.
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

/// Custom metrics.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CustomMetricNames {
    /// Name and `metricType` of CreateCustomMetric.
    pub metrics: Vec<(String, String)>,
    /// What is wrong, one sentence each.
    pub faults: Vec<String>,
}
