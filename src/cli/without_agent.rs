//! What a command does itself when no agent answers.
//!
//! In: where the agent keeps its state. Out: what [`offline`] finds and does, on a runtime of its own.

use std::path::Path;

use serde_json::Value;

use super::{Failure, environment, place};
pub(super) use crate::agent::offline::Outcome;
use crate::agent::offline::{self, Elsewhere, Places, Refusal, Silent};
use crate::control::ask_error::AskError;
use crate::control::status::AbsentAgent;
use crate::host::files::state_directory;
use crate::quarantine::history;
use crate::quarantine::plan::preview::PlanPreview;

/// What is told to others.
const ROOT: &str = "; only root can look at, or change, what an agent does: run this with sudo";

/// Where no agent answers: who is in its place.
pub(super) struct WithoutAgent {
    places: Places,
    /// With which a command that only shows something ends all the same: whoever scripts it must see that no agent enforces.
    pub(super) failure: Failure,
}

impl WithoutAgent {
    /// Where `error` says that nobody answers.
    ///
    /// # Errors
    /// Any other error is the command's.
    pub(super) fn after(
        error: AskError,
        state: &place::StateDirectory,
        socket: &Path,
    ) -> Result<Self, Failure> {
        let is_nobody = error.is_nobody();
        Self::where_so(is_nobody, error, state, socket)
    }

    /// The same for the way out, which is behind no answer: not behind one that does not come, that means nothing, or that is a
    /// refusal. `reason` is looked at before anybody is asked ([`check_release`]), so nobody refuses it for that.
    ///
    /// # Errors
    /// Only root can do it alone.
    pub(super) fn after_release(
        error: AskError,
        state: &place::StateDirectory,
        socket: &Path,
    ) -> Result<Self, Failure> {
        Self::where_so(true, error, state, socket)
    }

    /// The same, after the agent that has the state directory was asked too.
    pub(super) fn after_all(mut self, error: &AskError) -> Self {
        let why = crate::error_text(error);
        let is_agents = true;
        self.places.refusal = Some(Refusal { why, is_agents });
        self
    }

    fn where_so(
        so: bool,
        error: AskError,
        state: &place::StateDirectory,
        socket: &Path,
    ) -> Result<Self, Failure> {
        let silent = match &error {
            AskError::Silent { socket, pid, .. } => Some(Silent {
                socket: socket.clone(),
                pid: *pid,
            }),
            _ => None,
        };
        let refusal = (!error.is_nobody()).then(|| Refusal {
            why: crate::error_text(&error),
            is_agents: false,
        });
        let mut failure = Failure::from(error);
        if !so {
            return Err(failure);
        }
        // What is root's looks to others like a damaged journal.
        if !state_directory::is_root() {
            failure.text.push_str(ROOT);
            return Err(failure);
        }
        let places = Places {
            refusal,
            ..places(&state.path, socket, silent)
        };
        Ok(Self { places, failure })
    }

    pub(super) fn look(&self) -> Result<AbsentAgent, Failure> {
        Ok(environment::runtime()?.block_on(offline::look(&self.places)))
    }

    pub(super) fn plan(&self, order: Option<&Value>) -> Result<PlanPreview, Failure> {
        Ok(environment::runtime()?.block_on(offline::plan(&self.places, order))?)
    }

    pub(super) fn release(&self, everything: bool, reason: Option<&str>) -> Result<Outcome, Failure> {
        release(&self.places, everything, reason)
    }
}

/// What keeps a device closed, as journal and kernel have it, and its end where somebody wants it so.
pub(super) struct Closed {
    places: Places,
    /// The live orders.
    pub(super) orders: Vec<String>,
    /// Tables of ours in the kernel.
    pub(super) tables: usize,
}

impl Closed {
    /// # Errors
    /// Only root can look, and only where the agent's packet filter is.
    pub(super) fn find(state: &Path, socket: &Path) -> Result<Self, Failure> {
        if !state_directory::is_root() {
            let text = format!("what keeps the device closed is not known{ROOT}");
            return Err(text.into());
        }
        let places = places(state, socket, None);
        let runtime = environment::runtime()?;
        if let Some(elsewhere @ Elsewhere::Is(_)) = runtime.block_on(places.elsewhere()) {
            return Err(elsewhere.to_string().into());
        }
        let (found, tables, _) = runtime.block_on(offline::see(&places));
        Ok(Self {
            places,
            orders: history::names(&found.orders),
            tables,
        })
    }

    pub(super) fn end(&self, reason: Option<&str>) -> Result<Outcome, Failure> {
        release(&self.places, true, reason)
    }
}

fn places(state: &Path, socket: &Path, silent: Option<Silent>) -> Places {
    Places {
        state: state.to_owned(),
        control_socket: socket.to_owned(),
        development: environment::development(),
        silent,
        refusal: None,
    }
}

/// Refuses where an agent is there that does not have the state directory.
///
/// # Errors
/// Which one, and what helps.
pub(super) fn nobody_beside(state: &Path, socket: &Path) -> Result<(), Failure> {
    offline::agent_beside(state, socket).map_or(Ok(()), |who| {
        let text = format!("{who}: stop it first, or name its place with --state-dir; nothing is removed");
        Err(text.into())
    })
}

/// Whether a release can be asked for with that reason.
///
/// # Errors
/// What is wrong with the reason.
pub(super) fn check_release(everything: bool, reason: Option<&str>) -> Result<(), Failure> {
    Ok(offline::check_release(everything, reason)?)
}

fn release(places: &Places, everything: bool, reason: Option<&str>) -> Result<Outcome, Failure> {
    Ok(environment::runtime()?.block_on(offline::release(places, everything, reason))?)
}
