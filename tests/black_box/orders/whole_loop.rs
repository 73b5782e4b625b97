//! The whole loop in the real binary, on both nuclei: order, isolation that is proven, release.

use edgewarden_lab::lab_test;
use edgewarden_lab::nucleus::personality::Personality;
use edgewarden_lab::stage::paths::Paths;
use edgewarden_lab::stage::{Stage, StageOptions};
use serde_json::json;

use crate::common::{LIMIT, options, reports};

fn the_loop(personality: Personality) {
    let mut stage = Stage::start(StageOptions {
        personality,
        ..options()
    })
    .unwrap();
    stage.start_agent().unwrap();
    stage.wait_phase(LIMIT, "released").unwrap();
    let mut paths = Paths::open(&stage.site).unwrap();
    let free = Paths::look(&stage.site).unwrap();
    assert!(
        free.cut.is_empty(),
        "control: everything flows before, but {:?}",
        free.cut
    );
    assert!(
        paths.use_held().cut.is_empty(),
        "control: the attacker's connections work"
    );

    stage.desire(&json!({"quarantine": true})).unwrap();
    reports(&stage, &json!(true));
    let cut = Paths::look(&stage.site).unwrap();
    assert!(cut.free.is_empty(), "still flowing: {:?}", cut.free);
    let held = paths.use_held();
    assert!(
        held.free.is_empty(),
        "the attacker's connections live on: {:?}",
        held.free
    );
    let status = stage.status();
    assert_eq!(status["enforcement"]["phase"], "enforced", "{status}");
    assert_eq!(status["enforcement"]["scope"], "pinned", "{status}");
    assert!(
        status["enforcement"]["blocked"]["out"]["packets"].as_u64() > Some(0),
        "{status}"
    );
    let accepted = status["reports"]["accepted"].as_u64();
    stage
        .wait_status(LIMIT, "reports go on", |s| {
            s["reports"]["accepted"].as_u64() > accepted
        })
        .unwrap();

    stage.desire(&json!({"quarantine": false})).unwrap();
    reports(&stage, &json!(false));
    let free = Paths::look(&stage.site).unwrap();
    assert!(free.cut.is_empty(), "not released: {:?}", free.cut);
    assert!(!stage.has_table().unwrap());
}

lab_test!(the_shadow_isolates_and_releases_on_lite, || {
    the_loop(Personality::Lite);
});

lab_test!(the_shadow_isolates_and_releases_on_classic, || {
    the_loop(Personality::Classic);
});

lab_test!(removing_the_key_releases_without_a_delta, || {
    let mut stage = Stage::start(options()).unwrap();
    stage
        .desire(&json!({"quarantine": true, "debug": "off"}))
        .unwrap();
    stage.start_agent().unwrap();
    stage.wait_phase(LIMIT, "enforced").unwrap();
    stage.desire(&json!({"quarantine": null})).unwrap();
    stage.wait_phase(LIMIT, "released").unwrap();
    reports(&stage, &json!(false));
    assert_eq!(
        stage.shadow()["state"]["desired"],
        json!({"debug": "off"}),
        "desired is not ours to write"
    );
});
