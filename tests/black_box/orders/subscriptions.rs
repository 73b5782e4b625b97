//! Subscriptions that die without a word, on slow ways: the agent hears again by asking, not by being told.
//!
//! The classic nucleus gives a good answer to whoever subscribes before the end of an earlier subscription is confirmed, and
//! that one dies with it; lite's die with its MQTT service, and lite drops what is longer than 5,000 bytes.

use std::time::{Duration, Instant};

use edgewarden_lab::lab_test;
use edgewarden_lab::nucleus::personality::Personality;
use edgewarden_lab::site::wait_until;
use edgewarden_lab::stage::{Stage, StageOptions, THING};
use serde_json::{Value, json};

use crate::common::agent::restart;
use crate::common::{LIMIT, connected_and_released, done, isolate, options, ready, reports};

/// Round trips of the worst way, and the time that a busy machine needs to start a program and to look.
const SOON: Duration = Duration::from_secs(10);

/// A stage of a classic nucleus behind a way of this round trip, its agent connected and free.
fn classic(round_trip: u64) -> Stage {
    classic_with(round_trip, json!({}))
}

fn classic_with(round_trip: u64, configuration: Value) -> Stage {
    let mut stage = Stage::start(StageOptions {
        personality: Personality::Classic,
        front: true,
        configuration,
        ..options()
    })
    .unwrap();
    stage
        .front()
        .delay(Duration::from_millis(round_trip / 2))
        .unwrap();
    stage.start_agent().unwrap();
    connected_and_released(&stage);
    stage
}

/// The shadow orders, and the agent is there in time.
fn obeys_soon(stage: &Stage, quarantine: bool, what: &str) {
    stage.desire(&json!({ "quarantine": quarantine })).unwrap();
    let begun = Instant::now();
    let phase = if quarantine { "enforced" } else { "released" };
    stage
        .wait_status(SOON, what, |s| s["enforcement"]["phase"] == phase)
        .unwrap();
    println!("{what}: obeyed after {:?}", begun.elapsed());
}

fn killed_and_started_again(round_trip: u64) {
    let mut stage = classic(round_trip);
    isolate(&stage);
    for quarantine in [false, true] {
        stage.agent.as_mut().unwrap().kill9().unwrap();
        stage.start_agent().unwrap();
        obeys_soon(
            &stage,
            quarantine,
            &format!("{quarantine} after a crash at {round_trip} ms"),
        );
    }
    let works = |s: &Value| s["cloud"]["channelWorks"] == true;
    stage.wait_status(SOON, "the channel works", works).unwrap();
}

lab_test!(a_killed_agent_hears_again_at_300_ms, || killed_and_started_again(
    300
));

lab_test!(
    a_killed_agent_hears_again_at_1200_ms,
    || killed_and_started_again(1_200)
);

/// Whether the agent's configuration has this in it.
fn is_configured(stage: &Stage, text: &str) -> bool {
    let file = stage.state_directory().join("configuration.json");
    std::fs::read_to_string(file).is_ok_and(|document| document.contains(text))
}

fn configured(stage: &Stage, text: &str) {
    wait_until(LIMIT, text, || is_configured(stage, text)).unwrap();
}

lab_test!(another_refresh_makes_nobody_deaf, || {
    let mut stage = classic(100);
    isolate(&stage);
    for (refresh, quarantine) in [("3601", false), ("3602", true), ("3603", false)] {
        stage
            .deploy(&json!({"shadow": {"refreshSeconds": refresh}}))
            .unwrap();
        configured(&stage, refresh);
        obeys_soon(
            &stage,
            quarantine,
            &format!("{quarantine} with refreshSeconds {refresh}"),
        );
    }
});

lab_test!(another_shadow_and_back_makes_nobody_deaf, || {
    let mut stage = classic(1_200);
    for (round, quarantine) in [(0, true), (1, false)] {
        let name = format!("edge-{round}");
        let named = json!({"shadow": {"name": name, "refreshSeconds": "3601"}});
        stage.deploy(&named).unwrap();
        configured(&stage, &name);
        // Back before the end of what was subscribed can have been confirmed.
        stage.deploy(&json!({"RESET": ["/shadow/name"]})).unwrap();
        wait_until(LIMIT, "the first shadow again", || !is_configured(&stage, &name)).unwrap();
        obeys_soon(&stage, quarantine, "the first shadow again");
    }
});

lab_test!(
    without_the_right_to_one_filter_single_ones_serve_and_it_is_told,
    || {
        // What a recipe of before left, whose lists an update does not touch.
        let single =
            ["get/+", "update/+", "delete/accepted"].map(|end| format!("$aws/things/+/shadow/{end}"));
        let narrow = json!({
            "io.edgewarden.Agent:mqttproxy:2": {
                "operations": ["aws.greengrass#SubscribeToIoTCore"],
                "resources": single,
            },
            "io.edgewarden.Agent:mqttproxy:3": null,
        });
        let mut stage = classic_with(
            100,
            json!({"accessControl": {"aws.greengrass.ipc.mqttproxy": narrow}}),
        );
        let filter = format!("$aws/things/{THING}/shadow/+/+");
        let told = |s: &Value| {
            let why = s["cloud"]["lastError"].as_str();
            why.is_some_and(|why| why.contains("single ones stand instead") && why.contains(&filter))
        };
        stage
            .wait_status(LIMIT, "the missing right is told", told)
            .unwrap();
        obeys_soon(&stage, true, "true by single topics");
        stage.agent.as_mut().unwrap().kill9().unwrap();
        stage.start_agent().unwrap();
        obeys_soon(&stage, false, "false by single topics, after a crash");
    }
);

lab_test!(
    what_lites_mqtt_service_forgot_is_subscribed_again_without_a_new_connection,
    || {
        let mut stage = ready(options());
        isolate(&stage);
        let connections = |stage: &Stage| {
            let events = stage.nucleus.events();
            let connected = |event: &&Value| event["event"] == "client" && event["state"] == "connected";
            events.iter().filter(connected).count()
        };
        let before = connections(&stage);
        stage.command_nucleus("restart-iotcored").unwrap();
        let back = |event: &Value| event["event"] == "mqtt" && event["state"] == "connected";
        stage.nucleus.wait_event(LIMIT, back).unwrap();
        // A report that is not answered gives reason to ask.
        done(&stage, &["quarantine", "--reason", "too much"]);
        done(&stage, &["release"]);
        let trip = stage.status()["cloud"]["lastRoundTrip"].clone();
        let again = |s: &Value| s["cloud"]["channelWorks"] == true && s["cloud"]["lastRoundTrip"] != trip;
        stage.wait_status(2 * SOON, "heard again", again).unwrap();
        obeys_soon(&stage, true, "true after it was heard again");
        assert_eq!(
            connections(&stage),
            before,
            "the connection to the nucleus is the same"
        );
    }
);

/// Times of what the nucleus told of: messages of the shadow handed to the component, without those that are too large for it,
/// and subscriptions that ended.
fn handed_on_and_ended(stage: &Stage) -> (Vec<Duration>, Vec<Duration>) {
    let events = stage.nucleus.events();
    let times = |kind: &str, to: &Value| {
        let is_of_shadow = |e: &Value| e["topic"].as_str().is_none_or(|topic| topic.contains("/shadow/"));
        let is_handed_on = |e: &&Value| e["payload"].to_string().len() < 4_500 && is_of_shadow(e);
        let those = events.iter().filter(|e| e["event"] == kind && e["to"] == *to);
        let those = those.filter(is_handed_on);
        let times = those.filter_map(|e| e["monotonicNanoseconds"].as_u64());
        times.map(Duration::from_nanos).collect()
    };
    (
        times("message", &json!("component")),
        times("unsubscribed", &Value::Null),
    )
}

/// Enough foreign keys that a whole document with its times is longer than 5,000 bytes, and what differs is not.
fn large() -> Value {
    let keys = (0..40).map(|key| (format!("someone-elses-setting-{key:02}"), json!("a value")));
    Value::Object(keys.collect())
}

lab_test!(
    a_shadow_too_large_for_lite_leaves_nobody_isolated_against_false,
    || {
        let mut stage = ready(options());
        isolate(&stage);
        let mut desired = large();
        stage.desire(&desired).unwrap();
        stage.agent.as_mut().unwrap().kill9().unwrap();
        desired["quarantine"] = json!(false);
        stage.desire(&desired).unwrap();
        stage.start_agent().unwrap();
        stage.wait_phase(SOON, "released").unwrap();
        reports(&stage, &json!(false));
        let told = |s: &Value| {
            let why = s["cloud"]["lastError"].as_str();
            why.is_some_and(|why| why.contains("5,000 bytes") && why.contains("shadow.name"))
                && s["cloud"]["channelWorks"] == true
        };
        stage
            .wait_status(LIMIT, "it is told, and the channel works", told)
            .unwrap();
        // Orders of every kind are obeyed all the same.
        obeys_soon(&stage, true, "true in a shadow that is too large");
        obeys_soon(&stage, false, "false in a shadow that is too large");
        stage
            .desire(&json!({"quarantine": {"posture": "isolate", "id": "a"}}))
            .unwrap();
        stage.wait_phase(SOON, "enforced").unwrap();
        obeys_soon(&stage, false, "false after an object");
    }
);

lab_test!(nothing_is_unsubscribed_at_lite_while_it_hands_messages_on, || {
    let mut stage = ready(StageOptions {
        nucleus: vec!["--tell-messages".into()],
        ..options()
    });
    stage.desire(&large()).unwrap();
    let mut seen = 0;
    for quarantine in [true, false] {
        stage.agent.as_mut().unwrap().kill9().unwrap();
        stage.desire(&json!({ "quarantine": quarantine })).unwrap();
        // Its question is not answered, and it subscribes beside what there is until a report is.
        stage.start_agent().unwrap();
        let (_, before) = handed_on_and_ended(&stage);
        let phase = if quarantine { "enforced" } else { "released" };
        stage.wait_phase(SOON, phase).unwrap();
        reports(&stage, &json!(quarantine));
        // Whether it needs another subscription is a matter of milliseconds.
        let ended = wait_until(SOON / 2, "what it does not need has ended", || {
            handed_on_and_ended(&stage).1.len() >= before.len() + 6
        });
        seen += usize::from(ended.is_ok());
        let (handed_on, ended) = handed_on_and_ended(&stage);
        let quiet_before = |end: &Duration| {
            let before = handed_on.iter().filter(|at| *at <= end).max();
            before.map(|at| *end - *at)
        };
        let quiet: Vec<Duration> = ended[before.len()..].iter().filter_map(quiet_before).collect();
        let is_quiet = |time: &Duration| *time >= Duration::from_millis(800);
        assert!(quiet.iter().all(is_quiet), "{quiet:?}");
    }
    assert!(seen > 0, "control: something was ended");
});

/// Isolates by a shadow that neither a document nor a delta tells any more.
pub(super) fn isolated_where_nothing_comes_through(stage: &mut Stage) {
    isolate(stage);
    // What others desire differs from what they report, and makes each delta longer than 5,000 bytes.
    let keys = (0..36).map(|key| (format!("setting-{key:02}"), json!("v".repeat(130))));
    stage.desire(&Value::Object(keys.collect())).unwrap();
    stage.agent.as_mut().unwrap().kill9().unwrap();
    stage.start_agent().unwrap();
    let told = |s: &Value| {
        let why = s["cloud"]["lastError"].as_str();
        why.is_some_and(|why| why.contains("5,000 bytes"))
    };
    stage
        .wait_status(LIMIT, "control: the shadow does not come through", told)
        .unwrap();
}

lab_test!(
    false_that_is_written_is_obeyed_where_not_even_a_delta_comes_through,
    || {
        let mut stage = ready(options());
        isolated_where_nothing_comes_through(&mut stage);
        obeys_soon(&stage, false, "false that is heard as it is written");
        reports(&stage, &json!(false));
    }
);

lab_test!(
    a_release_in_a_shadow_that_was_made_anew_is_obeyed_where_lite_drops_its_answers,
    || {
        let mut stage = ready(options());
        let mut desired = large();
        // It has counted further than the new one will have soon.
        for count in 0..30 {
            desired["count"] = json!(count);
            stage.desire(&desired).unwrap();
        }
        obeys_soon(&stage, true, "control: true in a shadow that is too large");
        // The service keeps what was deleted for two days; then it counts from the beginning.
        let cloud = stage.cloud.as_mut().unwrap();
        cloud.kill9().unwrap();
        cloud.restart().unwrap();
        desired["quarantine"] = json!(false);
        stage.desire(&desired).unwrap();
        stage.wait_phase(LIMIT * 2, "released").unwrap();
        reports(&stage, &json!(false));
    }
);

/// Whether a report had no room in the shadow.
fn has_no_room(status: &Value) -> bool {
    let why = status["cloud"]["lastError"].as_str();
    why.is_some_and(|why| why.contains("no room"))
}

lab_test!(an_order_that_has_no_room_twice_is_reported_as_it_is_done, || {
    let stage = classic(0);
    let remotes: Vec<String> = (0..230).map(|last| format!("198.18.0.{last}/32")).collect();
    let order = json!({"id": "long", "posture": "restrict", "block": {"remotes": remotes}});
    stage.desire(&json!({ "quarantine": order })).unwrap();
    stage.wait_phase(LIMIT, "enforced").unwrap();
    let state = |state: &str| {
        let state = json!(state);
        move |shadow: &Value| shadow["state"]["reported"]["quarantineStatus"]["state"] == state
    };
    stage.wait_shadow(LIMIT, "it is done", state("enforced")).unwrap();
    stage.wait_status(LIMIT, "it is told", has_no_room).unwrap();
    stage.desire(&json!({"quarantine": false})).unwrap();
    reports(&stage, &json!(false));
    stage
        .wait_shadow(LIMIT, "and its end", state("released"))
        .unwrap();
});

lab_test!(what_had_no_room_is_said_once_others_have_left_some, || {
    let stage = classic_with(0, json!({"shadow": {"refreshSeconds": 30}}));
    let order = json!({"id": "short", "posture": "isolate", "reason": "r".repeat(200)});
    let others = "o".repeat(7_700);
    stage
        .desire(&json!({"quarantine": order, "application": others}))
        .unwrap();
    stage.wait_phase(LIMIT, "enforced").unwrap();
    stage
        .wait_status(LIMIT, "control: it has no room", has_no_room)
        .unwrap();
    stage.desire(&json!({ "application": null })).unwrap();
    stage
        .wait_status(LIMIT * 3, "it has room again", |s: &Value| !has_no_room(s))
        .unwrap();
    reports(&stage, &order);
});

/// What a shadow may hold, in bytes.
const SHADOW: usize = 8_192;

lab_test!(a_full_shadow_that_says_nothing_of_us_locks_no_cloud_out, || {
    let mut stage = ready(options());
    obeys_soon(&stage, true, "true");
    reports(&stage, &json!(true));
    // Somebody takes out what is reported, and all the room that there is, but for a release.
    let whole = |filler: &str| json!({"desired": {"quarantine": false}, "reported": {"settings": filler}});
    let filler = "f".repeat(SHADOW - whole("").to_string().len());
    let written = json!({"settings": filler, "quarantine": null, "quarantineStatus": null});
    let topic = format!("$aws/things/{THING}/shadow/update");
    let document = json!({"state": {"reported": written}});
    stage.publish(&topic, &document.to_string()).unwrap();
    let full = |shadow: &Value| {
        let reported = &shadow["state"]["reported"];
        reported["settings"] == filler.as_str() && reported["quarantine"].is_null()
    };
    stage.wait_shadow(LIMIT, "control: it is full", full).unwrap();
    stage.agent.as_mut().unwrap().kill9().unwrap();
    restart(&mut stage);
    stage.wait_phase(LIMIT, "enforced").unwrap();
    stage.desire(&json!({"quarantine": false})).unwrap();
    stage.wait_phase(LIMIT, "released").unwrap();
});
