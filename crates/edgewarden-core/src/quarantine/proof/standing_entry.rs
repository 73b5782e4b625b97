//! [`Standing`] as journal version 1 has it: the keys `confirmed`, `trial` and `rolledBack`. Uptimes end with the run and are not
//! written, nor are widened lines of what may be given up.
//!
//! What older agents do not know is beside what they do: a trial of what was confirmed is a `confirmed` that is `late`, because
//! they would give up a `trial`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::standing::{Lines, RolledBack, Since, Standing, Wait};
use crate::quarantine::plan::{Cutting, PlanId, Scope};

/// The journal's keys.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entry {
    #[serde(default)]
    confirmed: Option<ConfirmedEntry>,
    #[serde(default)]
    trial: Option<TrialEntry>,
    #[serde(default)]
    rolled_back: Option<RolledBack>,
    /// Since when it is away, or the channel back, by the trusted clock. Absent: since it was given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rolled_back_since: Option<Timestamp>,
    /// What the plan cuts. Absent where nobody knows, as in the journals of older agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cutting: Option<Cutting>,
}

#[derive(Serialize, Deserialize)]
struct ConfirmedEntry {
    plan: PlanId,
    scope: Scope,
    #[serde(default)]
    unresolved: bool,
    /// The channel was silent later, or lines are drawn anew: it is to be seen to work once more.
    #[serde(default, skip_serializing_if = "is_false")]
    late: bool,
    /// The channel was silent when this was written.
    #[serde(default, skip_serializing_if = "is_false")]
    silent: bool,
    /// How often in a row silence has widened its lines, where that is more than once.
    #[serde(default = "once", skip_serializing_if = "is_once")]
    times: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TrialEntry {
    plan: PlanId,
    channel_worked: bool,
    /// How often in a row it was given up before. Absent where never, as in the journals of older agents.
    #[serde(default, skip_serializing_if = "is_never")]
    times: u32,
    /// Its lines were widened, and it is not given up.
    #[serde(default, skip_serializing_if = "is_false")]
    wide: bool,
}

const fn once() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_once(times: &u32) -> bool {
    *times <= 1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_never(times: &u32) -> bool {
    *times == 0
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
        let cutting = entry.cutting;
        match (entry.confirmed, entry.trial) {
            (Some(confirmed), _) if !given_up(&confirmed.plan) => {
                let lines = Lines {
                    scope: confirmed.scope,
                    unresolved: confirmed.unresolved,
                };
                if confirmed.late {
                    return Self::late_trial(confirmed.plan, lines, None, confirmed.times, cutting);
                }
                Self::Confirmed {
                    plan: confirmed.plan,
                    lines,
                    since: Since::kept(confirmed.silent),
                    times: confirmed.times,
                    cutting,
                }
            }
            (_, Some(trial)) if !given_up(&trial.plan) => {
                let mut read = Self::trial(trial.plan, trial.channel_worked, trial.times, cutting);
                if let Self::Trying { lines, .. } = &mut read
                    && trial.wide
                {
                    *lines = Lines::WIDENED;
                }
                read
            }
            _ => entry.rolled_back.map_or(Self::Open, |release| Self::GivenUp {
                wait: Wait::kept(entry.rolled_back_since.unwrap_or(release.at)),
                release,
                cutting,
            }),
        }
    }
}

impl From<Standing> for Entry {
    fn from(standing: Standing) -> Self {
        let mut entry = Self::default();
        let confirmed = |plan, lines: Lines, (late, silent), times: u32| {
            Some(ConfirmedEntry {
                plan,
                scope: lines.scope,
                unresolved: lines.unresolved,
                late,
                silent,
                times: times.max(1),
            })
        };
        match standing {
            Standing::Open => {}
            Standing::Trying {
                plan,
                lines,
                channel_worked,
                late,
                times,
                cutting,
                ..
            } => {
                entry.cutting = cutting;
                if late {
                    entry.confirmed = confirmed(plan, lines, (true, false), times);
                } else {
                    entry.trial = Some(TrialEntry {
                        plan,
                        channel_worked,
                        times,
                        wide: lines == Lines::WIDENED && !channel_worked,
                    });
                }
            }
            Standing::Confirmed {
                plan,
                lines,
                since,
                times,
                cutting,
            } => {
                entry.cutting = cutting;
                entry.confirmed = confirmed(plan, lines, (false, since.is_silent()), times);
            }
            Standing::GivenUp {
                release,
                wait,
                cutting,
            } => {
                entry.cutting = cutting;
                entry.rolled_back_since = wait.from.filter(|from| *from != release.at);
                entry.rolled_back = Some(release);
            }
        }
        entry
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn id(name: &str) -> PlanId {
        serde_json::from_value(json!(name)).unwrap()
    }

    #[test]
    fn the_journals_first_version_is_read_and_written() {
        let read = |value| serde_json::from_value::<Standing>(value).unwrap();
        let release =
            json!({"plan": "a", "at": "2026-01-01T00:00:00Z", "why": "w", "proven": false, "times": 1});
        let confirmed = json!({"plan": "b", "scope": "wide", "unresolved": false});
        let trial = json!({"plan": "b", "channelWorked": true});
        assert_eq!(read(json!({})), Standing::Open);
        for (key, value) in [
            ("confirmed", &confirmed),
            ("trial", &trial),
            ("rolledBack", &release),
        ] {
            let mut entry = json!({"confirmed": null, "trial": null, "rolledBack": null});
            entry[key] = value.clone();
            assert_eq!(serde_json::to_value(read(entry.clone())).unwrap(), entry);
        }
        // What older agents wrote beside each other.
        let both = read(json!({"trial": trial, "rolledBack": release}));
        assert!(
            matches!(both, Standing::Trying { ref plan, .. } if *plan == id("b")),
            "{both:?}"
        );
        let same = read(json!({"trial": {"plan": "a", "channelWorked": true}, "rolledBack": release}));
        assert!(same.gave_up(&id("a")).is_some());
    }
}
