//! Local publish/subscribe. All clients are the one component, so `RECEIVE_MESSAGES_FROM_OTHERS` leaves what the
//! nucleus itself publishes: shadows.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{BAD_PARAMETERS, authorize, text};
use crate::nucleus::policy::Service;
use crate::nucleus::refusal::Refusal;
use crate::nucleus::state::Nucleus;
use crate::nucleus::subscriptions::{Interest, Sender};

pub(super) fn publish(nucleus: &Nucleus, request: &Value) -> Result<(), Refusal> {
    let topic = text(request, "topic").map_err(|_| bad(nucleus))?;
    let publish = request.get("publishMessage").ok_or_else(|| bad(nucleus))?;
    let (kind, message) = content(publish).ok_or_else(|| bad(nucleus))?;
    authorize(nucleus, Service::PubSub, "PublishToTopic", topic)?;
    if !nucleus.personality.is_lite() && topic.contains(['+', '#', '*']) {
        return Err(Refusal::arguments("Publish topic must not contain a wildcard."));
    }
    let event = json!({ kind: { "message": message, "context": { "topic": topic } } });
    nucleus
        .subscriptions
        .deliver_local(topic, &event, Sender::Component);
    Ok(())
}

/// Exactly one of the two kinds, with the content that kind has.
fn content(publish: &Value) -> Option<(&'static str, &Value)> {
    match (publish.get("jsonMessage"), publish.get("binaryMessage")) {
        (Some(json), None) => Some(("jsonMessage", json.get("message")?)),
        (None, Some(binary)) => {
            let message = binary.get("message")?;
            STANDARD.decode(message.as_str()?).ok()?;
            Some(("binaryMessage", message))
        }
        _ => None,
    }
}

/// What ShadowManager publishes.
pub(super) fn publish_of_nucleus(nucleus: &Nucleus, topic: &str, payload: &[u8]) {
    let message = json!({ "message": STANDARD.encode(payload), "context": { "topic": topic } });
    let event = json!({ "binaryMessage": message });
    nucleus
        .subscriptions
        .deliver_local(topic, &event, Sender::Nucleus);
}

pub(super) fn interest(nucleus: &Nucleus, request: &Value) -> Result<Interest, Refusal> {
    let filter = text(request, "topic").map_err(|_| bad(nucleus))?;
    authorize(nucleus, Service::PubSub, "SubscribeToTopic", filter)?;
    if filter.is_empty() {
        return Err(bad(nucleus));
    }
    let others_only = !nucleus.personality.is_lite()
        && match request.get("receiveMode").and_then(Value::as_str) {
            None => filter.contains(['+', '#']),
            Some("RECEIVE_ALL_MESSAGES") => false,
            Some("RECEIVE_MESSAGES_FROM_OTHERS") => true,
            Some(_) => return Err(bad(nucleus)),
        };
    Ok(Interest::Local {
        filter: filter.to_owned(),
        others_only,
    })
}

fn bad(nucleus: &Nucleus) -> Refusal {
    if nucleus.personality.is_lite() {
        Refusal::service(BAD_PARAMETERS)
    } else {
        Refusal::arguments(BAD_PARAMETERS)
    }
}
