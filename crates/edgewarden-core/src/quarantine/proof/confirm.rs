//! Confirm or roll back: isolation is provisional until the control channel has worked through the closed firewall.
//!
//! In: what was applied and when, the newest shadow round trip, `now`. Out: a [`Verdict`], and after a release an
//! [`Aftermath`].
//! Invariants: without a round trip a plan never becomes confirmed; a plan that was applied while the control channel
//! was already broken is never rolled back for that (the isolation did not break it); once confirmed, nobody asks again.

use std::time::Duration;

use crate::quarantine::plan::Scope;

/// One try to enforce a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// How exactly the control channel's lifeline was drawn.
    pub scope: Scope,
    /// Whether that is wide only for want of any known address.
    pub unresolved: bool,
    /// Uptime at which the kernel had the rules.
    pub applied: Duration,
    /// Whether the control channel worked right before.
    pub channel_worked: bool,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing yet.
    Wait,
    /// The control channel works through the rules: they stay.
    Confirmed,
    /// Try again with wider lifelines.
    Widen,
    /// Release: the owner's only way in is worth more than the isolation.
    RollBack,
}

/// Judges an attempt. `round_trip` is the uptime at which the newest answered shadow request was **sent**.
pub fn judge(attempt: &Attempt, round_trip: Option<Duration>, window: Duration, now: Duration) -> Verdict {
    if round_trip.is_some_and(|sent| sent >= attempt.applied) {
        return Verdict::Confirmed;
    }
    if !attempt.channel_worked || now.saturating_sub(attempt.applied) < window {
        return Verdict::Wait;
    }
    match attempt.scope {
        Scope::Pinned => Verdict::Widen,
        Scope::Wide => Verdict::RollBack,
    }
}

/// What a release after a silent control channel shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aftermath {
    /// Nothing yet.
    Wait,
    /// The channel came back without the rules: they had cut it, and stay away.
    RulesWereIt,
    /// It is as silent without the rules: they had not cut it. An outage, or an attacker who causes one, must not open
    /// the device.
    SilentAnyway,
}

/// Windows to wait for the channel after a release: the nucleus must notice its dead connection and make another.
const AFTERMATH_WINDOWS: u32 = 4;

/// Judges a release that was made at uptime `released`; the other arguments are those of [`judge`].
pub fn aftermath(
    released: Duration,
    round_trip: Option<Duration>,
    window: Duration,
    now: Duration,
) -> Aftermath {
    if round_trip.is_some_and(|sent| sent >= released) {
        Aftermath::RulesWereIt
    } else if now.saturating_sub(released) < window.saturating_mul(AFTERMATH_WINDOWS) {
        Aftermath::Wait
    } else {
        Aftermath::SilentAnyway
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_that_stays_silent_without_the_rules_acquits_them() {
        let after = |round_trip, now| aftermath(s(100), round_trip, s(60), s(now));
        assert_eq!(after(Some(s(99)), 339), Aftermath::Wait);
        assert_eq!(after(Some(s(100)), 339), Aftermath::RulesWereIt);
        assert_eq!(after(Some(s(99)), 340), Aftermath::SilentAnyway);
    }

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn attempt(scope: Scope, channel_worked: bool) -> Attempt {
        Attempt {
            scope,
            unresolved: false,
            applied: s(100),
            channel_worked,
        }
    }

    #[test]
    fn only_a_round_trip_sent_after_the_rules_confirms() {
        let attempt = attempt(Scope::Pinned, true);
        assert_eq!(judge(&attempt, Some(s(99)), s(60), s(110)), Verdict::Wait);
        assert_eq!(judge(&attempt, Some(s(101)), s(60), s(110)), Verdict::Confirmed);
        assert_eq!(judge(&attempt, Some(s(100)), s(60), s(9999)), Verdict::Confirmed);
    }

    #[test]
    fn a_channel_that_we_broke_leads_to_wider_lifelines_and_then_release() {
        assert_eq!(
            judge(&attempt(Scope::Pinned, true), None, s(60), s(159)),
            Verdict::Wait
        );
        assert_eq!(
            judge(&attempt(Scope::Pinned, true), None, s(60), s(160)),
            Verdict::Widen
        );
        assert_eq!(
            judge(&attempt(Scope::Wide, true), None, s(60), s(160)),
            Verdict::RollBack
        );
    }

    #[test]
    fn a_channel_that_was_broken_before_never_releases() {
        assert_eq!(
            judge(&attempt(Scope::Wide, false), None, s(60), s(99_999)),
            Verdict::Wait
        );
    }
}
