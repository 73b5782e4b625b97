//! A core device whose IoT policy lacks a right: AWS IoT ends the connection at such a publish, for every component.
//!
//! The relay before the broker does what AWS IoT does. The rest of the device must stay connected, the missing right must have
//! a name, and orders must come by every other way.

use std::time::{Duration, Instant};

use edgewarden_lab::lab_test;
use edgewarden_lab::nucleus::personality::Personality;
use edgewarden_lab::site::wait_until;
use edgewarden_lab::stage::{Stage, StageOptions, THING};
use serde_json::{Value, json};

use crate::common::agent::restart;
use crate::common::{LIMIT, done, isolate, options, ready, release};

/// Half a minute after the right has a name it is tried once more; the try after that is twenty minutes away.
const WATCHED: Duration = Duration::from_secs(75);

fn fronted(personality: Personality) -> StageOptions {
    StageOptions {
        personality,
        front: true,
        // A real nucleus does not come back within the second either.
        nucleus: vec!["--mqtt-backoff-first-milliseconds".into(), "1000".into()],
        ..options()
    }
}

fn topic(of: &str) -> String {
    format!("$aws/things/{THING}/{of}")
}

fn denials(stage: &Stage) -> usize {
    stage.front().told("denied").len()
}

/// Waits until the status names the missing right, and gives how often the connection was ended until then.
fn named(stage: &Stage, topic: &str) -> usize {
    let right = format!("iot:Publish on topic/{topic}");
    let named = |s: &Value| {
        s["cloud"]["lastError"]
            .as_str()
            .is_some_and(|why| why.contains(&right))
    };
    stage
        .wait_status(LIMIT, "the missing right has a name", named)
        .unwrap();
    assert!(stage.agent_output().contains(&right), "also in the log");
    assert!(done(stage, &["status"]).contains(&right));
    denials(stage)
}

/// The nucleus is connected and stays so for this long.
fn stays_connected(stage: &Stage, time: Duration, known: usize) {
    let begun = Instant::now();
    let _ = wait_until(time, "a connection that is ended", || denials(stage) > known);
    assert!(begun.elapsed() >= time, "ended again after {:?}", begun.elapsed());
}

lab_test!(
    a_denied_question_ends_the_connection_ever_more_seldom_and_orders_come_by_delta,
    || {
        let mut stage = ready(fronted(Personality::Classic));
        let get = topic("shadow/get");
        stage.front().deny([get.as_str()]).unwrap();
        // A start asks for the shadow.
        let begun = Instant::now();
        restart(&mut stage);
        let known = named(&stage, &get);
        assert!(
            (2..=4).contains(&known),
            "twice in a row is proof: {known}\n{:?}\n{}",
            stage.front().told("denied"),
            stage.agent_output()
        );
        stage.desire(&json!({"quarantine": true})).unwrap();
        let came = wait_until(LIMIT, "the order comes by delta", || stage.has_table().unwrap());
        assert!(
            came.is_ok(),
            "{came:?}: {}\n{:?}\n{}",
            stage.status(),
            stage.front().told("denied"),
            stage.agent_output()
        );
        let _ = wait_until(
            WATCHED.saturating_sub(begun.elapsed()),
            "ends without end",
            || denials(&stage) > known + 1,
        );
        let ends = denials(&stage);
        assert!(
            ends <= known + 1,
            "tries grow apart: {ends} after {known}\n{}",
            stage.agent_output()
        );
        assert!(stage.has_table().unwrap());
        // The right is given: the next try finds out, and the operator need not wait for it.
        stage.front().deny([]).unwrap();
        done(&stage, &["release", "--override", "--reason", "by hand"]);
        assert!(!stage.has_table().unwrap());
    }
);

lab_test!(
    a_denied_report_of_the_state_leaves_orders_and_the_rest_alone,
    || {
        let stage = ready(fronted(Personality::Classic));
        let update = topic("shadow/update");
        stage.front().deny([update.as_str()]).unwrap();
        stage.desire(&json!({"quarantine": true})).unwrap();
        stage.wait_phase(LIMIT, "enforced").unwrap();
        let known = named(&stage, &update);
        assert!(known <= 3, "{known}");
        stays_connected(&stage, Duration::from_secs(15), known);
        stage.desire(&json!({"quarantine": false})).unwrap();
        stage.wait_phase(LIMIT, "released").unwrap();
    }
);

lab_test!(a_denied_defender_report_leaves_orders_and_the_rest_alone, || {
    let stage = ready(fronted(Personality::Lite));
    let metrics = topic("defender/metrics/json");
    stage.front().deny([metrics.as_str()]).unwrap();
    let known = named(&stage, &metrics);
    assert!(known <= 3, "{known}");
    stays_connected(&stage, Duration::from_secs(15), known);
    isolate(&stage);
    release(&stage);
    // Where alarms go: the history, and the reported state.
    let directory = stage.state_directory();
    let history = done(&stage, &["history", "--state-dir", directory.to_str().unwrap()]);
    assert!(history.contains("iot:Publish"), "{history}");
    let told = |shadow: &Value| shadow["state"]["reported"].to_string().contains("iot:Publish");
    stage.wait_shadow(LIMIT, "the cloud is told", told).unwrap();
    let status = stage.status();
    let held = status["reports"]["lastError"].as_str().unwrap_or_default();
    assert!(
        held.contains("iot:Publish"),
        "the reports' own line says so, too: {status}"
    );
});

lab_test!(updates_of_others_do_not_hide_a_denied_report, || {
    let stage = ready(fronted(Personality::Classic));
    stage.front().delay(Duration::from_millis(150)).unwrap();
    let update = topic("shadow/update");
    stage.front().deny([update.as_str()]).unwrap();
    stage.desire(&json!({"quarantine": true})).unwrap();
    let begun = Instant::now();
    let mut number = 0;
    while begun.elapsed() < 2 * WATCHED {
        // What an application of the owner does all day: telemetry in the same shadow.
        number += 1;
        let document = json!({"state": {"reported": {"temperature": number}}});
        stage.publish(&update, &document.to_string()).unwrap();
        std::thread::sleep(Duration::from_millis(100));
    }
    let ends = denials(&stage);
    assert!((2..=6).contains(&ends), "an hour's at most: {ends}");
});
