//! What another plan, a restart or lines drawn anew do to what was confirmed, held or given up.

use super::silence::{confirmed, turns};
use super::*;

/// A plan that cuts what plan `a` does: another order was added, or one has ended.
fn like_a(plan: &PlanId) -> Carried<'_> {
    Carried {
        cutting: cutting_of(&id("a")),
        ..carried(plan)
    }
}

fn restarted(standing: &Standing) -> Standing {
    serde_json::from_value(serde_json::to_value(standing).unwrap()).unwrap()
}

fn gave_up(turns: &[(u64, Turn)]) -> bool {
    turns.iter().any(|(_, turn)| matches!(turn, Turn::GaveUp(..)))
}

/// Confirmed as plan `a`, silent since second 900, widened at 960.
fn widened_late() -> Standing {
    let mut standing = confirmed();
    standing.on_plan(carried(&id("a")), true);
    standing.on_silence(true, s(900));
    assert_eq!(turns(&mut standing, 900..961), [(960, Turn::Widened(id("a")))]);
    standing
}

#[test]
fn what_was_confirmed_is_not_given_up_over_restarts() {
    let mut standing = widened_late();
    standing.on_loaded(true, s(961));
    // An older agent does not give up what it takes for confirmed.
    let written = serde_json::to_value(&standing).unwrap();
    assert_eq!(written["trial"], json!(null), "{written}");
    assert_eq!(written["confirmed"]["plan"], "a", "{written}");
    standing = restarted(&standing);
    standing.on_plan(carried(&id("a")), false);
    assert_eq!(standing.scope(&id("a"), false), Scope::Wide, "and stays wide");
    assert_eq!(turns(&mut standing, 20..9_000), []);
    standing.on_round_trip(s(9_000));
    assert_eq!(
        turns(&mut standing, 9_000..9_200),
        [
            (9_000, Turn::Confirmed(id("a"))),
            (9_060, Turn::Narrowed(id("a"))),
            (9_121, Turn::Widened(id("a"))),
        ]
    );
}

#[test]
fn another_order_that_cuts_no_more_does_not_make_it_an_ordinary_trial() {
    let other = id("b");
    for mut standing in [confirmed(), widened_late(), restarted(&widened_late())] {
        standing.on_plan(carried(&id("a")), false);
        standing.on_silence(true, s(1_000));
        let mut told = Vec::new();
        // Orders come and end all the time.
        for at in 1_001..3_000 {
            let plan = if at % 40 < 20 { &other } else { &id("a") };
            standing.on_plan(like_a(plan), true);
            standing.on_loaded(at % 20 == 0, s(at));
            told.extend(turns(&mut standing, at..at + 1));
        }
        assert!(!gave_up(&told), "{told:?}");
        assert_eq!(
            standing.scope(&id("a"), false),
            Scope::Wide,
            "not locked out either"
        );
    }
}

#[test]
fn another_order_that_cuts_more_is_to_blame_only_if_the_channel_was_not_silent_before() {
    let other = id("b");
    let mut standing = confirmed();
    standing.on_plan(carried(&id("a")), true);
    standing.on_plan(carried(&other), true);
    standing.on_loaded(true, s(1_000));
    assert!(gave_up(&turns(&mut standing, 1_000..1_200)), "control");
    let mut standing = widened_late();
    standing.on_plan(carried(&other), true);
    standing.on_loaded(true, s(1_000));
    assert!(!gave_up(&turns(&mut standing, 1_000..9_000)));
    assert_eq!(standing.scope(&other, false), Scope::Wide);
}

#[test]
fn lines_that_are_drawn_anew_do_not_make_it_an_ordinary_trial() {
    let plan = id("a");
    let mut standing = confirmed();
    let lost = Carried {
        unresolved: true,
        ..carried(&plan)
    };
    standing.on_silence(true, s(900));
    standing.on_plan(lost, false);
    assert!(!gave_up(&turns(&mut standing, 900..9_000)));
    standing.on_plan(carried(&plan), false);
    standing.on_loaded(true, s(9_000));
    assert_eq!(turns(&mut standing, 9_000..9_100), [(9_060, Turn::Widened(plan))]);
}

#[test]
fn an_order_that_cuts_no_less_is_no_other_chance_for_what_was_given_up() {
    let mut standing = given_up();
    standing.on_plan(carried(&id("a")), false);
    standing.on_plan(like_a(&id("b")), false);
    assert!(standing.gave_up(&id("b")).is_some());
    standing.on_plan(carried(&id("c")), false);
    assert!(
        standing.release().is_none(),
        "control: one that cuts something else is"
    );
}

#[test]
fn how_long_something_is_given_up_is_counted_over_restarts() {
    let plan = id("a");
    // Given up at 221, away at 222; the agent is started anew again and again.
    let put_back = |standing: &mut Standing, every: u64| {
        (223..1_000).find_map(|at| {
            if at % every == 0 {
                *standing = restarted(standing);
            }
            standing.on_loaded(false, s(at));
            tick(standing, true, at).map(|turn| (at, turn))
        })
    };
    let mut standing = given_up();
    // Four windows, of which the last run has looked for one.
    assert_eq!(
        put_back(&mut standing, 70),
        Some((480, Turn::PutBack(plan.clone())))
    );
    standing.on_loaded(true, s(480));
    assert!(!gave_up(&turns(&mut standing, 480..9_000)), "held");
    // Where no run looks for so long, nothing is known of the rules, and they are tried after eight.
    let mut standing = given_up();
    assert_eq!(
        put_back(&mut standing, 20),
        Some((702, Turn::PutBack(plan.clone())))
    );
    standing.on_loaded(true, s(702));
    assert!(gave_up(&turns(&mut standing, 702..9_000)), "not locked out");
    // What the channel came back without is tried again in its time.
    let mut standing = given_up();
    standing.on_round_trip(s(230));
    assert_eq!(tick(&mut standing, true, 231), None);
    standing = restarted(&standing);
    standing.on_loaded(true, s(280));
    assert_eq!(tick(&mut standing, true, 289), None);
    let coming = standing.coming(Some(&plan), WINDOW, now(280)).unwrap();
    assert_eq!((coming.turn, coming.at), (ComingTurn::TryAgain, now(290).wall));
    assert_eq!(tick(&mut standing, true, 290), Some(Turn::TriedAgain(plan)));
}

#[test]
fn a_stricter_posture_is_tried_although_a_smaller_one_was_given_up() {
    let cutting = |posture: &str| serde_json::from_value::<Cutting>(json!({"posture": posture})).unwrap();
    let (restrict, isolate) = (cutting("restrict"), cutting("isolate"));
    let mut standing = Standing::Open;
    let smaller = id("a");
    standing.on_plan(
        Carried {
            cutting: &restrict,
            ..carried(&smaller)
        },
        true,
    );
    assert!(gave_up(&turns(&mut standing, 100..300)), "control");
    assert!(standing.gave_up(&smaller).is_some(), "control");
    let larger = id("b");
    standing.on_plan(
        Carried {
            cutting: &isolate,
            ..carried(&larger)
        },
        false,
    );
    assert_eq!(standing.gave_up(&larger), None);
    // It is not given up sooner than any other, nor held for ever.
    let told = turns(&mut standing, 300..424);
    assert!(gave_up(&told), "{told:?}");
    assert_eq!(standing.release().map(|release| release.times), Some(2));
}
