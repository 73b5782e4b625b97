//! Futures dropped at every point where they can be: nothing stays behind, here or at the nucleus.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use crate::support::{Nucleus, Peer, response, within};
use greengrass_ipc::{Client, IpcError, Qos};
use serde_json::json;

/// More than a call has steps: the last rounds complete.
const MAX_POLLS: usize = 8;

/// Polls a future so many times, as fast as its wakers or the clock allow, and drops it unless it was done.
async fn polled<F: Future>(future: F, times: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    for _ in 0..times {
        let step = std::future::poll_fn(|context| {
            Poll::Ready(match future.as_mut().poll(context) {
                Poll::Ready(output) => Some(output),
                Poll::Pending => None,
            })
        });
        if let Some(output) = step.await {
            return Some(output);
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    None
}

/// Answers everything; keeps the streams of subscriptions that stand, and checks that ids have no gap.
async fn serve(mut peer: Peer, standing: Arc<Mutex<BTreeSet<i32>>>) {
    let mut expected = 1;
    while let Some(message) = peer.receive_or_end().await {
        if message.terminates() {
            assert!(
                standing.lock().unwrap().remove(&message.stream_id),
                "ended a stream that does not stand: {}",
                message.stream_id
            );
            continue;
        }
        assert_eq!(message.stream_id, expected);
        expected += 1;
        if message
            .operation
            .as_deref()
            .unwrap()
            .ends_with("SubscribeToIoTCore")
        {
            standing.lock().unwrap().insert(message.stream_id);
        }
        peer.send(&response(&message, "{}")).await;
    }
}

async fn attempts(client: &Client) -> (usize, usize) {
    let (mut calls, mut subscriptions) = (0, 0);
    for times in (0..=MAX_POLLS).chain(0..=MAX_POLLS) {
        let call = client.request_json("GetConfiguration", json!({}));
        calls += usize::from(polled(call, times).await.is_some());
        let subscribe = client.subscribe_to_iot_core("a/#", Qos::AtMostOnce);
        // A subscription that came to stand is dropped at once.
        subscriptions += usize::from(polled(subscribe, times).await.is_some());
    }
    (calls, subscriptions)
}

#[tokio::test]
async fn nothing_stays_behind_whenever_a_future_is_dropped() {
    let (_nucleus, client, peer) = Nucleus::with_client(|_| ()).await;
    let standing = Arc::new(Mutex::new(BTreeSet::new()));
    let serving = tokio::spawn(serve(peer, Arc::clone(&standing)));
    let (calls, subscriptions) = attempts(&client).await;
    assert!(calls > 1 && subscriptions > 1, "some were completed");
    let ended = async {
        while !standing.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within("the end of every subscription", ended).await;
    within("a call", client.request_json("GetConfiguration", json!({})))
        .await
        .unwrap();
    drop(client);
    within("the nucleus' end", serving).await.unwrap();
}

#[tokio::test]
async fn callers_that_gave_up_without_a_connection_leave_room_for_the_next() {
    let nucleus = Nucleus::new();
    let mut options = nucleus.options();
    options.request_timeout = Duration::from_millis(500);
    let client = Client::start(options);
    let silent = nucleus.knock().await;
    // More than may wait for the connection task.
    for _ in 0..200 {
        let call = client.request_json("Forgotten", json!({}));
        assert!(polled(call, 1).await.is_none());
    }
    let error = client.request_json("Late", json!({})).await.unwrap_err();
    assert!(matches!(error, IpcError::NotConnected { .. }), "{error:?}");
    drop(silent);
    let mut peer = nucleus.accept().await;
    let (answer, ()) = within("a call", async {
        tokio::join!(client.request_json("Wanted", json!({})), async {
            let request = peer.request("Wanted").await;
            assert_eq!(request.stream_id, 1, "nothing of what was given up was sent");
            peer.answer(&request, "{}").await;
        })
    })
    .await;
    answer.unwrap();
}
