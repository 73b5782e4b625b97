//! The values of a configuration document by the path of their key, each checked against [`KEYS`].
//!
//! In: a JSON object. Out: a value of its key's exact type for every key, and each fault with its path.
//! Absent: what the values mean together ([`super::document`]).

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};

use super::keys::{KEYS, Key, KeyType};
use crate::Gather;
use crate::document::fault::{Fault, quote};
use crate::document::fields::{Scalars, join, push, read_flag, read_integer};

/// Keys of the document that belong to the nucleus, not to us.
const FOREIGN: [&str; 1] = ["accessControl"];
/// Texts in a list, and behaviours; AWS allows 100 behaviours a profile.
pub(super) const MAX_ITEMS: usize = 64;
/// Groups nest at most this deep; deeper is a mistake and ends the descent.
const MAX_DEPTH: usize = 4;
/// Nucleus lite gives strings for numbers and flags.
pub(super) const SCALARS: Scalars = Scalars::StringsToo;

/// All values, by path; every key is present.
pub(super) struct ConfigValues(BTreeMap<&'static str, Value>);

impl ConfigValues {
    pub(super) fn defaults() -> Self {
        // A default that does not parse would be null; `the_defaults_are_valid` proves that none is.
        Self(
            KEYS.iter()
                .map(|key| (key.path, serde_json::from_str(key.default).unwrap_or_default()))
                .in_map(),
        )
    }

    pub(super) fn take(
        &mut self,
        map: &Map<String, Value>,
        path: &str,
        depth: usize,
        faults: &mut Vec<Fault>,
    ) {
        for (name, value) in map {
            let here = join(path, name);
            if path.is_empty() && FOREIGN.contains(&name.as_str()) || value.is_null() {
                continue;
            }
            if let Some(key) = KEYS.iter().find(|key| key.path == here) {
                if let Some(value) = check(key, value, faults) {
                    self.0.insert(key.path, value);
                }
            } else if KEYS.iter().any(|key| key.path.starts_with(&format!("{here}."))) && depth < MAX_DEPTH {
                match value.as_object() {
                    Some(group) => self.take(group, &here, depth + 1, faults),
                    None => push(faults, &here, format!("is {}, expected an object", quote(value))),
                }
            } else {
                let shown: String = here.chars().filter(|c| !c.is_control()).take(80).collect();
                push(faults, &shown, "unknown key");
            }
        }
    }

    pub(super) fn get(&self, path: &str) -> &Value {
        self.0.get(path).unwrap_or(&Value::Null)
    }

    pub(super) fn integer(&self, path: &str) -> u64 {
        self.get(path).as_u64().unwrap_or_default()
    }

    pub(super) fn seconds(&self, path: &str) -> Duration {
        Duration::from_secs(self.integer(path))
    }

    pub(super) fn flag(&self, path: &str) -> bool {
        self.get(path).as_bool().unwrap_or_default()
    }

    pub(super) fn text(&self, path: &str) -> Option<String> {
        self.get(path)
            .as_str()
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    }

    pub(super) fn texts(&self, path: &str) -> Vec<String> {
        let list = self.get(path).as_array().map(Vec::as_slice).unwrap_or_default();
        list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    }
}

/// The value in its exact type, or a fault.
pub(super) fn check(key: &Key, value: &Value, faults: &mut Vec<Fault>) -> Option<Value> {
    let plain = |text: &str, max: usize| text.chars().count() <= max && !text.chars().any(char::is_control);
    let (checked, expected) = match key.kind {
        KeyType::Integer { min, max } => (
            read_integer(value, SCALARS)
                .filter(|n| (min..=max).contains(n))
                .map(Value::from),
            format!("a whole number from {min} to {max}"),
        ),
        KeyType::NeverOr { min, max } => (
            read_integer(value, SCALARS)
                .filter(|n| *n == 0 || (min..=max).contains(n))
                .map(Value::from),
            format!("0 (never), or a whole number from {min} to {max}"),
        ),
        KeyType::Flag => (read_flag(value, SCALARS).map(Value::from), "true or false".into()),
        KeyType::Text(max) => (
            value.as_str().filter(|text| plain(text, max)).map(Value::from),
            format!("a text of at most {max} printable characters"),
        ),
        KeyType::Choice(words) => (
            value
                .as_str()
                .filter(|text| words.contains(text))
                .map(Value::from),
            format!("one of {}", words.join(", ")),
        ),
        KeyType::Texts => (
            value
                .as_array()
                .filter(|list| {
                    list.len() <= MAX_ITEMS
                        && list
                            .iter()
                            .all(|item| item.as_str().is_some_and(|t| !t.is_empty() && plain(t, 512)))
                })
                .map(|_| value.clone()),
            format!("a list of at most {MAX_ITEMS} texts"),
        ),
        KeyType::Document(_) => (Some(value.clone()), String::new()),
    };
    if checked.is_none() {
        push(
            faults,
            key.path,
            format!("is {}, expected {expected}", quote(value)),
        );
    }
    checked
}
