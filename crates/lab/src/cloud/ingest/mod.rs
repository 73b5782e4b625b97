//! Device Defender's intake of device-side metrics, as a pure function.
//!
//! In: thing name, the bytes of one report and their [`Format`], the time in epoch milliseconds. Out: a [`Verdict`]:
//! the metric values for Detect, or the reason of the refusal; and the answer document for the device.
//! Written from the documented report format, never from a serializer, so that it can disagree with one. What the
//! device reads about a malformed report is the documented sentence alone; the reason is for the person watching.
//! Deliberately absent: MQTT, a clock, storage of past values.

mod custom;
mod schema;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::metric::{Metric, MetricValue};
use super::shadow::{MAX_THING_CHARS, is_name};
use schema::Report;
pub use wire::Format;

/// Shortest time between two accepted reports of one thing, in seconds, that the service guarantees to
/// take.
pub const DEFAULT_MIN_INTERVAL_SECONDS: u64 = 300;

/// Largest report in bytes: the MQTT payload limit of AWS IoT.
pub const MAX_REPORT_BYTES: usize = 128 * 1024;

/// Things whose last report is remembered. Bounds memory against invented thing names.
pub const MAX_THINGS: usize = 1_000;

/// Longest reason in bytes; field names in it come from the device.
const MAX_DETAIL_BYTES: usize = 512;

/// What the service says of a malformed report; the one documented message.
pub const MALFORMED: &str = "Malformed metrics report";

/// What the service says of a report that comes too soon. Not documented.
pub const TOO_SOON: &str = "Metrics reports of this thing are throttled";

/// What this stand-in says when it keeps no more things. The service has no such answer.
const NO_MORE_THINGS: &str = "This stand-in keeps no more things";

/// Outcome of one report.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// The report counts.
    Accepted {
        /// The report's id.
        report_id: u64,
        /// Values of the metrics the report carries; a block that is absent gives none.
        values: BTreeMap<Metric, MetricValue>,
    },
    /// The report is refused and changes nothing.
    Rejected {
        /// The report's id, when the header could be read.
        report_id: Option<u64>,
        /// `InvalidPayload`, `Throttled` or `LimitExceeded`.
        code: &'static str,
        /// What the device is told.
        message: &'static str,
        /// What is wrong, with the path of the field; only for the person watching.
        detail: String,
    },
}

impl Verdict {
    /// Last segment of the answer topic.
    pub fn topic_suffix(&self) -> &'static str {
        match self {
            Self::Accepted { .. } => "accepted",
            Self::Rejected { .. } => "rejected",
        }
    }

    /// The document the device gets; `now_ms` is epoch milliseconds.
    pub fn answer(&self, thing: &str, now_ms: u64) -> Value {
        match self {
            Self::Accepted { report_id, .. } => json!({
                "thingName": thing, "reportId": report_id, "status": "ACCEPTED", "timestamp": now_ms,
            }),
            Self::Rejected {
                report_id,
                code,
                message,
                ..
            } => {
                let mut answer = json!({
                    "thingName": thing,
                    "status": "REJECTED",
                    "statusDetails": {"ErrorCode": code, "ErrorMessage": message},
                    "timestamp": now_ms,
                });
                if let Some(report_id) = report_id {
                    answer["reportId"] = Value::from(*report_id);
                }
                answer
            }
        }
    }
}

/// What is remembered of a thing's last accepted report.
#[derive(Debug, Clone, Copy)]
struct LastReport {
    id: u64,
    at_ms: u64,
}

/// The intake with its memory of every thing's last accepted report.
#[derive(Debug)]
pub struct Ingest {
    min_interval_ms: u64,
    last: BTreeMap<String, LastReport>,
}

impl Ingest {
    /// An intake that throttles to one report per thing in `min_interval_seconds`.
    pub fn new(min_interval_seconds: u64) -> Self {
        Self {
            min_interval_ms: min_interval_seconds.saturating_mul(1_000),
            last: BTreeMap::new(),
        }
    }

    /// Judges one report. Order of the checks: format, report id, throttle; only an accepted report
    /// moves the id and the throttle window. `now_ms` is epoch milliseconds.
    pub fn handle(&mut self, thing: &str, format: Format, payload: &[u8], now_ms: u64) -> Verdict {
        match self.judge(thing, format, payload, now_ms) {
            Ok(report) => {
                self.last.insert(
                    thing.to_owned(),
                    LastReport {
                        id: report.id,
                        at_ms: now_ms,
                    },
                );
                Verdict::Accepted {
                    report_id: report.id,
                    values: report.values,
                }
            }
            Err(verdict) => verdict,
        }
    }

    fn judge(&self, thing: &str, format: Format, payload: &[u8], now_ms: u64) -> Result<Report, Verdict> {
        if !is_name(thing, MAX_THING_CHARS) {
            return Err(invalid(None, "the thing name is not valid"));
        }
        if payload.len() > MAX_REPORT_BYTES {
            let message = format!(
                "the report has {} bytes, at most {MAX_REPORT_BYTES} are taken",
                payload.len()
            );
            return Err(invalid(None, &message));
        }
        let document = format.decode(payload).map_err(|reason| invalid(None, &reason))?;
        let report = schema::check(&document)
            .map_err(|fault| invalid(schema::report_id(&document), &fault.to_string()))?;
        let Some(last) = self.last.get(thing) else {
            return if self.last.len() < MAX_THINGS {
                Ok(report)
            } else {
                Err(rejected(
                    Some(report.id),
                    "LimitExceeded",
                    NO_MORE_THINGS,
                    NO_MORE_THINGS,
                ))
            };
        };
        if report.id <= last.id {
            let message = format!(
                "report id {} does not rise above {}, the last one taken",
                report.id, last.id
            );
            return Err(invalid(Some(report.id), &message));
        }
        let waited = now_ms.saturating_sub(last.at_ms);
        if waited < self.min_interval_ms {
            let message = format!(
                "{waited} ms after the last report, at least {} are required",
                self.min_interval_ms
            );
            return Err(rejected(Some(report.id), "Throttled", TOO_SOON, &message));
        }
        Ok(report)
    }
}

/// The refusal of a malformed report.
pub fn invalid(report_id: Option<u64>, detail: &str) -> Verdict {
    rejected(report_id, "InvalidPayload", MALFORMED, detail)
}

/// The report id of a document whose header can be read, valid or not.
pub fn readable_report_id(document: &Value) -> Option<u64> {
    schema::report_id(document)
}

fn rejected(report_id: Option<u64>, code: &'static str, message: &'static str, detail: &str) -> Verdict {
    let end = detail.floor_char_boundary(MAX_DETAIL_BYTES);
    Verdict::Rejected {
        report_id,
        code,
        message,
        detail: detail[..end].to_owned(),
    }
}
