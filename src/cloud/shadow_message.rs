//! One message of the shadow service, read.
//!
//! In: a topic suffix and a payload; hostile. Out: [`ShadowMessage`], with only what enforcement needs, or a sentence
//! that says what was wrong. Shapes: docs/reference/shadow.md#documents.

use jiff::Timestamp;
use serde_json::Value;

use crate::document::{is_doubled, read_json};

/// Largest payload that is read, in bytes: a document of 8 KB with metadata is below 40 KB
/// (docs/reference/shadow.md#limits).
pub(crate) const MAX_PAYLOAD: usize = 64 * 1024;

/// Our part of `reported`.
const OURS: [&str; 2] = ["quarantine", "quarantineStatus"];

/// What the service said.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ShadowMessage {
    /// `get/accepted`.
    Got {
        /// Whose request it answers.
        token: Option<String>,
        version: u64,
        /// `desired.quarantine`; `None` when the key is absent.
        desired: Option<Value>,
        /// Our part of `reported`.
        reported: Value,
    },
    /// `get/rejected`; 404 means that there is no shadow.
    GetRejected {
        /// Whose request it answers.
        token: Option<String>,
        /// Code as in HTTP.
        code: u64,
    },
    /// `update/delta`.
    Delta {
        version: u64,
        /// `quarantine`, if desired and reported differ in it.
        quarantine: Option<Value>,
    },
    /// `update/accepted`: somebody's update, ours or another's.
    Updated {
        /// Whose request it answers.
        token: Option<String>,
        version: u64,
        /// `desired.quarantine` when the update touched it: the inner `None` is a removal.
        desired: Option<Option<Value>>,
        /// Our part of `reported` when it touched that, as written; null: it removed the section.
        reported: Option<Value>,
    },
    /// `update/rejected`.
    UpdateRejected {
        /// Whose request it answers.
        token: Option<String>,
        /// Code as in HTTP.
        code: u64,
        /// The service's words, shortened.
        message: String,
    },
    /// `delete/accepted`.
    Deleted,
}

impl ShadowMessage {
    /// Of whose request it is the answer; messages that answer none have none.
    pub(crate) fn token(&self) -> Option<&str> {
        match self {
            Self::Got { token, .. }
            | Self::GetRejected { token, .. }
            | Self::Updated { token, .. }
            | Self::UpdateRejected { token, .. } => token.as_deref(),
            Self::Delta { .. } | Self::Deleted => None,
        }
    }
}

/// Reads a message; `suffix` is the topic behind the shadow's prefix.
///
/// # Errors
/// A sentence that names the topic, what was found and what was expected.
pub(crate) fn read(suffix: &str, payload: &[u8]) -> Result<ShadowMessage, String> {
    if payload.len() > MAX_PAYLOAD {
        return Err(format!(
            "{suffix}: {} bytes, expected at most {MAX_PAYLOAD}",
            payload.len()
        ));
    }
    if suffix == "delete/accepted" {
        return Ok(ShadowMessage::Deleted);
    }
    let document: Value = read_json(payload).map_err(|error| format!("{suffix}: no valid JSON ({error})"))?;
    if !document.is_object() {
        return Err(format!("{suffix}: expected a JSON object"));
    }
    // What they hold would look as if it were not there, which means a release.
    let state = &document["state"];
    let outer = [("state", state), ("desired", &state["desired"])];
    if let Some((key, _)) = outer.iter().find(|(key, value)| is_doubled(key, value)) {
        return Err(format!("{suffix}: `{key}` is given twice"));
    }
    let token = document["clientToken"].as_str().map(str::to_owned);
    let version = || {
        document["version"]
            .as_u64()
            .ok_or_else(|| format!("{suffix}: `version` is missing or no whole number"))
    };
    let code = || document["code"].as_u64().unwrap_or_default();
    match suffix {
        "get/accepted" => Ok(ShadowMessage::Got {
            token,
            version: version()?,
            desired: present(&document["state"]["desired"]["quarantine"]),
            reported: ours(&document["state"]["reported"]),
        }),
        "get/rejected" => Ok(ShadowMessage::GetRejected { token, code: code() }),
        "update/delta" => {
            let quarantine = present(&document["state"]["quarantine"]);
            Ok(ShadowMessage::Delta {
                version: version()?,
                quarantine,
            })
        }
        "update/accepted" => Ok(ShadowMessage::Updated {
            token,
            version: version()?,
            desired: touched(&document["state"]),
            reported: reports(&document["state"]),
        }),
        "update/rejected" => {
            let message = document["message"].as_str().unwrap_or_default();
            Ok(ShadowMessage::UpdateRejected {
                token,
                code: code(),
                message: message.chars().take(200).collect(),
            })
        }
        _ => Err(format!("{suffix}: a topic that was not subscribed")),
    }
}

/// The service's own time, which it writes into every answer.
pub(crate) fn service_time(payload: &[u8]) -> Option<Timestamp> {
    #[derive(serde::Deserialize)]
    struct ServiceTime {
        timestamp: i64,
    }
    let dated: ServiceTime = serde_json::from_slice(payload).ok()?;
    Timestamp::from_second(dated.timestamp).ok()
}

fn present(value: &Value) -> Option<Value> {
    (!value.is_null()).then(|| value.clone())
}

/// What an update says of `desired.quarantine`: removing the whole section removes the key too.
fn touched(state: &Value) -> Option<Option<Value>> {
    match state.get("desired") {
        Some(Value::Null) => Some(None),
        Some(desired) => desired.get("quarantine").map(present),
        None => None,
    }
}

/// What an update says of our part of `reported`, if it says something of it or removes it.
fn reports(state: &Value) -> Option<Value> {
    let reported = state.get("reported")?;
    if reported.is_null() {
        return Some(Value::Null);
    }
    let ours = ours(reported);
    ours.as_object()
        .is_some_and(|ours| !ours.is_empty())
        .then_some(ours)
}

fn ours(reported: &Value) -> Value {
    let mut ours = serde_json::Map::new();
    for key in OURS {
        if let Some(value) = reported.get(key) {
            ours.insert(key.to_owned(), value.clone());
        }
    }
    Value::Object(ours)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(suffix: &str, document: &Value) -> Result<ShadowMessage, String> {
        read(suffix, document.to_string().as_bytes())
    }

    #[test]
    fn a_delta_is_flat_and_may_not_speak_of_us() {
        let delta = |state: Value| parse("update/delta", &json!({"version": 3, "state": state}));
        let with = ShadowMessage::Delta {
            version: 3,
            quarantine: Some(json!(true)),
        };
        assert_eq!(delta(json!({"quarantine": true, "debug": "off"})), Ok(with));
        assert_eq!(
            delta(json!({"debug": "off"})),
            Ok(ShadowMessage::Delta {
                version: 3,
                quarantine: None
            })
        );
    }

    #[test]
    fn a_key_that_stands_twice_is_no_wish_and_no_release() {
        let got = |text: &str| read("get/accepted", text.as_bytes());
        let text = r#"{"version": 3, "state": {"desired": {"quarantine": true, "quarantine": false}}}"#;
        let Ok(ShadowMessage::Got { desired, .. }) = got(text) else {
            panic!("it is read");
        };
        assert_eq!(desired, Some(json!({"quarantine": "is given twice"})));
        let desired = r#""desired": {"quarantine": true}"#;
        for (key, state) in [
            ("state", format!(r#"{{{desired}}}, "state": {{}}"#)),
            ("desired", format!(r#"{{{desired}, "desired": {{}}}}"#)),
        ] {
            let told = got(&format!(r#"{{"version": 3, "state": {state}}}"#));
            assert_eq!(told, Err(format!("get/accepted: `{key}` is given twice")));
        }
    }

    #[test]
    fn an_update_tells_removal_from_silence() {
        let desired = |state: Value| match parse("update/accepted", &json!({"version": 3, "state": state})) {
            Ok(ShadowMessage::Updated { desired, .. }) => desired,
            other => panic!("{other:?}"),
        };
        assert_eq!(desired(json!({"desired": {"quarantine": null}})), Some(None));
        assert_eq!(desired(json!({"desired": null})), Some(None));
        assert_eq!(desired(json!({"desired": {"debug": "on"}})), None);
        assert_eq!(desired(json!({"reported": {"quarantine": true}})), None);
        assert_eq!(
            desired(json!({"desired": {"quarantine": false}})),
            Some(Some(json!(false)))
        );
    }

    #[test]
    fn an_update_tells_whether_it_writes_over_what_is_reported() {
        let reports = |state: Value| match parse("update/accepted", &json!({"version": 3, "state": state})) {
            Ok(ShadowMessage::Updated { reported, .. }) => reported,
            other => panic!("{other:?}"),
        };
        for touches in [
            json!({"quarantine": null}),
            json!({"quarantineStatus": {}}),
            json!(null),
        ] {
            assert_eq!(reports(json!({ "reported": touches })), Some(touches));
        }
        assert_eq!(
            reports(json!({"reported": {"debug": "on"}, "desired": {"quarantine": true}})),
            None
        );
    }

    #[test]
    fn the_services_time_is_in_seconds_or_not_there() {
        let time = |document: Value| service_time(document.to_string().as_bytes());
        let noon = "2023-11-14T22:13:20Z".parse().ok();
        assert_eq!(time(json!({"timestamp": 1_700_000_000, "version": 3})), noon);
        for other in [
            json!({}),
            json!({"timestamp": "now"}),
            json!({"timestamp": i64::MAX}),
            json!(7),
        ] {
            assert_eq!(time(other), None);
        }
    }

    #[test]
    fn bad_documents_are_named() {
        let error = |suffix: &str, payload: &[u8]| read(suffix, payload).unwrap_err();
        assert!(error("update/delta", b"{nonsense").contains("no valid JSON"));
        assert!(error("update/delta", b"[]").contains("expected a JSON object"));
        assert!(error("update/delta", b"{\"state\":{}}").contains("version"));
        assert!(error("update/delta", &vec![b' '; 200 * 1024]).contains("204800 bytes"));
        assert!(error("update/documents", b"{}").contains("not subscribed"));
    }
}
