//! What the black-box tests of orders share: a lab with the real agent in it, and the two ends of an order.

use std::time::Duration;

use edgewarden_lab::stage::{Stage, StageOptions};
use serde_json::{Value, json};

/// For everything that should happen within a few seconds, on a machine that does much else.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// A lab as shipped, with a report every two seconds.
pub(crate) fn options() -> StageOptions {
    let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/recipe.yaml");
    StageOptions::new(env!("CARGO_BIN_EXE_edgewarden"), recipe)
}

/// A running lab whose agent is connected and released: the control case of every test.
pub(crate) fn ready(options: StageOptions) -> Stage {
    let mut stage = Stage::start(options).unwrap();
    stage.start_agent().unwrap();
    stage
        .wait_status(LIMIT, "control: connected and released", |s| {
            s["enforcement"]["phase"] == "released" && s["cloud"]["channelWorks"] == true
        })
        .unwrap();
    assert!(!stage.has_table().unwrap(), "control: nothing of ours before");
    stage
}

/// The shadow orders isolation, and the agent carries it out.
pub(crate) fn isolate(stage: &Stage) {
    stage.desire(&json!({"quarantine": true})).unwrap();
    stage.wait_phase(LIMIT, "enforced").unwrap();
    reports(stage, &json!(true));
    assert!(stage.has_table().unwrap());
}

/// The shadow takes the order back, and the agent obeys.
pub(crate) fn release(stage: &Stage) {
    stage.desire(&json!({"quarantine": false})).unwrap();
    stage.wait_phase(LIMIT, "released").unwrap();
    reports(stage, &json!(false));
    assert!(!stage.has_table().unwrap());
}

/// Waits until the shadow's `reported.quarantine` is `quarantine`.
pub(crate) fn reports(stage: &Stage, quarantine: &Value) {
    let what = format!("reported.quarantine = {quarantine}");
    let wanted = |shadow: &Value| shadow["state"]["reported"]["quarantine"] == *quarantine;
    stage.wait_shadow(LIMIT, &what, wanted).unwrap();
}
