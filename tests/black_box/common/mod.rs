//! What the tests share: a lab with the real agent in it, the two ends of an order, and the hands around it.

pub(crate) mod agent;
pub(crate) mod broker;
pub(crate) mod gateway;
pub(crate) mod pids;
pub(crate) mod programs;
#[path = "../../shared/random.rs"]
mod random;
pub(crate) mod silent;
pub(crate) mod told;

use std::time::{Duration, Instant};

use edgewarden_lab::nucleus::personality::Personality;
use edgewarden_lab::stage::{Stage, StageOptions, Turns};
use serde_json::{Value, json};

pub(crate) use edgewarden_lab::packet;
pub(crate) use random::random;

/// For everything that should happen within a few seconds, on a machine that does much else.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// A lab as shipped, with a report every two seconds.
pub(crate) fn options() -> StageOptions {
    let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/recipe.yaml");
    StageOptions {
        turns: Turns::Checked,
        ..StageOptions::new(env!("CARGO_BIN_EXE_edgewarden"), recipe)
    }
}

/// A running lab whose agent is connected and released: the control case of every test.
pub(crate) fn ready(options: StageOptions) -> Stage {
    let mut stage = Stage::start(options).unwrap();
    stage.start_agent().unwrap();
    connected_and_released(&stage);
    assert!(!stage.has_table().unwrap(), "control: nothing of ours before");
    stage
}

/// Waits until a started agent hears the cloud and nothing is ordered.
pub(crate) fn connected_and_released(stage: &Stage) {
    stage
        .wait_status(LIMIT, "control: connected and released", |s| {
            s["enforcement"]["phase"] == "released" && s["cloud"]["channelWorks"] == true
        })
        .unwrap();
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

/// The shadow orders, and the agent carries it out.
pub(crate) fn order(stage: &Stage, order: &Value) {
    stage.desire(&json!({ "quarantine": order })).unwrap();
    reports(stage, order);
}

/// Waits until the shadow's `reported.quarantine` is `quarantine`.
pub(crate) fn reports(stage: &Stage, quarantine: &Value) {
    let what = format!("reported.quarantine = {quarantine}");
    let wanted = |shadow: &Value| shadow["state"]["reported"]["quarantine"] == *quarantine;
    stage.wait_shadow(LIMIT, &what, wanted).unwrap();
}

/// Looks for so long; what is wrong with the device's closedness, if anything is.
pub(crate) fn opens_within(stage: &Stage, time: Duration) -> Option<Value> {
    let begun = Instant::now();
    while begun.elapsed() < time {
        let status = stage.status();
        let enforcement = &status["enforcement"];
        if enforcement["scope"] != "pinned" || enforcement["posture"] != "isolate" {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(300));
    }
    None
}

/// Runs the command line, which must succeed; gives its output.
pub(crate) fn done(stage: &Stage, args: &[&str]) -> String {
    let (code, output, errors) = stage.edgewarden(args).unwrap();
    assert_eq!(code, Some(0), "{args:?}: {output}{errors}");
    output
}

/// Runs an instruction that is carried out and would not survive a restart, which its exit code says.
pub(crate) fn done_for_the_moment(stage: &Stage, args: &[&str]) {
    let (code, output, errors) = stage.edgewarden(args).unwrap();
    assert_eq!(code, Some(1), "{args:?}: {output}{errors}");
    assert!(errors.contains("for the moment, but"), "{args:?}: {errors}");
}

/// Who has a live order.
pub(crate) fn authorities(status: &Value) -> Vec<String> {
    let orders = status["enforcement"]["orders"].as_array();
    let names = orders
        .into_iter()
        .flatten()
        .filter_map(|order| order["authority"].as_str());
    names.map(str::to_owned).collect()
}

/// An isolated device whose agent was started by its nucleus, as its recipe says.
pub(crate) fn isolated_as_shipped(personality: Personality) -> Stage {
    isolated_as_shipped_with(StageOptions {
        personality,
        ..options()
    })
}

/// As [`isolated_as_shipped`], on a stage of its own kind.
pub(crate) fn isolated_as_shipped_with(options: StageOptions) -> Stage {
    let stage = Stage::start(StageOptions {
        launch: true,
        ..options
    })
    .unwrap();
    let works = |s: &Value| s["cloud"]["channelWorks"] == true && s["enforcement"]["phase"] == "released";
    stage.wait_status(LIMIT, "control: released", works).unwrap();
    isolate(&stage);
    stage
}
