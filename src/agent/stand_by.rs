//! The agent and its guard (`host::guard`): what is left to it, and when one that it started has nothing left to do.
//!
//! In: how we were started; the state of enforcement. Out: the will, a guard that stands by, the end of a stand-in. Absent: the
//! guard's own life; who makes room for whom (`takeover`).

use std::time::Duration;

use super::Start;
use super::board::Board;
use super::enforcement::Enforcement;
use super::watches::CONNECTED;
use crate::host::guard::{self, GuardPlaces, Will};
use crate::host::worker::Worker;
use crate::quarantine::proof::state::{Phase, State};

/// How long leaving a will and starting a guard may take.
const LIMIT: Duration = Duration::from_secs(10);
/// How long a stand-in without orders and without nucleus stays: a nucleus that restarts is back by then.
const IDLE: Duration = Duration::from_secs(60);
/// From one look to the next.
const LOOK: Duration = Duration::from_secs(2);

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

    /// Leaves the will and sees to it that a guard stands by, beside the thread that decides. A stand-in has found both.
    pub(super) fn leave(&self) {
        let Some(will) = self.will.clone().filter(|_| !self.is_stand_in) else {
            return;
        };
        let places = self.places.clone();
        let work = move || {
            if let Err(error) = will.leave(&places) {
                tracing::warn!("{}: the guard will not know of us", crate::error_text(&error));
            }
            if let Err(error) = guard::ensure(&places) {
                tracing::warn!("{}: nobody stands by for us", crate::error_text(&error));
            }
        };
        // Nobody waits for it.
        let _begun = Worker::new("guard", LIMIT).begin(move |()| work());
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
