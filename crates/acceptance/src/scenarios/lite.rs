//! What only nucleus lite does: daemons of its own that end one by one, a unit that is not started again, large shadows.
//!
//! The names of facts (N1 …) are those of its list in the issue.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bed::{COMPONENT, Lite, PATIENCE, lite_unit};
use crate::error::Trouble;
use crate::processes;
use crate::scene::{Scene, Seen};

/// How often a daemon ends, in turn by signal 9 and by a restart.
const ENDS: usize = 4;
/// Longer than a connection has to last for the agent to try the next one at once: each end is to be the first in a while.
const SETTLED: Duration = Duration::from_secs(11);
/// More deaths than it can take until the unit has failed: four, and those of the guard's agents between them.
const MOST_DEATHS: usize = 10;
/// Keys of others in the shadow: more than lite lets through as one answer.
const FOREIGN_KEYS: usize = 60;

/// The daemon that holds the connection to the cloud.
pub(super) fn iotcored(scene: &mut Scene<'_>) -> Result<Seen, Trouble> {
    daemon(scene, "ggl.core.iotcored.service")
}

/// The daemon that components speak with.
pub(super) fn ggipcd(scene: &mut Scene<'_>) -> Result<Seen, Trouble> {
    daemon(scene, "ggl.core.ggipcd.service")
}

/// A daemon ends, and orders follow at once: isolation after a kill, release after a restart.
fn daemon(scene: &mut Scene<'_>, unit: &str) -> Result<Seen, Trouble> {
    let mut times = Vec::new();
    for end in 0..ENDS {
        scene.pass(SETTLED)?;
        if end % 2 == 0 {
            scene.lite()?.systemctl(&["kill", "--signal", "SIGKILL", unit])?;
            times.push(Some(scene.isolate()?));
        } else {
            scene.lite()?.systemctl(&["restart", unit])?;
            times.push(scene.release()?);
        }
    }
    Ok(Seen::times(times))
}

/// Everything of lite is restarted at once.
pub(super) fn all_daemons(scene: &mut Scene<'_>) -> Result<Seen, Trouble> {
    let restart = |lite: &mut Lite| lite.systemctl(&["restart", "ggl.core.*.service"]);
    scene.pass(SETTLED)?;
    restart(scene.lite()?)?;
    let closed = scene.isolate()?;
    scene.pass(SETTLED)?;
    restart(scene.lite()?)?;
    Ok(Seen::times([Some(closed), scene.release()?]))
}

/// The daemon of the configuration is restarted, and orders come by it.
pub(super) fn ggconfigd(scene: &mut Scene<'_>) -> Result<Seen, Trouble> {
    let mut times = Vec::new();
    for isolate in [true, false] {
        scene
            .lite()?
            .systemctl(&["restart", "ggl.core.ggconfigd.service"])?;
        // The agent hears of it within the deployment, which goes on for seconds.
        scene.bed.prober().unguard();
        scene.bed.configure(&json!({"quarantine": isolate}))?;
        let deployed = Instant::now();
        times.push(if isolate {
            scene.closed_since(deployed)
        } else {
            scene.open_since(deployed)
        });
    }
    Ok(Seen::times(times).note("after the deployment's end"))
}

/// The agent is killed until systemd starts it no more; the guard's agents that come between die, too.
pub(super) fn killed_until_failed(scene: &mut Scene<'_>) -> Result<Seen, Trouble> {
    scene.lite()?.systemctl(&["reset-failed"])?;
    let unit = lite_unit(COMPONENT);
    let (mut deaths, mut failed) = (0, false);
    while !failed && deaths < MOST_DEATHS {
        scene.kill_agent()?;
        deaths += 1;
        scene.wait("the agent's answer", PATIENCE, |bed| {
            bed.status()["enforcement"]["phase"] == "released"
        })?;
        let ask = ["show", "--value", "--property", "ActiveState", &unit];
        failed = scene.lite()?.systemctl(&ask)?.trim() == "failed";
    }
    let closed = scene.isolate()?;
    let seen = Seen::times([Some(closed), scene.release()?]);
    // Whoever runs was started by nobody's component; the next scenario needs one.
    scene.bed.fresh()?;
    Ok(seen
        .note(format!("{deaths} deaths"))
        .fault(!failed, "the unit has not failed, so nothing was shown"))
}

/// What the shadow says besides makes it too large for lite, which drops the answer in silence. Orders come by delta; after
/// a restart the agent has to find out all the same.
pub(super) fn large_shadow(scene: &mut Scene<'_>) -> Result<Seen, Trouble> {
    scene.bed.desire(&foreign(|key| json!(format!("value {key}"))))?;
    let seen = with_foreign_keys(scene);
    scene.bed.desire(&foreign(|_| Value::Null))?;
    seen
}

fn with_foreign_keys(scene: &mut Scene<'_>) -> Result<Seen, Trouble> {
    let mut times = vec![Some(scene.isolate()?), scene.release()?, Some(scene.isolate()?)];
    let unit = lite_unit(COMPONENT);
    let agent = scene.agent()?;
    scene.lite()?.systemctl(&["stop", &unit])?;
    scene.wait("the end of the component", PATIENCE, |_| !processes::lives(agent))?;
    scene.bed.prober().unguard();
    scene.bed.desire(&json!({"quarantine": false}))?;
    scene.pass(Duration::from_secs(1))?;
    let stays = scene.bed.prober().is_closed();
    let started = Instant::now();
    scene.lite()?.systemctl(&["start", &unit])?;
    times.push(scene.open_since(started));
    let order = json!({"quarantine": {"posture": "isolate", "id": "large", "reason": "acceptance"}});
    times.push(Some(scene.isolate_by(|bed| bed.desire(&order).map(drop))?));
    times.push(scene.release()?);
    Ok(Seen::times(times).fault(!stays, "open while nobody ran"))
}

fn foreign(value: impl Fn(usize) -> Value) -> Value {
    (0..FOREIGN_KEYS)
        .map(|key| (format!("key{key:02}"), value(key)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// The version that runs is deployed again, and its files are in use.
pub(super) fn deployed_again(scene: &mut Scene<'_>) -> Result<Seen, Trouble> {
    scene.isolate()?;
    let word = scene.bed.deploy_agent()?;
    let released = scene.release()?;
    Ok(Seen::times([released]).fault(word != "SUCCEEDED", format!("the deployment {word}")))
}

/// Nobody starts the component again, and its files are gone.
pub(super) fn component_gone(scene: &mut Scene<'_>) -> Result<Seen, Trouble> {
    scene.isolate()?;
    let agent = scene.agent()?;
    scene.lite()?.take_component_away()?;
    let gone = Instant::now();
    scene.successor(agent)?;
    scene.wait("the guard's answer", PATIENCE, |bed| {
        bed.status()["enforcement"]["phase"] == "enforced"
    })?;
    let answers = gone.elapsed().as_millis();
    let released = scene.release()?;
    let closed = scene.isolate()?;
    let open = scene.release_by(|bed| {
        bed.edgewarden(&["release", "--override", "--reason", "acceptance"])
            .map(drop)
    })?;
    scene.bed.fresh()?;
    Ok(Seen::times([released, Some(closed), open])
        .note(format!("the guard's agent answers after {answers} ms")))
}
