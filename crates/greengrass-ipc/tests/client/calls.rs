//! Requests that are answered once.

use std::time::Duration;

use crate::support::{Nucleus, body, connected, response, within};
use greengrass_ipc::frame::{Message, MessageKind, TERMINATE_STREAM};
use greengrass_ipc::{Client, ComponentState, IpcError, Qos};
use serde_json::json;

const TOPIC: &str = "$aws/things/gateway-01/defender/metrics/json";

#[tokio::test]
async fn publish_round_trip() {
    let (_nucleus, client, mut peer) = Nucleus::with_client(|_| ()).await;
    let publish = client.publish_to_iot_core("a/b", Qos::AtLeastOnce, b"hi");
    let serve = async {
        let request = peer.request("PublishToIoTCore").await;
        assert_eq!(request.stream_id, 1);
        assert_eq!(
            body(&request),
            json!({ "topicName": "a/b", "qos": "1", "payload": "aGk=" })
        );
        peer.answer(&request, "{}").await;
    };
    let (published, ()) = within("the publish", async { tokio::join!(publish, serve) }).await;
    published.unwrap();
}

#[tokio::test]
async fn an_answer_is_final_with_and_without_the_flag() {
    let (_nucleus, client, mut peer) = Nucleus::with_client(|_| ()).await;
    for (id, flags) in [(1, 0), (2, TERMINATE_STREAM)] {
        let call = client.update_state(ComponentState::Running);
        let serve = async {
            let request = peer.request("UpdateState").await;
            assert_eq!(
                (request.stream_id, body(&request)),
                (id, json!({ "state": "RUNNING" }))
            );
            peer.send(&response(&request, "").with_flags(flags)).await;
        };
        let (done, ()) = within("the call", async { tokio::join!(call, serve) }).await;
        done.unwrap();
    }
}

#[tokio::test]
async fn ids_follow_the_wire_and_answers_find_their_callers() {
    let (_nucleus, client, mut peer) = Nucleus::with_client(|_| ()).await;
    let calls: Vec<_> = (0..50)
        .map(|number| {
            let client = client.clone();
            tokio::spawn(async move {
                (
                    number,
                    client.request_json("Echo", json!({ "number": number })).await,
                )
            })
        })
        .collect();
    let mut requests = Vec::new();
    for expected in 1..=50 {
        let request = peer.request("Echo").await;
        assert_eq!(request.stream_id, expected);
        requests.push(request);
    }
    for request in requests.iter().rev() {
        let payload = String::from_utf8(request.payload.to_vec()).unwrap();
        peer.answer(request, &payload).await;
    }
    for call in calls {
        let (number, echoed) = within("an answer", call).await.unwrap();
        assert_eq!(echoed.unwrap(), json!({ "number": number }));
    }
}

#[tokio::test]
async fn a_connection_closed_during_a_call_fails_it_and_the_next_works() {
    let (nucleus, client, mut peer) = Nucleus::with_client(|_| ()).await;
    let call = client.request_json("GetConfiguration", json!({}));
    let close = async {
        peer.request("GetConfiguration").await;
        drop(peer);
    };
    let (failed, ()) = within("the call", async { tokio::join!(call, close) }).await;
    assert!(
        matches!(failed, Err(IpcError::ConnectionLost { .. })),
        "{failed:?}"
    );

    let call = client.request_json("GetConfiguration", json!({}));
    let serve = async {
        let mut peer = nucleus.accept().await;
        let request = peer.request("GetConfiguration").await;
        assert_eq!(request.stream_id, 1, "ids start again with the connection");
        peer.answer(&request, r#"{"value":1}"#).await;
        peer
    };
    let (answer, _peer) = within("the next call", async { tokio::join!(call, serve) }).await;
    assert_eq!(answer.unwrap(), json!({ "value": 1 }));
}

#[tokio::test]
async fn a_late_answer_is_ignored() {
    let (_nucleus, client, mut peer) =
        Nucleus::with_client(|options| options.request_timeout = Duration::from_millis(300)).await;
    connected(&client).await;
    let call = client.request_json("GetConfiguration", json!({ "n": 1 }));
    let (timed_out, late) = within("the call", async {
        tokio::join!(call, peer.request("GetConfiguration"))
    })
    .await;
    assert!(
        matches!(timed_out, Err(IpcError::Timeout { .. })),
        "{timed_out:?}"
    );

    peer.answer(&late, r#"{"value":"late"}"#).await;
    peer.answer(&late, r#"{"value":"even later"}"#).await;
    let call = client.request_json("GetConfiguration", json!({ "n": 2 }));
    let serve = async {
        let request = peer.request("GetConfiguration").await;
        assert_eq!(request.stream_id, 2, "the id is not used twice");
        peer.answer(&request, r#"{"value":"mine"}"#).await;
    };
    let (answer, ()) = within("the next call", async { tokio::join!(call, serve) }).await;
    assert_eq!(answer.unwrap(), json!({ "value": "mine" }));
}

#[tokio::test]
async fn a_cancelled_call_leaves_the_order_of_ids_intact() {
    let (_nucleus, client, mut peer) = Nucleus::with_client(|_| ()).await;
    let other = client.clone();
    let cancelled = tokio::spawn(async move { other.request_json("First", json!({})).await });
    let first = peer.request("First").await;
    cancelled.abort();
    assert!(cancelled.await.unwrap_err().is_cancelled());
    peer.answer(&first, "{}").await;

    let (answer, second) = within("the next call", async {
        tokio::join!(client.request_json("Second", json!({})), async {
            let second = peer.request("Second").await;
            peer.answer(&second, r#"{"second":true}"#).await;
            second
        })
    })
    .await;
    assert_eq!(
        (answer.unwrap(), second.stream_id),
        (json!({ "second": true }), 2)
    );
}

#[tokio::test]
async fn what_does_not_fit_is_refused_before_it_reaches_the_nucleus() {
    let (_nucleus, client, mut peer) = Nucleus::with_client(|_| ()).await;
    let largest = client.max_iot_core_payload(TOPIC);
    assert_eq!(largest, 7290);
    let error = client
        .publish_to_iot_core(TOPIC, Qos::AtMostOnce, &vec![0; largest + 1])
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            IpcError::TooLarge {
                limit: 10_012,
                size: 10_013..,
                ..
            }
        ),
        "{error:?}"
    );
    let error = client
        .publish_to_iot_core("test/#", Qos::AtMostOnce, b"")
        .await
        .unwrap_err();
    assert!(matches!(error, IpcError::InvalidRequest { .. }), "{error:?}");

    let error = client
        .request_json("SubscribeToTopic", json!({}))
        .await
        .unwrap_err();
    assert!(matches!(error, IpcError::InvalidRequest { .. }), "{error:?}");

    let payload = vec![0; largest];
    let publish = client.publish_to_iot_core(TOPIC, Qos::AtMostOnce, &payload);
    let serve = async {
        let request = peer.request("PublishToIoTCore").await;
        assert_eq!(request.stream_id, 1, "the refused ones were not sent");
        assert!(greengrass_ipc::frame::encode(&request).unwrap().len() <= 10_012);
        peer.answer(&request, "{}").await;
    };
    let (published, ()) = within("the publish", async { tokio::join!(publish, serve) }).await;
    published.unwrap();
}

#[tokio::test]
async fn errors_of_both_nuclei_are_told_apart() {
    let (_nucleus, client, mut peer) = Nucleus::with_client(|_| ()).await;
    let bodies = [
        (
            Some("ServiceError"),
            r#"{"_message":"","_errorCode":"ServiceError"}"#,
            "unsupported",
        ),
        (
            Some("UnauthorizedError"),
            r#"{"_message":"no","_errorCode":"UnauthorizedError"}"#,
            "unauthorized",
        ),
        (
            Some("ResourceNotFoundError"),
            r#"{"message":"Key not found."}"#,
            "not found",
        ),
        (
            Some("ServiceError"),
            r#"{"message":"Operation X is not supported by Greengrass"}"#,
            "unsupported",
        ),
        (
            None,
            r#"{"error":"Unsupported Operation","message":"X"}"#,
            "unsupported",
        ),
        (None, "InternalServerError", "other"),
        (None, "", "other"),
    ];
    for (shape, text, expected) in bodies {
        let serve = async {
            let request = peer.request("X").await;
            let mut error = Message::new(MessageKind::ApplicationError, request.stream_id)
                .with_flags(TERMINATE_STREAM)
                .with_payload(text);
            error.service_model_type = shape.map(|name| format!("aws.greengrass#{name}"));
            peer.send(&error).await;
        };
        let (result, ()) = within("the call", async {
            tokio::join!(client.request_json("X", json!({})), serve)
        })
        .await;
        let error = result.unwrap_err();
        assert!(matches!(error, IpcError::Service { .. }), "{text}: {error:?}");
        let said = match (
            error.is_unsupported(),
            error.is_unauthorized(),
            error.is_not_found(),
        ) {
            (true, false, false) => "unsupported",
            (false, true, false) => "unauthorized",
            (false, false, true) => "not found",
            (false, false, false) => "other",
            several => panic!("{text}: {several:?}"),
        };
        assert_eq!(said, expected, "{text}");
    }
}

#[tokio::test]
async fn an_answer_that_makes_no_sense_is_an_error_of_that_call_only() {
    let (_nucleus, client, mut peer) = Nucleus::with_client(|_| ()).await;
    for text in ["not json", "{}", r#"{"value":"#] {
        let serve = async {
            let request = peer.request("GetConfiguration").await;
            peer.answer(&request, text).await;
        };
        let call = client.get_configuration(Some("a"), &[]);
        let (answer, ()) = within("the call", async { tokio::join!(call, serve) }).await;
        assert!(
            matches!(answer, Err(IpcError::BadReply { .. })),
            "{text}: {answer:?}"
        );
    }
    assert_eq!(connected(&client).await, 1, "the connection was kept");
}

#[tokio::test]
async fn the_limit_is_learned_from_a_nucleus_that_closes_over_it() {
    let (nucleus, client, mut peer) = Nucleus::with_client(|options| options.max_frame_bytes = 100_000).await;
    let payload = vec![0; 20_000];
    for round in 0..2 {
        let publish = client.publish_to_iot_core(TOPIC, Qos::AtMostOnce, &payload);
        let close = async {
            peer.request("PublishToIoTCore").await;
            drop(peer);
        };
        let (failed, ()) = within("the publish", async { tokio::join!(publish, close) }).await;
        assert!(
            matches!(failed, Err(IpcError::ConnectionLost { .. })),
            "{round}: {failed:?}"
        );
        peer = nucleus.accept().await;
    }
    assert_eq!(
        (client.max_frame_bytes(), client.max_iot_core_payload(TOPIC)),
        (10_012, 7_290)
    );
    let refused = client.publish_to_iot_core(TOPIC, Qos::AtMostOnce, &payload).await;
    assert!(
        matches!(refused, Err(IpcError::TooLarge { limit: 10_012, .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_nucleus_that_has_taken_a_long_frame_keeps_its_limit() {
    let (nucleus, client, mut peer) = Nucleus::with_client(|options| options.max_frame_bytes = 100_000).await;
    let payload = vec![0; 20_000];
    for answered in [true, false, false, false] {
        let publish = client.publish_to_iot_core(TOPIC, Qos::AtMostOnce, &payload);
        let serve = async {
            let request = peer.request("PublishToIoTCore").await;
            if answered {
                peer.answer(&request, "{}").await;
            }
            drop(peer);
        };
        let (published, ()) = within("the publish", async { tokio::join!(publish, serve) }).await;
        assert_eq!(published.is_ok(), answered);
        peer = nucleus.accept().await;
    }
    assert_eq!(client.max_frame_bytes(), 100_000);
}

#[tokio::test]
async fn what_never_left_is_told_from_what_may_have() {
    let nucleus = Nucleus::new();
    let mut options = nucleus.options();
    options.request_timeout = Duration::from_millis(200);
    let client = Client::start(options);
    let silent = nucleus.knock().await;
    let error = client.request_json("X", json!({})).await.unwrap_err();
    assert!(matches!(error, IpcError::NotConnected { .. }), "{error:?}");
    drop(silent);
    let mut peer = nucleus.accept().await;
    let error = client.request_json("Y", json!({})).await.unwrap_err();
    assert!(matches!(error, IpcError::Timeout { .. }), "{error:?}");
    let sent = peer.request("Y").await;
    assert_eq!(sent.stream_id, 1, "the first one was not sent later either");
}
