//! Metrics for the nucleus' telemetry. Classic only, and only for components of AWS.

use serde::Serialize;

/// Adds to the telemetry of the nucleus.
#[derive(Debug, Clone, Copy, Serialize)]
#[non_exhaustive]
pub struct PutComponentMetric<'a> {
    /// The measurements to add, each with its own name and unit.
    pub metrics: &'a [Metric<'a>],
}

impl<'a> PutComponentMetric<'a> {
    /// Adds these measurements to the telemetry of the nucleus.
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

/// One measurement of [`PutComponentMetric`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Metric<'a> {
    /// Name of what was measured, as it appears in the telemetry.
    pub name: &'a str,
    /// What [`Metric::value`] counts.
    pub unit: MetricUnit,
    /// How much, in [`Metric::unit`]. A value that is not finite is refused locally.
    pub value: f64,
}

impl<'a> Metric<'a> {
    /// `value` of `unit` were measured of what `name` says.
    #[must_use]
    pub fn new(name: &'a str, unit: MetricUnit, value: f64) -> Self {
        Self { name, unit, value }
    }
}

/// What a [`Metric`] counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum MetricUnit {
    /// Bytes, `BYTES` on the wire.
    Bytes,
    /// Bytes in a second, `BYTES_PER_SECOND` on the wire.
    BytesPerSecond,
    /// Things without a unit, `COUNT` on the wire.
    Count,
    /// Things without a unit in a second, `COUNT_PER_SECOND` on the wire.
    CountPerSecond,
    /// Megabytes, `MEGABYTES` on the wire.
    Megabytes,
    /// Seconds, `SECONDS` on the wire.
    Seconds,
}
