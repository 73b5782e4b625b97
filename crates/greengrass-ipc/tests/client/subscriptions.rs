//! Subscriptions: events, refusals, reconnects, slow and vanished consumers.

use std::time::Duration;

use crate::support::{Nucleus, Peer, body, response, within};
use greengrass_ipc::frame::{Message, MessageKind, TERMINATE_STREAM};
use greengrass_ipc::{
    Client, ConfigurationUpdate, IotCoreMessage, IpcError, Qos, Subscription, SubscriptionEvent,
};
use serde_json::json;

type Events = Subscription<IotCoreMessage>;

const OPERATION: &str = "SubscribeToIoTCore";

fn hi(topic: &str) -> SubscriptionEvent<IotCoreMessage> {
    SubscriptionEvent::Message(IotCoreMessage::new(topic, "hi"))
}

async fn next<T>(events: &mut Subscription<T>) -> SubscriptionEvent<T> {
    within("an event", events.next())
        .await
        .expect("the subscription goes on")
}

/// A standing subscription and the id of its stream.
async fn subscribe(client: &Client, peer: &mut Peer) -> (Events, i32) {
    let serve = async {
        let request = peer.request(OPERATION).await;
        peer.answer(&request, "{}").await;
        request.stream_id
    };
    let subscribe = client.subscribe_to_iot_core("a/#", Qos::AtLeastOnce);
    let (events, id) = within("the subscription", async { tokio::join!(subscribe, serve) }).await;
    (events.unwrap(), id)
}

/// A call that shows that the client has handled everything sent before.
async fn round_trip(client: &Client, peer: &mut Peer) {
    let serve = async {
        let request = peer.request("GetConfiguration").await;
        peer.answer(&request, "{}").await;
    };
    let call = client.request_json("GetConfiguration", json!({}));
    within("a call", async { tokio::join!(call, serve) })
        .await
        .0
        .unwrap();
}

#[tokio::test]
async fn events_before_the_answer_are_delivered() {
    let (_nucleus, client, mut peer) = Nucleus::with_client(|_| ()).await;
    let serve = async {
        let request = peer.request(OPERATION).await;
        assert_eq!(body(&request), json!({ "topicName": "a/#", "qos": "0" }));
        peer.event(request.stream_id, "a/early", "aGk=").await;
        peer.answer(&request, "{}").await;
        peer.event(request.stream_id, "a/late", "aGk=").await;
    };
    let subscribe = client.subscribe_to_iot_core("a/#", Qos::AtMostOnce);
    let (events, ()) = within("the subscription", async { tokio::join!(subscribe, serve) }).await;
    let mut events = events.unwrap();
    assert_eq!(next(&mut events).await, hi("a/early"));
    assert_eq!(next(&mut events).await, hi("a/late"));
}

#[tokio::test]
async fn configuration_updates_arrive() {
    let (_nucleus, client, mut peer) = Nucleus::with_client(|_| ()).await;
    let serve = async {
        let request = peer.request("SubscribeToConfigurationUpdate").await;
        assert_eq!(
            request.payload, r#"{"keyPath":["quarantine"]}"#,
            "an absent component is left out"
        );
        peer.answer(&request, "{}").await;
        let body = json!({ "configurationUpdateEvent": { "componentName": "c", "keyPath": ["quarantine"] } });
        let event = Message::new(MessageKind::ApplicationMessage, request.stream_id)
            .with_service_model_type("aws.greengrass#ConfigurationUpdateEvents")
            .with_json(body.to_string());
        peer.send(&event).await;
    };
    let subscribe = client.subscribe_to_configuration_update(None, &["quarantine"]);
    let (events, ()) = within("the subscription", async { tokio::join!(subscribe, serve) }).await;
    let expected = ConfigurationUpdate::new(Some("c".into()), vec!["quarantine".into()]);
    assert_eq!(
        next(&mut events.unwrap()).await,
        SubscriptionEvent::Message(expected)
    );
}

#[tokio::test]
async fn the_first_refusal_is_the_callers() {
    let (_nucleus, client, mut peer) = Nucleus::with_client(|_| ()).await;
    let serve = async {
        let request = peer.request(OPERATION).await;
        peer.refuse(&request, "UnauthorizedError", "no").await;
    };
    let subscribe = client.subscribe_to_iot_core("#", Qos::AtMostOnce);
    let (refused, ()) = within("the subscription", async { tokio::join!(subscribe, serve) }).await;
    assert!(refused.unwrap_err().is_unauthorized());
    // Neither a renewal nor a termination follows, only the next call.
    round_trip(&client, &mut peer).await;
}

#[tokio::test]
async fn a_subscription_outlives_the_connection_and_refused_renewals() {
    let (nucleus, client, mut peer) = Nucleus::with_client(|_| ()).await;
    let (mut events, _) = subscribe(&client, &mut peer).await;
    drop(peer);

    let mut peer = nucleus.accept().await;
    for _ in 0..3 {
        let renewal = peer.request(OPERATION).await;
        assert_eq!(body(&renewal), json!({ "topicName": "a/#", "qos": "1" }));
        peer.refuse(&renewal, "ServiceError", "Failed to bind the subscription.")
            .await;
    }
    let renewal = peer.request(OPERATION).await;
    peer.answer(&renewal, "{}").await;
    peer.event(renewal.stream_id, "a/b", "aGk=").await;
    assert_eq!(next(&mut events).await, SubscriptionEvent::Resubscribed);
    assert_eq!(next(&mut events).await, hi("a/b"));
}

#[tokio::test]
async fn a_subscription_ended_by_the_nucleus_is_made_anew() {
    let (_nucleus, client, mut peer) = Nucleus::with_client(|_| ()).await;
    let (mut events, id) = subscribe(&client, &mut peer).await;
    let last = response(&peer_request(id), "")
        .with_flags(TERMINATE_STREAM)
        .with_service_model_type("x#Last");
    peer.send(&last).await;
    let renewal = peer.request(OPERATION).await;
    assert_eq!(renewal.stream_id, 2);
    peer.answer(&renewal, "{}").await;
    assert_eq!(
        next(&mut events).await,
        SubscriptionEvent::Missed { count: 1 },
        "the last event was no event"
    );
    assert_eq!(next(&mut events).await, SubscriptionEvent::Resubscribed);
}

fn peer_request(id: i32) -> Message {
    Message::new(MessageKind::ApplicationMessage, id).with_operation("aws.greengrass#SubscribeToIoTCore")
}

#[tokio::test]
async fn a_renewal_without_an_answer_is_repeated_and_a_late_one_undone() {
    let (nucleus, client, mut peer) =
        Nucleus::with_client(|options| options.request_timeout = Duration::from_millis(500)).await;
    let (mut events, _) = subscribe(&client, &mut peer).await;
    drop(peer);
    let mut peer = nucleus.accept().await;
    let unanswered = peer.request(OPERATION).await;
    let repeated = peer.request(OPERATION).await;
    peer.answer(&repeated, "{}").await;
    assert_eq!(next(&mut events).await, SubscriptionEvent::Resubscribed);
    peer.answer(&unanswered, "{}").await;
    peer.terminated(unanswered.stream_id).await;
}

#[tokio::test]
async fn a_slow_consumer_is_told_what_it_missed_and_stalls_nobody() {
    let (_nucleus, client, mut peer) = Nucleus::with_client(|options| options.max_queued_events = 10).await;
    let (mut events, id) = subscribe(&client, &mut peer).await;
    for number in 0..5_000 {
        peer.event(id, &format!("a/{number}"), "aGk=").await;
    }
    round_trip(&client, &mut peer).await;
    assert_eq!(
        next(&mut events).await,
        SubscriptionEvent::Missed { count: 4_990 }
    );
    for number in 4_990..5_000 {
        assert_eq!(next(&mut events).await, hi(&format!("a/{number}")));
    }
    peer.event(id, "a/after", "aGk=").await;
    assert_eq!(next(&mut events).await, hi("a/after"));
}

#[tokio::test]
async fn dropping_unsubscribes() {
    let (nucleus, client, mut peer) = Nucleus::with_client(|_| ()).await;
    let (events, id) = subscribe(&client, &mut peer).await;
    let (_kept, kept_id) = subscribe(&client, &mut peer).await;
    drop(events);
    peer.terminated(id).await;
    // Events on their way are nobody's, and only the other subscription is renewed.
    peer.event(id, "a/b", "aGk=").await;
    round_trip(&client, &mut peer).await;
    assert_eq!(kept_id, 2);
    drop(peer);
    let mut peer = nucleus.accept().await;
    let renewal = peer.request(OPERATION).await;
    peer.answer(&renewal, "{}").await;
    round_trip(&client, &mut peer).await;
}

#[tokio::test]
async fn a_subscription_given_up_before_its_answer_is_undone() {
    let (_nucleus, client, mut peer) = Nucleus::with_client(|_| ()).await;
    let other = client.clone();
    let given_up = tokio::spawn(async move { other.subscribe_to_iot_core("a/#", Qos::AtMostOnce).await });
    let request = peer.request(OPERATION).await;
    given_up.abort();
    assert!(given_up.await.unwrap_err().is_cancelled());
    round_trip(&client, &mut peer).await;
    peer.event(request.stream_id, "a/b", "aGk=").await;
    peer.answer(&request, "{}").await;
    peer.terminated(request.stream_id).await;

    // Refused, there is nothing to undo: classic closes the connection on a termination of a closed stream.
    let other = client.clone();
    let given_up = tokio::spawn(async move { other.subscribe_to_iot_core("a/#", Qos::AtMostOnce).await });
    let request = peer.request(OPERATION).await;
    given_up.abort();
    assert!(given_up.await.unwrap_err().is_cancelled());
    peer.refuse(&request, "ServiceError", "no").await;
    round_trip(&client, &mut peer).await;
}

#[tokio::test]
async fn a_connection_lost_during_the_first_attempt_fails_it() {
    let (nucleus, client, mut peer) = Nucleus::with_client(|_| ()).await;
    let serve = async {
        peer.request(OPERATION).await;
        drop(peer);
    };
    let subscribe = client.subscribe_to_iot_core("a/#", Qos::AtMostOnce);
    let (failed, ()) = within("the subscription", async { tokio::join!(subscribe, serve) }).await;
    assert!(
        matches!(failed, Err(IpcError::ConnectionLost { .. })),
        "{failed:?}"
    );
    let mut peer = nucleus.accept().await;
    round_trip(&client, &mut peer).await;
}

#[tokio::test]
async fn an_answer_that_ends_the_stream_at_once_is_not_a_standing_subscription() {
    let (_nucleus, client, mut peer) = Nucleus::with_client(|_| ()).await;
    let serve = async {
        let request = peer.request(OPERATION).await;
        peer.send(&response(&request, "{}").with_flags(TERMINATE_STREAM))
            .await;
    };
    let subscribe = client.subscribe_to_iot_core("a/#", Qos::AtLeastOnce);
    let (events, ()) = within("the subscription", async { tokio::join!(subscribe, serve) }).await;
    let mut events = events.unwrap();
    let renewal = peer.request(OPERATION).await;
    peer.answer(&renewal, "{}").await;
    peer.event(renewal.stream_id, "a/b", "aGk=").await;
    assert_eq!(next(&mut events).await, SubscriptionEvent::Resubscribed);
    assert_eq!(next(&mut events).await, hi("a/b"));
}

#[tokio::test]
async fn a_dropped_stream_unsubscribes_while_an_event_is_awaited() {
    let (_nucleus, client, mut peer) = Nucleus::with_client(|_| ()).await;
    let (mut events, id) = subscribe(&client, &mut peer).await;
    // Cut off in the middle of waiting, the subscription has lost nothing.
    for _ in 0..100 {
        assert!(
            tokio::time::timeout(Duration::from_micros(50), events.next())
                .await
                .is_err()
        );
    }
    peer.event(id, "a/b", "aGk=").await;
    assert_eq!(next(&mut events).await, hi("a/b"));
    let waiting = tokio::spawn(async move { events.next().await });
    round_trip(&client, &mut peer).await;
    waiting.abort();
    peer.terminated(id).await;
}
