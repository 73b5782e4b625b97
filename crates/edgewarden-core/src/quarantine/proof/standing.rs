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
//!   └──────────────────── GivenUp ──► proven: the channel came back without the rules; Trying again after one window, two, four
//!                            └──────► after four windows as silent without the rules: Trying again, and held
//!
//!  Confirmed, and silent for one window: the lines are widened, and pinned again after one window, two, four with answers
//!  Confirmed, and another plan that cuts no more, a restart, or lines drawn anew: Trying, and never given up
//!  Trying, and silent before the rules too: the lines are widened after one window, and never given up
//! ```
//!
//! In: the plan that is carried out, that the kernel holds it, answers of the shadow service, the clock. Out: how wide the
//! lifelines are drawn, and each [`Turn`]. The machine *is* the journal's entry: [`Standing`] is written and read as the
//! keys `confirmed`, `trial` and `rolledBack` of journal version 1.
//!
//! Invariants: without a round trip that was *sent after the load* a plan never becomes confirmed; a plan before which the
//! channel was silent is widened, because the channel may have moved meanwhile, and never given up (it did not break it); a channel that worked is silent behind
//! rules of ours for three windows at most in one run of the agent, however often plan and lines change meanwhile, and free then
//! for one window at least; time in which nobody is there to be asked (no connection to the nucleus, its process gone or stopped)
//! is no silence, and neither widens nor opens; what was given up because of an outage comes back after four windows, so an outage that lasts opens
//! no device for good. One that ends within those four windows looks like rules that had cut the channel: they are tried again,
//! ever more seldom and once an hour at least, so whoever silences the channel for a while ends no isolation. What was
//! confirmed once is not given up for a later silence: wide lines let the channel go where it may have moved to. That holds over
//! restarts, and for every plan after it that cuts no more, whoever orders it. How long something is given up is counted by the
//! trusted clock, over restarts too. Time in which nobody looked is no silence. Where the owner wants it so, silence opens nothing at all.

#[path = "standing_coming.rs"]
mod coming;
#[path = "standing_plans.rs"]
mod plans;
#[path = "standing_turns.rs"]
mod turns;

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::standing_entry::Entry;
use crate::moment::Now;
use crate::quarantine::plan::{Cutting, PlanId, Scope};

pub use coming::{Coming, ComingTurn};

/// How the control channel's lifeline is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lines {
    /// Known addresses only, or any address on the channel's ports.
    pub scope: Scope,
    /// Wide only because no address is known; one that becomes known is a new trial.
    pub unresolved: bool,
}

impl Lines {
    pub(super) const PINNED: Self = Self {
        scope: Scope::Pinned,
        unresolved: false,
    };
    pub(super) const WIDENED: Self = Self {
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
    /// The channel came back without its rules: they had cut it, or whoever silenced it has stopped.
    #[serde(default)]
    pub proven: bool,
    /// How often in a row; once in the journals of older agents.
    #[serde(default = "once")]
    pub times: u32,
}

const fn once() -> u32 {
    1
}

/// What came of a plan since it was confirmed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Since {
    /// Uptime since which questions are not answered, while the nucleus is there to be asked.
    silent: Option<Duration>,
    /// Uptime since which nobody is there to be asked: that is no silence, and does not end one.
    alone: Option<Duration>,
    /// Uptime at which it was first seen confirmed with these lines.
    confirmed: Option<Duration>,
    /// How much of that silence was forgiven because the cloud's end acknowledged what the nucleus sent meanwhile.
    forgiven: Duration,
    /// The channel was silent when the agent before ended, and nothing was answered since.
    before: bool,
}

impl Since {
    /// As the journal has it.
    pub(super) fn kept(is_silent: bool) -> Self {
        Self {
            before: is_silent,
            ..Self::default()
        }
    }

    /// A question was not answered, and none since.
    pub(super) const fn is_silent(&self) -> bool {
        self.silent.is_some() || self.before
    }
}

/// How long a plan has been given up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wait {
    /// Uptime since which the kernel was proven to be without its rules; what was answered before went through them. Since
    /// the channel has come back, the uptime of that.
    since: Option<Duration>,
    /// The same by the trusted clock, which the journal keeps.
    pub(super) from: Option<Timestamp>,
    /// How long it was before this run; absent until the first look.
    earlier: Option<Duration>,
}

impl Wait {
    /// As the journal has it.
    pub(super) const fn kept(from: Timestamp) -> Self {
        Self {
            since: None,
            from: Some(from),
            earlier: None,
        }
    }

    /// How long in this run, and before it; nothing until the rules are proven to be away.
    fn lasted(&self, now: Now) -> Option<(Duration, Duration)> {
        let here = now.uptime.saturating_sub(self.since?);
        let before = || {
            let all = now.wall.duration_since(self.from?);
            Some(Duration::try_from(all).ok()?.saturating_sub(here))
        };
        let earlier = self.earlier.or_else(before);
        Some((here, earlier.unwrap_or_default()))
    }

    /// As [`Wait::lasted`]; remembers what the wall clock says now, which may be set later.
    fn look(&mut self, now: Now) -> Option<(Duration, Duration)> {
        let (here, earlier) = self.lasted(now)?;
        self.earlier = Some(earlier);
        if self.from.is_none() {
            self.from = now.wall.checked_sub(here).ok();
        }
        Some((here, earlier))
    }
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
        /// It, or one that cuts no less, was confirmed before: it is not given up any more.
        late: bool,
        /// How often in a row silence has undone it: given it up, or widened its lines once it was confirmed.
        times: u32,
        /// How much silence was forgiven because the cloud's end acknowledged what the nucleus sent meanwhile.
        forgiven: Duration,
        /// Uptime since which nobody is there to be asked: no rules of ours do that.
        alone: Option<Duration>,
        /// What it cuts; not known of the journals of older agents.
        cutting: Option<Cutting>,
    },
    /// The channel was seen to work behind the plan; nobody asks again.
    Confirmed {
        /// Which plan.
        plan: PlanId,
        /// How its lifeline was drawn then.
        lines: Lines,
        /// Uptimes since then.
        since: Since,
        /// How often in a row silence has widened its lines.
        times: u32,
        /// What it cuts; not known of the journals of older agents.
        cutting: Option<Cutting>,
    },
    /// The plan is not carried out, because it silenced the channel.
    GivenUp {
        /// Which plan, when and why.
        release: RolledBack,
        /// For how long.
        wait: Wait,
        /// What it cuts; not known of the journals of older agents.
        cutting: Option<Cutting>,
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
    /// It came back without the rules a while ago: they are tried again.
    TriedAgain(PlanId),
    /// It has worked behind wider lines for a while: they are pinned again.
    Narrowed(PlanId),
}

/// What is seen when time passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look<'a> {
    /// The kernel was proven just now to hold what is to be carried out, and whom it names is stopped; without that nothing is
    /// confirmed.
    pub holds: bool,
    /// The plan that is wanted and would cut; only that one is put back.
    pub wanted: Option<&'a PlanId>,
    /// How long the channel may be silent.
    pub window: Duration,
    /// Silence opens nothing, as the owner wants it.
    pub hold: bool,
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
    /// What it cuts, whoever orders it.
    pub cutting: &'a Cutting,
}

impl Standing {
    /// The kernel was proven at uptime `now` to hold what is to be carried out: the plan, or nothing of it where it was given
    /// up. `anew`: it was loaded or changed, or processes were stopped for it, since it last was.
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
            Self::GivenUp { wait, .. } => {
                wait.since.get_or_insert(now);
            }
            Self::Confirmed { since, .. } => {
                since.confirmed.get_or_insert(now);
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
                alone,
                ..
            } => {
                // Nothing of ours is closed yet: the channel works, whatever was known when the plan came.
                *channel_worked |= silent_since.is_none();
                if let Some(window) = since {
                    window.answered |= sent >= window.loaded;
                }
                *silent_since = silent_since.map(|silent| silent.max(sent));
                *alone = None;
            }
            Self::GivenUp { release, wait, .. }
                if !release.proven && wait.since.is_some_and(|since| sent >= since) =>
            {
                release.proven = true;
                *wait = Wait {
                    since: Some(sent),
                    ..Wait::default()
                };
            }
            Self::Confirmed { since, .. } => {
                *since = Since {
                    confirmed: since.confirmed,
                    ..Since::default()
                }
            }
            _ => {}
        }
    }

    /// A question was not answered at uptime `now`, although the nucleus is there; or nobody is there to be asked, which no rules
    /// of ours do.
    pub fn on_silence(&mut self, nucleus: bool, now: Duration) {
        let alone = match self {
            Self::Trying { alone, .. } => alone,
            Self::Confirmed { since, .. } => &mut since.alone,
            Self::Open | Self::GivenUp { .. } => return,
        };
        if !nucleus {
            alone.get_or_insert(now);
            return;
        }
        let alone = alone.take();
        // What lay in that time is no silence.
        let without =
            |at: Duration| at + alone.map_or(Duration::ZERO, |alone| now.saturating_sub(alone.max(at)));
        match self {
            Self::Trying {
                since, silent_since, ..
            } => {
                *silent_since = silent_since.map(without);
                if let Some(window) = since {
                    window.began = without(window.began);
                }
            }
            Self::Confirmed { since, .. } => since.silent = Some(since.silent.map_or(now, without)),
            Self::Open | Self::GivenUp { .. } => {}
        }
    }

    /// Until uptime `now` nobody has looked for so long, although somebody should have: that time counts for nothing.
    pub fn on_stall(&mut self, lost: Duration, now: Duration) {
        let later = |at: &mut Option<Duration>| *at = at.map(|at| (at + lost).min(now.max(at)));
        match self {
            Self::Open => {}
            Self::Trying {
                since,
                silent_since,
                alone,
                ..
            } => {
                later(silent_since);
                later(alone);
                if let Some(window) = since {
                    window.began = (window.began + lost).min(now.max(window.began));
                }
            }
            Self::Confirmed { since, .. } => {
                later(&mut since.silent);
                later(&mut since.alone);
                later(&mut since.confirmed);
            }
            Self::GivenUp { wait, .. } => {
                later(&mut wait.since);
                wait.from = wait.from.map(|from| from.checked_add(lost).unwrap_or(from));
            }
        }
    }

    /// How wide the lifelines of `plan` are drawn.
    pub fn scope(&self, plan: &PlanId, unresolved: bool) -> Scope {
        let lines = match self {
            Self::Trying {
                plan: known, lines, ..
            }
            | Self::Confirmed {
                plan: known, lines, ..
            } if known == plan => lines.redrawn(unresolved),
            _ => Lines::first(unresolved),
        };
        lines.scope
    }

    /// Whether the channel was seen to work behind `plan`.
    pub fn confirms(&self, plan: &PlanId) -> bool {
        matches!(self, Self::Confirmed { plan: known, .. } if known == plan)
    }

    /// Whether the channel was seen to work behind what is carried out, or behind what cut no less.
    pub const fn was_confirmed(&self) -> bool {
        matches!(self, Self::Confirmed { .. } | Self::Trying { late: true, .. })
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

#[cfg(test)]
#[path = "standing_tests.rs"]
mod tests;
