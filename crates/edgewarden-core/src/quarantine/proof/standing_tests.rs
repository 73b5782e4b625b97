//! The transitions one by one.

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde_json::json;

use super::*;

#[path = "standing_plans_tests.rs"]
mod plans;
#[path = "standing_random_tests.rs"]
mod random;
#[path = "standing_silence_tests.rs"]
mod silence;

const WINDOW: Duration = Duration::from_secs(60);

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn now(uptime: u64) -> Now {
    Now {
        wall: Timestamp::from_second(1_800_000_000).unwrap() + s(uptime),
        uptime: s(uptime),
    }
}

fn id(name: &str) -> PlanId {
    serde_json::from_value(json!(name)).unwrap()
}

/// Every plan cuts something of its own.
fn carried(plan: &PlanId) -> Carried<'_> {
    Carried {
        plan,
        cuts: true,
        spares_channel: true,
        unresolved: false,
        cutting: cutting_of(plan),
    }
}

fn cutting_of(plan: &PlanId) -> &'static Cutting {
    static KNOWN: Mutex<BTreeMap<String, &Cutting>> = Mutex::new(BTreeMap::new());
    let name = plan.to_string();
    let new = |name: &String| {
        let cutting = json!({"posture": "isolate", "cuts": [crc32fast::hash(name.as_bytes())]});
        &*Box::leak(Box::new(serde_json::from_value(cutting).unwrap()))
    };
    KNOWN.lock().unwrap().entry(name).or_insert_with_key(new)
}

/// A look at uptime `at`; the plan that it is about is wanted.
fn tick(standing: &mut Standing, holds: bool, at: u64) -> Option<Turn> {
    let plan = match standing {
        Standing::Open => None,
        Standing::Trying { plan, .. } | Standing::Confirmed { plan, .. } => Some(plan.clone()),
        Standing::GivenUp { release, .. } => Some(release.plan.clone()),
    };
    standing.tick(Look {
        holds,
        wanted: plan.as_ref(),
        window: WINDOW,
        hold: false,
        now: now(at),
    })
}

/// Plan `a`, closed at uptime 100, after a channel that worked or not.
fn trying(channel_worked: bool) -> Standing {
    let mut standing = Standing::Open;
    standing.on_plan(carried(&id("a")), channel_worked);
    standing.on_loaded(true, s(100));
    standing
}

fn widened() -> Standing {
    let mut standing = trying(true);
    assert_eq!(tick(&mut standing, true, 160), Some(Turn::Widened(id("a"))));
    standing.on_loaded(true, s(161));
    standing
}

fn given_up() -> Standing {
    let mut standing = widened();
    let turn = tick(&mut standing, true, 221);
    assert!(matches!(turn, Some(Turn::GaveUp(..))), "{turn:?}");
    standing.on_loaded(true, s(222));
    standing
}

#[test]
fn only_a_round_trip_sent_after_the_rules_confirms() {
    let mut standing = trying(true);
    standing.on_round_trip(s(99));
    assert_eq!(tick(&mut standing, true, 110), None);
    standing.on_round_trip(s(100));
    assert_eq!(
        tick(&mut standing, false, 110),
        None,
        "the kernel is not proven to hold it"
    );
    assert_eq!(tick(&mut standing, true, 110), Some(Turn::Confirmed(id("a"))));
    assert!(standing.confirms(&id("a")) && !standing.confirms(&id("b")));
    standing.on_loaded(true, s(120));
    assert_eq!(
        tick(&mut standing, true, 99_999),
        None,
        "once confirmed, nobody asks again"
    );
}

#[test]
fn a_load_makes_what_went_before_prove_nothing() {
    let mut standing = trying(true);
    standing.on_round_trip(s(101));
    standing.on_loaded(true, s(105));
    assert_eq!(tick(&mut standing, true, 106), None);
    standing.on_round_trip(s(104));
    assert_eq!(tick(&mut standing, true, 107), None);
    // It proves that the channel is not silent all the same.
    assert_eq!(tick(&mut standing, true, 163), None);
    assert_eq!(tick(&mut standing, true, 164), Some(Turn::Widened(id("a"))));
}

#[test]
fn a_channel_that_we_broke_leads_to_wider_lifelines_and_then_release() {
    let mut standing = trying(true);
    assert_eq!(standing.scope(&id("a"), false), Scope::Pinned);
    assert_eq!(tick(&mut standing, true, 159), None);
    assert_eq!(tick(&mut standing, true, 160), Some(Turn::Widened(id("a"))));
    assert_eq!(standing.scope(&id("a"), false), Scope::Wide);
    assert_eq!(
        standing.scope(&id("b"), false),
        Scope::Pinned,
        "another plan begins pinned"
    );
    standing.on_loaded(true, s(161));
    assert_eq!(tick(&mut standing, true, 220), None);
    let turn = tick(&mut standing, true, 221);
    assert!(matches!(turn, Some(Turn::GaveUp(..))), "{turn:?}");
    assert_eq!(
        standing.gave_up(&id("a")).map(|release| release.proven),
        Some(false)
    );
    assert_eq!(standing.gave_up(&id("b")), None);
}

#[test]
fn wider_lifelines_that_the_kernel_refuses_do_not_lock_the_owner_out() {
    let mut standing = trying(true);
    assert!(tick(&mut standing, true, 160).is_some());
    assert_eq!(tick(&mut standing, false, 279), None);
    assert!(matches!(tick(&mut standing, false, 280), Some(Turn::GaveUp(..))));
}

#[test]
fn rules_that_cannot_be_taken_away_acquit_and_convict_nobody() {
    let mut standing = widened();
    assert!(tick(&mut standing, true, 221).is_some());
    standing.on_round_trip(s(500));
    assert_eq!(
        standing.gave_up(&id("a")).map(|release| release.proven),
        Some(false)
    );
    assert_eq!(
        tick(&mut standing, false, 99_999),
        None,
        "nobody knows how silent it is without them"
    );
}

#[test]
fn rules_that_could_never_be_proven_do_not_lock_the_owner_out() {
    let mut standing = Standing::Open;
    standing.on_plan(carried(&id("a")), true);
    standing.on_closed(s(100));
    assert_eq!(tick(&mut standing, false, 279), None);
    assert!(matches!(tick(&mut standing, false, 280), Some(Turn::GaveUp(..))));
}

#[test]
fn a_channel_first_seen_to_work_before_a_late_load_is_one_that_worked() {
    let mut standing = Standing::Open;
    standing.on_plan(carried(&id("a")), false);
    standing.on_round_trip(s(90));
    standing.on_loaded(true, s(100));
    assert_eq!(tick(&mut standing, true, 160), Some(Turn::Widened(id("a"))));
}

#[test]
fn a_plan_that_cuts_the_channel_on_purpose_does_not_make_forgotten_that_it_worked() {
    let (cutting, sparing) = (id("a"), id("b"));
    let mut standing = Standing::Open;
    let on_purpose = Carried {
        spares_channel: false,
        ..carried(&cutting)
    };
    standing.on_plan(on_purpose, true);
    standing.on_loaded(true, s(100));
    assert_eq!(tick(&mut standing, true, 9_999), None);
    standing.on_plan(carried(&sparing), false);
    standing.on_loaded(true, s(10_000));
    assert_eq!(
        tick(&mut standing, true, 10_059),
        None,
        "what was meant does not count"
    );
    assert_eq!(tick(&mut standing, true, 10_060), Some(Turn::Widened(sparing)));
}

#[test]
fn what_nobody_wants_is_not_put_back() {
    let mut standing = given_up();
    let other = id("b");
    let look = |wanted| Look {
        holds: true,
        wanted,
        window: WINDOW,
        hold: false,
        now: now(99_999),
    };
    assert_eq!(standing.tick(look(None)), None);
    assert_eq!(standing.tick(look(Some(&other))), None);
    assert!(standing.tick(look(Some(&id("a")))).is_some());
}

#[test]
fn a_channel_that_was_broken_before_is_widened_and_never_releases() {
    let mut standing = trying(false);
    assert_eq!(tick(&mut standing, true, 159), None);
    assert_eq!(tick(&mut standing, true, 160), Some(Turn::Widened(id("a"))));
    standing.on_loaded(true, s(161));
    assert_eq!(tick(&mut standing, true, 99_999), None);
    assert_eq!(standing.scope(&id("a"), false), Scope::Wide);
}

#[test]
fn a_channel_that_stays_silent_without_the_rules_acquits_them() {
    let mut standing = given_up();
    // What was answered before the rules were away went through them.
    standing.on_round_trip(s(221));
    assert_eq!(tick(&mut standing, true, 461), None);
    assert_eq!(tick(&mut standing, true, 462), Some(Turn::PutBack(id("a"))));
    standing.on_plan(carried(&id("a")), false);
    standing.on_loaded(true, s(463));
    assert_eq!(tick(&mut standing, true, 522), None);
    assert_eq!(standing.scope(&id("a"), false), Scope::Pinned);
    assert_eq!(tick(&mut standing, true, 523), Some(Turn::Widened(id("a"))));
    standing.on_loaded(true, s(524));
    assert_eq!(tick(&mut standing, true, 99_999), None, "held");
}

#[test]
fn a_channel_that_comes_back_without_the_rules_convicts_them() {
    let mut standing = given_up();
    standing.on_round_trip(s(222));
    assert_eq!(
        standing.gave_up(&id("a")).map(|release| release.proven),
        Some(true)
    );
    standing.on_plan(carried(&id("a")), true);
    assert!(standing.gave_up(&id("a")).is_some(), "it stays away");
    assert_eq!(tick(&mut standing, true, 281), None);
    assert_eq!(tick(&mut standing, true, 282), Some(Turn::TriedAgain(id("a"))));
}

#[test]
fn another_plan_or_another_chance_is_tried_and_remembers_that_the_channel_worked() {
    for change in [
        |standing: &mut Standing| standing.on_plan(carried(&id("b")), false),
        |standing: &mut Standing| {
            standing.on_another_chance();
            standing.on_plan(carried(&id("a")), false);
        },
    ] {
        for mut standing in [trying(true), widened(), given_up()] {
            change(&mut standing);
            standing.on_loaded(true, s(300));
            let mut turns = (300..900).filter_map(|at| tick(&mut standing, true, at));
            assert!(turns.any(|turn| matches!(turn, Turn::GaveUp(..))));
        }
    }
}

#[test]
fn plans_that_change_all_the_time_do_not_lock_the_owner_out() {
    let mut standing = trying(true);
    for at in 101..281 {
        standing.on_plan(carried(&id(if at % 100 < 50 { "a" } else { "b" })), false);
        standing.on_loaded(at % 50 == 0, s(at));
        if let Some(Turn::GaveUp(..)) = tick(&mut standing, true, at) {
            return;
        }
    }
    panic!("{standing:?}");
}

#[test]
fn an_address_that_becomes_known_is_tried_anew_and_one_that_is_lost_too() {
    let plan = id("a");
    let unresolved = Carried {
        unresolved: true,
        ..carried(&plan)
    };
    let mut standing = Standing::Open;
    standing.on_plan(unresolved, true);
    assert_eq!(standing.scope(&plan, true), Scope::Wide);
    standing.on_loaded(true, s(100));
    standing.on_round_trip(s(100));
    assert!(tick(&mut standing, true, 101).is_some());
    standing.on_plan(unresolved, true);
    assert!(standing.confirms(&plan));
    standing.on_plan(carried(&plan), true);
    assert!(!standing.confirms(&plan) && standing.scope(&plan, false) == Scope::Pinned);
}

#[test]
fn nothing_to_cut_ends_a_trial_and_keeps_a_release() {
    let plan = id("a");
    let nothing = Carried {
        cuts: false,
        ..carried(&plan)
    };
    for mut standing in [trying(true), widened()] {
        standing.on_plan(nothing, true);
        assert_eq!(standing, Standing::Open);
    }
    let mut standing = given_up();
    standing.on_plan(nothing, true);
    assert!(standing.gave_up(&plan).is_some());
}
