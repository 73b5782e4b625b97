//! The stand-in nucleus and the real client: the operations beyond MQTT and configuration.

use std::time::Duration;

use greengrass_ipc::{
    Client, ComponentUpdate, DeferComponentUpdate, DeleteThingShadow, ErrorCode, GetThingShadow,
    IotCoreConnectionStatus, ListNamedShadowsForThing, Metric, MetricUnit, PauseComponent, PublishToTopic,
    PutComponentMetric, RequestStatus, RestartComponent, ResumeComponent, SendConfigurationValidityReport,
    StopComponent, SubscribeToComponentUpdates, SubscribeToIotCoreConnectionStatus, SubscribeToTopic,
    SubscribeToValidateConfigurationUpdates, Subscription, SubscriptionEvent, TopicMessage, TopicPayload,
    UpdateThingShadow,
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::client::{options, run};
use crate::bench::{Bench, LIMIT};

const COMPONENT: &str = "com.example.C";
const THING: &str = "gateway-01";

/// The next event, which must be one of the nucleus.
async fn next<T: std::fmt::Debug>(subscription: &mut Subscription<T>) -> T {
    match subscription.next().await.expect("still subscribed") {
        SubscriptionEvent::Message(event) => event,
        other => panic!("{other:?}"),
    }
}

#[test]
fn local_messages_and_lifecycle_work_with_both_personalities() {
    for personality in ["lite", "classic"] {
        let bench = Bench::start(personality, &["--connection-status"]);
        run(async {
            let client = Client::start(options(&bench));
            let mut status = client
                .subscribe(&SubscribeToIotCoreConnectionStatus::new())
                .await
                .unwrap();
            assert_eq!(next(&mut status).await, IotCoreConnectionStatus::Connected);
            let mut local = client.subscribe(&SubscribeToTopic::new("local/a")).await.unwrap();
            let message = json!({ "n": 1 });
            for publish in [
                PublishToTopic::json("local/a", &message),
                PublishToTopic::binary("local/a", b"\0\xff"),
            ] {
                client.request(&publish).await.unwrap();
            }
            let topic = Some("local/a".to_owned());
            for payload in [
                TopicPayload::Json(message),
                TopicPayload::Binary(b"\0\xff"[..].into()),
            ] {
                let expected = TopicMessage::new(topic.clone(), payload);
                assert_eq!(next(&mut local).await, expected);
            }
            let denied = client.request(&PublishToTopic::binary("other", b"")).await;
            assert!(denied.unwrap_err().is_unauthorized());
            let restarted = client.request(&RestartComponent::new(COMPONENT)).await.unwrap();
            assert_eq!(restarted.status, RequestStatus::Succeeded);
            let unknown = client.request(&RestartComponent::new("com.example.Other")).await;
            assert!(unknown.unwrap_err().is_not_found());
        });
    }
}

#[test]
fn shadows_and_steering_are_the_classic_nucleus_own() {
    let lite = Bench::start("lite", &[]);
    let classic = Bench::start("classic", &[]);
    run(async {
        let client = Client::start(options(&lite));
        let read = client.request(&GetThingShadow::new(THING, "n")).await;
        assert!(read.unwrap_err().is_unsupported());
        let pause = client.request(&PauseComponent::new(COMPONENT)).await;
        assert!(pause.unwrap_err().is_unsupported());

        let client = Client::start(options(&classic));
        let state = json!({ "state": { "reported": { "a": 1 } } }).to_string();
        let missing = client.request(&GetThingShadow::new(THING, "n")).await;
        assert!(missing.unwrap_err().is_not_found());
        let update = UpdateThingShadow::new(THING, "n", state.as_bytes());
        client.request(&update).await.unwrap();
        let document = client.request(&GetThingShadow::new(THING, "n")).await.unwrap();
        let document: Value = serde_json::from_slice(&document.payload).unwrap();
        assert_eq!(document["state"]["reported"]["a"], 1);
        let listed = client
            .request(&ListNamedShadowsForThing::new(THING))
            .await
            .unwrap();
        assert_eq!(
            (listed.results, listed.timestamp.is_some()),
            (vec!["n".to_owned()], true)
        );
        let stale = json!({ "state": { "reported": {} }, "version": 9 }).to_string();
        let conflict = client
            .request(&UpdateThingShadow::new(THING, "n", stale.as_bytes()))
            .await;
        assert_eq!(conflict.unwrap_err().code(), Some(&ErrorCode::Conflict));
        let deleted = client.request(&DeleteThingShadow::new(THING, "n")).await.unwrap();
        assert!(deleted.payload.is_empty());

        client.request(&PauseComponent::new(COMPONENT)).await.unwrap();
        client.request(&ResumeComponent::new(COMPONENT)).await.unwrap();
        let stopped = client.request(&StopComponent::new(COMPONENT)).await.unwrap();
        assert_eq!(stopped.status, RequestStatus::Succeeded);
        let metrics = [Metric::new("Packets", MetricUnit::Count, 1.0)];
        let denied = client.request(&PutComponentMetric::new(&metrics)).await;
        assert!(denied.unwrap_err().is_unauthorized());
    });
}

#[test]
fn a_deployment_asks_the_client_and_hears_it() {
    let mut bench = Bench::start_with("classic", &["--configuration", "c.json"], |folder| {
        std::fs::write(folder.join("c.json"), "{}").unwrap();
    });
    run(async {
        let client = Client::start(options(&bench));
        let mut updates = client
            .subscribe(&SubscribeToComponentUpdates::new())
            .await
            .unwrap();
        let mut proposals = client
            .subscribe(&SubscribeToValidateConfigurationUpdates::new())
            .await
            .unwrap();
        std::fs::write(bench.folder.path().join("c.json"), r#"{"interval": 1}"#).unwrap();
        bench.nucleus.signal(Signal::SIGHUP).unwrap();
        for recheck_after in [Duration::from_millis(10), Duration::ZERO] {
            let ComponentUpdate::Before { deployment_id, .. } = next(&mut updates).await else {
                panic!("the update has not begun");
            };
            let answer = DeferComponentUpdate::new(&deployment_id, recheck_after);
            client.request(&answer).await.unwrap();
        }
        let proposal = next(&mut proposals).await;
        assert_eq!(proposal.configuration["interval"], 1);
        let id = &proposal.deployment_id;
        let refusal = SendConfigurationValidityReport::reject(id, "too short");
        client.request(&refusal).await.unwrap();
        let after = next(&mut updates).await;
        assert!(matches!(after, ComponentUpdate::After { deployment_id } if deployment_id == *id));
        let late = client.request(&SendConfigurationValidityReport::accept(id)).await;
        assert_eq!(late.unwrap_err().code(), Some(&ErrorCode::InvalidArguments));
    });
    let rejected = bench
        .nucleus
        .wait_event(LIMIT, |event| event["state"] == "rejected")
        .unwrap();
    assert_eq!(rejected["reason"], "too short");
}
