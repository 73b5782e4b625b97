//! What comes next by itself, and when, as long as the control channel stays silent: for people.
//!
//! In: where confirm-or-roll-back stands, the plan that is wanted, the window, `now`. Out: [`Coming`]. Pure; [`Standing::tick`]
//! does it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::Standing;
use super::turns::{SILENT_WINDOWS, aftermath, patience};
use crate::moment::Now;
use crate::quarantine::plan::{Cutting, PlanId, Scope};

/// What happens unless the control channel answers before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ComingTurn {
    /// The lifelines are drawn wider.
    Widen,
    /// The rules are taken away.
    GiveUp,
    /// The rules that were taken away are put back.
    PutBack,
    /// They are tried again, whatever the control channel does.
    TryAgain,
}

/// A turn and its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coming {
    pub turn: ComingTurn,
    /// By the wall clock of now.
    pub at: Timestamp,
}

impl Standing {
    /// The next turn, if one comes by itself. `wanted` as in [`Look`](super::Look): what nobody wants is not put back.
    pub fn coming(&self, wanted: Option<&PlanId>, window: Duration, now: Now) -> Option<Coming> {
        let (turn, uptime) = match self {
            // Nobody is there to be silent.
            Self::Trying { alone: Some(_), .. } => return None,
            Self::Trying {
                lines,
                since,
                silent_since: Some(silent_since),
                channel_worked: true,
                spares_channel: true,
                late: false,
                cutting,
                ..
            } => {
                let widens = cutting.as_ref().is_none_or(Cutting::has_wide_lines);
                let last = *silent_since + window.saturating_mul(SILENT_WINDOWS);
                match since {
                    // The kernel does not hold these lines yet.
                    None => (ComingTurn::GiveUp, last),
                    Some(since) => {
                        let end = (*silent_since).max(since.began) + window;
                        let is_last = lines.scope == Scope::Wide || last <= end;
                        match (is_last, widens) {
                            (true, _) => (ComingTurn::GiveUp, end.min(last)),
                            (false, true) => (ComingTurn::Widen, end),
                            // Nothing changes in between.
                            (false, false) => (ComingTurn::GiveUp, (end + window).min(last)),
                        }
                    }
                }
            }
            // It is not given up: widened at most.
            Self::Trying {
                lines,
                since: Some(since),
                silent_since: Some(silent_since),
                spares_channel: true,
                cutting,
                ..
            } if lines.scope == Scope::Pinned && cutting.as_ref().is_none_or(Cutting::has_wide_lines) => {
                let end = (*silent_since).max(since.began) + window;
                (ComingTurn::Widen, end)
            }
            Self::GivenUp { release, wait, .. } if wanted == Some(&release.plan) => {
                let (here, earlier) = wait.lasted(now)?;
                let (turn, whole) = if release.proven {
                    (ComingTurn::TryAgain, patience(window, release.times))
                } else {
                    // Which comes first: looked at for a window, or twice as long.
                    let looked = aftermath(window, window).max(earlier + window);
                    (ComingTurn::PutBack, looked.min(aftermath(window, Duration::ZERO)))
                };
                let left = whole.saturating_sub(here + earlier);
                (turn, now.uptime + left)
            }
            _ => return None,
        };
        let left = SignedDuration::try_from(uptime.saturating_sub(now.uptime)).ok()?;
        let at = now.wall.checked_add(left).ok()?;
        Some(Coming { turn, at })
    }
}
