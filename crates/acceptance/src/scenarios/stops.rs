//! How long the component takes to end.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use edgewarden_lab::site::{ATTACKER_V4, Ns};

use crate::bed::PATIENCE;
use crate::error::{Trouble, io};
use crate::own_files;
use crate::processes;
use crate::scene::{Scene, Seen};

/// Longer than the agent's pause between two looks at names, so that one hangs at the stop.
const UNTIL_A_LOOK_UP_HANGS: Duration = Duration::from_secs(12);

/// No name server answers; the component is stopped as for a deployment.
pub(super) fn names_do_not_resolve(scene: &mut Scene<'_>) -> Result<Seen, Trouble> {
    scene.isolate()?;
    // It takes questions and says nothing.
    let _silent = scene
        .bed
        .site()
        .run_in(Ns::Internet, || UdpSocket::bind((ATTACKER_V4, 53)))?
        .map_err(io("play a name server that says nothing"))?;
    own_files::know_endpoint(false)?;
    let stopped = stop(scene);
    own_files::know_endpoint(true)?;
    let stopped = stopped?;
    let released = scene.release()?;
    Ok(Seen::times([stopped]).fault(released.is_none(), "the release after it was not obeyed"))
}

fn stop(scene: &mut Scene<'_>) -> Result<Option<Duration>, Trouble> {
    scene.pass(UNTIL_A_LOOK_UP_HANGS)?;
    let agent = scene.agent()?;
    let asked = Instant::now();
    scene.bed.restart_component()?;
    scene.wait("the end of the component", PATIENCE, |_| !processes::lives(agent))?;
    let took = asked.elapsed();
    scene.successor(agent)?;
    Ok(Some(took))
}
