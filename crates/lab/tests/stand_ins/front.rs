//! The relay before the broker, in a whole stage: the nucleus goes through it, the cloud's programs do not.

use std::path::Path;
use std::time::Duration;

use edgewarden_lab::front::Front;
use edgewarden_lab::lab_test;
use edgewarden_lab::site::{lab_program, wait_until};
use edgewarden_lab::stage::{Stage, StageOptions, THING};
use serde_json::{Value, json};

/// Generous: the machine may be busy with other tests.
const LIMIT: Duration = Duration::from_secs(20);

/// Waits until the relay has told so many events of a kind.
fn wait_told(front: &Front, event: &str, count: usize) -> Vec<Value> {
    let enough = || front.told(event).len() >= count;
    wait_until(LIMIT, &format!("{count} events `{event}`"), enough).unwrap();
    front.told(event)
}

lab_test!(a_stage_is_cut_refused_and_let_in_again, || {
    // No agent runs here: any program serves as the artifact.
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipe.yaml");
    let options = StageOptions {
        front: true,
        ..StageOptions::new(lab_program().unwrap(), recipe)
    };
    let mut stage = Stage::start(options).unwrap();
    let sessions = wait_told(stage.front(), "session", 1);
    assert_eq!(
        (&sessions[0]["client"], &sessions[0]["accepted"]),
        (&json!(THING), &json!(true))
    );
    stage.front().delay(Duration::from_millis(50)).unwrap();
    stage.front().cut().unwrap();
    assert_eq!(wait_told(stage.front(), "ended", 1)[0]["cause"], "cut");
    // There and back for TCP, one way for CONNECT and one for its answer.
    let back = &wait_told(stage.front(), "session", 2)[1];
    assert!(back["afterMillis"].as_u64() >= Some(200), "{back}");
    // A broker that comes back is behind the relay again.
    stage.broker.as_mut().unwrap().restart().unwrap();
    wait_told(stage.front(), "session", 3);
    // The cloud's side is not on this way.
    stage.front().black_hole(true).unwrap();
    stage.desire(&json!({"quarantine": true})).unwrap();
    let desired = |shadow: &Value| shadow["state"]["desired"]["quarantine"] == true;
    stage.wait_shadow(LIMIT, "the order", desired).unwrap();
});
