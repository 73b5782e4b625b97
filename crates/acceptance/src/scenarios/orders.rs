//! Orders by each authority, and reports, as the demo tells them.

use std::time::Instant;

use serde_json::json;

use crate::bed::PATIENCE;
use crate::error::Trouble;
use crate::scene::{Scene, Seen};

/// Each form of an order in the shadow, and each way that ends it.
pub(super) fn by_shadow(scene: &mut Scene<'_>) -> Result<Seen, Trouble> {
    let order = json!({"quarantine": {"posture": "isolate", "id": "acceptance", "reason": "acceptance"}});
    let update = format!("$aws/things/{}/shadow/update", scene.bed.thing());
    let delete = format!("$aws/things/{}/shadow/delete", scene.bed.thing());
    let ended = json!({"state": {"desired": {"quarantine": null}}}).to_string();
    let times = [
        Some(scene.isolate()?),
        scene.release()?,
        Some(scene.isolate_by(|bed| bed.desire(&order))?),
        scene.release_by(|bed| bed.publish(&update, &ended))?,
        Some(scene.isolate()?),
        scene.release_by(|bed| bed.publish(&delete, "{}"))?,
    ];
    Ok(Seen::times(times))
}

/// The configuration's key.
pub(super) fn by_deployment(scene: &mut Scene<'_>) -> Result<Seen, Trouble> {
    let mut deployments = Vec::new();
    let mut deploy = |scene: &mut Scene<'_>, value: bool| {
        let began = Instant::now();
        scene.bed.configure(&json!({"quarantine": value}))?;
        deployments.push(began.elapsed());
        Ok::<_, Trouble>(Instant::now())
    };
    // The nucleus' own time for a deployment is not the agent's: it counts from the deployment's end.
    let done = deploy(scene, true)?;
    let closed = scene.closed_since(done);
    scene.bed.prober().guard();
    scene.bed.prober().unguard();
    let done = deploy(scene, false)?;
    let open = scene.open_since(done);
    let longest = deployments.iter().max().map_or(0, std::time::Duration::as_millis);
    Ok(Seen::times([closed, open]).note(format!(
        "after the deployment's end; deployments took up to {longest} ms"
    )))
}

/// The command line at the device.
pub(super) fn by_operator(scene: &mut Scene<'_>) -> Result<Seen, Trouble> {
    let began = Instant::now();
    scene.command(&["quarantine", "--reason", "acceptance"])?;
    let closed = scene.closed_since(began);
    scene.bed.prober().guard();
    scene.bed.prober().unguard();
    let began = Instant::now();
    scene.command(&["release", "--reason", "acceptance"])?;
    Ok(Seen::times([closed, scene.open_since(began)]))
}

/// A report on demand, judged by the cloud's ingest.
pub(super) fn report(scene: &mut Scene<'_>) -> Result<Seen, Trouble> {
    let accepted =
        |bed: &mut dyn crate::bed::Bed| bed.status()["reports"]["accepted"].as_u64().unwrap_or_default();
    let before = accepted(scene.bed);
    let began = Instant::now();
    scene.command(&["report", "send"])?;
    scene.wait("an accepted report", PATIENCE, |bed| accepted(bed) > before)?;
    Ok(Seen::times([Some(began.elapsed())]))
}

/// A deployment that does not name the order leaves it; one that says `false` ends it.
pub(super) fn merge_without_key(scene: &mut Scene<'_>) -> Result<Seen, Trouble> {
    scene.isolate_by(|bed| bed.configure(&json!({"quarantine": true})))?;
    scene
        .bed
        .configure(&json!({"reporting": {"intervalSeconds": "600"}}))?;
    scene.pass(std::time::Duration::from_secs(2))?;
    let stays = scene.bed.prober().is_closed();
    scene.bed.prober().unguard();
    scene.bed.configure(&json!({"quarantine": false}))?;
    let open = scene.open_since(Instant::now());
    Ok(Seen::times([open]).fault(!stays, "a key left out ended the order"))
}
