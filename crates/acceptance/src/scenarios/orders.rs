//! Orders by each authority, and reports, as the demo tells them.

use std::time::{Duration, Instant, SystemTime};

use edgewarden_lab::site::{ATTACKER_V4, Ns};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::bed::{Bed, PATIENCE};
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
        Some(scene.isolate_by(|bed| bed.desire(&order).map(drop))?),
        scene.release_by(|bed| bed.publish(&update, &ended).map(drop))?,
        Some(scene.isolate()?),
        scene.release_by(|bed| bed.publish(&delete, "{}").map(drop))?,
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
    let longest = deployments.iter().max().map_or(0, Duration::as_millis);
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
    let accepted = |bed: &mut dyn Bed| bed.status()["reports"]["accepted"].as_u64().unwrap_or_default();
    let before = accepted(scene.bed);
    if before > 0 {
        // The service takes one in 300 seconds, and the agent has sent it by itself.
        return Ok(Seen::default().note("accepted, sent by itself"));
    }
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
    scene.pass(Duration::from_secs(2))?;
    let stays = scene.bed.prober().is_closed();
    scene.bed.prober().unguard();
    scene.bed.configure(&json!({"quarantine": false}))?;
    let open = scene.open_since(Instant::now());
    Ok(Seen::times([open]).fault(!stays, "a key left out ended the order"))
}

/// A port that one order allows and the next does not.
const ALLOWED: u16 = 4_455;

/// Orders in a list are replaced as a whole, what the one before allowed too.
pub(super) fn list_replaced(scene: &mut Scene<'_>) -> Result<Seen, Trouble> {
    let _server = scene.bed.site().echo_server(Ns::Internet, ALLOWED)?;
    let reaches = |bed: &dyn Bed| bed.site().tcp_connects(Ns::Gateway, ATTACKER_V4, ALLOWED);
    let allow = json!([{"remote": ATTACKER_V4.to_string(), "protocol": "tcp", "ports": [ALLOWED], "direction": "out"}]);
    let first = json!({"quarantine": [{"id": "a", "posture": "isolate", "allow": allow}]});
    let second = json!({"quarantine": [{"id": "b", "posture": "isolate"}]});
    scene.isolate_by(|bed| bed.configure(&first))?;
    let allowed = reaches(scene.bed)?;
    scene.bed.configure(&second)?;
    let replaced = Instant::now();
    let ended = scene.wait("the end of what the order before allowed", scene.limit, |bed| {
        reaches(bed).is_ok_and(|open| !open)
    });
    let took = ended.is_ok().then(|| replaced.elapsed());
    scene.bed.prober().unguard();
    scene.bed.configure(&json!({"quarantine": []}))?;
    let open = scene.open_since(Instant::now());
    Ok(Seen::times([took, open]).fault(!allowed, "the first order's allowance did not pass"))
}

/// What the log of a start says that is not so.
pub(super) fn warnings_at_start(scene: &mut Scene<'_>) -> Result<Seen, Trouble> {
    scene.bed.fresh()?;
    scene.ready()?;
    let log = scene.bed.component_log();
    let untrue = log.matches("tells no iotDataEndpoint").count();
    Ok(Seen::default().fault(log.is_empty(), "no log").fault(
        untrue > 0,
        format!("{untrue} times \"the nucleus tells no iotDataEndpoint\""),
    ))
}

/// How often the time to the proof is taken, each way.
const PROOFS: usize = 20;
/// Between two orders: the one before has been reported by then.
const BETWEEN: Duration = Duration::from_millis(700);

/// From the publish at the broker to the kernel's rules read back, by the agent's own history.
pub(super) fn to_the_proof(scene: &mut Scene<'_>) -> Result<Seen, Trouble> {
    let mut orders = Vec::new();
    for _ in 0..PROOFS {
        for isolate in [true, false] {
            orders.push((isolate, scene.bed.desire(&json!({"quarantine": isolate}))?));
            scene.pass(BETWEEN)?;
        }
    }
    let history = scene.command(&["history", "--json"])?;
    let proofs: Vec<Timestamp> = history
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|record| record["event"]["kind"] == "verified")
        .filter_map(|record| record["at"].as_str()?.parse().ok())
        .collect();
    let took = |(isolate, at): &(bool, SystemTime)| {
        let ordered = Timestamp::try_from(*at).ok()?;
        let proven = proofs.iter().find(|proof| **proof >= ordered)?;
        let took = Duration::try_from(proven.duration_since(ordered)).ok()?;
        (took < BETWEEN).then_some((*isolate, took))
    };
    let times: Vec<_> = orders.iter().map(took).collect();
    let rank = |isolate: bool, hundredth: usize| {
        let mut own: Vec<u128> = times
            .iter()
            .flatten()
            .filter(|(is, _)| *is == isolate)
            .map(|(_, took)| took.as_millis())
            .collect();
        own.sort_unstable();
        own.get(own.len().saturating_sub(1) * hundredth / 100)
            .copied()
            .unwrap_or_default()
    };
    let note = format!(
        "isolate p50 {} ms, p95 {} ms; release p50 {} ms, p95 {} ms",
        rank(true, 50),
        rank(true, 95),
        rank(false, 50),
        rank(false, 95)
    );
    Ok(Seen::times(times.iter().map(|time| time.map(|(_, took)| took))).note(note))
}
