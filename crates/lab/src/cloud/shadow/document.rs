//! One shadow's document: sections, merge, metadata, delta.
//!
//! In: a valid update and the time. Out: the next document and what differs between its sections.
//! Invariant: the metadata tree has exactly the shape of its state tree, with `{"timestamp": S}` in the
//! place of every leaf; arrays are leaves. Deliberately absent: JSON text, topics, limits.

use serde_json::{Map, Value, json};

use super::request::{Change, Update};

type Object = Map<String, Value>;

/// A state tree and its metadata.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Section {
    pub(super) state: Object,
    pub(super) metadata: Object,
}

/// A whole shadow.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Document {
    pub(super) desired: Section,
    pub(super) reported: Section,
    pub(super) version: u64,
}

impl Document {
    pub(super) fn empty(version: u64) -> Self {
        Self {
            desired: Section::default(),
            reported: Section::default(),
            version,
        }
    }

    /// Merges an update and counts the version up.
    pub(super) fn apply(&mut self, update: &Update, now_seconds: u64) {
        self.desired.apply(&update.desired, now_seconds);
        self.reported.apply(&update.reported, now_seconds);
        self.version = self.version.saturating_add(1);
    }

    /// `{"desired": …, "reported": …}` without empty sections.
    pub(super) fn state(&self) -> Object {
        sections([
            ("desired", &self.desired.state),
            ("reported", &self.reported.state),
        ])
    }

    /// Metadata in the shape of [`Document::state`].
    pub(super) fn metadata(&self) -> Object {
        sections([
            ("desired", &self.desired.metadata),
            ("reported", &self.reported.metadata),
        ])
    }

    /// State, metadata and version, as `update/documents` carries them.
    pub(super) fn full(&self) -> Value {
        json!({"state": self.state(), "metadata": self.metadata(), "version": self.version})
    }

    /// Bytes of the state as compact JSON.
    pub(super) fn state_bytes(&self) -> usize {
        Value::Object(self.state()).to_string().len()
    }

    /// Desired leaves that differ from reported, with their metadata; `None` when there are none.
    pub(super) fn delta(&self) -> Option<Section> {
        let delta = difference(&self.desired.state, &self.desired.metadata, &self.reported.state);
        (!delta.state.is_empty()).then_some(delta)
    }
}

impl Section {
    fn apply(&mut self, change: &Change, now: u64) {
        match change {
            Change::Keep => {}
            Change::Remove => *self = Self::default(),
            Change::Merge(patch) => merge(&mut self.state, &mut self.metadata, patch, now),
        }
    }
}

fn sections<const N: usize>(named: [(&str, &Object); N]) -> Object {
    let filled = named.into_iter().filter(|(_, section)| !section.is_empty());
    filled
        .map(|(name, section)| (name.to_owned(), Value::Object(section.clone())))
        .collect()
}

fn merge(state: &mut Object, metadata: &mut Object, patch: &Object, now: u64) {
    for (key, change) in patch {
        match change {
            Value::Null => {
                state.remove(key);
                metadata.remove(key);
            }
            Value::Object(nested) => merge_nested(state, metadata, key, nested, now),
            leaf => {
                state.insert(key.clone(), leaf.clone());
                metadata.insert(key.clone(), timestamp(now));
            }
        }
    }
}

/// Merges an object below `key`; what it leaves empty is removed.
fn merge_nested(state: &mut Object, metadata: &mut Object, key: &str, patch: &Object, now: u64) {
    let (mut child, mut child_metadata) = match (state.remove(key), metadata.remove(key)) {
        (Some(Value::Object(child)), Some(Value::Object(child_metadata))) => (child, child_metadata),
        _ => (Object::new(), Object::new()),
    };
    merge(&mut child, &mut child_metadata, patch, now);
    if !child.is_empty() {
        state.insert(key.to_owned(), Value::Object(child));
        metadata.insert(key.to_owned(), Value::Object(child_metadata));
    }
}

fn difference(desired: &Object, metadata: &Object, reported: &Object) -> Section {
    let mut delta = Section::default();
    for (key, wanted) in desired {
        let stamps = metadata.get(key);
        match (wanted, reported.get(key), stamps) {
            (Value::Object(wanted), Some(Value::Object(actual)), Some(Value::Object(stamps))) => {
                let nested = difference(wanted, stamps, actual);
                if !nested.state.is_empty() {
                    delta.state.insert(key.clone(), Value::Object(nested.state));
                    delta.metadata.insert(key.clone(), Value::Object(nested.metadata));
                }
            }
            (wanted, Some(actual), _) if wanted == actual => {}
            (wanted, _, stamps) => {
                delta.state.insert(key.clone(), wanted.clone());
                if let Some(stamps) = stamps {
                    delta.metadata.insert(key.clone(), stamps.clone());
                }
            }
        }
    }
    delta
}

/// Metadata for a request's own value: a timestamp for every leaf, nothing for what it deletes.
pub(super) fn stamp(value: &Value, now_seconds: u64) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::Object(object) => {
            let stamped = object
                .iter()
                .filter_map(|(key, value)| Some((key.clone(), stamp(value, now_seconds)?)))
                .collect::<Object>();
            (!stamped.is_empty()).then_some(Value::Object(stamped))
        }
        _ => Some(timestamp(now_seconds)),
    }
}

fn timestamp(now_seconds: u64) -> Value {
    json!({"timestamp": now_seconds})
}
