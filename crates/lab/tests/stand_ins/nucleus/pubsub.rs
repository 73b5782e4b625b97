//! Local publish/subscribe: kinds of messages, wildcards, who hears whom, policies.

use serde_json::{Value, json};

use crate::bench::{Bench, Ipc, code};

fn publish(ipc: &mut Ipc, topic: &str, message: &Value) -> Result<Value, Value> {
    ipc.call(
        "PublishToTopic",
        &json!({ "topic": topic, "publishMessage": message }),
    )
}

fn text(content: &str) -> Value {
    json!({ "jsonMessage": { "message": { "text": content } } })
}

/// The next local message's text.
fn heard(ipc: &mut Ipc) -> Value {
    ipc.event("SubscriptionResponseMessage").1["jsonMessage"]["message"]["text"].clone()
}

#[test]
fn both_kinds_of_messages_reach_every_subscriber() {
    for personality in ["lite", "classic"] {
        let bench = Bench::start(personality, &[]);
        let (mut first, mut second) = (bench.ipc(), bench.ipc());
        for ipc in [&mut first, &mut second] {
            let subscription = json!({ "topic": "local/a" });
            assert_eq!(ipc.call("SubscribeToTopic", &subscription), Ok(json!({})));
        }
        let mut ipc = bench.ipc();
        let binary = json!({ "binaryMessage": { "message": "AAH/" } });
        publish(&mut ipc, "local/b", &text("elsewhere")).unwrap();
        assert_eq!(publish(&mut ipc, "local/a", &text("hello")), Ok(json!({})));
        publish(&mut ipc, "local/a", &binary).unwrap();
        for ipc in [&mut first, &mut second] {
            let context = json!({ "topic": "local/a" });
            let expected = json!({ "jsonMessage": { "message": { "text": "hello" }, "context": context } });
            assert_eq!(ipc.event("SubscriptionResponseMessage"), (1, expected));
            let expected = json!({ "binaryMessage": { "message": "AAH/", "context": context } });
            assert_eq!(ipc.event("SubscriptionResponseMessage"), (1, expected));
        }
    }
}

#[test]
fn classic_spares_a_component_its_own_messages_where_it_says_so() {
    let all = json!({ "topic": "local/+", "receiveMode": "RECEIVE_ALL_MESSAGES" });
    let others = json!({ "topic": "local/x", "receiveMode": "RECEIVE_MESSAGES_FROM_OTHERS" });
    for (personality, subscription, hears) in [
        ("classic", &all, true),
        ("classic", &others, false),
        // A wildcard means others only, unless all are asked for.
        ("classic", &json!({ "topic": "local/+" }), false),
        ("lite", &others, true),
        ("lite", &json!({ "topic": "local/+" }), true),
    ] {
        let bench = Bench::start(personality, &[]);
        let mut ipc = bench.ipc();
        ipc.call("SubscribeToTopic", subscription).unwrap();
        ipc.call("SubscribeToTopic", &json!({ "topic": "local/marker" }))
            .unwrap();
        // From another connection: on its own, the answer and the events share a socket.
        let mut publisher = bench.ipc();
        publish(&mut publisher, "local/x", &text("own")).unwrap();
        publish(&mut publisher, "local/marker", &text("marker")).unwrap();
        let expected = if hears { "own" } else { "marker" };
        assert_eq!(heard(&mut ipc), expected, "{personality} {subscription}");
    }
}

#[test]
fn what_is_not_granted_or_not_a_message_is_refused() {
    for (personality, malformed) in [("lite", "ServiceError"), ("classic", "InvalidArgumentsError")] {
        let bench = Bench::start(personality, &[]);
        let mut ipc = bench.ipc();
        assert_eq!(code(publish(&mut ipc, "other", &text("x"))), "UnauthorizedError");
        let denied = ipc.call("SubscribeToTopic", &json!({ "topic": "other" }));
        assert_eq!(code(denied), "UnauthorizedError");
        for message in [
            json!({}),
            json!({ "jsonMessage": {} }),
            json!({ "binaryMessage": { "message": "not base64" } }),
            json!({ "jsonMessage": { "message": {} }, "binaryMessage": { "message": "" } }),
        ] {
            assert_eq!(
                code(publish(&mut ipc, "local/a", &message)),
                malformed,
                "{personality} {message}"
            );
        }
        let wildcard = publish(&mut ipc, "local/#", &text("x"));
        assert_eq!(wildcard.is_err(), personality == "classic");
    }
}
