//! The wire: handshake, frames, stream ids, errors of both nuclei.

use greengrass_ipc::frame::{Message, MessageKind, TERMINATE_STREAM, encode};
use serde_json::json;

use crate::bench::{Bench, GET, LIMIT, UPDATE, code};

#[test]
fn what_the_recipe_does_not_grant_is_denied() {
    let mut lite = Bench::start("lite", &[]);
    let mut ipc = lite.ipc();
    let denied = json!({ "_message": "IPC Operation not authorized.", "_errorCode": "UnauthorizedError" });
    assert_eq!(ipc.publish("other", "1", b""), Err(denied.clone()));
    assert_eq!(
        ipc.subscribe("$aws/things/gateway-01/shadow/#"),
        Err(denied.clone()),
        "wider than granted"
    );
    assert_eq!(ipc.subscribe(GET), Err(denied), "granted for publishing only");
    let event = lite
        .nucleus
        .wait_event(LIMIT, |event| event["event"] == "denied")
        .unwrap();
    assert_eq!(
        (&event["operation"], &event["resource"]),
        (&json!("PublishToIoTCore"), &json!("other"))
    );

    let answer = Bench::start("classic", &[])
        .ipc()
        .publish("other", "1", b"")
        .unwrap_err();
    assert_eq!(answer["_errorCode"], "UnauthorizedError");
    assert_eq!(answer["_service"], "aws.greengrass#GreengrassCoreIPC");
    assert_eq!(answer["message"], answer["_message"]);
}

#[test]
fn strangers_are_refused_each_in_its_way() {
    for personality in ["lite", "classic"] {
        let bench = Bench::start(personality, &[]);
        let good = json!({ "authToken": bench.token() });
        for (body, version) in [
            (&json!({ "authToken": "0123456789abcdef" }), "0.1.0"),
            (&good, "0.2.0"),
        ] {
            let mut ipc = bench.dial();
            let answer = ipc.hello(body, version);
            if personality == "lite" {
                assert!(answer.is_none(), "lite closes without a word");
            } else {
                let answer = answer.expect("classic answers");
                assert_eq!((answer.kind, answer.flags), (MessageKind::ConnectAck, 0));
                assert!(ipc.read().is_none(), "and then closes");
            }
        }
        let mut hasty = bench.dial();
        hasty.request("GetConfiguration", &json!({ "keyPath": [] }));
        assert!(hasty.read().is_none(), "nothing before connect");
        assert!(
            bench
                .dial()
                .hello(&json!({ "componentName": "com.example.C" }), "0.1.0")
                .is_none_or(|ack| ack.flags == 0)
        );
    }
}

#[test]
fn stream_ids_flags_and_pings_differ() {
    let lite = Bench::start("lite", &[]);
    let mut ipc = lite.ipc();
    for stream in [9, 3] {
        ipc.request_on(stream, "GetConfiguration", &json!({ "keyPath": ["interval"] }));
        let answer = ipc.read().unwrap();
        assert_eq!(
            (answer.stream_id, answer.flags),
            (stream, 0),
            "any positive id, no terminate flag"
        );
    }
    ipc.send(&Message::new(MessageKind::Ping, 0));
    assert!(ipc.read().is_none(), "lite closes at a ping");
    let mut ipc = lite.ipc();
    ipc.request_on(0, "GetConfiguration", &json!({ "keyPath": [] }));
    assert!(ipc.read().is_none(), "stream 0 closes");

    let classic = Bench::start("classic", &[]);
    let mut ipc = classic.ipc();
    ipc.request_on(1, "GetConfiguration", &json!({ "keyPath": ["interval"] }));
    assert_eq!(ipc.read().unwrap().flags, TERMINATE_STREAM);
    ipc.send(&Message::new(MessageKind::Ping, 0).with_payload(b"x".to_vec()));
    let pong = ipc.read().unwrap();
    assert_eq!(
        (pong.kind, &pong.payload[..]),
        (MessageKind::PingResponse, &b"x"[..])
    );
    ipc.request_on(3, "GetConfiguration", &json!({ "keyPath": [] }));
    assert_eq!(ipc.read().unwrap().kind, MessageKind::ProtocolError, "3 after 1");
    assert!(ipc.read().is_none());
}

#[test]
fn frames_have_each_nucleus_limit() {
    let lite = Bench::start("lite", &[]);
    let cloud = lite.cloud(UPDATE);
    // 7,290 bytes are what the frame leaves for this topic with the headers a client needs.
    let request = |bytes: usize| {
        let payload = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, vec![b'x'; bytes]);
        json!({ "topicName": UPDATE, "qos": "1", "payload": payload })
    };
    let mut ipc = lite.ipc();
    ipc.request("PublishToIoTCore", &request(7_200));
    assert_eq!(ipc.read().unwrap().kind, MessageKind::ApplicationMessage);
    assert_eq!(cloud.next().1.len(), 7_200);
    ipc.request("PublishToIoTCore", &request(7_500));
    assert!(ipc.read().is_none(), "a longer frame resets the connection");
    for (bytes, accepted) in [(10_012, true), (10_013, false)] {
        let mut ipc = lite.ipc();
        // White space behind the JSON brings the frame to the byte.
        let request = |padding: usize| {
            let body = format!("{}{}", json!({ "keyPath": ["interval"] }), " ".repeat(padding));
            let message = Message::new(MessageKind::ApplicationMessage, 1);
            encode(
                &message
                    .with_operation("aws.greengrass#GetConfiguration")
                    .with_json(body),
            )
            .unwrap()
        };
        let frame = request(bytes - request(0).len());
        assert_eq!(frame.len(), bytes);
        ipc.send_bytes(&frame).unwrap();
        assert_eq!(ipc.read().is_some(), accepted, "a frame of {bytes} bytes");
    }
    let mut garbage = lite.ipc();
    let _ = garbage.send_bytes(&[0x55; 4000]);
    assert!(garbage.read().is_none());
    assert!(lite.ipc().get(&["interval"]).is_ok(), "others are not affected");

    let classic = Bench::start("classic", &[]);
    let cloud = classic.cloud(UPDATE);
    let mut ipc = classic.ipc();
    assert!(ipc.publish(UPDATE, "1", &vec![b'x'; 100_000]).is_ok());
    assert_eq!(cloud.next().1.len(), 100_000);
    assert_eq!(
        code(ipc.publish(UPDATE, "1", &vec![b'x'; 131_073])),
        "InvalidArgumentsError"
    );
}

#[test]
fn unsupported_operations_are_answered_as_each_nucleus_does() {
    let lite = Bench::start("lite", &[]);
    for operation in [
        "PauseComponent",
        "ResumeComponent",
        "StopComponent",
        "SubscribeToComponentUpdates",
        "DeferComponentUpdate",
        "SubscribeToValidateConfigurationUpdates",
        "SendConfigurationValidityReport",
        "GetThingShadow",
        "UpdateThingShadow",
        "DeleteThingShadow",
        "ListNamedShadowsForThing",
        "PutComponentMetric",
        "SubscribeToIoTCoreConnectionStatus",
        "NoSuchThing",
    ] {
        let answer = lite.ipc().call(operation, &json!({}));
        assert_eq!(
            answer,
            Err(json!({ "_message": "", "_errorCode": "ServiceError" }))
        );
    }
    let classic = Bench::start("classic", &[]);
    let answer = classic.ipc().call("GetSecretValue", &json!({})).unwrap_err();
    assert_eq!(
        answer["_message"],
        "Operation aws.greengrass#GetSecretValue is not supported by Greengrass"
    );
    for operation in ["SubscribeToIoTCoreConnectionStatus", "NoSuchThing"] {
        assert_eq!(
            classic.ipc().call(operation, &json!({})).unwrap_err()["error"],
            "Unsupported Operation"
        );
    }
}
