//! Deaths of the agent and of its nucleus.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::error::Trouble;
use crate::processes;
use crate::scene::{Scene, Seen};

/// When after its successor's start an order comes: with its first question, and when only subscriptions can bring it.
const ORDERED_AFTER: [Duration; 3] = [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(3)];

/// The death after which a nucleus starts a component no more.
const LAST_DEATH: u32 = 3;

/// The agent dies while isolated, and its successor is told to release.
pub(super) fn agent_killed(scene: &mut Scene<'_>) -> Result<Seen, Trouble> {
    let mut times = Vec::new();
    for after in ORDERED_AFTER {
        // Deaths of the round before must not add up to the third within the hour.
        scene.bed.restart_component()?;
        scene.ready()?;
        scene.isolate()?;
        scene.kill_agent()?;
        scene.pass(after)?;
        times.push(scene.release()?);
    }
    Ok(Seen::times(times))
}

/// The component is stopped in order while isolated and started again, as by a deployment.
pub(super) fn component_restarted(scene: &mut Scene<'_>) -> Result<Seen, Trouble> {
    let mut times = Vec::new();
    for after in ORDERED_AFTER {
        scene.isolate()?;
        let agent = scene.agent()?;
        scene.bed.restart_component()?;
        scene.successor(agent)?;
        scene.pass(after)?;
        times.push(scene.release()?);
    }
    Ok(Seen::times(times))
}

/// The nucleus dies without a word. What it leaves behind is deaf.
pub(super) fn nucleus_killed(scene: &mut Scene<'_>) -> Result<Seen, Trouble> {
    scene.isolate()?;
    let sessions = scene.bed.sessions();
    let Some(nucleus) = scene.bed.nucleus() else {
        return Ok(Seen::default().fault(true, "no nucleus to kill"));
    };
    processes::signal(nucleus, Signal::SIGKILL)?;
    scene.recovered(sessions)?;
    let released = scene.release()?;
    let agents = processes::agents().len();
    Ok(Seen::times([released]).note(if agents == 1 {
        String::new()
    } else {
        format!("{agents} agents")
    }))
}

/// The nucleus ends in order and is started again, as at a reboot.
pub(super) fn nucleus_restarted(scene: &mut Scene<'_>) -> Result<Seen, Trouble> {
    scene.isolate()?;
    let sessions = scene.bed.sessions();
    let Some(nucleus) = scene.bed.nucleus() else {
        return Ok(Seen::default().fault(true, "no nucleus to stop"));
    };
    processes::signal(nucleus, Signal::SIGTERM)?;
    scene.recovered(sessions)?;
    Ok(Seen::times([scene.release()?]))
}

/// The agent of an isolated device dies as often as a nucleus mends it, and once more.
pub(super) fn until_the_last(scene: &mut Scene<'_>) -> Result<(), Trouble> {
    for _ in 1..LAST_DEATH {
        scene.kill_agent()?;
        scene.wait("the agent's answer", crate::bed::PATIENCE, |bed| {
            bed.status()["enforcement"]["phase"] == "enforced"
        })?;
    }
    let last = scene.agent()?;
    processes::signal(last, Signal::SIGKILL)
}

/// The third death is the last that a nucleus mends.
pub(super) fn three_deaths(scene: &mut Scene<'_>) -> Result<Seen, Trouble> {
    scene.isolate()?;
    until_the_last(scene)?;
    scene.pass(Duration::from_secs(1))?;
    let released = scene.release()?;
    let began = Instant::now();
    let mut seen = Seen::times([released]);
    if released.is_none() {
        // Whether a deployment, of whatever, brings it back.
        scene
            .bed
            .configure(&json!({"reporting": {"intervalSeconds": "601"}}))?;
        let later = scene.open_since(began);
        seen = seen.note(match later {
            Some(later) => format!("obeyed {} s later, after another deployment", later.as_secs()),
            None => "another deployment does not help either".to_owned(),
        });
    }
    // Whoever runs then was started by nobody's component; the next scenario needs one.
    scene.bed.fresh()?;
    Ok(seen)
}
