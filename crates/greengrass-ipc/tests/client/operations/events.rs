//! Operations that answer and then send events, and the ways to receive them.

use std::pin::Pin;

use futures_util::{Stream, stream};
use greengrass_ipc::frame::{Message, MessageKind};
use greengrass_ipc::{
    ComponentUpdate, ConfigurationUpdate, IotCoreConnectionStatus, IotCoreMessage, IpcError, PayloadFormat,
    ProposedConfiguration, Qos, ReceiveMode, SubscribeToComponentUpdates, SubscribeToConfigurationUpdate,
    SubscribeToIotCore, SubscribeToIotCoreConnectionStatus, SubscribeToTopic,
    SubscribeToValidateConfigurationUpdates, SubscriptionEvent, TopicMessage, TopicPayload,
};
use serde_json::json;

use super::Bench;
use crate::support::{body, within};

/// What an event that cannot be understood becomes.
fn missed<T>() -> SubscriptionEvent<T> {
    SubscriptionEvent::Missed { count: 1 }
}

#[tokio::test]
async fn messages_of_iot_core() {
    let bench = &mut Bench::new().await;
    let request = json!({ "topicName": "a/#", "qos": "1" });
    let events = &mut bench
        .subscribe(&SubscribeToIotCore::new("a/#", Qos::AtLeastOnce), request)
        .await;
    let hi = IotCoreMessage::new("a/b", "hi");
    let nulls = r#"{"message":{"topicName":"a/b","payload":"aGk","retain":null,"userProperties":null,
        "correlationData":null,"payloadFormat":null,"future":[]}}"#;
    for (text, expected) in [
        (
            r#"{"message":{"topicName":"a/b","payload":"aGk="}}"#,
            Some(hi.clone()),
        ),
        (nulls, Some(hi)),
        (
            r#"{"message":{"topicName":"a/b"}}"#,
            Some(IotCoreMessage::new("a/b", "")),
        ),
        (r#"{"message":{"topicName":"a/b","payload":"%%"}}"#, None),
        (r#"{"message":{}}"#, None),
        ("", None),
    ] {
        let expected = expected.map_or_else(missed, SubscriptionEvent::Message);
        assert_eq!(
            bench.event(events, "IoTCoreMessage", text).await,
            expected,
            "{text}"
        );
    }

    let full = r#"{"message":{"topicName":"a/b","payload":"aGk=","retain":true,
        "userProperties":[{"key":"k","value":"v"}],"messageExpiryIntervalSeconds":9,"correlationData":"aGk=",
        "responseTopic":"r","payloadFormat":"0","contentType":"text/plain"}}"#;
    let SubscriptionEvent::Message(message) = bench.event(events, "IoTCoreMessage", full).await else {
        panic!("the full message was not understood");
    };
    let properties = message.properties;
    assert_eq!(
        (properties.retain, properties.message_expiry_interval_seconds),
        (Some(true), Some(9))
    );
    assert_eq!(properties.user_properties[0].value, "v");
    assert_eq!(properties.correlation_data.as_deref(), Some(&b"hi"[..]));
    assert_eq!(properties.response_topic.as_deref(), Some("r"));
    assert_eq!(properties.payload_format, Some(PayloadFormat::Bytes));
    assert_eq!(properties.content_type.as_deref(), Some("text/plain"));
}

#[tokio::test]
async fn states_of_the_connection_with_iot_core() {
    let bench = &mut Bench::new().await;
    let events = &mut bench
        .subscribe(&SubscribeToIotCoreConnectionStatus::new(), json!({}))
        .await;
    for (status, expected) in [
        (
            "CONNECTED",
            SubscriptionEvent::Message(IotCoreConnectionStatus::Connected),
        ),
        (
            "DISCONNECTED",
            SubscriptionEvent::Message(IotCoreConnectionStatus::Disconnected),
        ),
        ("RESTING", missed()),
    ] {
        let text = json!({ "connectionStatusEvent": { "status": status } }).to_string();
        assert_eq!(
            bench.event(events, "ConnectionStatusEvent", &text).await,
            expected
        );
    }
}

#[tokio::test]
async fn messages_of_other_components() {
    let bench = &mut Bench::new().await;
    let mut subscribe = SubscribeToTopic::new("t/#");
    let _all = bench.subscribe(&subscribe, json!({ "topic": "t/#" })).await;
    subscribe.receive_mode = Some(ReceiveMode::All);
    let request = json!({ "topic": "t/#", "receiveMode": "RECEIVE_ALL_MESSAGES" });
    let _explicit = bench.subscribe(&subscribe, request).await;
    subscribe.receive_mode = Some(ReceiveMode::FromOthers);
    let request = json!({ "topic": "t/#", "receiveMode": "RECEIVE_MESSAGES_FROM_OTHERS" });
    let events = &mut bench.subscribe(&subscribe, request).await;

    let message = |topic: Option<&str>, payload| {
        SubscriptionEvent::Message(TopicMessage::new(topic.map(str::to_owned), payload))
    };
    for (text, expected) in [
        (
            r#"{"jsonMessage":{"message":{"t":21.5},"context":{"topic":"t/1"}}}"#,
            message(Some("t/1"), TopicPayload::Json(json!({ "t": 21.5 }))),
        ),
        (
            r#"{"binaryMessage":{"message":"aGk=","context":{"topic":"t/1"}},"jsonMessage":null}"#,
            message(Some("t/1"), TopicPayload::Binary("hi".into())),
        ),
        (
            r#"{"binaryMessage":{}}"#,
            message(None, TopicPayload::Binary("".into())),
        ),
        (r#"{"jsonMessage":{},"binaryMessage":{}}"#, missed()),
        ("{}", missed()),
    ] {
        assert_eq!(
            bench.event(events, "SubscriptionResponseMessage", text).await,
            expected,
            "{text}"
        );
    }
}

#[tokio::test]
async fn changes_of_configuration() {
    let bench = &mut Bench::new().await;
    let mut subscribe = SubscribeToConfigurationUpdate::new(&["k"]);
    subscribe.component_name = Some("c");
    let request = json!({ "componentName": "c", "keyPath": ["k"] });
    let events = &mut bench.subscribe(&subscribe, request).await;
    let update = |component: Option<&str>, key_path: &[&str]| {
        let key_path = key_path.iter().map(|key| (*key).to_owned()).collect();
        SubscriptionEvent::Message(ConfigurationUpdate::new(component.map(str::to_owned), key_path))
    };
    for (text, expected) in [
        (
            r#"{"configurationUpdateEvent":{"componentName":"c","keyPath":["k"]},"extra":1}"#,
            update(Some("c"), &["k"]),
        ),
        (
            r#"{"configurationUpdateEvent":{"keyPath":null}}"#,
            update(None, &[]),
        ),
        (r#"{"configurationUpdateEvent":{}}"#, update(None, &[])),
        ("{}", missed()),
    ] {
        assert_eq!(
            bench.event(events, "ConfigurationUpdateEvents", text).await,
            expected,
            "{text}"
        );
    }

    let proposals = &mut bench
        .subscribe(&SubscribeToValidateConfigurationUpdates::new(), json!({}))
        .await;
    let text = r#"{"validateConfigurationUpdateEvent":{"deploymentId":"d","configuration":{"a":1}}}"#;
    let expected = ProposedConfiguration::new("d", json!({ "a": 1 }));
    let shape = "ValidateConfigurationUpdateEvents";
    assert_eq!(
        bench.event(proposals, shape, text).await,
        SubscriptionEvent::Message(expected)
    );
    let nameless = r#"{"validateConfigurationUpdateEvent":{"configuration":{}}}"#;
    assert_eq!(bench.event(proposals, shape, nameless).await, missed());
}

#[tokio::test]
async fn updates_of_components() {
    let bench = &mut Bench::new().await;
    let events = &mut bench
        .subscribe(&SubscribeToComponentUpdates::new(), json!({}))
        .await;
    let before = |nucleus_restarts| {
        SubscriptionEvent::Message(ComponentUpdate::Before {
            deployment_id: "d".into(),
            nucleus_restarts,
        })
    };
    let after = SubscriptionEvent::Message(ComponentUpdate::After {
        deployment_id: "d".into(),
    });
    for (text, expected) in [
        (
            r#"{"preUpdateEvent":{"deploymentId":"d","isGgcRestarting":true}}"#,
            before(true),
        ),
        (
            r#"{"preUpdateEvent":{"deploymentId":"d"},"postUpdateEvent":null}"#,
            before(false),
        ),
        (r#"{"postUpdateEvent":{"deploymentId":"d"}}"#, after),
        (r#"{"preUpdateEvent":{}}"#, missed()),
        ("{}", missed()),
    ] {
        assert_eq!(
            bench.event(events, "ComponentUpdatePolicyEvents", text).await,
            expected,
            "{text}"
        );
    }
}

#[tokio::test]
async fn any_other_subscription_as_json() {
    let bench = &mut Bench::new().await;
    let operation = "SubscribeToCertificateUpdates";
    let request = json!({ "certificateOptions": { "certificateType": "SERVER" } });
    let serve = async {
        let sent = bench.peer.request(operation).await;
        assert_eq!(body(&sent), request);
        bench.peer.answer(&sent, "{}").await;
        sent.stream_id
    };
    let subscribe = bench.client.subscribe_json(operation, request.clone());
    let (events, id) = within(operation, async { tokio::join!(subscribe, serve) }).await;
    let events = &mut (events.unwrap(), id);
    let event = json!({ "certificateUpdate": { "certificate": "pem" } });
    let told = bench
        .event(events, "CertificateUpdateEvent", &event.to_string())
        .await;
    assert_eq!(told, SubscriptionEvent::Message(event));

    let refused = bench.client.subscribe_json("GetConfiguration", json!({})).await;
    assert!(
        matches!(refused, Err(IpcError::InvalidRequest { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_subscription_becomes_a_stream_that_wakes_its_task() {
    let bench = &mut Bench::new().await;
    let (mut events, id) = bench
        .subscribe(&SubscribeToTopic::new("t"), json!({ "topic": "t" }))
        .await;
    // Another task, so that only a wake-up can make it look again.
    let consumer = tokio::spawn(async move {
        let mut events: Pin<Box<dyn Stream<Item = SubscriptionEvent<TopicMessage>> + Send>> =
            Box::pin(stream::poll_fn(move |context| events.poll_next(context)));
        let mut topics = Vec::new();
        while topics.len() < 3 {
            match std::future::poll_fn(|context| events.as_mut().poll_next(context)).await {
                Some(SubscriptionEvent::Message(message)) => topics.extend(message.topic),
                other => panic!("expected a message, got {other:?}"),
            }
        }
        topics
    });
    for topic in ["t/0", "t/1", "t/2"] {
        let body = json!({ "binaryMessage": { "message": "", "context": { "topic": topic } } });
        let event = Message::new(MessageKind::ApplicationMessage, id)
            .with_service_model_type("aws.greengrass#SubscriptionResponseMessage")
            .with_json(body.to_string());
        bench.peer.send(&event).await;
        tokio::task::yield_now().await;
    }
    let topics = within("three messages", consumer).await.unwrap();
    assert_eq!(topics, ["t/0", "t/1", "t/2"]);
    // The stream went with its task.
    bench.peer.terminated(id).await;
}
