//! Metrics for the nucleus' telemetry. Classic only, and only for components of AWS.

use serde::Serialize;

/// Adds to the telemetry of the nucleus.
#[derive(Debug, Clone, Copy, Serialize)]
#[non_exhaustive]
pub struct PutComponentMetric<'a> {
    /// The measurements.
    pub metrics: &'a [Metric<'a>],
}

impl<'a> PutComponentMetric<'a> {
    /// A request with measurements.
    #[must_use]
    pub fn new(metrics: &'a [Metric<'a>]) -> Self {
        Self { metrics }
    }

    pub(super) fn fault(&self) -> Option<String> {
        let bad = self.metrics.iter().find(|metric| !metric.value.is_finite())?;
        Some(format!(
            "metric {:?} is {}; expected a finite number",
            bad.name, bad.value
        ))
    }
}

/// One measurement.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Metric<'a> {
    /// What was measured.
    pub name: &'a str,
    /// Unit of the value.
    pub unit: MetricUnit,
    /// How much, in that unit. Finite.
    pub value: f64,
}

/// Unit of a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum MetricUnit {
    /// Bytes.
    Bytes,
    /// Bytes per second.
    BytesPerSecond,
    /// A number of things.
    Count,
    /// A number of things per second.
    CountPerSecond,
    /// Megabytes.
    Megabytes,
    /// Seconds.
    Seconds,
}
