//! Reads one JSON object field by field and notes every fault instead of stopping at the first.
//!
//! In: a JSON object somebody else wrote. Out: typed fields and a list of [`Fault`]s with paths.
//! Absent on purpose: defaults and meaning; the caller knows those.

use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::doubled::is_doubled;
use super::fault::{Fault, MAX_FAULTS, quote};
use super::time::read_time;

/// Bits before the IPv4 address in `::ffff:0:0/96`.
const MAPPED_PREFIX: u8 = 96;

/// How strictly scalars are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scalars {
    /// Exactly the JSON type (the shadow's contract: a boolean is `true`, never `"true"`).
    Exact,
    /// Numbers and booleans may also be strings: nucleus lite delivers YAML scalars that way
    /// (docs/reference/ipc-wire.md#configuration-values).
    StringsToo,
}

/// One object being read.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    path: String,
    map: &'a Map<String, Value>,
    scalars: Scalars,
    faults: &'a mut Vec<Fault>,
}

impl<'a> Fields<'a> {
    /// Begins to read `value` at `path`; notes a fault and gives `None` when it is not an object.
    /// Keys outside `known` are faults, so a misspelt key is never silently ignored.
    pub(crate) fn open(
        value: &'a Value,
        path: &str,
        known: &[&str],
        scalars: Scalars,
        faults: &'a mut Vec<Fault>,
    ) -> Option<Self> {
        let Some(map) = value.as_object() else {
            push(faults, path, format!("is {}, expected an object", quote(value)));
            return None;
        };
        for key in map.keys().filter(|key| !known.contains(&key.as_str())) {
            let shown: String = key.chars().filter(|c| !c.is_control()).take(64).collect();
            push(
                faults,
                &join(path, &shown),
                format!("unknown key, expected one of {}", known.join(", ")),
            );
        }
        for (key, _) in map.iter().filter(|(key, value)| is_doubled(key, value)) {
            push(faults, &join(path, key), "is given twice, expected it once");
        }
        Some(Self {
            path: path.to_owned(),
            map,
            scalars,
            faults,
        })
    }

    /// The field's value unless it is missing or null.
    pub(crate) fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// Notes a fault at a field.
    pub(crate) fn fault(&mut self, key: &str, problem: impl Into<String>) {
        push(self.faults, &join(&self.path, key), problem);
    }

    /// Takes over a fault found while reading a part with its own list.
    pub(crate) fn adopt(&mut self, fault: Fault) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(fault);
        }
    }

    /// A string of 1 to `max` printable characters.
    pub(crate) fn text(&mut self, key: &str, max: usize) -> Option<&'a str> {
        let value = self.get(key)?;
        match value.as_str() {
            Some(text)
                if !text.is_empty() && text.chars().count() <= max && !text.chars().any(char::is_control) =>
            {
                Some(text)
            }
            _ => {
                self.fault(
                    key,
                    format!(
                        "is {}, expected a text of 1 to {max} printable characters",
                        quote(value)
                    ),
                );
                None
            }
        }
    }

    /// A string for which `parse` finds a meaning.
    pub(crate) fn word<T>(
        &mut self,
        key: &str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let value = self.get(key)?;
        let parsed = value.as_str().and_then(parse);
        if parsed.is_none() {
            self.fault(key, format!("is {}, expected {expected}", quote(value)));
        }
        parsed
    }

    /// A whole number in a range.
    pub(crate) fn integer(&mut self, key: &str, min: u64, max: u64) -> Option<u64> {
        let value = self.get(key)?;
        let number = read_integer(value, self.scalars).filter(|n| (min..=max).contains(n));
        if number.is_none() {
            self.fault(
                key,
                format!("is {}, expected a whole number from {min} to {max}", quote(value)),
            );
        }
        number
    }

    /// An RFC 3339 time.
    pub(crate) fn time(&mut self, key: &str) -> Option<Timestamp> {
        self.word(key, "a time such as 2026-11-25T00:00:00Z (RFC 3339)", read_time)
    }

    /// An address or an address block, `192.0.2.7` or `192.0.2.0/24` or their IPv6 forms.
    pub(crate) fn network(&mut self, key: &str) -> Option<IpNet> {
        self.word(
            key,
            "an address or block such as 198.51.100.7/32 or 2001:db8::/32",
            read_network,
        )
    }

    /// A list of at most `max` items, each read by `read(item, path, faults)`.
    pub(crate) fn list<T>(
        &mut self,
        key: &str,
        max: usize,
        mut read: impl FnMut(&'a Value, &str, &mut Vec<Fault>) -> Option<T>,
    ) -> Vec<T> {
        let Some(value) = self.get(key) else {
            return Vec::new();
        };
        let path = join(&self.path, key);
        match value.as_array() {
            Some(items) if items.len() <= max => items
                .iter()
                .enumerate()
                .filter_map(|(index, item)| read(item, &format!("{path}[{index}]"), self.faults))
                .collect(),
            Some(items) => {
                self.fault(key, format!("has {} items, expected at most {max}", items.len()));
                Vec::new()
            }
            None => {
                self.fault(key, format!("is {}, expected a list", quote(value)));
                Vec::new()
            }
        }
    }
}

/// Adds a fault unless the list is full.
pub(crate) fn push(faults: &mut Vec<Fault>, path: &str, problem: impl Into<String>) {
    if faults.len() < MAX_FAULTS {
        faults.push(Fault::new(path, problem));
    }
}

/// `parent.key`; an empty part is left out.
pub(crate) fn join(path: &str, key: &str) -> String {
    match (path, key) {
        ("", key) => key.to_owned(),
        (path, "") => path.to_owned(),
        (path, key) => format!("{path}.{key}"),
    }
}

/// A whole number, also from a string when `scalars` says so.
pub(crate) fn read_integer(value: &Value, scalars: Scalars) -> Option<u64> {
    match (value, scalars) {
        (Value::Number(_), _) => value.as_u64().or_else(|| whole(value.as_f64()?)),
        (Value::String(text), Scalars::StringsToo) => text
            .trim()
            .parse()
            .ok()
            .or_else(|| whole(text.trim().parse().ok()?)),
        _ => None,
    }
}

/// A port of somebody else's settings, as number or text.
#[must_use]
pub fn read_port(value: &Value) -> Option<u16> {
    let number = read_integer(value, Scalars::StringsToo)?;
    u16::try_from(number).ok().filter(|port| *port > 0)
}

/// What YAML 1.1 and 1.2 take for a boolean. Where a nucleus reads it as one, another hands it on as it was written, and the
/// same recipe must mean the same.
const TRUE: [&str; 3] = ["true", "yes", "on"];
const FALSE: [&str; 3] = ["false", "no", "off"];

/// A boolean, also from a text that YAML takes for one (`True`, `no`) when `scalars` says so.
pub(crate) fn read_flag(value: &Value, scalars: Scalars) -> Option<bool> {
    match (value, scalars) {
        (Value::Bool(flag), _) => Some(*flag),
        (Value::String(text), Scalars::StringsToo) => read_word(text.trim()),
        _ => None,
    }
}

/// In lower case, capitals, or with the first letter as one; YAML knows no other mixture.
fn read_word(text: &str) -> Option<bool> {
    let behind = text.get(1..)?;
    let is_plain = text == text.to_ascii_uppercase() || behind == behind.to_ascii_lowercase();
    let is_one_of = |words: [&str; 3]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    match (is_plain, is_one_of(TRUE), is_one_of(FALSE)) {
        (true, true, _) => Some(true),
        (true, _, true) => Some(false),
        _ => None,
    }
}

/// An address block; a bare address stands for itself alone. Host bits are cut off. An IPv4-mapped block is the IPv4
/// block it means: as IPv6 it would match no packet.
pub(crate) fn read_network(text: &str) -> Option<IpNet> {
    let net = text
        .parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .ok()?
        .trunc();
    match net {
        IpNet::V6(v6) => match (
            v6.addr().to_ipv4_mapped(),
            v6.prefix_len().checked_sub(MAPPED_PREFIX),
        ) {
            (Some(v4), Some(length)) => IpNet::new(v4.into(), length).ok(),
            _ => Some(net),
        },
        IpNet::V4(_) => Some(net),
    }
}

/// The configuration store may turn whole numbers into floats (docs/reference/ipc-wire.md#configuration-values).
fn whole(number: f64) -> Option<u64> {
    const LARGEST_EXACT: f64 = 9_007_199_254_740_992.0;
    if number.fract() != 0.0 || !(0.0..=LARGEST_EXACT).contains(&number) {
        return None;
    }
    format!("{number:.0}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_fault_is_found_at_once_with_its_path() {
        let value = json!({"n": 0, "t": "", "net": "300.1.1.1", "extra": 1, "items": [1, "x"]});
        let mut faults = Vec::new();
        let mut fields = Fields::open(
            &value,
            "order",
            &["n", "t", "net", "items"],
            Scalars::Exact,
            &mut faults,
        )
        .unwrap();
        assert_eq!(fields.integer("n", 1, 9), None);
        assert_eq!(fields.text("t", 5), None);
        assert_eq!(fields.network("net"), None);
        let items = fields.list("items", 4, |item, path, faults| {
            item.as_u64().or_else(|| {
                push(faults, path, "no number");
                None
            })
        });
        assert_eq!(items, [1]);
        let paths: Vec<_> = faults.iter().map(|f| f.path.as_str()).collect();
        assert_eq!(
            paths,
            ["order.extra", "order.n", "order.t", "order.net", "order.items[1]"]
        );
    }

    #[test]
    fn scalars_as_strings_are_read_only_where_the_nucleus_sends_them() {
        assert_eq!(read_integer(&json!("300"), Scalars::StringsToo), Some(300));
        assert_eq!(read_integer(&json!("300.0"), Scalars::StringsToo), Some(300));
        assert_eq!(read_integer(&json!(300.0), Scalars::Exact), Some(300));
        assert_eq!(read_integer(&json!("300"), Scalars::Exact), None);
        assert_eq!(read_integer(&json!(-1), Scalars::Exact), None);
        assert_eq!(read_flag(&json!("true"), Scalars::StringsToo), Some(true));
        assert_eq!(read_flag(&json!("true"), Scalars::Exact), None);
        assert_eq!(read_flag(&json!(1), Scalars::StringsToo), None);
        assert_eq!(read_network("192.0.2.77/24").unwrap().to_string(), "192.0.2.0/24");
        assert_eq!(
            read_network("::ffff:192.0.2.1").unwrap().to_string(),
            "192.0.2.1/32"
        );
        assert_eq!(
            read_network("::ffff:192.0.2.0/120").unwrap().to_string(),
            "192.0.2.0/24"
        );
        assert_eq!(
            read_network("2001:db8::/32").unwrap().to_string(),
            "2001:db8::/32"
        );
    }

    #[test]
    fn a_text_is_a_flag_or_a_port_where_yaml_would_make_it_one() {
        for (text, flag) in [
            ("True", true),
            ("TRUE", true),
            (" yes ", true),
            ("On", true),
            ("False", false),
            ("NO", false),
            ("off", false),
        ] {
            assert_eq!(read_flag(&json!(text), Scalars::StringsToo), Some(flag), "{text}");
            assert_eq!(read_flag(&json!(text), Scalars::Exact), None, "{text}");
        }
        for text in ["tRue", "truE", "y", "1", "", "ja", "é"] {
            assert_eq!(read_flag(&json!(text), Scalars::StringsToo), None, "{text}");
        }
        for value in [json!(8883), json!("8883"), json!(8883.0), json!("8883.0")] {
            assert_eq!(read_port(&value), Some(8883), "{value}");
        }
        for value in [json!(0), json!(65_536), json!(1.5), json!("x"), json!(null)] {
            assert_eq!(read_port(&value), None, "{value}");
        }
    }
}
