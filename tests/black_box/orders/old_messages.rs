//! What the broker delivers again, or late, and requests that are refused: no message of an earlier time is obeyed, nobody
//! is let go before the shadow itself was asked, and a refused report takes nothing else with it.

use std::time::Duration;

use edgewarden_lab::lab_test;
use edgewarden_lab::site::wait_until;
use edgewarden_lab::stage::{Stage, StageOptions, THING};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::channel::broker_unreachable;
use crate::common::agent::joined;
use crate::common::{LIMIT, authorities, done, isolate, options, ready, release};

/// As good as any newer one: the lab's shadows count no further.
const NEWER: u64 = 1_000;

/// The shadow service is there and answers nothing, as if it were overloaded; or it goes on.
fn service_answers(stage: &mut Stage, answers: bool) {
    let signal = if answers { Signal::SIGCONT } else { Signal::SIGSTOP };
    stage.cloud.as_mut().unwrap().signal(signal).unwrap();
}

/// Waits until the agent has subscribed and asked, and heard nothing.
fn asked_in_vain(stage: &Stage) {
    stage
        .wait_status(LIMIT, "control: asked in vain", |s| {
            let why = s["cloud"]["lastError"].as_str();
            why.is_some_and(|why| why.contains("did not answer within"))
        })
        .unwrap();
}

fn version(stage: &Stage) -> u64 {
    stage.shadow()["version"].as_u64().unwrap()
}

/// Delivers a message, once a topic, and waits until the agent has taken it: one that cannot be read follows on the same
/// topic, and is told.
fn deliver(stage: &Stage, suffix: &str, message: &Value) {
    let topic = format!("$aws/things/{THING}/shadow/{suffix}");
    stage.publish(&topic, &message.to_string()).unwrap();
    stage.publish(&topic, "end").unwrap();
    let fault = format!("{suffix}: no valid JSON");
    stage
        .wait_status(LIMIT, &format!("{message} was taken"), |s| {
            joined(&s["enforcement"]["rejected"][0]["faults"]).contains(&fault)
        })
        .unwrap();
}

fn delta(version: u64, quarantine: bool) -> Value {
    json!({"version": version, "state": {"quarantine": quarantine}})
}

/// An old delta is passed over, and a newer one is obeyed, with a shadow service that says nothing.
fn is_told_old_from_new(stage: &mut Stage, old: u64) {
    asked_in_vain(stage);
    deliver(stage, "update/delta", &delta(old, true));
    let status = stage.status();
    assert_eq!(status["enforcement"]["phase"], "released", "{status}");
    assert!(!stage.has_table().unwrap());
    let topic = format!("$aws/things/{THING}/shadow/update/delta");
    stage
        .publish(&topic, &delta(old + NEWER, true).to_string())
        .unwrap();
    stage.wait_phase(LIMIT, "provisional").unwrap();
    assert!(stage.has_table().unwrap(), "control: a newer one is obeyed");
    // What the shadow itself says is the truth, whatever was delivered.
    service_answers(stage, true);
    stage.wait_phase(2 * LIMIT, "released").unwrap();
}

lab_test!(
    a_restarted_agent_does_not_obey_an_order_of_its_earlier_life,
    || {
        let mut stage = ready(options());
        isolate(&stage);
        let old = version(&stage);
        release(&stage);
        stage.agent.as_mut().unwrap().kill9().unwrap();
        service_answers(&mut stage, false);
        stage.start_agent().unwrap();
        is_told_old_from_new(&mut stage, old);
    }
);

lab_test!(a_session_that_is_begun_anew_does_not_obey_an_old_order, || {
    let mut stage = ready(options());
    isolate(&stage);
    let old = version(&stage);
    release(&stage);
    service_answers(&mut stage, false);
    // Another shadow, and this one again.
    let file = stage.state_directory().join("configuration.json");
    let is_of_other = || std::fs::read_to_string(&file).is_ok_and(|document| document.contains("other"));
    let to_other = json!({"shadow": {"name": "other"}});
    for (shadow, other) in [(to_other, true), (json!({"RESET": ["/shadow/name"]}), false)] {
        stage.deploy(&shadow).unwrap();
        wait_until(LIMIT, "the configuration is taken", || is_of_other() == other).unwrap();
    }
    is_told_old_from_new(&mut stage, old);
});

lab_test!(a_restarted_agent_is_released_by_the_shadow_itself_only, || {
    let mut stage = ready(options());
    isolate(&stage);
    let isolated = version(&stage);
    stage.agent.as_mut().unwrap().kill9().unwrap();
    service_answers(&mut stage, false);
    stage.start_agent().unwrap();
    asked_in_vain(&stage);
    let removed = json!({"version": isolated + NEWER + 1, "state": {"desired": {"quarantine": null}}});
    for (suffix, message) in [
        ("update/delta", delta(isolated + NEWER, false)),
        ("update/accepted", removed),
    ] {
        deliver(&stage, suffix, &message);
        let status = stage.status();
        assert_eq!(status["enforcement"]["posture"], "isolate", "{message}: {status}");
        assert!(stage.has_table().unwrap(), "{message}");
    }
    service_answers(&mut stage, true);
    let settled = |s: &Value| s["cloud"]["shadowVersion"].as_u64() < Some(NEWER);
    let status = stage
        .wait_status(2 * LIMIT, "the shadow was asked", settled)
        .unwrap();
    assert_eq!(status["enforcement"]["posture"], "isolate", "{status}");
    release(&stage);
});

lab_test!(
    what_a_damaged_journal_led_to_is_not_ended_by_an_old_release,
    || {
        let mut stage = ready(options());
        isolate(&stage);
        let old = version(&stage);
        stage.agent.as_mut().unwrap().kill9().unwrap();
        std::fs::write(stage.state_directory().join("journal"), "damaged").unwrap();
        service_answers(&mut stage, false);
        stage.start_agent().unwrap();
        asked_in_vain(&stage);
        let assumed = stage.status();
        assert_eq!(
            authorities(&assumed),
            ["recovery"],
            "control: no version is known: {assumed}"
        );
        deliver(&stage, "update/delta", &delta(old, false));
        let status = stage.status();
        assert_eq!(authorities(&status), ["recovery"], "{status}");
        assert!(stage.has_table().unwrap());
        // What the shadow itself says ends the assumption.
        service_answers(&mut stage, true);
        let of_shadow = |s: &Value| authorities(s) == ["shadow"];
        stage
            .wait_status(2 * LIMIT, "the shadow was asked", of_shadow)
            .unwrap();
        assert!(stage.has_table().unwrap());
        release(&stage);
    }
);

/// The version in the journal.
fn kept(stage: &Stage) -> Option<u64> {
    let journal = std::fs::read_to_string(stage.state_directory().join("journal")).unwrap();
    let (_, body) = journal.split_once('\n').unwrap();
    let body: Value = serde_json::from_str(body).unwrap();
    let shadow = &body["shadow"];
    assert!(shadow.is_null() || shadow["thing"] == THING, "{shadow}");
    shadow["version"].as_u64()
}

lab_test!(the_shadows_version_is_written_with_its_news_only, || {
    let stage = ready(options());
    isolate(&stage);
    let isolated = kept(&stage).unwrap();
    release(&stage);
    let released = kept(&stage).unwrap();
    assert!(released > isolated, "{isolated}, {released}");
    for round in 0..3 {
        let before = stage.status()["cloud"]["shadowVersion"].as_u64().unwrap();
        stage.desire(&json!({"debug": round})).unwrap();
        stage
            .wait_status(LIMIT, "another version is heard", |s| {
                s["cloud"]["shadowVersion"].as_u64() > Some(before)
            })
            .unwrap();
    }
    assert_eq!(kept(&stage), Some(released));
});

lab_test!(
    a_refused_report_neither_breaks_the_channel_nor_ends_its_rescue,
    || {
        let only_questions = json!({"io.edgewarden.Agent:mqttproxy:1": {"resources": [
            "$aws/things/+/defender/metrics/json", "$aws/things/+/shadow/get",
        ]}});
        let mut stage = ready(StageOptions {
            configuration: json!({
                "isolation": {"confirmSeconds": 10},
                "accessControl": {"aws.greengrass.ipc.mqttproxy": only_questions},
            }),
            ..options()
        });
        let first = stage.status()["cloud"]["lastRoundTrip"].clone();
        // Refused, asked about, answered; and again, so that it is not the first answer alone.
        let mut trips = vec![first];
        while trips.len() < 4 {
            let another = |s: &Value| {
                let trip = &s["cloud"]["lastRoundTrip"];
                trip.is_string() && !trips.contains(trip)
            };
            let status = stage
                .wait_status(LIMIT, "another question is answered", another)
                .unwrap();
            trips.push(status["cloud"]["lastRoundTrip"].clone());
        }
        let refused = |s: &Value| {
            let why = s["cloud"]["lastError"].as_str();
            why.is_some_and(|why| why.contains("could not publish") && why.contains("/shadow/update"))
        };
        let status = stage.wait_status(LIMIT, "the refusal is told", refused).unwrap();
        assert_eq!(status["cloud"]["channelWorks"], true, "{status}");
        assert!(
            !stage.agent_output().contains("the control channel does not work"),
            "{}",
            stage.agent_output()
        );

        // Confirmed behind the rules, although nothing can be reported.
        stage.desire(&json!({"quarantine": true})).unwrap();
        stage.wait_phase(LIMIT, "enforced").unwrap();
        stage.desire(&json!({"quarantine": false})).unwrap();
        stage.wait_phase(LIMIT, "released").unwrap();

        // Control: a channel that is really silent is noticed, and rules behind which it is are given up.
        broker_unreachable(&stage, true);
        done(&stage, &["quarantine", "--reason", "too much"]);
        let gave_up = |s: &Value| s["enforcement"]["phase"] == "rolled-back";
        stage
            .wait_status(Duration::from_secs(60), "given up", gave_up)
            .unwrap();
        assert_eq!(stage.status()["cloud"]["channelWorks"], false);
        assert!(stage.agent.as_mut().unwrap().is_running());
    }
);
