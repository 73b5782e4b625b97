//! A link that ends each connection soon after it stands, for reasons that are none of ours, and is well in the end.
//!
//! AWS IoT ends a connection at a publish that is not allowed, and a bad link does the same. Who takes one for the other is
//! deaf after it.

use std::time::{Duration, Instant};

use edgewarden_lab::lab_test;
use edgewarden_lab::nucleus::personality::Personality;
use edgewarden_lab::stage::{Stage, StageOptions};
use serde_json::json;

use crate::common::{LIMIT, isolate, options, ready};

/// For how long the link flaps; twice within it is enough for a wrong verdict.
const FLAPS: Duration = Duration::from_secs(60);
/// An order is obeyed this long after the nucleus is back.
const OBEYED: Duration = Duration::from_secs(10);

fn connected(stage: &mut Stage) {
    stage
        .nucleus
        .wait_event(LIMIT, |event| {
            event["event"] == "mqtt" && event["state"] == "connected"
        })
        .unwrap();
}

fn obeys_after_flaps(personality: Personality) {
    let mut stage = ready(StageOptions {
        personality,
        front: true,
        nucleus: vec!["--mqtt-backoff-first-milliseconds".into(), "1000".into()],
        ..options()
    });
    isolate(&stage);
    stage.front().delay(Duration::from_millis(600)).unwrap();
    stage.front().cut().unwrap();
    let begun = Instant::now();
    while begun.elapsed() < FLAPS {
        connected(&mut stage);
        // As long as the answer to a publish of another component takes that is not allowed.
        std::thread::sleep(Duration::from_millis(1_200));
        stage.front().cut().unwrap();
    }
    // The order is given while nobody is connected.
    stage.front().refuse(true).unwrap();
    stage.front().cut().unwrap();
    let away = |event: &serde_json::Value| event["event"] == "mqtt" && event["state"] != "connected";
    stage.nucleus.wait_event(LIMIT, away).unwrap();
    stage.desire(&json!({"quarantine": false})).unwrap();
    assert!(stage.has_table().unwrap(), "control: not heard");
    stage.front().delay(Duration::ZERO).unwrap();
    stage.front().refuse(false).unwrap();
    connected(&mut stage);
    stage.wait_phase(OBEYED, "released").unwrap();
}

lab_test!(an_order_is_obeyed_soon_after_a_link_that_flapped_classic, || {
    obeys_after_flaps(Personality::Classic);
});

lab_test!(an_order_is_obeyed_soon_after_a_link_that_flapped_lite, || {
    obeys_after_flaps(Personality::Lite);
});
