//! The stand-in cloud behind a real mosquitto on loopback: shadow, reports, the alarm loop, reconnects.

mod bench;

use std::time::Duration;

use bench::*;
use edgewarden_lab::cloud::ingest::Format;
use edgewarden_lab::cloud::mqtt::{self, MqttError};
use edgewarden_lab::cloud::service::CloudArgs;
use edgewarden_lab::cloud::shadow::ShadowId;
use edgewarden_lab::site::free_port;
use serde_json::json;

#[tokio::test]
async fn a_shadow_makes_the_round_trip() {
    let broker = Mosquitto::start();
    let (_cloud, mut events) = cloud(&broker, |_| {}).await;
    let (_device, mut answers) = device(&broker).await;
    let classic = ShadowId::classic("gw-1");
    let before = get(&broker, &classic).await;
    assert_eq!(
        (before.accepted, &before.document["code"]),
        (false, &json!(404)),
        "{before:?}"
    );

    publish(
        &broker,
        UPDATE,
        &json!({"state": {"desired": {"quarantine": true}}, "clientToken": "t"}),
    )
    .await;
    let accepted = answers.next(&format!("{UPDATE}/accepted")).await;
    assert_eq!(
        (&accepted["version"], &accepted["clientToken"]),
        (&json!(1), &json!("t"))
    );
    assert_eq!(
        answers.next(&format!("{UPDATE}/delta")).await["state"],
        json!({"quarantine": true})
    );
    let documents = answers.next(&format!("{UPDATE}/documents")).await;
    assert_eq!(
        documents["current"]["state"]["desired"],
        json!({"quarantine": true})
    );
    let event = events.next("shadow").await;
    assert_eq!(
        (&event["thing"], &event["shadow"], &event["version"]),
        (&json!("gw-1"), &json!(null), &json!(1))
    );

    publish(
        &broker,
        UPDATE,
        &json!({"state": {"reported": {"quarantine": true}}}),
    )
    .await;
    events
        .next_where("shadow", |event| event["version"] == json!(2))
        .await;
    let after = get(&broker, &classic).await;
    assert!(after.accepted);
    assert_eq!(
        after.document["state"],
        json!({"desired": {"quarantine": true}, "reported": {"quarantine": true}}),
    );
}

#[tokio::test]
async fn a_named_shadow_is_another_one() {
    let broker = Mosquitto::start();
    let (_cloud, mut events) = cloud(&broker, |_| {}).await;
    let named = ShadowId {
        thing: "gw-1".to_owned(),
        name: Some("edge".to_owned()),
    };
    publish(&broker, UPDATE, &json!({"state": {"reported": {"b": 2}}})).await;
    events.next("shadow").await;
    assert!(
        !get(&broker, &named).await.accepted,
        "only the classic one exists"
    );
    publish(
        &broker,
        &format!("{}/update", named.prefix()),
        &json!({"state": {"reported": {"a": 1}}}),
    )
    .await;
    events
        .next_where("shadow", |event| event["shadow"] == json!("edge"))
        .await;
    assert_eq!(
        get(&broker, &named).await.document["state"],
        json!({"reported": {"a": 1}})
    );
}

#[tokio::test]
async fn a_200_kilobyte_document_is_refused_in_words_and_the_service_goes_on() {
    let broker = Mosquitto::start();
    let (_cloud, _events) = cloud(&broker, |_| {}).await;
    let (_device, mut answers) = device(&broker).await;
    publish(
        &broker,
        UPDATE,
        &json!({"state": {"desired": {"a": "x".repeat(200 * 1024)}}}),
    )
    .await;
    assert_eq!(
        answers.next(&format!("{UPDATE}/rejected")).await["code"],
        json!(413)
    );
    publish(&broker, REPORTS, &json!({"header": "x".repeat(200 * 1024)})).await;
    let refused = answers.next(&format!("{REPORTS}/rejected")).await;
    assert_eq!(refused["statusDetails"]["ErrorCode"], json!("InvalidPayload"));
    publish(&broker, UPDATE, &json!({"state": {"desired": {"a": 1}}})).await;
    assert_eq!(
        answers.next(&format!("{UPDATE}/accepted")).await["version"],
        json!(1)
    );
}

#[tokio::test]
async fn reports_are_accepted_refused_and_throttled() {
    let broker = Mosquitto::start();
    let (_cloud, mut events) = cloud(&broker, |_| {}).await;
    let (_device, mut answers) = device(&broker).await;
    publish(&broker, REPORTS, &json!({"header": {"report_id": 1}})).await;
    let refused = answers.next(&format!("{REPORTS}/rejected")).await;
    assert_eq!(
        (&refused["status"], &refused["reportId"]),
        (&json!("REJECTED"), &json!(1))
    );
    assert_eq!(refused["statusDetails"]["ErrorCode"], json!("InvalidPayload"));

    publish(&broker, REPORTS, &report(1, 500)).await;
    let accepted = answers.next(&format!("{REPORTS}/accepted")).await;
    assert_eq!(
        (&accepted["status"], &accepted["reportId"], &accepted["thingName"]),
        (&json!("ACCEPTED"), &json!(1), &json!("gw-1")),
    );

    publish(&broker, REPORTS, &report(2, 500)).await;
    let throttled = answers.next(&format!("{REPORTS}/rejected")).await;
    assert_eq!(
        (&throttled["reportId"], &throttled["statusDetails"]["ErrorCode"]),
        (&json!(2), &json!("Throttled"))
    );

    for (outcome, error) in [
        ("rejected", json!("InvalidPayload")),
        ("accepted", json!(null)),
        ("rejected", json!("Throttled")),
    ] {
        let event = events.next("report").await;
        assert_eq!(
            (&event["outcome"], &event["error"]["code"]),
            (&json!(outcome), &error)
        );
    }
}

#[tokio::test]
async fn a_report_in_cbor_is_heard_and_judged_by_the_profile_of_a_file() {
    let broker = Mosquitto::start();
    let folder = tempfile::tempdir().expect("a folder for the profile");
    let path = folder.path().join("profile.json");
    let profile = json!({"securityProfileName": "P", "behaviors": [{
        "name": "Names", "metric": "names",
        "criteria": {"comparisonOperator": "in-set", "value": {"strings": ["sshd"]}},
    }]});
    std::fs::write(&path, profile.to_string()).expect("the profile is written");
    let (_cloud, mut events) = cloud(&broker, |args| args.profile = Some(path.clone())).await;
    let report = json!({"hed": {"rid": 9, "v": "1.0"}, "cmet": {"names": [{"string_list": ["nc"]}]}});
    let payload = Format::Cbor.encode(&report);
    let topic = "$aws/things/gw-1/defender/metrics/cbor";
    mqtt::publish(&broker.address(), topic, payload, LIMIT)
        .await
        .expect("the broker takes it");
    let heard = events.next("report").await;
    assert_eq!(
        (&heard["format"], &heard["outcome"], &heard["reportId"]),
        (&json!("cbor"), &json!("accepted"), &json!(9))
    );
    let alarm = events.next("alarm").await;
    assert_eq!(
        (&alarm["metric"], &alarm["value"]),
        (&json!("names"), &json!(["nc"]))
    );
}

#[tokio::test]
async fn a_cloud_told_to_reject_rejects_a_good_report() {
    let broker = Mosquitto::start();
    let (_cloud, _events) = cloud(&broker, |args| args.reject_reports = true).await;
    let (_device, mut answers) = device(&broker).await;
    publish(&broker, REPORTS, &report(7, 99_999)).await;
    let refused = answers.next(&format!("{REPORTS}/rejected")).await;
    assert_eq!(
        (&refused["reportId"], &refused["statusDetails"]["ErrorCode"]),
        (&json!(7), &json!("InvalidPayload"))
    );
    assert!(
        !get(&broker, &ShadowId::classic("gw-1")).await.accepted,
        "no alarm, no shadow"
    );
}

#[tokio::test]
async fn an_alarm_leads_to_desired_quarantine() {
    let broker = Mosquitto::start();
    let (_cloud, mut events) = cloud(&broker, |args| args.min_interval_seconds = 0).await;
    let (_device, mut answers) = device(&broker).await;
    publish(&broker, REPORTS, &report(1, 34_999)).await;
    answers.next(&format!("{REPORTS}/accepted")).await;
    assert!(
        !get(&broker, &ShadowId::classic("gw-1")).await.accepted,
        "control: a normal report changes nothing"
    );

    publish(&broker, REPORTS, &report(2, 35_000)).await;
    assert_eq!(
        answers.next(&format!("{UPDATE}/delta")).await["state"],
        json!({"quarantine": true})
    );
    let alarm = events.next("alarm").await;
    assert_eq!(
        (&alarm["type"], &alarm["value"]),
        (&json!("in-alarm"), &json!(35_000))
    );
    events
        .next_where("lambda", |event| event["action"] == json!("add-to-group"))
        .await;
    assert_eq!(
        events.next("shadow").await["desired"],
        json!({"quarantine": true})
    );
    let shadow = get(&broker, &ShadowId::classic("gw-1")).await;
    assert_eq!(shadow.document["state"]["desired"], json!({"quarantine": true}));

    publish(
        &broker,
        UPDATE,
        &json!({"state": {"desired": {"quarantine": false}}}),
    )
    .await;
    events
        .next_where("shadow", |event| event["desired"]["quarantine"] == json!(false))
        .await;
    publish(&broker, REPORTS, &report(3, 10)).await;
    events
        .next_where("lambda", |event| event["action"] == json!("none"))
        .await;
    let shadow = get(&broker, &ShadowId::classic("gw-1")).await;
    assert_eq!(
        shadow.document["state"]["desired"],
        json!({"quarantine": false}),
        "released stays released"
    );
}

#[tokio::test]
async fn a_broker_that_comes_late_and_restarts_is_found_again_and_shadows_survive() {
    let port = free_port().unwrap();
    let (_cloud, mut events) = start_cloud(CloudArgs::new(address(port)));
    events.next("disconnected").await;
    let broker = Mosquitto::start_on(port);
    events.next("connected").await;
    publish(
        &broker,
        UPDATE,
        &json!({"state": {"desired": {"quarantine": true}}}),
    )
    .await;
    events.next("shadow").await;
    drop(broker);
    events.next("disconnected").await;
    let broker = Mosquitto::start_on(port);
    events.next("connected").await;
    let shadow = get(&broker, &ShadowId::classic("gw-1")).await;
    assert_eq!((&shadow.document["version"], shadow.accepted), (&json!(1), true));
}

#[tokio::test]
async fn the_console_says_what_is_wrong() {
    let nobody = address(free_port().unwrap());
    let unreachable = mqtt::publish(&nobody, "a", Vec::new(), LIMIT).await;
    assert!(
        matches!(unreachable, Err(MqttError::Connection { .. })),
        "{unreachable:?}"
    );
    let wildcard = mqtt::publish(&nobody, "a/#", Vec::new(), LIMIT).await;
    assert!(matches!(wildcard, Err(MqttError::Topic { .. })), "{wildcard:?}");
    let huge = mqtt::publish(&nobody, "a", vec![0; mqtt::MAX_PAYLOAD_BYTES + 1], LIMIT).await;
    assert!(matches!(huge, Err(MqttError::TooLarge { .. })), "{huge:?}");
    let broker = Mosquitto::start();
    let no_cloud = mqtt::get_shadow(
        &broker.address(),
        &ShadowId::classic("gw-1"),
        Duration::from_millis(300),
    )
    .await;
    assert!(matches!(no_cloud, Err(MqttError::Timeout { .. })), "{no_cloud:?}");
}
