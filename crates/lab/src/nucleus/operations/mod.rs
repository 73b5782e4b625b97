//! The operations the nucleus serves. In: name and JSON. Out: JSON, a subscription, or a refusal.
//!
//! One module a service. What lite does not have is refused here, before anything looks at the request.

mod configuration;
mod lifecycle;
mod metrics;
mod mqtt;
mod pubsub;
mod shadows;
mod updates;

use serde_json::{Value, json};

use super::bridge::Subscribed;
use super::events::{Nanoseconds, emit};
use super::policy::{self, Service};
use super::refusal::Refusal;
use super::state::Nucleus;
use super::subscriptions::{Interest, Outbox};

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
    let empty = |()| Answer::Unary(json!({}));
    match operation {
        "PublishToIoTCore" => mqtt::publish(nucleus, request).map(empty),
        "SubscribeToIoTCore" => mqtt::subscribe(nucleus, caller, request).map(Answer::Stream),
        "SubscribeToIoTCoreConnectionStatus" if nucleus.connection_status => {
            subscribe(nucleus, caller, Interest::ConnectionStatus)
        }
        "PublishToTopic" => pubsub::publish(nucleus, request).map(empty),
        "SubscribeToTopic" => {
            pubsub::interest(nucleus, request).and_then(|interest| subscribe(nucleus, caller, interest))
        }
        "GetConfiguration" => configuration::get(nucleus, request).map(Answer::Unary),
        "UpdateConfiguration" => configuration::update(nucleus, request).map(empty),
        "SubscribeToConfigurationUpdate" => configuration::interest(nucleus, request)
            .and_then(|interest| subscribe(nucleus, caller, interest)),
        "UpdateState" => lifecycle::update_state(nucleus, request).map(empty),
        "RestartComponent" => lifecycle::restart(nucleus, request).map(Answer::Unary),
        _ if nucleus.personality.is_lite() => Err(unsupported(nucleus, operation)),
        "StopComponent" => lifecycle::stop(nucleus, request).map(Answer::Unary),
        "PauseComponent" => lifecycle::pause(nucleus, request).map(empty),
        "ResumeComponent" => lifecycle::resume(nucleus, request).map(empty),
        "SubscribeToComponentUpdates" => subscribe(nucleus, caller, Interest::ComponentUpdates),
        "DeferComponentUpdate" => updates::defer(nucleus, request).map(empty),
        "SubscribeToValidateConfigurationUpdates" => subscribe(nucleus, caller, Interest::Validation),
        "SendConfigurationValidityReport" => updates::report(nucleus, request).map(empty),
        "GetThingShadow" => shadows::get(nucleus, request).map(Answer::Unary),
        "UpdateThingShadow" => shadows::update(nucleus, request).map(Answer::Unary),
        "DeleteThingShadow" => shadows::delete(nucleus, request).map(Answer::Unary),
        "ListNamedShadowsForThing" => shadows::list(nucleus, request).map(Answer::Unary),
        "PutComponentMetric" => metrics::put(nucleus, request).map(empty),
        _ => Err(unsupported(nucleus, operation)),
    }
}

fn unsupported(nucleus: &Nucleus, operation: &str) -> Refusal {
    nucleus
        .personality
        .unsupported(&format!("aws.greengrass#{operation}"))
}

fn text<'a>(request: &'a Value, key: &str) -> Result<&'a str, Refusal> {
    request
        .get(key)
        .and_then(Value::as_str)
        .ok_or_else(|| Refusal::arguments(BAD_PARAMETERS))
}

fn authorize(nucleus: &Nucleus, service: Service, operation: &str, resource: &str) -> Result<(), Refusal> {
    let thing = nucleus.personality.is_lite().then_some(nucleus.thing.as_str());
    if policy::allows(&nucleus.configurations().own, service, operation, resource, thing) {
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

fn subscribe(nucleus: &Nucleus, caller: &Caller<'_>, interest: Interest) -> Result<Answer, Refusal> {
    if nucleus
        .subscriptions
        .add(caller.client, caller.stream, interest, caller.outbox.clone())
    {
        return Ok(Answer::Stream(Subscribed::Now));
    }
    Err(Refusal::service("Failed to bind the subscription."))
}

/// Gives up what a removed subscription held.
pub(super) fn release(nucleus: &Nucleus, interests: Vec<Interest>) {
    for interest in interests {
        if let Interest::IotCore { filter } = interest {
            emit(&json!({
                "event": "unsubscribed", "filter": filter,
                "monotonicNanoseconds": Nanoseconds::now().map(|at| at.0),
            }));
            nucleus.bridge.unsubscribe(&filter);
        }
    }
}
