//! The Device Shadow service as a pure function of requests and time.
//!
//! In: the topic and payload of one request and the time in epoch seconds. Out: every message the
//! service publishes because of it, in order. Classic and named shadows of any thing.
//! Deliberately absent: MQTT, a clock, access control (401/403), the limit of ten requests in flight
//! (429), and the HTTP-only listing of named shadows.

mod document;
mod request;
#[cfg(test)]
mod tests;
mod topic;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use document::{Document, Section};
use request::{Rejection, Update};
pub(crate) use topic::{MAX_THING_CHARS, is_name};
pub use topic::{ShadowId, ShadowOperation, ShadowTopic};

/// Seconds for which the version counter of a deleted shadow is remembered: recreated within them the
/// version continues, afterwards it starts again.
pub const VERSION_MEMORY_SECONDS: u64 = 48 * 60 * 60;

/// Largest state of one shadow in bytes of compact JSON, desired and reported together, metadata not
/// counted: the default quota of the service.
pub const MAX_STATE_BYTES: usize = 8 * 1024;

/// Shadows (and remembered versions of deleted ones) kept at once. A lab has a handful; this bounds
/// memory at about 20 MiB when somebody floods the broker with invented thing names.
pub const MAX_SHADOWS: usize = 1_000;

/// One message the service publishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Topic to publish on.
    pub topic: String,
    /// Compact JSON.
    pub payload: Vec<u8>,
}

impl Answer {
    pub(crate) fn new(topic: String, document: &Value) -> Self {
        Self {
            topic,
            payload: document.to_string().into_bytes(),
        }
    }
}

/// What a shadow holds, without metadata.
#[derive(Debug, Clone, PartialEq)]
pub struct ShadowView {
    /// Version after the last accepted update.
    pub version: u64,
    /// The desired section, empty when absent.
    pub desired: Value,
    /// The reported section, empty when absent.
    pub reported: Value,
}

/// What is known under one shadow's name.
#[derive(Debug)]
enum Entry {
    Live(Document),
    Deleted { version: u64, at_seconds: u64 },
}

/// All shadows of all things.
#[derive(Debug, Default)]
pub struct Shadows {
    entries: BTreeMap<ShadowId, Entry>,
}

impl Shadows {
    /// Handles one request; anything that is not a request topic gets no answer. `now_seconds` is epoch
    /// seconds.
    pub fn handle(&mut self, topic: &str, payload: &[u8], now_seconds: u64) -> Vec<Answer> {
        let Some(topic) = ShadowTopic::parse(topic) else {
            return Vec::new();
        };
        let outcome = topic.check_names().and_then(|()| match topic.operation {
            ShadowOperation::Get => self.get(&topic, payload, now_seconds),
            ShadowOperation::Update => self.update(&topic, payload, now_seconds),
            ShadowOperation::Delete => self.delete(&topic, payload, now_seconds),
        });
        outcome.unwrap_or_else(|rejection| {
            vec![Answer::new(
                topic.answer("rejected"),
                &rejection.document(now_seconds),
            )]
        })
    }

    /// The current content of a shadow, if it exists.
    pub fn view(&self, id: &ShadowId) -> Option<ShadowView> {
        match self.entries.get(id)? {
            Entry::Live(document) => Some(ShadowView {
                version: document.version,
                desired: Value::Object(document.desired.state.clone()),
                reported: Value::Object(document.reported.state.clone()),
            }),
            Entry::Deleted { .. } => None,
        }
    }

    fn live(&self, topic: &ShadowTopic, token: Option<&str>) -> Result<&Document, Rejection> {
        match self.entries.get(&topic.id) {
            Some(Entry::Live(document)) => Ok(document),
            _ => Err(Rejection::not_found(&topic.id, token)),
        }
    }

    fn get(&self, topic: &ShadowTopic, payload: &[u8], now: u64) -> Result<Vec<Answer>, Rejection> {
        let token = request::token_only(payload)?;
        let document = self.live(topic, token.as_deref())?;
        let mut state = document.state();
        if let Some(delta) = document.delta() {
            state.insert("delta".to_owned(), Value::Object(delta.state));
        }
        let answer = json!({
            "state": state,
            "metadata": document.metadata(),
            "version": document.version,
            "timestamp": now,
        });
        Ok(vec![Answer::new(
            topic.answer("accepted"),
            &with_token(answer, token.as_deref()),
        )])
    }

    fn delete(&mut self, topic: &ShadowTopic, payload: &[u8], now: u64) -> Result<Vec<Answer>, Rejection> {
        let token = request::token_only(payload)?;
        let version = self.live(topic, token.as_deref())?.version;
        self.entries.insert(
            topic.id.clone(),
            Entry::Deleted {
                version,
                at_seconds: now,
            },
        );
        let answer = json!({"version": version, "timestamp": now});
        Ok(vec![Answer::new(
            topic.answer("accepted"),
            &with_token(answer, token.as_deref()),
        )])
    }

    fn update(&mut self, topic: &ShadowTopic, payload: &[u8], now: u64) -> Result<Vec<Answer>, Rejection> {
        let update = request::parse_update(payload)?;
        let token = update.client_token.as_deref();
        self.make_room(&topic.id, now)
            .ok_or_else(|| Rejection::new(500, "this stand-in keeps no more shadows", token))?;
        let previous = self.previous(&topic.id, now);
        if let Some(version) = update.version
            && version != previous.version
        {
            return Err(Rejection::new(409, "Version conflict", token));
        }
        let mut current = previous.clone();
        current.apply(&update, now);
        if current.state_bytes() > MAX_STATE_BYTES {
            return Err(Rejection::new(
                413,
                "The payload exceeds the maximum size allowed",
                token,
            ));
        }
        let answers = update_answers(topic, &update, &previous, &current, now);
        self.entries.insert(topic.id.clone(), Entry::Live(current));
        Ok(answers)
    }

    /// The document an update starts from: the live one, or an empty one whose version continues after
    /// a recent deletion.
    fn previous(&self, id: &ShadowId, now: u64) -> Document {
        match self.entries.get(id) {
            Some(Entry::Live(document)) => document.clone(),
            Some(Entry::Deleted { version, at_seconds }) if remembered(*at_seconds, now) => {
                Document::empty(*version)
            }
            _ => Document::empty(0),
        }
    }

    /// `None` when a new shadow does not fit even after forgetting what may be forgotten.
    fn make_room(&mut self, id: &ShadowId, now: u64) -> Option<()> {
        if self.entries.len() >= MAX_SHADOWS && !self.entries.contains_key(id) {
            self.entries.retain(|_, entry| match entry {
                Entry::Live(_) => true,
                Entry::Deleted { at_seconds, .. } => remembered(*at_seconds, now),
            });
        }
        (self.entries.len() < MAX_SHADOWS || self.entries.contains_key(id)).then_some(())
    }
}

fn remembered(deleted_at: u64, now: u64) -> bool {
    now.saturating_sub(deleted_at) <= VERSION_MEMORY_SECONDS
}

/// `accepted`, then `delta` when anything differs, then `documents`.
fn update_answers(
    topic: &ShadowTopic,
    update: &Update,
    previous: &Document,
    current: &Document,
    now: u64,
) -> Vec<Answer> {
    let token = update.client_token.as_deref();
    let accepted = json!({
        "state": update.state(),
        "metadata": update.metadata(now),
        "version": current.version,
        "timestamp": now,
    });
    let mut answers = vec![Answer::new(
        topic.answer("accepted"),
        &with_token(accepted, token),
    )];
    if let Some(Section { state, metadata }) = current.delta() {
        let delta =
            json!({"version": current.version, "timestamp": now, "state": state, "metadata": metadata});
        answers.push(Answer::new(topic.answer("delta"), &with_token(delta, token)));
    }
    let documents = json!({
        "previous": previous.full(),
        "current": current.full(),
        "timestamp": now,
    });
    answers.push(Answer::new(
        topic.answer("documents"),
        &with_token(documents, token),
    ));
    answers
}

/// Adds the request's client token, when it had one.
fn with_token(document: Value, token: Option<&str>) -> Value {
    let mut fields = match document {
        Value::Object(fields) => fields,
        other => Map::from_iter([("document".to_owned(), other)]),
    };
    if let Some(token) = token {
        fields.insert("clientToken".to_owned(), Value::from(token));
    }
    Value::Object(fields)
}
