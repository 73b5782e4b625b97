//! Names of shadows and of their request topics.
//!
//! In: a topic. Out: which shadow, which operation, and the topics of the answers.
//! Deliberately absent: answer topics as input; the service never listens to itself.

use super::request::Rejection;

/// Longest topic the service looks at, in bytes: AWS IoT refuses longer ones.
const MAX_TOPIC_BYTES: usize = 256;

/// Longest thing name in characters (service quota).
pub(crate) const MAX_THING_CHARS: usize = 128;

/// Longest shadow name in characters (service quota).
const MAX_SHADOW_NAME_CHARS: usize = 64;

/// Which shadow: the classic one has no name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ShadowId {
    /// Thing the shadow belongs to.
    pub thing: String,
    /// Name, or `None` for the classic shadow.
    pub name: Option<String>,
}

impl ShadowId {
    /// The classic shadow of `thing`.
    pub fn classic(thing: &str) -> Self {
        Self {
            thing: thing.to_owned(),
            name: None,
        }
    }

    /// Topic prefix of this shadow, without trailing slash.
    pub fn prefix(&self) -> String {
        match &self.name {
            None => format!("$aws/things/{}/shadow", self.thing),
            Some(name) => format!("$aws/things/{}/shadow/name/{name}", self.thing),
        }
    }
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShadowOperation {
    /// Read the whole document.
    Get,
    /// Merge a change into it.
    Update,
    /// Remove it.
    Delete,
}

impl ShadowOperation {
    /// Last segment of the request topic.
    pub fn segment(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }

    fn parse(segment: &str) -> Option<Self> {
        [Self::Get, Self::Update, Self::Delete]
            .into_iter()
            .find(|operation| operation.segment() == segment)
    }
}

/// A parsed request topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShadowTopic {
    /// The shadow asked about.
    pub id: ShadowId,
    /// The operation asked for.
    pub operation: ShadowOperation,
}

impl ShadowTopic {
    /// Reads a request topic; `None` for every other topic.
    pub fn parse(topic: &str) -> Option<Self> {
        if topic.len() > MAX_TOPIC_BYTES {
            return None;
        }
        let mut segments = topic.strip_prefix("$aws/things/")?.split('/');
        let thing = segments.next()?.to_owned();
        if segments.next()? != "shadow" {
            return None;
        }
        let (name, operation) = match (segments.next()?, segments.next(), segments.next()) {
            (operation, None, None) => (None, operation),
            ("name", Some(name), Some(operation)) => (Some(name.to_owned()), operation),
            _ => return None,
        };
        if segments.next().is_some() {
            return None;
        }
        let operation = ShadowOperation::parse(operation)?;
        Some(Self {
            id: ShadowId { thing, name },
            operation,
        })
    }

    /// Topic of one answer to this request (`accepted`, `rejected`, `delta`, `documents`).
    pub fn answer(&self, kind: &str) -> String {
        format!("{}/{}/{kind}", self.id.prefix(), self.operation.segment())
    }

    /// Refuses names outside the service's pattern.
    pub(super) fn check_names(&self) -> Result<(), Rejection> {
        if !is_name(&self.id.thing, MAX_THING_CHARS) {
            return Err(Rejection::new(400, "Invalid thing name", None));
        }
        match &self.id.name {
            Some(name) if !is_name(name, MAX_SHADOW_NAME_CHARS) => {
                Err(Rejection::new(400, "Invalid shadow name", None))
            }
            _ => Ok(()),
        }
    }
}

/// Whether `name` has 1 to `max_chars` characters of `[A-Za-z0-9:_-]`.
pub(crate) fn is_name(name: &str, max_chars: usize) -> bool {
    (1..=max_chars).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'_' | b'-'))
}
