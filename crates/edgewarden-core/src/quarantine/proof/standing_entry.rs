//! [`Standing`] as journal version 1 has it: the keys `confirmed`, `trial` and `rolledBack`. Uptimes and widened lines end with
//! the run and are not written.

use serde::{Deserialize, Serialize};

use super::standing::{Lines, RolledBack, Standing};
use crate::quarantine::plan::{PlanId, Scope};

/// The journal's keys.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entry {
    #[serde(default)]
    confirmed: Option<ConfirmedEntry>,
    #[serde(default)]
    trial: Option<TrialEntry>,
    #[serde(default)]
    rolled_back: Option<RolledBack>,
}

#[derive(Serialize, Deserialize)]
struct ConfirmedEntry {
    plan: PlanId,
    scope: Scope,
    #[serde(default)]
    unresolved: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TrialEntry {
    plan: PlanId,
    channel_worked: bool,
}

impl From<Entry> for Standing {
    /// Older agents kept a plan that was given up beside another one's trial: the other one is carried out.
    fn from(entry: Entry) -> Self {
        let given_up = |plan: &PlanId| {
            entry
                .rolled_back
                .as_ref()
                .is_some_and(|rolled| rolled.plan == *plan)
        };
        match (entry.confirmed, entry.trial) {
            (Some(confirmed), _) if !given_up(&confirmed.plan) => Self::Confirmed {
                plan: confirmed.plan,
                lines: Lines {
                    scope: confirmed.scope,
                    unresolved: confirmed.unresolved,
                },
            },
            (_, Some(trial)) if !given_up(&trial.plan) => Self::trial(trial.plan, trial.channel_worked),
            _ => entry
                .rolled_back
                .map_or(Self::Open, |release| Self::GivenUp { release, since: None }),
        }
    }
}

impl From<Standing> for Entry {
    fn from(standing: Standing) -> Self {
        let mut entry = Self {
            confirmed: None,
            trial: None,
            rolled_back: None,
        };
        match standing {
            Standing::Open => {}
            Standing::Trying {
                plan, channel_worked, ..
            } => entry.trial = Some(TrialEntry { plan, channel_worked }),
            Standing::Confirmed { plan, lines } => {
                entry.confirmed = Some(ConfirmedEntry {
                    plan,
                    scope: lines.scope,
                    unresolved: lines.unresolved,
                });
            }
            Standing::GivenUp { release, .. } => entry.rolled_back = Some(release),
        }
        entry
    }
}
