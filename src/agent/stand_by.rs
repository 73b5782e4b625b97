//! The agent and its guard (`host::guard`): what is left to it, and when one that it started has nothing left to do.
//!
//! In: how we were started; the state of enforcement. Out: the will, a guard that stands by, the end of a stand-in. Absent: the
//! guard's own life; who makes room for whom (`takeover`).

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use super::board::Board;
use super::enforcement::Enforcement;
use super::watches::CONNECTED;
use super::{Start, takeover};
use crate::host::guard::{self, GuardPlaces, Will};
use crate::host::worker::{Worker, WorkerError};
use crate::quarantine::proof::state::{Phase, State};

/// How long leaving a will and starting a guard may take.
const LIMIT: Duration = Duration::from_secs(10);
/// How long a stand-in without orders and without nucleus stays: a nucleus that restarts is back by then.
const IDLE: Duration = Duration::from_secs(60);
/// From one look at the guard to the next: it may be ended by whoever tidies up.
const CHECK: Duration = Duration::from_secs(60);
/// The same for the guard's own agent, which nobody else would follow.
const STAND_IN_CHECK: Duration = Duration::from_secs(5);
/// From one look to the next.
const LOOK: Duration = Duration::from_secs(2);

/// What a stand-in to whom nobody has left an environment has in its place: a nucleus that is never there. All that needs none,
/// the lifelines above all, goes on.
pub(super) fn no_nucleus(name: &str, start: &Start) -> Option<String> {
    match name {
        "SVCUID" => Some("none".to_owned()),
        takeover::NUCLEUS_SOCKET => {
            let nowhere = start.control_socket.with_file_name("no-nucleus");
            Some(nowhere.to_str()?.to_owned())
        }
        _ => None,
    }
}

/// What is left to the guard.
pub(super) struct Testament {
    places: GuardPlaces,
    /// None where no guard is wanted.
    will: Option<Will>,
    is_stand_in: bool,
}

impl Testament {
    pub(super) fn new(start: &Start, lookup: impl Fn(&str) -> Option<String>) -> Self {
        Self {
            places: GuardPlaces::new(&start.state_directory, &start.control_socket),
            will: start
                .has_guard
                .then(|| Will::new(lookup, start.directory.clone())),
            is_stand_in: start.guarded.is_some(),
        }
    }

    /// Leaves the will, and sees to it for ever that a guard stands by. A stand-in has found the will, and any guard will do.
    pub(super) async fn keep_guard(self: Arc<Self>) {
        let disk = Worker::new("guard", LIMIT);
        if let Some(will) = self.will.clone().filter(|_| !self.is_stand_in) {
            let places = self.places.clone();
            let left = disk.run(move || will.leave(&places)).await;
            if let Some(why) = problem(left) {
                tracing::warn!("{why}: the guard will not know of us");
            }
        }
        let (ensure, check): (fn(&GuardPlaces) -> _, _) = if self.is_stand_in {
            (guard::ensure_any, STAND_IN_CHECK)
        } else {
            (guard::ensure, CHECK)
        };
        let mut told = None;
        loop {
            let places = self.places.clone();
            let why = problem(disk.run(move || ensure(&places)).await);
            // Told once, as long as it is the same.
            if let Some(why) = why.as_ref().filter(|_| why != told) {
                tracing::warn!("{why}: nobody stands by for us");
            }
            told = why;
            tokio::time::sleep(check).await;
        }
    }

    /// Says that nobody is to follow us. On a file system in memory: this does not wait.
    pub(super) fn rest(&self) {
        if let Some(will) = self.will.clone()
            && let Err(error) = will.resting().leave(&self.places)
        {
            tracing::warn!("{}", crate::error_text(&error));
        }
    }
}

fn problem<E: Error>(outcome: Result<Result<(), E>, WorkerError>) -> Option<String> {
    match outcome {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(crate::error_text(&error)),
        Err(error) => Some(crate::error_text(&error)),
    }
}

/// Whether nothing is left to enforce, to undo or to tell.
pub(super) fn is_done(state: &State) -> bool {
    state.orders.is_empty() && state.stopped.is_empty() && state.phase == Phase::Released
}

/// Ends once nothing was ordered and no nucleus took us for a while.
pub(super) async fn until_done(enforcement: Enforcement, board: Board) {
    let mut idle = Duration::ZERO;
    while idle < IDLE {
        tokio::time::sleep(LOOK).await;
        let is_idle = is_done(&enforcement.state().borrow()) && board.read().cloud.ipc != CONNECTED;
        idle = if is_idle { idle + LOOK } else { Duration::ZERO };
    }
}
