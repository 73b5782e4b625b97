//! The custom metrics of a report, as a strict check.
//!
//! In: the block's document. Out: every metric's value, or the first fault with its path. The inner keys have no short
//! names. Deliberately absent: limits on counts and lengths (none is documented; the size of the report bounds them),
//! whether the account knows the metric (the service takes undeclared ones).

use std::net::IpAddr;

use serde_json::Value;

use super::super::metric::{Metric, MetricValue};
use super::schema::{Fault, Object, fault};

/// Checks the block that stands at `path`.
pub(super) fn check(block: &Value, path: &str) -> Result<Vec<(Metric, MetricValue)>, Fault> {
    let Value::Object(metrics) = block else {
        return fault(path, "an object is expected");
    };
    let metric = |(name, value): (&String, &Value)| {
        let path = format!("{path}.{name}");
        let Ok(metric @ Metric::Custom(_)) = name.parse() else {
            return fault(
                &path,
                "a name is 1 to 128 of [a-zA-Z0-9:_-] and does not start with aws:",
            );
        };
        let Some([Value::Object(value)]) = value.as_array().map(Vec::as_slice) else {
            return fault(&path, "an array with exactly one object is expected");
        };
        Ok((metric, check_value(&path, value)?))
    };
    metrics.iter().map(metric).collect()
}

fn check_value(path: &str, value: &Object) -> Result<MetricValue, Fault> {
    let mut fields = value.iter();
    let (Some((kind, content)), None) = (fields.next(), fields.next()) else {
        return fault(
            path,
            "exactly one of number, number_list, string_list, ip_list is expected",
        );
    };
    let (found, expected) = match kind.as_str() {
        "number" => (content.as_f64().map(MetricValue::Number), "a number"),
        "number_list" => (
            list(content, Value::as_f64).map(MetricValue::Numbers),
            "a list of numbers",
        ),
        "string_list" => (
            list(content, |item| item.as_str().map(str::to_owned)).map(MetricValue::Strings),
            "a list of strings",
        ),
        "ip_list" => (
            list(content, address).map(MetricValue::Addresses),
            "a list of IP addresses",
        ),
        _ => (None, "one of number, number_list, string_list, ip_list"),
    };
    match found {
        Some(value) => Ok(value),
        None => fault(&format!("{path}.{kind}"), format!("{expected} is expected")),
    }
}

/// Every item read, or nothing.
fn list<T>(content: &Value, read: impl Fn(&Value) -> Option<T>) -> Option<Vec<T>> {
    content.as_array()?.iter().map(read).collect()
}

fn address(item: &Value) -> Option<IpAddr> {
    item.as_str()?.parse().ok()
}
