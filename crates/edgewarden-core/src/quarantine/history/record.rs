//! One record, one line. In: an [`Event`] and the record before. Out: the line; and a line read back.
//!
//! A line is a JSON object whose last member is `hash`, the SHA-256 of the line without that member: of the very bytes,
//! so that no byte can change unnoticed and anybody can check it with `sha256sum`. A kind that this version does not
//! know is still a link of the chain.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::Event;

/// Characters of one text that are kept; reasons and faults are sentences.
const MAX_TEXT: usize = 256;
/// Texts of one list that are kept.
const MAX_LIST: usize = 8;
/// Longest line in bytes. A control character is six bytes in JSON: a list of the longest texts is below 14,000.
pub(crate) const MAX_LINE: usize = 16 * 1024;
/// Hexadecimal digits of a hash.
const DIGITS: usize = 64;
/// What stands before the hash of a line.
const BEFORE_HASH: &str = ",\"hash\":\"";
/// What stands after it.
const AFTER_HASH: &str = "\"}";

/// A SHA-256 in hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hash(String);

impl Hash {
    /// What the very first record names as the hash of the one before.
    pub fn none() -> Self {
        Self("0".repeat(DIGITS))
    }

    fn of(bytes: &[u8]) -> Self {
        let mut digits = String::with_capacity(DIGITS);
        for byte in Sha256::digest(bytes) {
            // Writing to a string cannot fail.
            let _ = write!(digits, "{byte:02x}");
        }
        Self(digits)
    }
}

impl std::fmt::Display for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The end of a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainHead {
    /// Number of the newest record, from 1.
    pub seq: u64,
    pub hash: Hash,
}

#[derive(Serialize, Deserialize)]
struct RecordBody<E> {
    seq: u64,
    at: Timestamp,
    event: E,
    prev: Hash,
}

/// A record that was read: its content fits its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its number and its hash.
    pub head: ChainHead,
    /// When it happened, by the wall clock of then.
    pub at: Timestamp,
    /// What happened, as it was written.
    pub event: Value,
    /// The hash of the record before.
    pub prev: Hash,
}

impl Record {
    /// The event, if this version knows its kind.
    pub fn known(&self) -> Option<Event> {
        Event::deserialize(&self.event).ok()
    }
}

/// The line that comes after `before` (its newline included), and the new end of the chain.
pub fn line(before: Option<&ChainHead>, at: Timestamp, event: &Event) -> (String, ChainHead) {
    let seq = before.map_or(0, |head| head.seq).saturating_add(1);
    let body = RecordBody {
        seq,
        at,
        // Plain data serialises; if it did not, the record would still say that and when something happened.
        event: bounded(serde_json::to_value(event).unwrap_or_default()),
        prev: before.map_or_else(Hash::none, |head| head.hash.clone()),
    };
    let (line, hash) = seal(&serde_json::to_string(&body).unwrap_or_default());
    (line, ChainHead { seq, hash })
}

/// Adds the hash as the last member of a JSON object.
pub(super) fn seal(body: &str) -> (String, Hash) {
    let hash = Hash::of(body.as_bytes());
    let open = body.strip_suffix('}').unwrap_or(body);
    (format!("{open}{BEFORE_HASH}{hash}{AFTER_HASH}\n"), hash)
}

/// Why a line is no record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineFault {
    /// It does not look like one.
    #[error("no record: {0}")]
    Form(String),
    /// Its hash is another.
    #[error("was changed: it says that its hash is {said}, its content has {found}")]
    Content {
        /// What the line says.
        said: String,
        /// What its content has.
        found: Hash,
    },
}

/// Reads one line without its newline.
///
/// # Errors
/// [`LineFault`].
pub(super) fn parse(line: &[u8]) -> Result<Record, LineFault> {
    let form = |why: &str| LineFault::Form(why.to_owned());
    let text = std::str::from_utf8(line).map_err(|_| form("no UTF-8"))?;
    let (open, hash) = text
        .strip_suffix(AFTER_HASH)
        .and_then(|rest| rest.rsplit_once(BEFORE_HASH))
        .ok_or_else(|| form("it does not end with a hash"))?;
    let body = format!("{open}}}");
    let found = Hash::of(body.as_bytes());
    if hash != found.0 {
        let said = hash.chars().take(DIGITS).collect();
        return Err(LineFault::Content { said, found });
    }
    let body: RecordBody<Value> =
        serde_json::from_str(&body).map_err(|error| LineFault::Form(error.to_string()))?;
    Ok(Record {
        head: ChainHead {
            seq: body.seq,
            hash: found,
        },
        at: body.at,
        event: body.event,
        prev: body.prev,
    })
}

/// Texts and lists cut to what a record may hold; all lists of events are lists of texts.
fn bounded(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(clip(&text)),
        Value::Array(mut items) => {
            let more = items.len().saturating_sub(MAX_LIST);
            items.truncate(MAX_LIST);
            let mut items: Vec<Value> = items.into_iter().map(bounded).collect();
            if more > 0 {
                items.push(Value::String(format!("and {more} more")));
            }
            Value::Array(items)
        }
        Value::Object(mut members) => {
            for value in members.values_mut() {
                *value = bounded(value.take());
            }
            Value::Object(members)
        }
        other => other,
    }
}

fn clip(text: &str) -> String {
    match text.char_indices().nth(MAX_TEXT) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
