//! Reads shadow requests and words their refusals.
//!
//! In: payload bytes. Out: an [`Update`] or the [`Rejection`] with the documented code.
//! Deliberately absent: the stored document; version and size are checked where it is known.

use serde_json::{Map, Value, json};

use super::ShadowId;
use super::document;

/// Longest client token in bytes.
const MAX_CLIENT_TOKEN_BYTES: usize = 64;

/// Largest request looked at, in bytes: the MQTT payload limit of AWS IoT.
const MAX_REQUEST_BYTES: usize = 128 * 1024;

/// Deepest nesting below `desired` or `reported`: each key and each array on the way to a value counts
/// as one level. The sources name 5, 6 and 8; this is the one found in AWS's own validator.
const MAX_DEPTH: usize = 6;

/// A request the service refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rejection {
    code: u16,
    message: String,
    client_token: Option<String>,
}

impl Rejection {
    pub(super) fn new(code: u16, message: impl Into<String>, client_token: Option<&str>) -> Self {
        Self {
            code,
            message: message.into(),
            client_token: client_token.map(str::to_owned),
        }
    }

    pub(super) fn not_found(id: &ShadowId, client_token: Option<&str>) -> Self {
        let name = id.name.as_deref().unwrap_or(&id.thing);
        Self::new(404, format!("No shadow exists with name: '{name}'"), client_token)
    }

    pub(super) fn document(&self, now_seconds: u64) -> Value {
        let document = json!({"code": self.code, "message": self.message, "timestamp": now_seconds});
        super::with_token(document, self.client_token.as_deref())
    }
}

/// What an update does to one section.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Change {
    /// The section is not named.
    Keep,
    /// The section is `null`.
    Remove,
    /// The section is merged.
    Merge(Map<String, Value>),
}

/// A valid update request.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Update {
    pub(super) desired: Change,
    pub(super) reported: Change,
    pub(super) version: Option<u64>,
    pub(super) client_token: Option<String>,
}

impl Update {
    /// The request's own fields, as `update/accepted` repeats them.
    pub(super) fn state(&self) -> Value {
        self.sections(|patch| Some(Value::Object(patch.clone())), Some(Value::Null))
    }

    /// Metadata of the request's own fields.
    pub(super) fn metadata(&self, now_seconds: u64) -> Value {
        self.sections(
            |patch| document::stamp(&Value::Object(patch.clone()), now_seconds),
            None,
        )
    }

    fn sections(
        &self,
        merged: impl Fn(&Map<String, Value>) -> Option<Value>,
        removed: Option<Value>,
    ) -> Value {
        let mut sections = Map::new();
        for (name, change) in [("desired", &self.desired), ("reported", &self.reported)] {
            let value = match change {
                Change::Keep => None,
                Change::Remove => removed.clone(),
                Change::Merge(patch) => merged(patch),
            };
            if let Some(value) = value {
                sections.insert(name.to_owned(), value);
            }
        }
        Value::Object(sections)
    }
}

/// Reads the payload of `get` and `delete`: empty, or an object with an optional client token.
pub(super) fn token_only(payload: &[u8]) -> Result<Option<String>, Rejection> {
    if payload.is_empty() {
        return Ok(None);
    }
    client_token(&object(payload)?)
}

/// Reads the payload of `update`.
pub(super) fn parse_update(payload: &[u8]) -> Result<Update, Rejection> {
    let mut request = object(payload)?;
    let client_token = client_token(&request)?;
    let token = client_token.as_deref();
    let version = match request.get("version") {
        None => None,
        Some(version) => Some(
            version
                .as_u64()
                .ok_or_else(|| Rejection::new(400, "Invalid version", token))?,
        ),
    };
    let Some(state) = request.remove("state") else {
        return Err(Rejection::new(400, "Missing required node: state", token));
    };
    let Value::Object(mut state) = state else {
        return Err(Rejection::new(400, "State node must be an object", token));
    };
    let desired = change(&mut state, "desired", token)?;
    let reported = change(&mut state, "reported", token)?;
    Ok(Update {
        desired,
        reported,
        version,
        client_token,
    })
}

fn object(payload: &[u8]) -> Result<Map<String, Value>, Rejection> {
    if payload.len() > MAX_REQUEST_BYTES {
        return Err(Rejection::new(
            413,
            "The payload exceeds the maximum size allowed",
            None,
        ));
    }
    let text = std::str::from_utf8(payload).map_err(|_| {
        Rejection::new(
            415,
            "Unsupported documented encoding; supported encoding is UTF-8",
            None,
        )
    })?;
    match serde_json::from_str(text) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(Rejection::new(
            400,
            "Invalid JSON: the request must be an object",
            None,
        )),
        Err(_) => Err(Rejection::new(400, "Invalid JSON", None)),
    }
}

fn client_token(request: &Map<String, Value>) -> Result<Option<String>, Rejection> {
    match request.get("clientToken") {
        None => Ok(None),
        Some(Value::String(token)) if token.len() <= MAX_CLIENT_TOKEN_BYTES => Ok(Some(token.clone())),
        Some(_) => Err(Rejection::new(
            400,
            "Invalid clientToken: a string of at most 64 bytes",
            None,
        )),
    }
}

fn change(state: &mut Map<String, Value>, section: &str, token: Option<&str>) -> Result<Change, Rejection> {
    let patch = match state.remove(section) {
        None => return Ok(Change::Keep),
        Some(Value::Null) => return Ok(Change::Remove),
        Some(Value::Object(patch)) => patch,
        Some(_) => {
            return Err(Rejection::new(
                400,
                format!("{section} node must be an object or null"),
                token,
            ));
        }
    };
    if levels(&patch) > MAX_DEPTH {
        let message =
            format!("JSON contains too many levels of nesting in {section}; maximum is {MAX_DEPTH}");
        return Err(Rejection::new(400, message, token));
    }
    if patch.values().any(array_holds_null) {
        return Err(Rejection::new(
            400,
            format!("{section}: array values may not be null"),
            token,
        ));
    }
    Ok(Change::Merge(patch))
}

/// Levels of nesting below a section. The parser's own recursion limit bounds the recursion.
fn levels(object: &Map<String, Value>) -> usize {
    object
        .values()
        .map(|value| 1 + value_levels(value))
        .max()
        .unwrap_or(0)
}

fn value_levels(value: &Value) -> usize {
    match value {
        Value::Object(object) => levels(object),
        Value::Array(items) => items.iter().map(|item| 1 + value_levels(item)).max().unwrap_or(0),
        _ => 0,
    }
}

/// Whether an array anywhere in `value` holds a `null`, directly or inside an element: an array is one
/// value, so a `null` in it cannot mean "delete".
fn array_holds_null(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(holds_null),
        Value::Object(object) => object.values().any(array_holds_null),
        _ => false,
    }
}

fn holds_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.iter().any(holds_null),
        Value::Object(object) => object.values().any(holds_null),
        _ => false,
    }
}
