//! The agent of a stage: started again in other ways, and what it said.

use std::path::Path;

use edgewarden_lab::site::{Running, wait_until};
use edgewarden_lab::stage::Stage;
use serde_json::Value;

use super::LIMIT;

/// The agent lives, and its log has exactly one line with `text`.
pub(crate) fn said_once(stage: &mut Stage, text: &str) {
    let log = stage.agent_output();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains(text)).collect();
    assert_eq!(lines.len(), 1, "{text:?} in the log:\n{lines:#?}\nof\n{log}");
    assert!(stage.agent.as_mut().unwrap().is_running());
}

/// Every text of a list in the status, joined.
pub(crate) fn joined(list: &Value) -> String {
    list.as_array()
        .map(|items| items.iter().map(Value::to_string).collect::<Vec<_>>().join("\n"))
        .unwrap_or_default()
}

/// Starts the agent again, as before.
pub(crate) fn restart(stage: &mut Stage) {
    stage.agent = None;
    stage.start_agent().unwrap();
}

/// Starts the agent through `program`, in place of the running one.
pub(crate) fn restart_as(stage: &mut Stage, program: &str, args: &[&str]) {
    stage.agent = None;
    stage.start_agent_as(Path::new(program), args).unwrap();
}

/// Starts the agent in place of the running one, behind mounts of its own that the shell command `mounts` makes.
pub(crate) fn restart_behind(stage: &mut Stage, mounts: &str) {
    let script = format!("{mounts} && exec \"$@\"");
    let wrapper = ["--mount", "--propagation", "private", "sh", "-c", &script, "sh"];
    restart_as(stage, "unshare", &wrapper);
}

/// Starts a second agent beside the isolating one of the stage, and waits until it waits; gives the first, and when that was
/// started.
pub(crate) fn second_beside_the_first(stage: &mut Stage) -> (Running, Value) {
    let first = stage.agent.take().unwrap();
    let started = stage.status()["started"].clone();
    stage.start_agent().unwrap();
    wait_until(LIMIT, "the second says that it waits", || {
        stage.agent_output().contains("another agent holds")
    })
    .unwrap();
    (first, started)
}
