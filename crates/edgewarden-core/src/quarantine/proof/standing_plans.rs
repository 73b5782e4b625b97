//! What another plan does to the machine: it is tried, or goes on where the one before it stood.
//!
//! In: where confirm-or-roll-back stands, the plan that is to be carried out ([`Carried`]). Out: where it stands then. A plan that
//! cuts no more than one that was confirmed is not to blame for a silence, and one that cuts no less than one that was given up
//! is no other chance: else whoever can have an order added or ended would open the device in an outage. One of a stricter posture
//! is: an isolation must not stay undone because a restriction was given up.

use std::time::Duration;

use super::{Carried, Lines, Standing};
use crate::quarantine::plan::{Cutting, PlanId};

impl Standing {
    /// The plan that is to be carried out. `channel_works`: the channel was seen to work just now, or a moment ago.
    pub fn on_plan(&mut self, carried: Carried<'_>, channel_works: bool) {
        let Carried {
            plan,
            cuts,
            spares_channel,
            unresolved,
            cutting,
        } = carried;
        match self {
            // What was given up stays away also while nothing wants it.
            Self::GivenUp { .. } if !cuts => {}
            Self::GivenUp {
                release,
                cutting: known,
                ..
            } if release.plan == *plan
                || known
                    .as_ref()
                    .is_some_and(|known| known.is_within(cutting) && !cutting.is_stricter_than(known)) =>
            {
                known.get_or_insert_with(|| cutting.clone());
                if release.plan != *plan {
                    release.plan = plan.clone();
                }
            }
            _ if !cuts => *self = Self::Open,
            Self::Confirmed {
                plan: known,
                lines,
                cutting: of,
                ..
            } if known == plan && *lines == lines.redrawn(unresolved) => {
                of.get_or_insert_with(|| cutting.clone());
            }
            Self::Trying {
                plan: known,
                lines,
                since,
                channel_worked,
                spares_channel: spares,
                cutting: of,
                ..
            } if known == plan => {
                of.get_or_insert_with(|| cutting.clone());
                *spares = spares_channel;
                let drawn = lines.redrawn(unresolved);
                if drawn != *lines {
                    *channel_worked |= since.is_some_and(|since| since.answered);
                    (*lines, *since) = (drawn, None);
                }
            }
            _ => self.on_another_plan(carried, channel_works),
        }
    }

    /// Another plan than the one before, or the same with lines to be drawn anew.
    fn on_another_plan(&mut self, carried: Carried<'_>, channel_works: bool) {
        if self.goes_on_as_confirmed(carried) || self.goes_on_unblamed(carried, channel_works) {
            return;
        }
        *self = Self::Trying {
            plan: carried.plan.clone(),
            lines: Lines::first(carried.unresolved),
            since: None,
            silent_since: self.silent_since(),
            channel_worked: (channel_works && !self.is_deaf()) || self.vouches(),
            spares_channel: carried.spares_channel,
            late: false,
            times: self.undone(),
            forgiven: Duration::ZERO,
            alone: self.alone(),
            cutting: Some(carried.cutting.clone()),
        };
    }

    /// The channel was seen to work behind rules that cut no less.
    fn goes_on_as_confirmed(&mut self, carried: Carried<'_>) -> bool {
        let Self::Confirmed {
            plan,
            lines,
            since,
            times,
            cutting,
        } = self
        else {
            return false;
        };
        let is_same = plan == carried.plan;
        if !(is_same || is_within(carried.cutting, cutting.as_ref())) {
            return false;
        }
        *self = Self::Trying {
            plan: carried.plan.clone(),
            lines: lines.redrawn(carried.unresolved),
            since: None,
            silent_since: since.silent,
            channel_worked: true,
            spares_channel: carried.spares_channel,
            late: true,
            times: *times,
            forgiven: since.forgiven,
            alone: since.alone,
            cutting: Some(carried.cutting.clone()),
        };
        true
    }

    /// What is not given up for its silence goes on with its lines and its time: plans that change all the time must not keep
    /// them from being widened.
    fn goes_on_unblamed(&mut self, carried: Carried<'_>, channel_works: bool) -> bool {
        let is_deaf = self.is_deaf();
        let Self::Trying {
            plan,
            lines,
            since,
            channel_worked,
            spares_channel: spares @ true,
            late,
            cutting,
            ..
        } = self
        else {
            return false;
        };
        let stays_late = *late && is_within(carried.cutting, cutting.as_ref());
        let is_unblamed = stays_late || (*late && is_deaf) || !(*late || *channel_worked || channel_works);
        if !is_unblamed {
            return false;
        }
        let drawn = lines.redrawn(carried.unresolved);
        if drawn == *lines {
            // What was answered went through the rules of before.
            *since = since.map(|since| super::Window {
                answered: false,
                ..since
            });
        } else {
            *since = None;
        }
        *plan = carried.plan.clone();
        *lines = drawn;
        *channel_worked = stays_late;
        *late = stays_late;
        *spares = carried.spares_channel;
        *cutting = Some(carried.cutting.clone());
        true
    }

    /// The orders or the isolation settings changed: what was given up deserves another try. That the channel worked
    /// before is not forgotten.
    pub fn on_another_chance(&mut self) {
        if let Self::GivenUp { release, cutting, .. } = self {
            *self = Self::trial(release.plan.clone(), true, 0, cutting.take());
        }
    }

    /// To be tried, from the beginning.
    pub(in super::super) const fn trial(
        plan: PlanId,
        channel_worked: bool,
        times: u32,
        cutting: Option<Cutting>,
    ) -> Self {
        Self::Trying {
            plan,
            lines: Lines::PINNED,
            since: None,
            silent_since: None,
            channel_worked,
            spares_channel: true,
            late: false,
            times,
            forgiven: Duration::ZERO,
            alone: None,
            cutting,
        }
    }

    /// A trial of what was confirmed.
    pub(in super::super) const fn late_trial(
        plan: PlanId,
        lines: Lines,
        silent_since: Option<Duration>,
        times: u32,
        cutting: Option<Cutting>,
    ) -> Self {
        Self::Trying {
            plan,
            lines,
            since: None,
            silent_since,
            channel_worked: true,
            spares_channel: true,
            late: true,
            times,
            forgiven: Duration::ZERO,
            alone: None,
            cutting,
        }
    }

    /// Whether what went before proves that the channel worked until rules of ours closed.
    pub fn vouches(&self) -> bool {
        match self {
            Self::Open => false,
            // It worked behind rules, and is silent later.
            Self::Trying {
                channel_worked, late, ..
            } => *channel_worked && !late,
            Self::Confirmed { since, .. } => !since.is_silent(),
            Self::GivenUp { .. } => true,
        }
    }

    /// Uptime since which nobody is there to be asked, as far as it is known.
    const fn alone(&self) -> Option<Duration> {
        match self {
            Self::Trying { alone, .. } => *alone,
            Self::Confirmed { since, .. } => since.alone,
            Self::Open | Self::GivenUp { .. } => None,
        }
    }

    /// Whether a channel that was confirmed has been silent for a window at least: another plan is not to blame for that.
    fn is_deaf(&self) -> bool {
        matches!(
            self,
            Self::Trying { late: true, lines, since, .. }
                if *lines == Lines::WIDENED && !since.is_some_and(|since| since.answered)
        )
    }

    /// How often in a row silence has undone what was tried.
    const fn undone(&self) -> u32 {
        match self {
            Self::Trying {
                late: false, times, ..
            } => *times,
            Self::GivenUp { release, .. } => release.times,
            _ => 0,
        }
    }

    const fn silent_since(&self) -> Option<Duration> {
        match self {
            // Silence behind a plan that does not spare the channel is meant.
            Self::Trying {
                silent_since,
                spares_channel: true,
                channel_worked: true,
                late: false,
                ..
            } => *silent_since,
            _ => None,
        }
    }
}

/// What is not known is not compared.
fn is_within(cutting: &Cutting, other: Option<&Cutting>) -> bool {
    other.is_some_and(|other| cutting.is_within(other))
}
