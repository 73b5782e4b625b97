//! Confirm or roll back, as one machine: whether the owner's channel lives behind the rules, and what follows if not.
//!
//! ```text
//!           another plan                       a round trip sent behind the rules
//!  Open ─────────────────► Trying ───────────────────────────────────────────────► Confirmed
//!   ▲ ▲                    │ ▲ │ ▲                                                     │
//!   │ │ nothing is cut     │ │ │ └─────────────────────────────────────────────────────┘
//!   │ └────────────────────┘ │ │            another plan, or its lines must be drawn anew
//!   │                        │ │
//!   │                        │ │ silent for one window: the lines are widened, and tried again
//!   │                        │ │ silent for another one: given up
//!   │  another chance        │ ▼
//!   └──────────────────── GivenUp ──► proven: the channel came back without the rules, they stay away
//!                            └──────► after four windows as silent without the rules: Trying again, and held
//! ```
//!
//! In: the plan that is carried out, that the kernel holds it, answers of the shadow service, the clock. Out: how wide the
//! lifelines are drawn, and each [`Turn`]. The machine *is* the journal's entry: [`Standing`] is written and read as the
//! keys `confirmed`, `trial` and `rolledBack` of journal version 1.
//!
//! Invariants: without a round trip that was *sent after the load* a plan never becomes confirmed; a plan before which the
//! channel was silent is never given up for that (it did not break the channel); a channel that worked is silent behind
//! rules of ours for three windows at most in one run of the agent, however often plan and lines change meanwhile; what was
//! given up because of an outage comes back after four windows, so an outage that lasts opens no device for good. One that
//! ends within those four windows looks like rules that had cut the channel, and they stay away.

#[path = "standing_coming.rs"]
mod coming;

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::standing_entry::Entry;
use crate::moment::Now;
use crate::quarantine::plan::{PlanId, Scope};

pub use coming::{Coming, ComingTurn};

/// Windows to wait for the channel after a release: the nucleus must notice its dead connection and make another.
const AFTERMATH_WINDOWS: u32 = 4;
/// Windows of silence behind rules of ours, whatever plans and lines they had: one for each way to draw the lines and one
/// for changes in between.
const SILENT_WINDOWS: u32 = 3;

/// How the control channel's lifeline is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lines {
    /// Known addresses only, or any address on the channel's ports.
    pub scope: Scope,
    /// Wide only because no address is known; one that becomes known is a new trial.
    pub unresolved: bool,
}

impl Lines {
    const PINNED: Self = Self {
        scope: Scope::Pinned,
        unresolved: false,
    };
    const WIDENED: Self = Self {
        scope: Scope::Wide,
        unresolved: false,
    };
    const UNRESOLVED: Self = Self {
        scope: Scope::Wide,
        unresolved: true,
    };

    /// How a plan is first drawn: without any known address a pinned lifeline would be none at all.
    const fn first(unresolved: bool) -> Self {
        if unresolved {
            Self::UNRESOLVED
        } else {
            Self::PINNED
        }
    }

    /// The same plan's lines, now that an address is known or none is. What was widened stays wide.
    fn redrawn(self, unresolved: bool) -> Self {
        if self == Self::WIDENED {
            self
        } else {
            Self::first(unresolved)
        }
    }
}

/// Since when the kernel holds the rules that are on trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Uptime at which the kernel first held them with these lines.
    began: Duration,
    /// Uptime at which they were last loaded: what went through before proves nothing of them.
    loaded: Duration,
    /// A question that was sent after that was answered.
    answered: bool,
}

/// A plan that was given up, as the journal and the cloud have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RolledBack {
    /// Which plan; it is not tried again until the orders or the isolation settings change.
    pub plan: PlanId,
    /// When it was given up.
    pub at: Timestamp,
    /// Why, for people.
    pub why: String,
    /// The channel came back without its rules: they had cut it.
    #[serde(default)]
    pub proven: bool,
}

/// Where confirm-or-roll-back stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Entry", into = "Entry")]
pub enum Standing {
    /// Nothing is cut, or it is not known yet whether.
    #[default]
    Open,
    /// A plan is carried out, and the channel has not been seen to work behind it.
    Trying {
        /// Which plan.
        plan: PlanId,
        /// How its lifeline is drawn.
        lines: Lines,
        /// Absent until the kernel holds it.
        since: Option<Window>,
        /// Uptime since which rules of ours are closed and no question was answered; goes on from plan to plan. Absent until
        /// the kernel holds any.
        silent_since: Option<Duration>,
        /// Whether the channel worked before rules of ours closed.
        channel_worked: bool,
        /// Whether this plan means to let it live. Only then is its silence held against the rules.
        spares_channel: bool,
    },
    /// The channel was seen to work behind the plan; nobody asks again.
    Confirmed {
        /// Which plan.
        plan: PlanId,
        /// How its lifeline was drawn then.
        lines: Lines,
    },
    /// The plan is not carried out, because it silenced the channel.
    GivenUp {
        /// Which plan, when and why.
        release: RolledBack,
        /// Uptime since which the kernel was proven to be without its rules, until it is known whether they had cut the
        /// channel. What was answered before went through them.
        since: Option<Duration>,
    },
}

/// What just changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// The channel works through the closed firewall.
    Confirmed(PlanId),
    /// It is silent: the lines are drawn wider.
    Widened(PlanId),
    /// It stayed silent: the plan is given up, for this reason.
    GaveUp(PlanId, String),
    /// It is as silent without the rules: they are put back.
    PutBack(PlanId),
}

/// What is seen when time passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look<'a> {
    /// The kernel was proven just now to hold what is to be carried out; without that nothing is confirmed.
    pub holds: bool,
    /// The plan that is wanted and would cut; only that one is put back.
    pub wanted: Option<&'a PlanId>,
    /// How long the channel may be silent.
    pub window: Duration,
    /// Now.
    pub now: Now,
}

/// A plan as the machine needs to know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carried<'a> {
    /// Which one.
    pub plan: &'a PlanId,
    /// Whether carrying it out cuts anything; not for a normal plan, nor in mode `observe`.
    pub cuts: bool,
    /// Whether it means to let the control channel live.
    pub spares_channel: bool,
    /// Whether no address of the channel is known.
    pub unresolved: bool,
}

impl Standing {
    /// The plan that is to be carried out. `channel_works`: the channel was seen to work just now, or a moment ago.
    pub fn on_plan(&mut self, carried: Carried<'_>, channel_works: bool) {
        let Carried {
            plan,
            cuts,
            spares_channel,
            unresolved,
        } = carried;
        match self {
            // What was given up stays away also while nothing wants it.
            Self::GivenUp { release, .. } if !cuts || release.plan == *plan => {}
            _ if !cuts => *self = Self::Open,
            Self::Confirmed { plan: known, lines }
                if known == plan && *lines == lines.redrawn(unresolved) => {}
            Self::Trying {
                plan: known,
                lines,
                since,
                channel_worked,
                spares_channel: spares,
                ..
            } if known == plan => {
                *spares = spares_channel;
                let drawn = lines.redrawn(unresolved);
                if drawn != *lines {
                    *channel_worked |= since.is_some_and(|since| since.answered);
                    (*lines, *since) = (drawn, None);
                }
            }
            _ => {
                *self = Self::Trying {
                    plan: plan.clone(),
                    lines: Lines::first(unresolved),
                    since: None,
                    silent_since: self.silent_since(),
                    channel_worked: channel_works || self.vouches(),
                    spares_channel,
                }
            }
        }
    }

    /// Whether what went before proves that the channel worked until rules of ours closed.
    pub fn vouches(&self) -> bool {
        match self {
            Self::Open => false,
            Self::Trying { channel_worked, .. } => *channel_worked,
            Self::Confirmed { .. } | Self::GivenUp { .. } => true,
        }
    }

    const fn silent_since(&self) -> Option<Duration> {
        match self {
            // Silence behind a plan that does not spare the channel is meant.
            Self::Trying {
                silent_since,
                spares_channel: true,
                ..
            } => *silent_since,
            _ => None,
        }
    }

    /// The kernel was proven at uptime `now` to hold what is to be carried out: the plan, or nothing of it where it was given
    /// up. `anew`: it was loaded, or changed, since it last was.
    pub fn on_loaded(&mut self, anew: bool, now: Duration) {
        self.on_closed(now);
        match self {
            Self::Trying {
                since: since @ None, ..
            } => {
                *since = Some(Window {
                    began: now,
                    loaded: now,
                    answered: false,
                });
            }
            Self::Trying {
                since: Some(window),
                channel_worked,
                ..
            } if anew => {
                // Through these rules or through a gap in them: it worked until they closed again.
                *channel_worked |= window.answered;
                (window.loaded, window.answered) = (now, false);
            }
            Self::GivenUp { release, since } if !release.proven => {
                since.get_or_insert(now);
            }
            _ => {}
        }
    }

    /// The kernel took rules that cut at uptime `now`, whether or not it could be proven to hold them: from then on a silent
    /// channel may be their doing.
    pub fn on_closed(&mut self, now: Duration) {
        if let Self::Trying { silent_since, .. } = self {
            silent_since.get_or_insert(now);
        }
    }

    /// A question to the shadow service that was sent at uptime `sent` was answered.
    pub fn on_round_trip(&mut self, sent: Duration) {
        match self {
            Self::Trying {
                since,
                silent_since,
                channel_worked,
                ..
            } => {
                // Nothing of ours is closed yet: the channel works, whatever was known when the plan came.
                *channel_worked |= silent_since.is_none();
                if let Some(window) = since {
                    window.answered |= sent >= window.loaded;
                }
                *silent_since = silent_since.map(|silent| silent.max(sent));
            }
            Self::GivenUp { release, since } if since.is_some_and(|since| sent >= since) => {
                release.proven = true;
                *since = None;
            }
            _ => {}
        }
    }

    /// The orders or the isolation settings changed: what was given up deserves another try. That the channel worked
    /// before is not forgotten.
    pub fn on_another_chance(&mut self) {
        if let Self::GivenUp { release, .. } = self {
            *self = Self::trial(release.plan.clone(), true);
        }
    }

    /// To be tried, from the beginning.
    pub(super) const fn trial(plan: PlanId, channel_worked: bool) -> Self {
        Self::Trying {
            plan,
            lines: Lines::PINNED,
            since: None,
            silent_since: None,
            channel_worked,
            spares_channel: true,
        }
    }

    /// Time passes.
    pub fn tick(&mut self, look: Look<'_>) -> Option<Turn> {
        match self {
            Self::Trying { .. } => self.judge(look),
            Self::GivenUp {
                release,
                since: Some(since),
            } if look.wanted == Some(&release.plan)
                && look.now.uptime.saturating_sub(*since)
                    >= look.window.saturating_mul(AFTERMATH_WINDOWS) =>
            {
                let plan = release.plan.clone();
                *self = Self::trial(plan.clone(), false);
                Some(Turn::PutBack(plan))
            }
            _ => None,
        }
    }

    fn judge(&mut self, look: Look<'_>) -> Option<Turn> {
        let Self::Trying {
            plan,
            lines,
            since,
            silent_since,
            channel_worked,
            spares_channel,
        } = self
        else {
            return None;
        };
        let answered = since.is_some_and(|since| since.answered);
        if answered && look.holds {
            let (plan, lines) = (plan.clone(), *lines);
            *self = Self::Confirmed {
                plan: plan.clone(),
                lines,
            };
            return Some(Turn::Confirmed(plan));
        }
        if !(*channel_worked && *spares_channel) {
            return None;
        }
        let Look { window, now, .. } = look;
        let silent_since = (*silent_since)?;
        let silent = now.uptime.saturating_sub(silent_since);
        // With these lines; none while the kernel does not hold them.
        let with_these = since.map_or(Duration::ZERO, |since| {
            now.uptime.saturating_sub(silent_since.max(since.began))
        });
        let plan = plan.clone();
        let is_wide = lines.scope == Scope::Wide;
        if silent >= window.saturating_mul(SILENT_WINDOWS) || (with_these >= window && is_wide) {
            let why = reason(silent, (*lines == Lines::WIDENED).then_some(with_these));
            return Some(self.give_up(plan, why, now));
        }
        if with_these < window || is_wide {
            return None;
        }
        (*lines, *since) = (Lines::WIDENED, None);
        Some(Turn::Widened(plan))
    }

    fn give_up(&mut self, plan: PlanId, why: String, now: Now) -> Turn {
        *self = Self::GivenUp {
            release: RolledBack {
                plan: plan.clone(),
                at: now.wall,
                why: why.clone(),
                proven: false,
            },
            since: None,
        };
        Turn::GaveUp(plan, why)
    }

    /// How wide the lifelines of `plan` are drawn.
    pub fn scope(&self, plan: &PlanId, unresolved: bool) -> Scope {
        let lines = match self {
            Self::Trying {
                plan: known, lines, ..
            }
            | Self::Confirmed { plan: known, lines }
                if known == plan =>
            {
                lines.redrawn(unresolved)
            }
            _ => Lines::first(unresolved),
        };
        lines.scope
    }

    /// Whether the channel was seen to work behind `plan`.
    pub fn confirms(&self, plan: &PlanId) -> bool {
        matches!(self, Self::Confirmed { plan: known, .. } if known == plan)
    }

    /// Why `plan` is not carried out, if it was given up.
    pub fn gave_up(&self, plan: &PlanId) -> Option<&RolledBack> {
        self.release().filter(|release| release.plan == *plan)
    }

    /// The plan that was given up.
    pub const fn release(&self) -> Option<&RolledBack> {
        match self {
            Self::GivenUp { release, .. } => Some(release),
            _ => None,
        }
    }

    /// What a restart remembers of it: uptimes and widened lines end with the run.
    #[must_use]
    pub fn remembered(&self) -> Self {
        Entry::from(self.clone()).into()
    }
}

/// Why a plan is given up after so much silence, the last of it with wider lifelines if they were widened.
fn reason(silent: Duration, widened: Option<Duration>) -> String {
    let pinned = silent.saturating_sub(widened.unwrap_or_default()).as_secs();
    let also = widened.map_or_else(String::new, |widened| {
        format!(", and for another {} s with wider lifelines", widened.as_secs())
    });
    format!("the control channel worked before and was silent for {pinned} s behind the rules{also}")
}

#[cfg(test)]
#[path = "standing_tests.rs"]
mod tests;
