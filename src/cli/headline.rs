//! The first lines of the status page: what the kernel does, how fresh the proof is, how the control channel is doing at this
//! moment, and what comes next. Pure.
//!
//! Each sentence says what was observed: that a silent channel was cut by our rules is said only where it came back without
//! them.

use jiff::{SignedDuration, Timestamp};

use super::text::time;
use crate::control::status::CloudStatus;
use crate::quarantine::orders::order::Posture;
use crate::quarantine::proof::standing::{Coming, ComingTurn, RolledBack};
use crate::quarantine::proof::state::{Phase, State};

/// What the kernel does.
pub(super) fn headline(state: &State, channel: Option<&CloudStatus>, now: Timestamp) -> String {
    let wanted = state.wanted;
    match state.phase {
        Phase::Starting => "starting".to_owned(),
        Phase::Released => "normal: nothing is cut".to_owned(),
        Phase::Provisional => format!(
            "{}: {}; not confirmed: the control channel has not answered behind these rules",
            verb(state.posture),
            proven(state, now)
        ),
        Phase::Enforced => {
            let channel = match channel.map(|channel| channel.channel_works) {
                None => "the control channel has worked behind the rules",
                Some(true) => "the control channel works behind the rules",
                Some(false) => "the control channel worked behind the rules and does NOT work now",
            };
            format!("{}: {}; {channel}", verb(state.posture), proven(state, now))
        }
        Phase::Failed => match state.posture {
            Some(posture) if posture == wanted => {
                format!("FAILED: {posture} is proven as it was before, not as it is wanted")
            }
            Some(posture) => format!("FAILED: {wanted} is wanted, {posture} is proven"),
            None => format!("FAILED: {wanted} is wanted, what the kernel holds is not known"),
        },
        Phase::RolledBack => format!("ROLLED BACK: {wanted} is ordered and NOT carried out, nothing is cut"),
        Phase::Observed => format!("observe only: {wanted} is wanted, nothing is cut"),
    }
}

/// How fresh the proof is.
fn proven(state: &State, now: Timestamp) -> String {
    state.verified_at.map_or_else(
        || "proven".to_owned(),
        |at| format!("proven {} ago", age(at, now)),
    )
}

/// Since when, and how long that is.
pub(super) fn since(at: Option<Timestamp>, now: Timestamp) -> String {
    at.map_or_else(
        || time(None),
        |at| format!("{}, for {}", time(Some(at)), age(at, now)),
    )
}

/// Why a plan was given up, and what is known of it since.
pub(super) fn because(rolled_back: &RolledBack) -> String {
    let RolledBack { at, why, proven, .. } = rolled_back;
    let known = if *proven {
        "it came back without the rules"
    } else {
        "whether the rules had cut it is not known"
    };
    format!("{why} (given up at {}); {known}", time(Some(*at)))
}

/// What comes next without anybody's doing.
pub(super) fn next(state: &State) -> Option<String> {
    if let Some(Coming { turn, at }) = &state.coming {
        let what = match turn {
            ComingTurn::TryAgain => return Some(format!("at {} the rules are tried again", time(Some(*at)))),
            ComingTurn::Widen => "the lifelines are widened",
            ComingTurn::GiveUp => {
                "the rules are taken away for four windows, to see whether they cut the channel"
            }
            ComingTurn::PutBack => "the rules are put back",
        };
        return Some(format!(
            "at {} {what}, unless the control channel answers before",
            time(Some(*at))
        ));
    }
    match state.phase {
        Phase::Provisional => {
            Some("it stays closed, also while the control channel does not answer".to_owned())
        }
        Phase::RolledBack => {
            Some("it stays open until the rules are tried again, or another order comes".to_owned())
        }
        _ => None,
    }
}

/// How the control channel is doing at this moment.
pub(super) fn channel(cloud: &CloudStatus, now: Timestamp) -> String {
    let works = if cloud.channel_works {
        "works"
    } else {
        "does NOT work"
    };
    match cloud.last_round_trip {
        None => format!("{works}, no answer of the shadow service yet"),
        Some(at) => format!("{works}, last answer {} ago ({})", age(at, now), time(Some(at))),
    }
}

fn verb(posture: Option<Posture>) -> &'static str {
    match posture.unwrap_or_default() {
        Posture::Normal => "normal",
        Posture::Restrict => "RESTRICTED",
        Posture::Isolate => "ISOLATED",
    }
}

/// How long ago, in the two largest units; a clock that was set back counts as this moment.
fn age(at: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(at).max(SignedDuration::ZERO).as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_told_in_its_two_largest_units() {
        let now: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
        let ago = |seconds: i64| age(now - SignedDuration::from_secs(seconds), now);
        assert_eq!(ago(-5), "0 s");
        assert_eq!(ago(59), "59 s");
        assert_eq!(ago(61), "1 min 1 s");
        assert_eq!(ago(7_260), "2 h 1 min");
        assert_eq!(ago(90_000), "1 d 1 h");
    }
}
