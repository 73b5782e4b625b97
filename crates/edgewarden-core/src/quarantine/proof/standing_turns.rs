//! What time does to a plan: it is confirmed, its lines are widened or pinned again, it is given up, put back, tried again.
//!
//! In: where confirm-or-roll-back stands, and a [`Look`]. Out: each [`Turn`].

use std::time::Duration;

use super::{Lines, Look, RolledBack, Since, Standing, Turn, Wait};
use crate::moment::Now;
use crate::quarantine::plan::{Cutting, PlanId, Scope};

/// Windows to wait for the channel after a release: the nucleus must notice its dead connection and make another.
pub(super) const AFTERMATH_WINDOWS: u32 = 4;
/// Windows of silence behind rules of ours, whatever plans and lines they had: one for each way to draw the lines and one
/// for changes in between.
pub(super) const SILENT_WINDOWS: u32 = 3;
/// Windows of silence that are forgiven while the nucleus' own connection lives.
const FORGIVEN_WINDOWS: u32 = 4;
/// Longest time until what silence had undone is tried again.
const LONGEST_PATIENCE: Duration = Duration::from_secs(3_600);

/// How long to wait until what silence has undone so many times in a row is tried again.
pub(super) fn patience(window: Duration, times: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(times.saturating_sub(1).min(16));
    let longest = LONGEST_PATIENCE.max(window);
    window.saturating_mul(doubled).min(longest)
}

/// How long the channel must be silent without the rules, of that so long in this run. What nobody has looked at for one window
/// acquits no rules, so it takes twice as long then, and they are tried.
pub(super) fn aftermath(window: Duration, here: Duration) -> Duration {
    let windows = if here >= window {
        AFTERMATH_WINDOWS
    } else {
        2 * AFTERMATH_WINDOWS
    };
    window.saturating_mul(windows)
}

impl Standing {
    /// At uptime `now` the cloud's end was seen to acknowledge what the nucleus had sent since: rules that let that through do
    /// not silence the channel. Believed for so long only: what acknowledges may be a proxy on this device, whose own
    /// connection they cut.
    pub fn on_acknowledged(&mut self, window: Duration, now: Duration) {
        let (silent, forgiven) = match self {
            Self::Trying {
                since: Some(_),
                silent_since: Some(silent),
                forgiven,
                ..
            } => (silent, forgiven),
            Self::Confirmed { since, .. } => match &mut since.silent {
                Some(silent) => (silent, &mut since.forgiven),
                None => return,
            },
            _ => return,
        };
        let sum = *forgiven + now.saturating_sub(*silent);
        if sum <= window.saturating_mul(FORGIVEN_WINDOWS) {
            (*forgiven, *silent) = (sum, now.max(*silent));
        }
    }

    /// Time passes.
    pub fn tick(&mut self, look: Look<'_>) -> Option<Turn> {
        match self {
            Self::Trying { .. } => self.judge(look),
            Self::Confirmed { .. } => self.look_after(look),
            Self::GivenUp { .. } => self.look_at_given_up(look),
            Self::Open => None,
        }
    }

    /// What was given up: put back after a while, or tried again.
    fn look_at_given_up(&mut self, look: Look<'_>) -> Option<Turn> {
        let Self::GivenUp {
            release,
            wait,
            cutting,
        } = self
        else {
            return None;
        };
        // Also while nobody wants it back: the time must be known.
        let (here, earlier) = wait.look(look.now)?;
        if look.wanted != Some(&release.plan) {
            return None;
        }
        let (wait, turn): (_, fn(PlanId) -> Turn) = if look.hold {
            (Duration::ZERO, Turn::TriedAgain)
        } else if release.proven {
            (patience(look.window, release.times), Turn::TriedAgain)
        } else {
            (aftermath(look.window, here), Turn::PutBack)
        };
        if here + earlier < wait {
            return None;
        }
        let acquitted = !release.proven && here >= look.window;
        let plan = release.plan.clone();
        *self = Self::trial(plan.clone(), !acquitted, release.times, cutting.take());
        Some(turn(plan))
    }

    /// What was confirmed: silent for a window it is widened; answered through wide lines for a while it is pinned again.
    fn look_after(&mut self, look: Look<'_>) -> Option<Turn> {
        let Self::Confirmed {
            plan,
            lines,
            since,
            times,
            cutting,
        } = self
        else {
            return None;
        };
        let lasts = |at: Duration| look.now.uptime.saturating_sub(at);
        let (plan, times) = (plan.clone(), *times);
        match since.silent {
            _ if since.alone.is_some() => None,
            Some(silent) if lines.scope == Scope::Pinned && !look.hold && lasts(silent) >= look.window => {
                *self = Self::late_trial(
                    plan.clone(),
                    Lines::WIDENED,
                    Some(silent),
                    times + 1,
                    cutting.take(),
                );
                Some(Turn::Widened(plan))
            }
            None if *lines == Lines::WIDENED && lasts(since.confirmed?) >= patience(look.window, times) => {
                *self = Self::late_trial(plan.clone(), Lines::PINNED, None, times, cutting.take());
                Some(Turn::Narrowed(plan))
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
            late,
            times,
            alone,
            cutting,
            ..
        } = self
        else {
            return None;
        };
        let (late, given_up) = (*late, *times);
        let answered = since.is_some_and(|since| since.answered);
        if answered && look.holds {
            let (plan, lines) = (plan.clone(), *lines);
            let pinned = lines.scope == Scope::Pinned;
            *self = Self::Confirmed {
                plan: plan.clone(),
                lines,
                since: Since {
                    confirmed: Some(look.now.uptime),
                    ..Since::default()
                },
                cutting: cutting.take(),
                times: if pinned { 0 } else { given_up.max(1) },
            };
            return Some(Turn::Confirmed(plan));
        }
        if !*spares_channel || look.hold || alone.is_some() {
            return None;
        }
        // Only rules that closed on a channel that worked may have cut it.
        let is_blamed = *channel_worked && !late;
        let Look { window, now, .. } = look;
        let silent_since = (*silent_since)?;
        let silent = now.uptime.saturating_sub(silent_since);
        // With these lines; none while the kernel does not hold them.
        let with_these = since.map_or(Duration::ZERO, |since| {
            now.uptime.saturating_sub(silent_since.max(since.began))
        });
        let plan = plan.clone();
        let is_wide = lines.scope == Scope::Wide;
        let too_long = silent >= window.saturating_mul(SILENT_WINDOWS);
        if is_blamed && (too_long || (with_these >= window && is_wide)) {
            let widens = cutting.as_ref().is_none_or(Cutting::has_wide_lines);
            let why = reason(silent, (*lines == Lines::WIDENED && widens).then_some(with_these));
            return Some(self.give_up(plan, why, given_up + 1, now));
        }
        if with_these < window || is_wide {
            return None;
        }
        (*lines, *since) = (Lines::WIDENED, None);
        if late {
            *times += 1;
        }
        Some(Turn::Widened(plan))
    }

    fn give_up(&mut self, plan: PlanId, why: String, times: u32, now: Now) -> Turn {
        let cutting = match self {
            Self::Trying { cutting, .. } => cutting.take(),
            _ => None,
        };
        *self = Self::GivenUp {
            release: RolledBack {
                plan: plan.clone(),
                at: now.wall,
                why: why.clone(),
                proven: false,
                times,
            },
            wait: Wait::default(),
            cutting,
        };
        Turn::GaveUp(plan, why)
    }
}

/// Why a plan is given up after so much silence, the last of it with wider lifelines if they were widened. All of it was
/// with them if the channel was heard through them before.
fn reason(silent: Duration, widened: Option<Duration>) -> String {
    let pinned = silent.saturating_sub(widened.unwrap_or_default()).as_secs();
    let wide = widened.map(|widened| widened.as_secs());
    let how_long = match wide {
        Some(wide) if pinned == 0 => format!("{wide} s behind the rules with wider lifelines"),
        Some(wide) => format!("{pinned} s behind the rules, and for another {wide} s with wider lifelines"),
        None => format!("{pinned} s behind the rules"),
    };
    format!("the control channel worked before and was silent for {how_long}")
}
