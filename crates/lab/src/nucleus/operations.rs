//! The operations the nucleus serves. In: name and JSON. Out: JSON, a subscription, or a refusal.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rumqttc::v5::mqttbytes::QoS;
use serde_json::{Value, json};

use super::bridge::Subscribed;
use super::events::emit;
use super::policy;
use super::refusal::Refusal;
use super::settings::{Nulls, at, merge, nest};
use super::spool::Outgoing;
use super::state::Nucleus;
use super::subscriptions::{Interest, Outbox};
use super::topics;

/// Where an operation comes from.
pub(super) struct Caller<'a> {
    pub(super) client: u64,
    pub(super) stream: i32,
    pub(super) outbox: &'a Outbox,
}

/// What to answer.
pub(super) enum Answer {
    /// One reply; the stream is over.
    Unary(Value),
    /// A reply, then events.
    Stream(Subscribed),
}

const BAD_PARAMETERS: &str = "Received invalid parameters.";

/// Carries out `operation` (without its `aws.greengrass#`).
pub(super) fn perform(
    nucleus: &Nucleus,
    caller: &Caller<'_>,
    operation: &str,
    request: &Value,
) -> Result<Answer, Refusal> {
    match operation {
        "PublishToIoTCore" => publish(nucleus, request).map(|()| Answer::Unary(json!({}))),
        "SubscribeToIoTCore" => subscribe(nucleus, caller, request).map(Answer::Stream),
        "GetConfiguration" => get_configuration(nucleus, request).map(Answer::Unary),
        "UpdateConfiguration" => update_configuration(nucleus, request).map(|()| Answer::Unary(json!({}))),
        "SubscribeToConfigurationUpdate" => watch(nucleus, caller, request).map(Answer::Stream),
        "UpdateState" => update_state(nucleus, request).map(|()| Answer::Unary(json!({}))),
        _ => Err(nucleus
            .personality
            .unsupported(&format!("aws.greengrass#{operation}"))),
    }
}

fn text<'a>(request: &'a Value, key: &str) -> Result<&'a str, Refusal> {
    request
        .get(key)
        .and_then(Value::as_str)
        .ok_or_else(|| Refusal::arguments(BAD_PARAMETERS))
}

/// QoS travels as a string.
fn acknowledged(request: &Value) -> Result<bool, Refusal> {
    match text(request, "qos")? {
        "0" => Ok(false),
        "1" => Ok(true),
        _ => Err(Refusal::arguments(BAD_PARAMETERS)),
    }
}

fn authorize(nucleus: &Nucleus, operation: &str, resource: &str) -> Result<(), Refusal> {
    let thing = nucleus.personality.is_lite().then_some(nucleus.thing.as_str());
    if policy::allows(&nucleus.configurations().own, operation, resource, thing) {
        return Ok(());
    }
    emit(&json!({ "event": "denied", "operation": operation, "resource": resource }));
    Err(Refusal::unauthorized(
        nucleus.personality,
        &nucleus.component,
        operation,
        resource,
    ))
}

fn publish(nucleus: &Nucleus, request: &Value) -> Result<(), Refusal> {
    let topic = text(request, "topicName")?;
    let acknowledged = acknowledged(request)?;
    let payload = match request.get("payload") {
        Some(Value::String(encoded)) => STANDARD
            .decode(encoded)
            .map_err(|_| Refusal::arguments("Payload is not valid base64."))?,
        None if nucleus.personality.is_lite() => Vec::new(),
        _ => return Err(Refusal::arguments("Payload is missing or not a string")),
    };
    authorize(nucleus, "PublishToIoTCore", topic)?;
    if nucleus.personality.is_lite() {
        if topics::is_unpublishable(topic) {
            nucleus.bridge.offend_broker();
            return Ok(());
        }
    } else if let Some(fault) = topics::classic_fault(topic) {
        return Err(Refusal::arguments(fault));
    }
    nucleus.bridge.publish(Outgoing {
        topic: topic.to_owned(),
        acknowledged,
        payload: payload.into(),
    })
}

fn subscribe(nucleus: &Nucleus, caller: &Caller<'_>, request: &Value) -> Result<Subscribed, Refusal> {
    let filter = text(request, "topicName")?;
    let qos = if acknowledged(request)? {
        QoS::AtLeastOnce
    } else {
        QoS::AtMostOnce
    };
    authorize(nucleus, "SubscribeToIoTCore", filter)?;
    if !topics::is_filter(filter) {
        return Err(Refusal::arguments("The topic filter is malformed"));
    }
    let interest = Interest::IotCore {
        filter: filter.to_owned(),
    };
    add_subscription(nucleus, caller, interest)?;
    nucleus.bridge.subscribe(filter, qos).inspect_err(|_| {
        nucleus.subscriptions.remove(caller.client, caller.stream);
    })
}

fn add_subscription(nucleus: &Nucleus, caller: &Caller<'_>, interest: Interest) -> Result<(), Refusal> {
    if nucleus
        .subscriptions
        .add(caller.client, caller.stream, interest, caller.outbox.clone())
    {
        return Ok(());
    }
    Err(Refusal::service("Failed to bind the subscription."))
}

/// Gives up what a removed subscription held.
pub(super) fn release(nucleus: &Nucleus, interests: Vec<Interest>) {
    for interest in interests {
        if let Interest::IotCore { filter } = interest {
            nucleus.bridge.unsubscribe(&filter);
        }
    }
}

/// `keyPath` and `componentName`, which may be absent but not null.
fn target(nucleus: &Nucleus, request: &Value) -> Result<(String, Vec<String>), Refusal> {
    let bad = || {
        let refusal = if nucleus.personality.is_lite() {
            Refusal::service
        } else {
            Refusal::arguments
        };
        refusal(BAD_PARAMETERS)
    };
    let path = match request.get("keyPath") {
        None => Vec::new(),
        Some(Value::Array(keys)) => keys
            .iter()
            .map(|key| key.as_str().map(str::to_owned))
            .collect::<Option<_>>()
            .ok_or_else(bad)?,
        // Only lite is known to refuse an explicit null.
        Some(Value::Null) if !nucleus.personality.is_lite() => Vec::new(),
        Some(_) => return Err(bad()),
    };
    let component = match request.get("componentName") {
        None => nucleus.component.clone(),
        Some(Value::String(name)) => name.clone(),
        Some(Value::Null) if !nucleus.personality.is_lite() => nucleus.component.clone(),
        Some(_) => return Err(bad()),
    };
    Ok((component, path))
}

fn get_configuration(nucleus: &Nucleus, request: &Value) -> Result<Value, Refusal> {
    let (component, path) = target(nucleus, request)?;
    let configurations = nucleus.configurations();
    let tree = if component == nucleus.component {
        &configurations.own
    } else if component == nucleus.personality.nucleus_component() {
        &configurations.nucleus
    } else {
        return Err(Refusal::no_key());
    };
    let value = at(tree, &path).ok_or_else(Refusal::no_key)?;
    let value = match path.last() {
        Some(leaf) if !value.is_object() => json!({ leaf: value }),
        _ => value.clone(),
    };
    Ok(json!({ "componentName": component, "value": value }))
}

fn update_configuration(nucleus: &Nucleus, request: &Value) -> Result<(), Refusal> {
    let (_, path) = target(nucleus, request)?;
    let bad = || Refusal::arguments(BAD_PARAMETERS);
    let value = request.get("valueToMerge").ok_or_else(bad)?;
    let timestamp = request
        .get("timestamp")
        .and_then(Value::as_number)
        .ok_or_else(bad)?;
    // Lite refuses an integer literal.
    if nucleus.personality.is_lite() && !timestamp.is_f64() {
        return Err(bad());
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "saturates; any time beyond i64 milliseconds is the newest"
    )]
    let millis = (timestamp.as_f64().ok_or_else(bad)? * 1000.0) as i64;
    let top = path.first().map(String::as_str);
    if top == Some("accessControl") || (top.is_none() && value.get("accessControl").is_some()) {
        return Err(Refusal::arguments(
            "Config update is not allowed for following field [accessControl]",
        ));
    }
    if millis < nucleus.configurations().updated_millis {
        // Lite says yes and does nothing.
        return if nucleus.personality.is_lite() {
            Ok(())
        } else {
            Err(Refusal::stale_update())
        };
    }
    let document = nest(&path, value.clone());
    nucleus.change_configuration(|configurations| {
        configurations.updated_millis = millis;
        merge(&mut configurations.own, document, Nulls::Keep);
    });
    Ok(())
}

fn watch(nucleus: &Nucleus, caller: &Caller<'_>, request: &Value) -> Result<Subscribed, Refusal> {
    let (component, path) = target(nucleus, request)?;
    add_subscription(nucleus, caller, Interest::Configuration { component, path })?;
    Ok(Subscribed::Now)
}

fn update_state(nucleus: &Nucleus, request: &Value) -> Result<(), Refusal> {
    let state = text(request, "state")?;
    if !matches!(state, "RUNNING" | "ERRORED") {
        return Err(Refusal::arguments(BAD_PARAMETERS));
    }
    emit(&json!({ "event": "state", "component": nucleus.component, "state": state }));
    Ok(())
}
