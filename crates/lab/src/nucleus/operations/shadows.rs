//! Shadows, as the classic nucleus' ShadowManager serves them.

use std::sync::PoisonError;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{authorize, pubsub, text};
use crate::cloud::shadow::{ShadowId, ShadowOperation, ShadowTopic};
use crate::nucleus::policy::Service;
use crate::nucleus::refusal::Refusal;
use crate::nucleus::shadow_store::{DEFAULT_PAGE, MAX_PAGE, ShadowStore};
use crate::nucleus::state::Nucleus;

pub(super) fn get(nucleus: &Nucleus, request: &Value) -> Result<Value, Refusal> {
    perform(nucleus, request, "GetThingShadow", ShadowOperation::Get, b"")
}

pub(super) fn delete(nucleus: &Nucleus, request: &Value) -> Result<Value, Refusal> {
    perform(
        nucleus,
        request,
        "DeleteThingShadow",
        ShadowOperation::Delete,
        b"",
    )
}

pub(super) fn update(nucleus: &Nucleus, request: &Value) -> Result<Value, Refusal> {
    let payload = STANDARD
        .decode(text(request, "payload")?)
        .map_err(|_| Refusal::arguments("The payload is not base64"))?;
    if payload.is_empty() {
        return Err(Refusal::arguments("The payload is missing"));
    }
    perform(
        nucleus,
        request,
        "UpdateThingShadow",
        ShadowOperation::Update,
        &payload,
    )
}

pub(super) fn list(nucleus: &Nucleus, request: &Value) -> Result<Value, Refusal> {
    let thing = text(request, "thingName")?;
    authorize(nucleus, Service::ShadowManager, "ListNamedShadowsForThing", thing)?;
    let size = match request.get("pageSize") {
        None | Some(Value::Null) => DEFAULT_PAGE,
        Some(size) => size
            .as_u64()
            .and_then(|size| usize::try_from(size).ok())
            .filter(|size| (1..=MAX_PAGE).contains(size))
            .ok_or_else(|| Refusal::arguments("pageSize argument must be between 1 and 100"))?,
    };
    let offset = match request.get("nextToken").and_then(Value::as_str) {
        None | Some("") => 0,
        Some(token) => offset_of(token).ok_or_else(|| Refusal::arguments("Invalid nextToken argument"))?,
    };
    let names = with_store(nucleus, |store| store.names(thing, offset, size));
    let mut answer = json!({ "results": names, "timestamp": now().as_secs_f64() });
    if names.len() == size {
        answer["nextToken"] = json!(STANDARD.encode((offset + size).to_string()));
    }
    Ok(answer)
}

/// The token is opaque to clients; here it is the number of names answered so far.
fn offset_of(token: &str) -> Option<usize> {
    let bytes = STANDARD.decode(token).ok()?;
    std::str::from_utf8(&bytes)
        .ok()?
        .parse::<u32>()
        .ok()?
        .try_into()
        .ok()
}

fn perform(
    nucleus: &Nucleus,
    request: &Value,
    operation: &str,
    shadow_operation: ShadowOperation,
    payload: &[u8],
) -> Result<Value, Refusal> {
    let name = match request.get("shadowName") {
        None | Some(Value::Null) => None,
        Some(_) => Some(text(request, "shadowName")?.to_owned()).filter(|name| !name.is_empty()),
    };
    let id = ShadowId {
        thing: text(request, "thingName")?.to_owned(),
        name,
    };
    authorize(nucleus, Service::ShadowManager, operation, &id.prefix())?;
    let topic = ShadowTopic {
        id,
        operation: shadow_operation,
    };
    let outcome = with_store(nucleus, |store| store.request(&topic, payload, now().as_secs()));
    for message in &outcome.messages {
        pubsub::publish_of_nucleus(nucleus, &message.topic, &message.payload);
    }
    let document = outcome.reply?;
    Ok(json!({ "payload": STANDARD.encode(document) }))
}

fn with_store<T>(nucleus: &Nucleus, work: impl FnOnce(&mut ShadowStore) -> T) -> T {
    work(&mut nucleus.shadows.lock().unwrap_or_else(PoisonError::into_inner))
}

fn now() -> std::time::Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
