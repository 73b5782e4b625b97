//! The two encodings of reports and of their answers.
//!
//! In: bytes and the [`Format`] that the topic names. Out: a document, or why the bytes are none; and back.
//! Stricter than the libraries: a name that occurs twice, bytes after the document, CBOR tags, byte strings and
//! numbers that are not finite are refused, since JSON, in which the format is documented, has none of them. CBOR of
//! indefinite length is taken: it is well-formed (RFC 8949, 3.2) and says the same. Whole numbers written as floats
//! stay floats and are refused by the check of types. Deliberately absent: what a report holds.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Encoding of a report, named by its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// RFC 8259.
    Json,
    /// RFC 8949.
    Cbor,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 2] = [Self::Json, Self::Cbor];

    /// The topic's segment.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Cbor => "cbor",
        }
    }

    /// The document in these bytes, or what is wrong with them.
    pub fn decode(self, payload: &[u8]) -> Result<Value, String> {
        match self {
            Self::Json => serde_json::from_slice::<Strict>(payload)
                .map(|strict| strict.0)
                .map_err(|error| format!("the report is not JSON: {error}")),
            Self::Cbor => decode_cbor(payload),
        }
    }

    /// The bytes of an answer.
    pub fn encode(self, document: &Value) -> Vec<u8> {
        match self {
            Self::Json => document.to_string().into_bytes(),
            Self::Cbor => {
                let mut bytes = Vec::new();
                // Neither a JSON document nor memory can refuse; without bytes the device sees an answer it cannot
                // read.
                let _ = ciborium::into_writer(document, &mut bytes);
                bytes
            }
        }
    }
}

fn decode_cbor(payload: &[u8]) -> Result<Value, String> {
    let mut rest = payload;
    let Strict(document) = ciborium::from_reader(&mut rest).map_err(|error| match error {
        ciborium::de::Error::Semantic(_, reason) => format!("the report is not CBOR: {reason}"),
        ciborium::de::Error::Io(_) => "the report is not CBOR: it ends too early".to_owned(),
        other => format!("the report is not CBOR: {other:?}"),
    })?;
    if rest.is_empty() {
        return Ok(document);
    }
    Err(format!("the report is not CBOR: {} bytes follow it", rest.len()))
}

/// A document without anything that JSON does not have, nor a name twice.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

/// What is not listed (bytes, tags, numbers beyond 64 bits) is refused by serde.
impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value that JSON has")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("a number is not finite"))?;
        Ok(Value::Number(number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    /// CBOR's null and undefined; no field of a report may be either.
    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((name, Strict(value))) = fields.next_entry::<String, _>()? {
            if object.contains_key(&name) {
                return Err(de::Error::custom(format!("the field {name} occurs twice")));
            }
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Bytes of a hexadecimal notation with blanks.
    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b' ').collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.chunks(2).map(byte).collect()
    }

    #[test]
    fn well_formed_cbor_is_read_in_every_length_it_may_have() {
        for (bytes, expected) in [
            ("a1 61 61 01", json!({"a": 1})),
            ("bf 61 61 01 ff", json!({"a": 1})),
            ("a1 7f 61 61 ff 9f 01 02 ff", json!({"a": [1, 2]})),
            ("a1 61 61 1b 0000000000000001", json!({"a": 1})),
            ("a1 61 61 20", json!({"a": -1})),
            ("a1 61 61 f9 3e00", json!({"a": 1.5})),
            ("a1 61 61 fb 3ff8000000000000", json!({"a": 1.5})),
            ("a1 61 61 f9 4000", json!({"a": 2.0})),
            ("82 f5 f6", json!([true, null])),
        ] {
            assert_eq!(Format::Cbor.decode(&hex(bytes)), Ok(expected), "{bytes}");
        }
        let float = Format::Cbor.decode(&hex("f9 4000")).unwrap();
        assert_eq!(float.as_u64(), None, "a float stays a float");
    }

    #[test]
    fn cbor_that_json_has_no_word_for_is_refused() {
        for (bytes, reason) in [
            ("a2 61 61 01 61 61 02", "field a occurs twice"),
            ("a1 61 61 01 00", "1 bytes follow"),
            ("a1 01 02", "not CBOR"),
            ("a1 61 61", "ends too early"),
            ("", "ends too early"),
            ("41 00", "not CBOR"),
            ("a1 61 61 41 00", "not CBOR"),
            ("a1 61 61 c1 1a 00000000", "not CBOR"),
            ("f9 7e00", "not finite"),
            ("f9 7c00", "not finite"),
            ("61 ff", "not CBOR"),
            ("ff", "not CBOR"),
            ("9b ffffffffffffffff 01", "ends too early"),
        ] {
            let refused = Format::Cbor.decode(&hex(bytes)).unwrap_err();
            assert!(refused.contains(reason), "{bytes}: {refused}");
        }
    }

    #[test]
    fn json_with_a_name_twice_or_a_rest_is_refused() {
        for (text, reason) in [
            (r#"{"a":1,"a":1}"#, "field a occurs twice"),
            (r#"{"a":{"b":1,"b":2}}"#, "field b occurs twice"),
            ("{} {}", "trailing"),
            ("", "not JSON"),
            ("[1e999]", "not JSON"),
        ] {
            let refused = Format::Json.decode(text.as_bytes()).unwrap_err();
            assert!(refused.contains(reason), "{text}: {refused}");
        }
    }

    #[test]
    fn deep_nesting_is_an_error_and_no_crash() {
        let depth = 100_000;
        for (format, open) in [(Format::Json, b'['), (Format::Cbor, 0x81)] {
            assert!(format.decode(&vec![open; depth]).is_err(), "{format:?}");
        }
    }

    #[test]
    fn what_is_encoded_reads_back() {
        let document =
            json!({"thingName": "gw", "reportId": 7, "status": "ACCEPTED", "list": [1.5, null, true]});
        for format in Format::ALL {
            assert_eq!(format.decode(&format.encode(&document)), Ok(document.clone()));
        }
    }
}
