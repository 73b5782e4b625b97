//! Silence that proves little: it was made by somebody, nobody has looked, or it came long after the confirmation.

use super::*;

/// Ticks every second; the turns with their times.
pub(super) fn turns(standing: &mut Standing, seconds: std::ops::Range<u64>) -> Vec<(u64, Turn)> {
    let mut turns = Vec::new();
    for at in seconds {
        standing.on_loaded(false, s(at));
        turns.extend(tick(standing, true, at).map(|turn| (at, turn)));
    }
    turns
}

pub(super) fn confirmed() -> Standing {
    let mut standing = trying(true);
    standing.on_round_trip(s(100));
    assert_eq!(tick(&mut standing, true, 101), Some(Turn::Confirmed(id("a"))));
    standing
}

#[test]
fn whoever_silences_the_channel_again_and_again_opens_ever_longer_windows_and_never_for_good() {
    let mut standing = trying(true);
    let (mut at, mut open_since, mut opened) = (100, None, Vec::new());
    while opened.len() < 9 {
        at += 1;
        standing.on_loaded(false, s(at));
        // It is silent behind the rules, and comes back as soon as they are away.
        if standing.release().is_some() {
            standing.on_round_trip(s(at));
        }
        match tick(&mut standing, true, at) {
            Some(Turn::GaveUp(..)) => open_since = Some(at),
            Some(Turn::TriedAgain(_)) => opened.extend(open_since.take().map(|since| at - since)),
            _ => {}
        }
        if let Some(since) = open_since {
            assert!(at - since < 3_700, "open for good");
        }
    }
    let windows: Vec<u64> = opened.iter().map(|seconds| seconds / 60).collect();
    assert_eq!(windows, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
}

#[test]
fn what_is_tried_again_is_remembered_over_a_restart_and_forgotten_by_a_confirmation() {
    let mut standing = given_up();
    standing.on_round_trip(s(222));
    let again =
        |standing: &Standing| serde_json::from_value(serde_json::to_value(standing).unwrap()).unwrap();
    standing = again(&standing);
    standing.on_loaded(true, s(10));
    assert_eq!(turns(&mut standing, 11..71), [(70, Turn::TriedAgain(id("a")))]);
    standing = again(&standing);
    let told = turns(&mut standing, 71..200);
    assert!(matches!(told.last(), Some((_, Turn::GaveUp(..)))), "{told:?}");
    assert_eq!(standing.release().map(|release| release.times), Some(2));
    standing.on_round_trip(s(200));
    turns(&mut standing, 200..330);
    standing.on_round_trip(s(330));
    assert_eq!(tick(&mut standing, true, 330), Some(Turn::Confirmed(id("a"))));
    assert_eq!(standing.release(), None);
}

#[test]
fn time_in_which_nobody_looked_is_no_silence() {
    let mut standing = trying(true);
    assert_eq!(turns(&mut standing, 101..130), []);
    standing.on_stall(s(500), s(630));
    assert_eq!(turns(&mut standing, 630..659), []);
    assert_eq!(turns(&mut standing, 659..661), [(660, Turn::Widened(id("a")))]);
    let mut standing = given_up();
    standing.on_stall(s(500), s(730));
    assert_eq!(tick(&mut standing, true, 961), None);
    assert_eq!(tick(&mut standing, true, 962), Some(Turn::PutBack(id("a"))));
}

#[test]
fn silence_is_forgiven_while_the_nucleus_own_connection_lives_and_not_for_ever() {
    let mut standing = trying(true);
    let mut told = Vec::new();
    for at in 101..600 {
        standing.on_acknowledged(WINDOW, s(at));
        told.extend(turns(&mut standing, at..at + 1));
    }
    let told: Vec<u64> = told.into_iter().map(|(at, _)| at).collect();
    // Four windows, and then those that every silence has.
    assert_eq!(told, [400, 461]);
    let mut standing = trying(true);
    standing.on_acknowledged(WINDOW, s(150));
    assert_eq!(turns(&mut standing, 150..211), [(210, Turn::Widened(id("a")))]);
}

#[test]
fn a_silence_that_lies_behind_wide_lines_alone_is_told_so() {
    let mut standing = trying(true);
    let mut told = turns(&mut standing, 101..162);
    // The nucleus' own connection was answered through the wide lines once.
    standing.on_acknowledged(WINDOW, s(165));
    told.extend(turns(&mut standing, 162..300));
    let why =
        "the control channel worked before and was silent for 60 s behind the rules with wider lifelines";
    assert_eq!(
        told.last(),
        Some(&(225, Turn::GaveUp(id("a"), why.to_owned()))),
        "{told:?}"
    );
}

#[test]
fn a_late_silence_is_not_forgiven_for_ever_either() {
    let mut standing = confirmed();
    standing.on_silence(true, s(900));
    let mut told = Vec::new();
    for at in 901..2_000 {
        standing.on_silence(true, s(at));
        standing.on_acknowledged(WINDOW, s(at));
        told.extend(turns(&mut standing, at..at + 1));
    }
    // Four windows, and then the one that every silence has.
    assert_eq!(told, [(1_200, Turn::Widened(id("a")))]);
    // Each silence has its own.
    let mut standing = confirmed();
    for begun in [900, 1_300] {
        standing.on_silence(true, s(begun));
        for at in begun..begun + 240 {
            standing.on_acknowledged(WINDOW, s(at));
            assert_eq!(turns(&mut standing, at..at + 1), []);
        }
        standing.on_round_trip(s(begun + 240));
    }
}

#[test]
fn a_channel_that_dies_late_is_widened_and_pinned_again_and_never_given_up() {
    let mut standing = confirmed();
    assert_eq!(
        turns(&mut standing, 102..900),
        [],
        "control: nothing is told of it"
    );
    standing.on_silence(true, s(900));
    standing.on_silence(true, s(930));
    assert_eq!(turns(&mut standing, 930..961), [(960, Turn::Widened(id("a")))]);
    assert_eq!(standing.scope(&id("a"), false), Scope::Wide);
    assert_eq!(turns(&mut standing, 961..9_000), [], "not given up");
    standing.on_round_trip(s(9_000));
    assert_eq!(
        turns(&mut standing, 9_000..9_061),
        [
            (9_000, Turn::Confirmed(id("a"))),
            (9_060, Turn::Narrowed(id("a"))),
        ]
    );
    assert_eq!(standing.scope(&id("a"), false), Scope::Pinned);
    // As silent behind pinned lines as before: they are widened again, for longer.
    assert_eq!(
        turns(&mut standing, 9_061..9_122),
        [(9_121, Turn::Widened(id("a")))]
    );
    standing.on_loaded(true, s(9_122));
    standing.on_round_trip(s(9_122));
    assert_eq!(
        turns(&mut standing, 9_122..9_243),
        [
            (9_122, Turn::Confirmed(id("a"))),
            (9_242, Turn::Narrowed(id("a"))),
        ]
    );
}

#[test]
fn a_late_silence_counts_only_while_somebody_is_there_to_be_asked() {
    let mut standing = confirmed();
    standing.on_silence(true, s(900));
    standing.on_silence(false, s(950));
    assert_eq!(turns(&mut standing, 950..2_000), []);
    standing.on_silence(true, s(2_000));
    standing.on_round_trip(s(2_005));
    assert_eq!(turns(&mut standing, 2_005..4_000), []);
    // A nucleus that is away for a moment again and again, as while its connection is made anew, ends no silence.
    let mut standing = confirmed();
    let mut told = Vec::new();
    for at in 900..1_100 {
        standing.on_silence(at % 20 != 0, s(at));
        told.extend(turns(&mut standing, at..at + 1));
    }
    assert_eq!(told, [(964, Turn::Widened(id("a")))]);
}

#[test]
fn where_the_owner_holds_silence_opens_nothing() {
    let plan = id("a");
    let look = |at| Look {
        holds: true,
        wanted: Some(&plan),
        window: WINDOW,
        hold: true,
        now: now(at),
    };
    for mut standing in [trying(true), widened(), confirmed()] {
        standing.on_silence(true, s(300));
        let turns: Vec<Turn> = (300..9_000).filter_map(|at| standing.tick(look(at))).collect();
        assert_eq!(turns, []);
    }
    // What was given up before is put back.
    let mut standing = given_up();
    assert_eq!(standing.tick(look(223)), Some(Turn::TriedAgain(plan.clone())));
}

#[test]
fn while_nobody_is_there_to_be_asked_a_trial_is_neither_widened_nor_given_up() {
    let mut standing = trying(true);
    standing.on_silence(true, s(110));
    standing.on_silence(false, s(130));
    assert_eq!(turns(&mut standing, 131..2_000), []);
    assert_eq!(standing.coming(Some(&id("a")), WINDOW, now(2_000)), None);
    // Also for the plan after it, and for one that came meanwhile.
    let mut other = standing.clone();
    let plan = id("b");
    other.on_plan(carried(&plan), true);
    assert_eq!(turns(&mut other, 2_000..3_000), []);
    // It is back, and silent: what was silent before goes on.
    standing.on_silence(true, s(2_000));
    assert_eq!(
        turns(&mut standing, 2_000..2_031),
        [(2_030, Turn::Widened(id("a")))]
    );
    let told = turns(&mut standing, 2_031..2_092);
    assert!(matches!(told.as_slice(), [(_, Turn::GaveUp(..))]), "{told:?}");
}

#[test]
fn a_confirmed_plan_that_is_silent_vouches_for_nothing_over_a_restart() {
    let mut standing = confirmed();
    assert!(standing.remembered().vouches(), "control");
    standing.on_silence(true, s(900));
    let read = standing.remembered();
    assert!(!read.vouches() && read.was_confirmed(), "{read:?}");
    let plan = id("b");
    let mut standing = read;
    standing.on_plan(carried(&plan), false);
    let told = turns(&mut standing, 1_000..3_000);
    assert!(
        matches!(told.as_slice(), [(_, Turn::Widened(_))]),
        "widened and never given up: {told:?}"
    );
}
