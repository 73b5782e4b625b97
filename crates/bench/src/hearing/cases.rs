//! What is done to an agent, or to its nucleus' connection, just before or while an order is given.
//!
//! In: a stage whose agent hears. Out: since when the order could have been heard.

use std::time::{Duration, Instant};

use edgewarden_lab::stage::{PATIENCE, Stage, THING};
use serde_json::{Value, json};

use crate::error::{BenchError, content};

/// One kind of disturbance.
pub(super) struct Case {
    pub(super) name: &'static str,
    /// Disturbs, and orders isolation or its end.
    pub(super) disturb: fn(&mut Stage, bool, u16) -> Result<Instant, BenchError>,
}

pub(super) const CASES: [Case; 5] = [
    Case {
        name: "start",
        disturb: start,
    },
    Case {
        name: "crash",
        disturb: crash,
    },
    Case {
        name: "refresh changed",
        disturb: refresh_changed,
    },
    Case {
        name: "other shadow and back",
        disturb: other_shadow,
    },
    Case {
        name: "reconnect",
        disturb: reconnect,
    },
];

fn order(stage: &Stage, quarantine: bool) -> Result<(), BenchError> {
    Ok(stage.desire(&json!({ "quarantine": quarantine }))?)
}

/// The order waits for the agent.
fn start(stage: &mut Stage, quarantine: bool, _: u16) -> Result<Instant, BenchError> {
    if let Some(agent) = &mut stage.agent {
        agent.terminate()?;
        agent.wait_exit(PATIENCE)?;
    }
    order(stage, quarantine)?;
    let begun = Instant::now();
    stage.start_agent()?;
    Ok(begun)
}

/// The agent dies and is started again at once, as a nucleus does; then the order.
fn crash(stage: &mut Stage, quarantine: bool, _: u16) -> Result<Instant, BenchError> {
    if let Some(agent) = &mut stage.agent {
        agent.kill9()?;
    }
    let begun = Instant::now();
    stage.start_agent()?;
    order(stage, quarantine)?;
    Ok(begun)
}

/// A number is deployed, then the order.
fn refresh_changed(stage: &mut Stage, quarantine: bool, run: u16) -> Result<Instant, BenchError> {
    stage.deploy(&json!({"shadow": {"refreshSeconds": (3_000 + u32::from(run)).to_string()}}))?;
    deployed(stage)?;
    let begun = Instant::now();
    order(stage, quarantine)?;
    Ok(begun)
}

/// The agent is heard through another shadow, then through this one again.
fn other_shadow(stage: &mut Stage, quarantine: bool, run: u16) -> Result<Instant, BenchError> {
    let name = format!("edge-{}", run % 2);
    stage.deploy(&json!({"shadow": {"name": name}}))?;
    deployed(stage)?;
    // It says the same as the one before, and is heard once what that shadow holds is known.
    let topic = format!("$aws/things/{THING}/shadow/name/{name}/update");
    let held = json!({"state": {"desired": {"quarantine": !quarantine}}, "clientToken": "bench"});
    let before = stage.status()["cloud"]["lastRoundTrip"].clone();
    stage.publish(&topic, &held.to_string())?;
    let another = |status: &Value| {
        status["cloud"]["channelWorks"] == true && status["cloud"]["lastRoundTrip"] != before
    };
    stage.wait_status(super::DEAF, "heard through the other shadow", another)?;
    stage.deploy(&json!({"RESET": ["/shadow/name"]}))?;
    deployed(stage)?;
    let begun = Instant::now();
    order(stage, quarantine)?;
    Ok(begun)
}

/// The nucleus' connection ends; the order is given once it has begun anew, as the nucleus says.
fn reconnect(stage: &mut Stage, quarantine: bool, _: u16) -> Result<Instant, BenchError> {
    let cut = stage.front().cut();
    cut.map_err(|error| content("the relay", edgewarden_lab::error_text(&error)))?;
    for state in ["disconnected", "connected"] {
        let told = |event: &Value| event["event"] == "mqtt" && event["state"] == state;
        stage
            .nucleus
            .wait_event(PATIENCE + Duration::from_secs(10), told)?;
    }
    let begun = Instant::now();
    order(stage, quarantine)?;
    Ok(begun)
}

/// Waits until the nucleus has told the agent.
fn deployed(stage: &mut Stage) -> Result<(), BenchError> {
    let told = |event: &Value| event["event"] == "configuration" && event["state"] == "deployed";
    stage.nucleus.wait_event(PATIENCE, told)?;
    Ok(())
}
