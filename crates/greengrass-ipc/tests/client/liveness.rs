//! Connections that are open and dead: probes find them, and nothing else is disturbed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::support::{Nucleus, connected, last_error, within};
use greengrass_ipc::{ClientOptions, Liveness, Qos, SubscriptionEvent};

/// Probes every 20 ms, each for at most 500 ms.
fn quick(mut liveness: Liveness, misses: u32) -> impl FnOnce(&mut ClientOptions) {
    liveness.period = Duration::from_millis(20);
    liveness.patience = Duration::from_millis(500);
    liveness.misses = misses;
    move |options| options.liveness = Some(liveness)
}

#[tokio::test]
async fn any_answer_to_the_call_is_life_and_misses_must_follow_each_other() {
    let (nucleus, client, mut peer) = Nucleus::with_client(quick(Liveness::by_request(), 2)).await;
    for round in 0..6 {
        let probe = peer.request("GetConfiguration").await;
        match round % 3 {
            0 => peer.answer(&probe, r#"{"componentName":"c","value":{}}"#).await,
            1 => {
                peer.refuse(&probe, "ResourceNotFoundError", "Key not found.")
                    .await;
            }
            // Not answered: the next one is.
            _ => {}
        }
    }
    assert_eq!(connected(&client).await, 1);
    peer.request("GetConfiguration").await;
    peer.closed_by_client().await;
    last_error(&client, "2 probes in a row were not answered").await;

    // On the new connection the count starts anew.
    let mut peer = nucleus.accept().await;
    peer.request("GetConfiguration").await;
    let probe = peer.request("GetConfiguration").await;
    peer.answer(&probe, "{}").await;
    peer.request("GetConfiguration").await;
    assert_eq!(connected(&client).await, 2);
}

#[tokio::test]
async fn a_subscription_that_died_without_a_word_is_found_by_the_application() {
    // 1 when the subscription stands, and one more with every message.
    let heard = Arc::new(AtomicU32::new(0));
    let looked_at = Arc::clone(&heard);
    let liveness = Liveness::by_probe(move |client| {
        let heard = Arc::clone(&looked_at);
        async move {
            // Publishes to itself; the test's nucleus answers, but may bring nothing back.
            let before = heard.load(Ordering::SeqCst);
            if before == 0 {
                return true;
            }
            if client
                .publish_to_iot_core("a/self", Qos::AtMostOnce, b"")
                .await
                .is_err()
            {
                return false;
            }
            while heard.load(Ordering::SeqCst) == before {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            true
        }
    });
    let (nucleus, client, mut peer) = Nucleus::with_client(quick(liveness, 3)).await;
    let subscribing = client.clone();
    let consumer = tokio::spawn(async move {
        let mut events = subscribing
            .subscribe_to_iot_core("a/self", Qos::AtMostOnce)
            .await
            .unwrap();
        heard.store(1, Ordering::SeqCst);
        let mut resubscribed = 0;
        while heard.load(Ordering::SeqCst) < 4 {
            match events.next().await.unwrap() {
                SubscriptionEvent::Message(_) => drop(heard.fetch_add(1, Ordering::SeqCst)),
                SubscriptionEvent::Resubscribed => resubscribed += 1,
                other => panic!("nothing was missed: {other:?}"),
            }
        }
        resubscribed
    });
    let subscription = peer.request("SubscribeToIoTCore").await;
    peer.answer(&subscription, "{}").await;
    let alive = peer.request("PublishToIoTCore").await;
    peer.answer(&alive, "{}").await;
    peer.event(subscription.stream_id, "a/self", "").await;
    // The subscription is dead from now on; publishing goes on.
    for _ in 0..3 {
        let publish = peer.request("PublishToIoTCore").await;
        peer.answer(&publish, "{}").await;
    }
    peer.closed_by_client().await;
    last_error(&client, "3 probes in a row were not answered").await;

    let mut peer = nucleus.accept().await;
    let renewal = peer.request("SubscribeToIoTCore").await;
    peer.answer(&renewal, "{}").await;
    for _ in 0..2 {
        let publish = peer.request("PublishToIoTCore").await;
        peer.answer(&publish, "{}").await;
        peer.event(renewal.stream_id, "a/self", "").await;
    }
    assert_eq!(within("three messages", consumer).await.unwrap(), 1);
}

#[tokio::test]
async fn a_probe_that_panics_is_a_miss_and_none_is_made_without_a_connection() {
    let made = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&made);
    let liveness = Liveness::by_probe(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        async { panic!("a probe that panics, on purpose") }
    });
    let (nucleus, client, mut peer) = Nucleus::with_client(quick(liveness, 0)).await;
    peer.closed_by_client().await;
    last_error(&client, "1 probes in a row were not answered").await;
    let silent = nucleus.knock().await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(made.load(Ordering::SeqCst), 1);
    drop(silent);
}

#[tokio::test]
async fn the_probe_does_not_keep_the_connection() {
    let (_nucleus, client, mut peer) = Nucleus::with_client(quick(Liveness::by_request(), 3)).await;
    let probe = peer.request("GetConfiguration").await;
    peer.answer(&probe, "{}").await;
    // In the middle of the next one.
    peer.request("GetConfiguration").await;
    drop(client);
    assert_eq!(peer.receive_or_end().await, None);
}
