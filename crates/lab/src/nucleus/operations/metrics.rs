//! Telemetry of AWS's own components: checked, told on standard output, kept nowhere.

use serde_json::{Value, json};

use super::authorize;
use crate::nucleus::events::emit;
use crate::nucleus::policy::Service;
use crate::nucleus::refusal::Refusal;
use crate::nucleus::state::Nucleus;

/// Longest name of a metric.
const MAX_NAME_BYTES: usize = 32;
/// The service model's units.
const UNITS: [&str; 6] = [
    "BYTES",
    "BYTES_PER_SECOND",
    "COUNT",
    "COUNT_PER_SECOND",
    "MEGABYTES",
    "SECONDS",
];
/// Whatever its policy says, a component of another name may not.
const ALLOWED_COMPONENTS: &str = "aws.";

pub(super) fn put(nucleus: &Nucleus, request: &Value) -> Result<(), Refusal> {
    let operation = "PutComponentMetric";
    authorize(nucleus, Service::ComponentMetric, operation, "*")?;
    if !nucleus.component.starts_with(ALLOWED_COMPONENTS) {
        emit(&json!({ "event": "denied", "operation": operation, "resource": "*" }));
        return Err(Refusal::unauthorized(
            nucleus.personality,
            &nucleus.component,
            operation,
            "*",
        ));
    }
    let metrics = request
        .get("metrics")
        .and_then(Value::as_array)
        .filter(|metrics| !metrics.is_empty())
        .ok_or_else(|| {
            Refusal::arguments("Null or Empty list of metrics found in PutComponentMetricRequest")
        })?;
    if !metrics.iter().all(is_metric) {
        return Err(Refusal::arguments(
            "Invalid argument found in PutComponentMetricRequest",
        ));
    }
    emit(&json!({ "event": "metrics", "component": nucleus.component, "metrics": metrics }));
    Ok(())
}

fn is_metric(metric: &Value) -> bool {
    let text = |key: &str| metric.get(key).and_then(Value::as_str);
    text("name").is_some_and(|name| (1..=MAX_NAME_BYTES).contains(&name.len()))
        && text("unit").is_some_and(|unit| UNITS.contains(&unit))
        && metric
            .get("value")
            .and_then(Value::as_f64)
            .is_some_and(|value| value >= 0.0)
}
