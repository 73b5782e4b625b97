//! Metrics of other programs, dropped as files into a directory.
//!
//! In: names, ages and contents of the files, as `host::files::drop_directory` read them. Out: metrics, and a sentence
//! for every file that is not one. One file is one metric: `<name>.json` with exactly one of `number`, `number_list`,
//! `string_list`, `ip_list`, the value in its plain form: `{"number": 12.5}`.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::Value;

use super::{CustomMetric, MAX_ITEMS, MAX_TEXT, MetricItem, MetricType, is_name};
use crate::document::without_mark;

/// What a file's name ends with; others are passed over, so that a writer can rename a finished file into place.
const ENDING: &str = ".json";

/// One file of the directory in which other programs drop metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricFile {
    /// Its name in the directory.
    pub file: String,
    /// Time since it was written; `None` if that lies in the future.
    pub age: Option<Duration>,
    pub bytes: Vec<u8>,
}

/// The metric, `None` if the file does not claim to be one, or why it is none. Files older than `fresh` are left out: a
/// program that died must not look alive.
///
/// # Errors
/// A sentence for the status.
pub fn read(dropped: &MetricFile, fresh: Duration) -> Result<Option<CustomMetric>, String> {
    let Some(name) = dropped.file.strip_suffix(ENDING) else {
        return Ok(None);
    };
    let refuse = |why: &str| Err(format!("{}: {why}", printable(&dropped.file)));
    if !is_name(name) {
        return refuse("its name is not valid for a custom metric (1 to 128 of a-z A-Z 0-9 : _ -, not aws:)");
    }
    match dropped.age {
        None => return refuse("it was written in the future"),
        Some(age) if age > fresh => {
            return refuse(&format!("it is stale: older than {} s", fresh.as_secs()));
        }
        Some(_) => {}
    }
    let Ok(value) = serde_json::from_slice::<Value>(without_mark(&dropped.bytes)) else {
        return refuse("it is not JSON");
    };
    let object = value.as_object().filter(|object| object.len() == 1);
    let Some((kind, content)) = object.and_then(|object| {
        let kind = MetricType::ALL
            .into_iter()
            .find(|kind| object.contains_key(kind.key()))?;
        Some((kind, object.get(kind.key())?))
    }) else {
        return refuse("expected an object with exactly one of number, number_list, string_list, ip_list");
    };
    match items(kind, content) {
        Some(items) => Ok(Some(CustomMetric {
            name: name.to_owned(),
            kind,
            items,
            ranked: false,
        })),
        None => refuse(&format!("{}: expected {}", kind.key(), expected(kind))),
    }
}

fn items(kind: MetricType, content: &Value) -> Option<Vec<MetricItem>> {
    if kind == MetricType::Number {
        return Some(vec![item(kind, content)?]);
    }
    let list = content.as_array().filter(|list| list.len() <= MAX_ITEMS)?;
    list.iter().map(|element| item(kind, element)).collect()
}

fn item(kind: MetricType, element: &Value) -> Option<MetricItem> {
    match kind {
        MetricType::Number | MetricType::NumberList => match element {
            Value::Number(number) => Some(MetricItem::Number(number.clone())),
            _ => None,
        },
        MetricType::StringList => element
            .as_str()
            .filter(|text| text.len() <= MAX_TEXT && !text.chars().any(char::is_control))
            .map(|text| MetricItem::Text(text.to_owned())),
        MetricType::IpList => element.as_str()?.parse::<IpAddr>().ok().map(MetricItem::Address),
    }
}

fn expected(kind: MetricType) -> String {
    match kind {
        MetricType::Number => "a number".to_owned(),
        MetricType::NumberList => format!("at most {MAX_ITEMS} numbers"),
        MetricType::StringList => format!("at most {MAX_ITEMS} texts of at most {MAX_TEXT} printable bytes"),
        MetricType::IpList => format!("at most {MAX_ITEMS} addresses"),
    }
}

/// A file's name as it may be shown.
#[must_use]
pub fn printable(name: &str) -> String {
    name.chars()
        .filter(|letter| !letter.is_control())
        .take(64)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: Duration = Duration::from_secs(600);

    fn file(name: &str, content: &str) -> MetricFile {
        MetricFile {
            file: name.to_owned(),
            age: Some(Duration::from_secs(1)),
            bytes: content.as_bytes().to_vec(),
        }
    }

    #[test]
    fn each_type_is_read() {
        for (content, expected) in [
            (r#"{"number": -12.5}"#, r#"[{"number":-12.5}]"#),
            (
                r#"{"number": 18446744073709551615}"#,
                r#"[{"number":18446744073709551615}]"#,
            ),
            (r#"{"number_list": [1, 2.5]}"#, r#"[{"number_list":[1,2.5]}]"#),
            (r#"{"string_list": []}"#, r#"[{"string_list":[]}]"#),
            (
                r#"{"ip_list": ["192.0.2.1", "2001:DB8::1"]}"#,
                r#"[{"ip_list":["192.0.2.1","2001:db8::1"]}]"#,
            ),
        ] {
            let metric = read(&file("cpu:temp.json", content), FRESH).unwrap().unwrap();
            assert_eq!(metric.name, "cpu:temp");
            assert_eq!(serde_json::to_string(&metric).unwrap(), expected);
        }
        assert_eq!(read(&file("cpu.json.new", "{"), FRESH), Ok(None));
    }

    #[test]
    fn everything_else_is_refused_with_its_reason() {
        let long = format!(r#"{{"string_list": ["{}"]}}"#, "x".repeat(MAX_TEXT + 1));
        let many = format!(r#"{{"number_list": [{}1]}}"#, "1,".repeat(MAX_ITEMS));
        for (name, content, why) in [
            ("a b.json", r#"{"number": 1}"#, "not valid"),
            ("aws:x.json", r#"{"number": 1}"#, "not valid"),
            (".json", r#"{"number": 1}"#, "not valid"),
            ("a.json", "", "not JSON"),
            ("a.json", &"[".repeat(10_000), "not JSON"),
            ("a.json", r#"{"number": 1e999}"#, "not JSON"),
            ("a.json", "[1]", "exactly one"),
            ("a.json", r#"{"number": 1, "number_list": []}"#, "exactly one"),
            ("a.json", r#"{"Number": 1}"#, "exactly one"),
            ("a.json", r#"{"number": "1"}"#, "a number"),
            ("a.json", r#"{"number": [1]}"#, "a number"),
            ("a.json", r#"{"number_list": 1}"#, "at most"),
            ("a.json", r#"{"ip_list": ["192.0.2.1/24"]}"#, "addresses"),
            ("a.json", r#"{"string_list": ["a\u0007"]}"#, "printable"),
            ("a.json", &long, "printable"),
            ("a.json", &many, "numbers"),
        ] {
            let fault = read(&file(name, content), FRESH).unwrap_err();
            assert!(fault.contains(why) && fault.starts_with(name), "{fault}");
        }
        for (age, why) in [(Some(Duration::from_secs(601)), "stale"), (None, "future")] {
            let old = MetricFile {
                age,
                ..file("a.json", r#"{"number": 1}"#)
            };
            assert!(read(&old, FRESH).unwrap_err().contains(why));
        }
    }
}
