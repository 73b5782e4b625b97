//! Topics that the core's policy does not allow: each publish there costs the device its connection.

use std::time::{Duration, Instant};

use serde_json::json;

use super::Limit;
use crate::bed::PATIENCE;
use crate::error::Trouble;
use crate::scene::{Scene, Seen};

/// An order still comes by every path that is allowed.
pub(super) const LIMIT: Limit = Limit::Fixed(Duration::from_secs(10));
/// How long is counted. Six are allowed in an hour, so not more than six may be in a part of it.
const COUNTED: Duration = Duration::from_secs(60);
const ALLOWED: usize = 6;

/// Denies one topic from an agent's start on, and counts.
pub(super) fn topic(scene: &mut Scene<'_>, filter: &str) -> Result<Seen, Trouble> {
    scene.new_nucleus()?;
    scene.bed.policy().deny([filter])?;
    let before = scene.bed.policy().told("denied").len();
    let agent = scene.agent()?;
    another_agent(scene, agent)?;
    scene.pass(COUNTED)?;
    let seen = counted(scene, before);
    scene.bed.policy().deny([])?;
    seen
}

/// Denies reports before the first deployment: the first one is asked for at once, later ones only come every five minutes.
pub(super) fn reports(scene: &mut Scene<'_>, filter: &str) -> Result<Seen, Trouble> {
    scene.bed.policy().deny([filter])?;
    scene.bed.deploy_agent()?;
    scene.wait("the agent's channel", PATIENCE, |bed| bed.channel_works())?;
    // Refused where the agent has sent one by itself, which serves as well.
    let _ = scene.command(&["report", "send"]);
    scene.pass(COUNTED)?;
    counted(scene, 0)
}

fn counted(scene: &mut Scene<'_>, before: usize) -> Result<Seen, Trouble> {
    let denied = scene.bed.policy().told("denied");
    let times: Vec<u64> = denied[before..]
        .iter()
        .filter_map(|line| line["at"].as_u64())
        .collect();
    let seconds = |pair: &[u64]| ((pair[1] - pair[0]) / 1000).to_string();
    let gaps: Vec<String> = times.windows(2).map(seconds).collect();
    // One connection may end for any reason; the second tells why.
    let names_it = scene.bed.edgewarden(&["status"])?.1.contains("iot:Publish");
    let was_open = scene.bed.prober().is_open();
    let began = Instant::now();
    scene.bed.desire(&json!({"quarantine": true}))?;
    let closed = scene.closed_since(began);
    Ok(Seen::times([closed])
        .note(format!(
            "{} disconnects, gaps [{}] s",
            times.len(),
            gaps.join(" ")
        ))
        .fault(!was_open, "the way was closed before the order")
        .fault(times.is_empty(), "nothing was published there")
        .fault(times.len() > ALLOWED, "more than an hour's in a minute")
        .fault(
            times.len() > 1 && !names_it,
            "status does not name the right that is missing",
        ))
}

/// Another agent meets the policy from its first question on.
fn another_agent(scene: &mut Scene<'_>, agent: i32) -> Result<(), Trouble> {
    crate::processes::signal(agent, nix::sys::signal::Signal::SIGKILL)?;
    scene.successor(agent)
}
