//! The broker's death and return, seen through: nothing is published into a gap.

use edgewarden_lab::stage::Stage;
use serde_json::Value;

use crate::common::LIMIT;

/// The broker dies, as seen by cloud and nucleus.
pub(crate) fn broker_down(stage: &mut Stage) {
    dies(stage);
    let lost = |event: &Value| event["event"] == "mqtt" && event["state"] == "disconnected";
    stage.nucleus.wait_event(LIMIT, lost).unwrap();
}

/// The broker is back, and cloud and nucleus are connected to it.
pub(crate) fn broker_up(stage: &mut Stage) {
    lives_again(stage);
    let back = |event: &Value| event["event"] == "mqtt" && event["state"] == "connected";
    stage.nucleus.wait_event(LIMIT, back).unwrap();
}

/// The broker forgets every session and serves the cloud again, while the nucleus is away.
pub(crate) fn broker_forgets(stage: &mut Stage) {
    dies(stage);
    lives_again(stage);
}

fn dies(stage: &mut Stage) {
    stage.broker.as_mut().unwrap().kill9().unwrap();
    let lost = |event: &Value| event["event"] == "disconnected";
    stage.cloud.as_mut().unwrap().wait_event(LIMIT, lost).unwrap();
}

fn lives_again(stage: &mut Stage) {
    stage.broker.as_mut().unwrap().restart().unwrap();
    let back = |event: &Value| event["event"] == "connected";
    stage.cloud.as_mut().unwrap().wait_event(LIMIT, back).unwrap();
}
