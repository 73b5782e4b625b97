//! JSON in which a key may stand twice. In: a text. Out: its value; in place of what such a key has, an object that says
//! so, which whoever reads that key refuses as he refuses any object of the wrong kind, with the key's name.
//!
//! RFC 8259 (section 4) leaves open which of the two counts, and other readers take the first: whoever wrote the text, whoever
//! checked it and whoever obeys it may each mean another order.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// What is said of such a key.
const TWICE: &str = "is given twice";

/// Reads a text in which a key that stands twice has no value.
///
/// # Errors
/// It is no JSON.
pub fn read_json(text: &[u8]) -> serde_json::Result<Value> {
    serde_json::from_slice::<Unambiguous>(text).map(|read| read.0)
}

/// Whether that is what a key has that stands twice.
#[must_use]
pub fn is_doubled(key: &str, value: &Value) -> bool {
    let object = value.as_object().filter(|object| object.len() == 1);
    object.and_then(|object| object.get(key)) == Some(&Value::from(TWICE))
}

struct Unambiguous(Value);

impl<'de> Deserialize<'de> for Unambiguous {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader).map(Self)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("any JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Bool(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Number::from_f64(number).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Unambiguous(value)) = list.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((key, Unambiguous(value))) = members.next_entry::<String, _>()? {
            let value = if object.contains_key(&key) {
                Map::from_iter([(key.clone(), TWICE.into())]).into()
            } else {
                value
            };
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn a_key_that_stands_twice_has_no_value() {
        let read = |text: &str| read_json(text.as_bytes()).unwrap();
        assert_eq!(
            read(r#"{"a": [{"b": 1, "c": 2, "b": 3}], "d": true}"#),
            json!({"a": [{"b": {"b": "is given twice"}, "c": 2}], "d": true})
        );
        // The same key, however it is written, and however often.
        assert_eq!(
            read(r#"{"a": 1, "\u0061": 1, "a": 1}"#),
            json!({"a": {"a": "is given twice"}})
        );
        assert!(is_doubled("a", &read(r#"{"a": 1, "a": 1}"#)["a"]));
        assert!(!is_doubled("a", &json!({"a": 1})) && !is_doubled("a", &json!(1)));
        assert_eq!(read(r#"[{"a": 1}, {"a": 2}]"#), json!([{"a": 1}, {"a": 2}]));
        assert!(read_json(b"{\"a\": 1").is_err());
        assert!(read_json("[".repeat(100_000).as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn any_other_text_is_what_it_always_was(text in "[\\[\\]{}:,\" 0-9a-b.eE\\\\-]{0,40}|-?[0-9]{1,25}(\\.[0-9]{1,20})?(e-?[0-9]{1,3})?") {
            let theirs = serde_json::from_str::<Value>(&text).ok();
            let ours = read_json(text.as_bytes()).ok();
            if !format!("{ours:?}").contains(TWICE) {
                prop_assert_eq!(ours, theirs);
            }
        }
    }
}
