//! The bridge to the broker: online, offline, limits, many clients.

use greengrass_ipc::frame::{Message, MessageKind, TERMINATE_STREAM};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::bench::{ACCEPTED, ANSWERS, Bench, GET, LIMIT, SILENCE, UPDATE, code, eventually};

#[test]
fn messages_go_both_ways_in_both_personalities() {
    for personality in ["lite", "classic"] {
        let bench = Bench::start(personality, &[]);
        let cloud = bench.cloud("$aws/#");
        let mut ipc = bench.ipc();
        assert_eq!(ipc.publish(UPDATE, "1", b"up").unwrap(), json!({}));
        assert_eq!(cloud.next(), (UPDATE.to_owned(), b"up".to_vec()));
        assert_eq!(ipc.subscribe(ANSWERS).unwrap(), json!({}));
        // Behind the subscription on the nucleus' connection, so the broker has handled it when this arrives.
        ipc.publish(GET, "0", b"").unwrap();
        assert_eq!(cloud.next().0, GET);
        cloud.publish(ACCEPTED, b"down");
        assert_eq!(ipc.message(), (2, ACCEPTED.to_owned(), b"down".to_vec()));
    }
}

#[test]
fn lite_refuses_while_offline_and_subscribes_again() {
    let mut bench = Bench::start("lite", &[]);
    let mut ipc = bench.ipc();
    ipc.subscribe(ANSWERS).unwrap();
    bench.lose_broker();
    let failed = |text: &str| Err(json!({ "_message": text, "_errorCode": "ServiceError" }));
    assert_eq!(
        ipc.publish(UPDATE, "1", b""),
        failed("Failed to publish the message.")
    );
    assert_eq!(
        ipc.subscribe("many/1"),
        failed("Failed to bind the subscription.")
    );
    bench.restore_broker();
    let cloud = bench.cloud(UPDATE);
    ipc.publish(UPDATE, "1", b"again").unwrap();
    assert_eq!(cloud.next().1, b"again", "nothing of what was refused came first");
    cloud.publish(ACCEPTED, b"still subscribed");
    assert_eq!(ipc.message().2, b"still subscribed");
}

#[test]
fn classic_spools_while_offline_and_answers_subscriptions_later() {
    let mut bench = Bench::start("classic", &[]);
    let mut ipc = bench.ipc();
    bench.lose_broker();
    assert_eq!(code(ipc.publish(UPDATE, "0", b"lost")), "ServiceError");
    ipc.publish(UPDATE, "1", b"spooled").unwrap();
    let subscription = ipc.request("SubscribeToIoTCore", &json!({ "topicName": ANSWERS, "qos": "1" }));
    assert!(
        ipc.get(&["interval"]).is_ok(),
        "the waiting subscription holds up nobody"
    );
    assert!(
        ipc.read_within(SILENCE).is_none(),
        "no answer to it while offline"
    );
    bench.broker.running.restart().unwrap();
    let cloud = bench.cloud(GET);
    let answer = ipc.read().unwrap();
    assert_eq!(
        (answer.kind, answer.stream_id),
        (MessageKind::ApplicationMessage, subscription)
    );
    cloud.publish(ACCEPTED, b"hello");
    assert_eq!(ipc.message().0, subscription);
}

#[test]
fn classic_delivers_what_it_spooled_in_order() {
    let mut bench = Bench::start("classic", &[]);
    let mut ipc = bench.ipc();
    bench.lose_broker();
    for number in 0..20_u8 {
        ipc.publish(UPDATE, "1", &[number]).unwrap();
    }
    // Frozen, it cannot reconnect before the cloud listens.
    bench.nucleus.signal(Signal::SIGSTOP).unwrap();
    bench.broker.running.restart().unwrap();
    let cloud = bench.cloud(UPDATE);
    bench.nucleus.signal(Signal::SIGCONT).unwrap();
    for number in 0..20_u8 {
        assert_eq!(cloud.next().1, [number]);
    }
}

#[test]
fn large_inbound_packets_never_arrive_on_lite() {
    for (personality, arrives) in [("lite", false), ("classic", true)] {
        let bench = Bench::start(personality, &[]);
        let cloud = bench.cloud(GET);
        let mut ipc = bench.ipc();
        ipc.subscribe(ANSWERS).unwrap();
        ipc.publish(GET, "0", b"").unwrap();
        cloud.next();
        cloud.publish(ACCEPTED, &[b'x'; 5_000]);
        cloud.publish(ACCEPTED, &[b'x'; 4_900]);
        assert_eq!(
            ipc.message().2.len(),
            if arrives { 5_000 } else { 4_900 },
            "{personality}"
        );
    }
}

#[test]
fn unsubscribing_and_leaving_end_delivery() {
    let bench = Bench::start("lite", &[]);
    let cloud = bench.cloud(GET);
    let mut ipc = bench.ipc();
    ipc.subscribe("many/1").unwrap();
    ipc.subscribe("many/2").unwrap();
    ipc.send(&Message::new(MessageKind::ApplicationMessage, 1).with_flags(TERMINATE_STREAM));
    ipc.publish(GET, "0", b"").unwrap();
    cloud.next();
    cloud.publish("many/1", b"unwanted");
    cloud.publish("many/2", b"wanted");
    assert_eq!(ipc.message(), (2, "many/2".to_owned(), b"wanted".to_vec()));
    // Had the broker kept many/1 for the nucleus, the wider filter would get its messages twice.
    ipc.subscribe("many/#").unwrap();
    ipc.publish(GET, "0", b"").unwrap();
    cloud.next();
    cloud.publish("many/1", b"once");
    cloud.publish("many/3", b"behind it");
    assert_eq!(ipc.message().2, b"once");
    assert_eq!(ipc.message().2, b"behind it");
    drop(ipc);
    let mut other = bench.ipc();
    for number in 0..100 {
        other.subscribe(&format!("many/{number}")).unwrap();
    }
    assert_eq!(
        code(other.subscribe("many/more")),
        "ServiceError",
        "the 101st of the whole nucleus"
    );
}

#[test]
fn a_client_that_does_not_read_holds_up_nobody() {
    let bench = Bench::start("classic", &[]);
    let cloud = bench.cloud(GET);
    let (mut deaf, mut ipc) = (bench.ipc(), bench.ipc());
    deaf.subscribe("many/#").unwrap();
    ipc.subscribe(ANSWERS).unwrap();
    for _ in 0..400 {
        cloud.publish("many/x", &[b'x'; 4_000]);
    }
    cloud.publish(ACCEPTED, b"behind them");
    assert_eq!(ipc.message().2, b"behind them");
}

#[test]
fn lite_publishing_to_a_wildcard_costs_the_connection() {
    let mut bench = Bench::start("lite", &[]);
    let mut ipc = bench.ipc();
    assert!(ipc.publish("test/#", "1", b"").is_ok());
    bench
        .nucleus
        .wait_event(LIMIT, |event| event["state"] == "disconnected")
        .unwrap();
    bench.await_mqtt();
    assert!(ipc.publish(UPDATE, "1", b"").is_ok());
}

#[test]
fn the_broker_may_have_an_ipv6_address() {
    let bench = Bench::start_at("lite", "[::1]");
    assert!(bench.ipc().publish(UPDATE, "1", b"").is_ok());
}

#[test]
fn the_nucleus_survives_starting_without_a_broker_and_cleans_up() {
    let mut bench = Bench::start("lite", &[]);
    bench.broker.running.kill9().unwrap();
    bench.nucleus.restart().unwrap();
    bench
        .nucleus
        .wait_event(LIMIT, |event| event["event"] == "listening")
        .unwrap();
    assert!(bench.ipc().get(&["interval"]).is_ok());
    bench.restore_broker();
    bench.nucleus.terminate().unwrap();
    assert!(bench.nucleus.wait_exit(LIMIT).unwrap().success());
    eventually("the socket is gone", || {
        !bench.root().join("gg-ipc.socket").exists()
    });
}

#[test]
fn the_state_of_the_connection_is_told_first_and_at_every_change() {
    for personality in ["lite", "classic"] {
        let mut bench = Bench::start(personality, &["--connection-status"]);
        let mut ipc = bench.ipc();
        ipc.call("SubscribeToIoTCoreConnectionStatus", &json!({}))
            .unwrap();
        let told = |ipc: &mut crate::bench::Ipc| ipc.event("IoTCoreConnectionStatusEvent").1;
        let status = |status: &str| json!({ "connectionStatusEvent": { "status": status } });
        assert_eq!(told(&mut ipc), status("CONNECTED"), "{personality}");
        bench.lose_broker();
        assert_eq!(told(&mut ipc), status("DISCONNECTED"), "{personality}");
        bench.restore_broker();
        assert_eq!(told(&mut ipc), status("CONNECTED"), "{personality}");
    }
}

#[test]
fn properties_of_mqtt_5_are_the_classic_nucleus_own() {
    let properties = json!({
        "userProperties": [{ "key": "k", "value": "v" }],
        "correlationData": "AAH/",
        "responseTopic": "test/answers",
        "payloadFormat": "1",
        "contentType": "text/plain",
    });
    for personality in ["lite", "classic"] {
        let bench = Bench::start(personality, &[]);
        let mut ipc = bench.ipc();
        ipc.subscribe("test/p").unwrap();
        let mut request = json!({ "topicName": "test/p", "qos": "1", "payload": "eA==", "retain": true });
        let members = request.as_object_mut().unwrap();
        members.extend(properties.as_object().unwrap().clone());
        ipc.call("PublishToIoTCore", &request).unwrap();
        let mut expected = json!({ "topicName": "test/p", "payload": "eA==" });
        if personality == "classic" {
            let members = expected.as_object_mut().unwrap();
            members.extend(properties.as_object().unwrap().clone());
            // The flag tells a subscriber that the message is an old one, which this is not.
            members.insert("retain".to_owned(), json!(false));
        }
        assert_eq!(
            ipc.event("IoTCoreMessage").1["message"],
            expected,
            "{personality}"
        );
        let mut late = bench.ipc();
        late.subscribe("test/+").unwrap();
        ipc.call(
            "PublishToIoTCore",
            &json!({ "topicName": "test/q", "qos": "1", "payload": "" }),
        )
        .unwrap();
        let first = late.event("IoTCoreMessage").1["message"]["topicName"].clone();
        let kept = if personality == "classic" {
            "test/p"
        } else {
            "test/q"
        };
        assert_eq!(first, kept, "{personality}: only what was kept comes late");
    }
}
