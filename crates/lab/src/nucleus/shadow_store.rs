//! The shadows on the device: what the classic nucleus' ShadowManager keeps, in memory and without synchronization.
//!
//! In: one request and the time. Out: the reply, and the messages that go over local publish/subscribe. The documents
//! are [`crate::cloud::shadow`]'s, since ShadowManager follows the service. Deliberately absent: rate limits, the
//! database, the cloud's side, the `rejected` message of a request that is not authorized.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::refusal::Refusal;
use crate::cloud::shadow::{Answer, ShadowId, ShadowOperation, ShadowTopic, Shadows};

/// Shadow names answered at a time, unless the request says otherwise.
pub const DEFAULT_PAGE: usize = 25;
/// Most shadow names answered at a time.
pub const MAX_PAGE: usize = 100;

/// All shadows of all things.
#[derive(Debug, Default)]
pub struct ShadowStore {
    shadows: Shadows,
    names: BTreeMap<String, BTreeSet<String>>,
}

/// What a request leads to.
#[derive(Debug)]
pub struct Outcome {
    /// The document for the one who asked.
    pub reply: Result<Vec<u8>, Refusal>,
    /// Messages for those who listen, in ShadowManager's order: `accepted` comes last.
    pub messages: Vec<Answer>,
}

#[derive(Deserialize)]
struct Rejected {
    code: u16,
    message: String,
}

impl ShadowStore {
    /// Reads, changes or removes a shadow. `now_seconds` is epoch seconds.
    pub fn request(&mut self, topic: &ShadowTopic, payload: &[u8], now_seconds: u64) -> Outcome {
        let request = format!("{}/{}", topic.id.prefix(), topic.operation.segment());
        let mut messages = self.shadows.handle(&request, payload, now_seconds);
        let Some(first) = messages.first() else {
            let refusal = Refusal::arguments("The thing's or the shadow's name is not a name");
            return Outcome {
                reply: Err(refusal),
                messages,
            };
        };
        let reply = if first.topic == topic.answer("accepted") {
            self.remember(topic);
            Ok(match topic.operation {
                // As ShadowManager does, whatever the message says.
                ShadowOperation::Delete => Vec::new(),
                ShadowOperation::Get | ShadowOperation::Update => first.payload.clone(),
            })
        } else {
            Err(refusal(&first.payload))
        };
        messages.rotate_left(1);
        Outcome { reply, messages }
    }

    fn remember(&mut self, topic: &ShadowTopic) {
        let ShadowId {
            thing,
            name: Some(name),
        } = &topic.id
        else {
            return;
        };
        match topic.operation {
            ShadowOperation::Get => {}
            ShadowOperation::Update => {
                self.names.entry(thing.clone()).or_default().insert(name.clone());
            }
            ShadowOperation::Delete => {
                if let Some(names) = self.names.get_mut(thing) {
                    names.remove(name);
                }
                self.names.retain(|_, names| !names.is_empty());
            }
        }
    }

    /// Names of a thing's shadows in their order, at most `size` from the one numbered `offset`.
    #[must_use]
    pub fn names(&self, thing: &str, offset: usize, size: usize) -> Vec<String> {
        let names = self.names.get(thing).into_iter().flatten();
        names.skip(offset).take(size).cloned().collect()
    }
}

/// The service's number as an error of the IPC.
fn refusal(rejection: &[u8]) -> Refusal {
    let Ok(Rejected { code, message }) = serde_json::from_slice(rejection) else {
        return Refusal::service("The shadow could not be handled");
    };
    match code {
        404 => Refusal::not_found("No shadow found"),
        409 => Refusal::conflict(message),
        400 | 413 => Refusal::arguments(message),
        _ => Refusal::service(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn topic(name: &str, operation: ShadowOperation) -> ShadowTopic {
        let id = ShadowId {
            thing: "g".to_owned(),
            name: Some(name.to_owned()),
        };
        ShadowTopic { id, operation }
    }

    fn kinds(outcome: &Outcome) -> Vec<&str> {
        let last = |message: &'_ Answer| message.topic.rfind('/').unwrap() + 1;
        outcome
            .messages
            .iter()
            .map(|message| &message.topic[last(message)..])
            .collect()
    }

    #[test]
    fn a_shadow_lives_from_update_to_delete() {
        let mut store = ShadowStore::default();
        let missing = store.request(&topic("n", ShadowOperation::Get), b"", 1);
        assert_eq!(missing.reply, Err(Refusal::not_found("No shadow found")));
        assert_eq!(kinds(&missing), ["rejected"]);
        let change = json!({ "state": { "desired": { "a": 1 } } }).to_string();
        let updated = store.request(&topic("n", ShadowOperation::Update), change.as_bytes(), 2);
        assert_eq!(kinds(&updated), ["delta", "documents", "accepted"]);
        let reply: Value = serde_json::from_slice(&updated.reply.unwrap()).unwrap();
        assert_eq!(
            (&reply["version"], &reply["state"]["desired"]["a"]),
            (&json!(1), &json!(1))
        );
        assert_eq!(store.names("g", 0, DEFAULT_PAGE), ["n"]);
        let deleted = store.request(&topic("n", ShadowOperation::Delete), b"", 3);
        assert_eq!(deleted.reply, Ok(Vec::new()));
        assert!(store.names("g", 0, DEFAULT_PAGE).is_empty());
    }

    #[test]
    fn what_the_service_rejects_is_an_error_of_the_ipc() {
        let mut store = ShadowStore::default();
        let update = topic("n", ShadowOperation::Update);
        for (name, payload, code) in [
            ("n", "nonsense", "InvalidArgumentsError"),
            ("n/m", "{}", "InvalidArgumentsError"),
            ("n", r#"{"state":{"reported":{}},"version":7}"#, "ConflictError"),
        ] {
            let reply = store.request(&topic(name, ShadowOperation::Update), payload.as_bytes(), 1);
            assert!(
                matches!(reply.reply, Err(Refusal::Modelled { code: actual, .. }) if actual == code),
                "{payload}"
            );
        }
        let large = json!({ "state": { "reported": { "a": "x".repeat(8 * 1024) } } }).to_string();
        assert!(store.request(&update, large.as_bytes(), 1).reply.is_err());
    }
}
