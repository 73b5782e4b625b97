//! The way to the cloud: subscriptions rebuilt, broker away, links dead, sessions lost.

use std::time::{Duration, Instant};

use edgewarden_lab::site::Ns;
use serde_json::json;

use crate::bed::{Bed, PATIENCE};
use crate::error::{Trouble, io};
use crate::mqtt;
use crate::scene::{Scene, Seen};

/// How long broker and link are away: longer than keep-alives of the lab, shorter than the nucleus' longest back-off.
const AWAY: Duration = Duration::from_secs(20);
/// How often somebody else takes the connection.
const TAKEN: u32 = 12;

/// A number is changed that must not cost the shadow session.
pub(super) fn refresh_changed(scene: &mut Scene<'_>) -> Result<Seen, Trouble> {
    let mut times = Vec::new();
    for seconds in ["901", "902", "903"] {
        scene.isolate()?;
        scene
            .bed
            .configure(&json!({"shadow": {"refreshSeconds": seconds}}))?;
        // The race is over when the broker has answered everything that a changed session asks of it.
        scene.pass(Duration::from_secs(1) + scene.round_trip * 3)?;
        let released = scene.release()?;
        times.push(released);
        if released.is_none() {
            break;
        }
    }
    Ok(Seen::times(times))
}

/// What the agent logs when it goes over to a configuration.
const NEW_CONFIGURATION: &str = "new configuration";

/// The agent's topics change with the shadow's name: its session is built anew, and orders come at once, soon and later. A
/// deployment counts for the agent once it has stayed the same for two seconds, and its session is built anew then.
pub(super) fn shadow_renamed(scene: &mut Scene<'_>) -> Result<Seen, Trouble> {
    let mut times = Vec::new();
    for (name, after) in [("first", 0), ("second", 1), ("third", 3)] {
        rename(scene, name)?;
        scene.pass(Duration::from_secs(after))?;
        let topic = format!("$aws/things/{}/shadow/name/{name}/update", scene.bed.thing());
        let order = |isolate: bool| json!({"state": {"desired": {"quarantine": isolate}}}).to_string();
        let (on, off) = (order(true), order(false));
        times.push(Some(scene.isolate_by(|bed| bed.publish(&topic, &on).map(drop))?));
        scene.release_by(|bed| bed.publish(&topic, &off).map(drop))?;
    }
    rename(scene, "")?;
    Ok(Seen::times(times))
}

/// Deploys another name and waits until the agent goes over to it.
fn rename(scene: &mut Scene<'_>, name: &str) -> Result<(), Trouble> {
    let read = |bed: &dyn Bed| bed.component_log().matches(NEW_CONFIGURATION).count();
    let before = read(scene.bed);
    scene.bed.configure(&json!({"shadow": {"name": name}}))?;
    scene.wait("the agent's new configuration", PATIENCE, |bed| {
        read(bed) > before
    })
}

/// The nucleus' connection is cut; it joins its session again by itself, and the order comes as soon as it has.
pub(super) fn link_cut(scene: &mut Scene<'_>) -> Result<Seen, Trouble> {
    scene.new_nucleus()?;
    let mut times = Vec::new();
    for _ in 0..3 {
        scene.isolate()?;
        let sessions = scene.bed.sessions();
        scene.bed.way().cut()?;
        scene.recovered(sessions)?;
        times.push(scene.release()?);
    }
    Ok(Seen::times(times))
}

/// The broker ends and comes back; the order is there before the nucleus is.
pub(super) fn broker_away(scene: &mut Scene<'_>) -> Result<Seen, Trouble> {
    broker(scene, AWAY, false)
}

/// The broker comes back at once and knows nobody.
pub(super) fn broker_forgets(scene: &mut Scene<'_>) -> Result<Seen, Trouble> {
    broker(scene, Duration::from_secs(1), true)
}

fn broker(scene: &mut Scene<'_>, away: Duration, forget: bool) -> Result<Seen, Trouble> {
    scene.isolate()?;
    let sessions = scene.bed.sessions();
    scene.bed.kill_broker()?;
    scene.pass(away)?;
    scene.bed.start_broker(forget)?;
    order_until_recovered(scene, sessions)
}

/// Orders release, and counts from the nucleus' own recovery.
fn order_until_recovered(scene: &mut Scene<'_>, sessions: usize) -> Result<Seen, Trouble> {
    scene.bed.prober().unguard();
    let ordered = Instant::now();
    scene.bed.desire(&json!({"quarantine": false}))?;
    from_recovery(scene, ordered, sessions)
}

/// Waits for the nucleus' own recovery, and counts what the order took from there.
fn from_recovery(scene: &mut Scene<'_>, ordered: Instant, sessions: usize) -> Result<Seen, Trouble> {
    scene.recovered(sessions)?;
    let recovered = ordered.elapsed();
    let open = scene
        .open_since(ordered)
        .map(|took| took.saturating_sub(recovered));
    Ok(Seen::times([open]).note(format!(
        "nucleus back {} ms after the order",
        recovered.as_millis()
    )))
}

/// Nothing arrives for a while; connections stay open.
pub(super) fn black_hole(scene: &mut Scene<'_>) -> Result<Seen, Trouble> {
    scene.isolate()?;
    scene.bed.way().black_hole(true)?;
    scene.pass(AWAY / 2)?;
    scene.bed.prober().unguard();
    scene.bed.desire(&json!({"quarantine": false}))?;
    scene.pass(AWAY / 2)?;
    let back = Instant::now();
    scene.bed.way().black_hole(false)?;
    Ok(Seen::times([scene.open_since(back)]))
}

/// Another client connects with our nucleus' id, again and again: each takes the other's connection.
pub(super) fn id_taken(scene: &mut Scene<'_>) -> Result<Seen, Trouble> {
    scene.isolate()?;
    let sessions = scene.bed.sessions();
    for _ in 0..TAKEN {
        take_id(scene)?;
        scene.pass(Duration::from_millis(500))?;
    }
    scene.bed.prober().unguard();
    let ordered = Instant::now();
    scene.bed.desire(&json!({"quarantine": false}))?;
    take_id(scene)?;
    let before = scene.bed.sessions().max(sessions);
    from_recovery(scene, ordered, before)
}

/// Connects as the thing with a session of its own, and leaves.
fn take_id(scene: &Scene<'_>) -> Result<(), Trouble> {
    let (thing, port) = (scene.bed.thing(), scene.bed.broker_port());
    let taken = scene
        .bed
        .site()
        .run_in(Ns::Internet, || mqtt::connect(port, thing))?;
    taken.map(drop).map_err(io("take the client id"))
}
