//! MQTT with AWS IoT Core: publish and subscribe through the bridge.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::PublishProperties;
use serde::Deserialize;
use serde_json::Value;

use super::{BAD_PARAMETERS, Caller, authorize, text};
use crate::nucleus::bridge::Subscribed;
use crate::nucleus::policy::Service;
use crate::nucleus::properties::Properties;
use crate::nucleus::refusal::Refusal;
use crate::nucleus::spool::Outgoing;
use crate::nucleus::state::Nucleus;
use crate::nucleus::subscriptions::Interest;
use crate::nucleus::topics;

/// QoS travels as a string.
fn acknowledged(request: &Value) -> Result<bool, Refusal> {
    match text(request, "qos")? {
        "0" => Ok(false),
        "1" => Ok(true),
        _ => Err(Refusal::arguments(BAD_PARAMETERS)),
    }
}

pub(super) fn publish(nucleus: &Nucleus, request: &Value) -> Result<(), Refusal> {
    let topic = text(request, "topicName")?;
    let acknowledged = acknowledged(request)?;
    let payload = match request.get("payload") {
        Some(Value::String(encoded)) => STANDARD
            .decode(encoded)
            .map_err(|_| Refusal::arguments("Payload is not valid base64."))?,
        None if nucleus.personality.is_lite() => Vec::new(),
        _ => return Err(Refusal::arguments("Payload is missing or not a string")),
    };
    authorize(nucleus, Service::MqttProxy, "PublishToIoTCore", topic)?;
    if nucleus.personality.is_lite() {
        if topics::is_unpublishable(topic) {
            nucleus.bridge.offend_broker();
            return Ok(());
        }
    } else if let Some(fault) = topics::classic_fault(topic) {
        return Err(Refusal::arguments(fault));
    }
    let (retain, properties) = properties(nucleus, request)?;
    nucleus.bridge.publish(Outgoing {
        topic: topic.to_owned(),
        acknowledged,
        payload: payload.into(),
        retain,
        properties,
    })
}

/// Lite ignores them all.
fn properties(nucleus: &Nucleus, request: &Value) -> Result<(bool, Option<PublishProperties>), Refusal> {
    if nucleus.personality.is_lite() {
        return Ok((false, None));
    }
    let bad = || Refusal::arguments("A property of the message cannot be read or does not fit a packet");
    let properties = Properties::deserialize(request).map_err(|_| bad())?;
    let mqtt = properties.to_mqtt().ok_or_else(bad)?;
    Ok((properties.retain(), Some(mqtt)))
}

pub(super) fn subscribe(
    nucleus: &Nucleus,
    caller: &Caller<'_>,
    request: &Value,
) -> Result<Subscribed, Refusal> {
    let filter = text(request, "topicName")?;
    let qos = if acknowledged(request)? {
        QoS::AtLeastOnce
    } else {
        QoS::AtMostOnce
    };
    authorize(nucleus, Service::MqttProxy, "SubscribeToIoTCore", filter)?;
    if !topics::is_filter(filter) {
        return Err(Refusal::arguments("The topic filter is malformed"));
    }
    let interest = Interest::IotCore {
        filter: filter.to_owned(),
    };
    super::subscribe(nucleus, caller, interest)?;
    nucleus.bridge.subscribe(filter, qos).inspect_err(|_| {
        nucleus.subscriptions.remove(caller.client, caller.stream);
    })
}
