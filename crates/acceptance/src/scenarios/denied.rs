//! Topics that the core's policy does not allow: each publish there costs the device its connection.

use std::time::Duration;

use serde_json::json;

use super::Limit;
use crate::error::Trouble;
use crate::scene::{Scene, Seen};

/// An order still comes by every path that is allowed.
pub(super) const LIMIT: Limit = Limit::Fixed(Duration::from_secs(10));
/// How long is counted. Six are allowed in an hour, so not more than six may be in a part of it.
const COUNTED: Duration = Duration::from_secs(60);
const ALLOWED: usize = 6;

/// Denies one topic from the agent's start on, and counts.
pub(super) fn topic(scene: &mut Scene<'_>, filter: &str) -> Result<Seen, Trouble> {
    scene.bed.policy().deny([filter])?;
    let before = scene.bed.policy().told("denied").len();
    let agent = scene.agent()?;
    let seen = counted(scene, filter, before, agent);
    scene.bed.policy().deny([])?;
    seen
}

fn counted(scene: &mut Scene<'_>, filter: &str, before: usize, agent: i32) -> Result<Seen, Trouble> {
    // Reports go out every five minutes; here one is asked for at once.
    let reports = filter.contains("defender");
    processes_end(scene, agent)?;
    for _ in 0..6 {
        if reports {
            let _ = scene.command(&["report", "send"]);
        }
        scene.pass(COUNTED / 6)?;
    }
    let denied = scene.bed.policy().told("denied");
    let times: Vec<u64> = denied[before..]
        .iter()
        .filter_map(|line| line["at"].as_u64())
        .collect();
    let gaps: Vec<String> = times
        .windows(2)
        .map(|pair| format!("{}", (pair[1] - pair[0]) / 1000))
        .collect();
    let names_it = scene.bed.status().to_string().contains("denied")
        || scene.bed.edgewarden(&["status"])?.1.contains("iot:Publish");
    let closed = scene.isolate_by(|bed| bed.desire(&json!({"quarantine": true})));
    let seen =
        Seen::times([closed.ok()]).note(format!("{} disconnects, gaps {} s", times.len(), gaps.join(" ")));
    Ok(seen
        .fault(times.len() > ALLOWED, format!("{} disconnects", times.len()))
        .fault(
            !times.is_empty() && !names_it,
            "status does not name the right that is missing",
        ))
}

/// Another agent meets the policy from its first question on.
fn processes_end(scene: &mut Scene<'_>, agent: i32) -> Result<(), Trouble> {
    crate::processes::signal(agent, nix::sys::signal::Signal::SIGKILL)?;
    scene.successor(agent)
}
