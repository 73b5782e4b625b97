//! The transitions one by one, and from every state under every sequence of events: never locked out, never open for good,
//! never confirmed for nothing.

use proptest::prelude::*;
use serde_json::json;

use super::*;

const WINDOW: Duration = Duration::from_secs(60);

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn now(uptime: u64) -> Now {
    Now {
        wall: Timestamp::from_second(1_800_000_000).unwrap(),
        uptime: s(uptime),
    }
}

fn id(name: &str) -> PlanId {
    serde_json::from_value(json!(name)).unwrap()
}

fn carried(plan: &PlanId) -> Carried<'_> {
    Carried {
        plan,
        cuts: true,
        spares_channel: true,
        unresolved: false,
    }
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
        now: now(99_999),
    };
    assert_eq!(standing.tick(look(None)), None);
    assert_eq!(standing.tick(look(Some(&other))), None);
    assert!(standing.tick(look(Some(&id("a")))).is_some());
}

#[test]
fn a_channel_that_was_broken_before_never_releases() {
    let mut standing = trying(false);
    assert_eq!(tick(&mut standing, true, 99_999), None);
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
    assert_eq!(tick(&mut standing, true, 99_999), None, "held");
    assert_eq!(standing.scope(&id("a"), false), Scope::Pinned);
}

#[test]
fn a_channel_that_comes_back_without_the_rules_convicts_them() {
    let mut standing = given_up();
    standing.on_round_trip(s(222));
    assert_eq!(
        standing.gave_up(&id("a")).map(|release| release.proven),
        Some(true)
    );
    assert_eq!(tick(&mut standing, true, 99_999), None);
    standing.on_plan(carried(&id("a")), true);
    assert!(standing.gave_up(&id("a")).is_some(), "it stays away");
    standing.on_loaded(true, s(5));
    assert_eq!(tick(&mut standing, true, 99_999), None);
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

#[test]
fn the_journals_first_version_is_read_and_written() {
    let read = |value| serde_json::from_value::<Standing>(value).unwrap();
    let release = json!({"plan": "a", "at": "2026-01-01T00:00:00Z", "why": "w", "proven": false});
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

/// Something that happens to the machine; the numbers are seconds.
#[derive(Debug, Clone)]
enum Happening {
    Plan {
        which: u8,
        cuts: bool,
        unresolved: bool,
    },
    Loaded {
        anew: bool,
    },
    /// An answer to a question sent so long ago.
    Answer(u64),
    Passes {
        seconds: u64,
        holds: bool,
    },
    AnotherChance,
    Restart,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        4 => (0..3u8, prop::bool::weighted(0.8), prop::bool::weighted(0.2))
            .prop_map(|(which, cuts, unresolved)| Happening::Plan { which, cuts, unresolved }),
        4 => any::<bool>().prop_map(|anew| Happening::Loaded { anew }),
        3 => (0..90u64).prop_map(Happening::Answer),
        8 => (1..70u64, prop::bool::weighted(0.8))
            .prop_map(|(seconds, holds)| Happening::Passes { seconds, holds }),
        1 => Just(Happening::AnotherChance),
        1 => Just(Happening::Restart),
    ]
}

/// The machine among its events.
struct Run {
    standing: Standing,
    at: u64,
}

impl Run {
    fn new() -> Self {
        Self {
            standing: Standing::Open,
            at: 1_000,
        }
    }

    fn happens(&mut self, happening: &Happening) -> Option<Turn> {
        match happening {
            Happening::Plan {
                which,
                cuts,
                unresolved,
            } => {
                let plan = id(&which.to_string());
                let carried = Carried {
                    cuts: *cuts,
                    unresolved: *unresolved,
                    ..carried(&plan)
                };
                self.standing.on_plan(carried, false);
            }
            Happening::Loaded { anew } => self.standing.on_loaded(*anew, s(self.at)),
            Happening::Answer(ago) => self.standing.on_round_trip(s(self.at - ago)),
            Happening::Passes { seconds, holds } => {
                self.at += seconds;
                return tick(&mut self.standing, *holds, self.at);
            }
            Happening::AnotherChance => self.standing.on_another_chance(),
            Happening::Restart => {
                let bytes = serde_json::to_vec(&self.standing).unwrap();
                self.standing = serde_json::from_slice(&bytes).unwrap();
            }
        }
        None
    }

    /// A second in which the enforcer looks, as it does while a plan is not confirmed.
    fn second(&mut self, plan: u8) {
        self.at += 1;
        self.happens(&Happening::Plan {
            which: plan,
            cuts: true,
            unresolved: false,
        });
        self.standing.on_loaded(false, s(self.at));
        tick(&mut self.standing, true, self.at);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever went before: a channel that worked and that only rules of ours silence is free again in time, also when
    /// the plan changes every other second.
    #[test]
    fn never_locked_out(before in prop::collection::vec(happening(), 0..40), plans in prop::collection::vec(0..3u8, 1..5)) {
        let mut run = Run::new();
        before.iter().for_each(|happening| drop(run.happens(happening)));
        // Where rules of ours did not close on a channel that worked, they open, it works, and they close.
        if !run.standing.vouches() || matches!(run.standing, Standing::Confirmed { .. }) {
            let plan = id("0");
            run.standing.on_plan(Carried { cuts: false, ..carried(&plan) }, true);
            run.standing.on_plan(carried(&plan), true);
        }
        let mut silent = 0;
        for second in 0..2_000 {
            let plan = plans[second % plans.len()];
            run.second(plan);
            // Also when a question that was answered before proves only now that the channel lives behind the rules.
            if run.standing.gave_up(&id(&plan.to_string())).is_some() || run.standing.confirms(&id(&plan.to_string())) {
                return Ok(());
            }
            silent += 1;
            prop_assert!(silent <= 3 * 60 + 5, "silent for {silent} s: {:?}", run.standing);
        }
    }

    /// From every state: while the channel is silent whatever we do, the device is closed in the end and stays so.
    #[test]
    fn an_outage_never_opens_for_good(before in prop::collection::vec(happening(), 0..40), plan in 0..3u8) {
        let mut run = Run::new();
        before.iter().for_each(|happening| drop(run.happens(happening)));
        let proven = run.standing.gave_up(&id(&plan.to_string())).is_some_and(|release| release.proven);
        // Rules that were seen to cut the channel stay away on purpose.
        prop_assume!(!proven);
        (0..10 * 60).for_each(|_| run.second(plan));
        for _ in 0..2_000 {
            run.second(plan);
            prop_assert!(run.standing.release().is_none(), "{:?}", run.standing);
        }
    }

    /// Confirmed only by a question sent after the last load, while the kernel was proven to hold the rules.
    #[test]
    fn never_confirmed_for_nothing(happenings in prop::collection::vec(happening(), 0..80)) {
        let mut run = Run::new();
        let (mut loaded, mut answered) = (None::<u64>, None::<u64>);
        for happening in &happenings {
            let was_window = matches!(run.standing, Standing::Trying { since: Some(_), .. });
            let turn = run.happens(happening);
            match happening {
                Happening::Loaded { anew } if *anew || !was_window => loaded = Some(run.at),
                Happening::Answer(ago) => answered = answered.max(Some(run.at - ago)),
                _ => {}
            }
            if matches!(turn, Some(Turn::Confirmed(_))) {
                let held = matches!(happening, Happening::Passes { holds: true, .. });
                prop_assert!(held, "confirmed by something else");
                prop_assert!(loaded.is_some() && answered >= loaded, "{loaded:?} {answered:?}");
            }
        }
    }

    /// What is written is what is read, whatever the state.
    #[test]
    fn the_journal_remembers_every_state(happenings in prop::collection::vec(happening(), 0..40)) {
        let mut run = Run::new();
        happenings.iter().for_each(|happening| drop(run.happens(happening)));
        let read: Standing = serde_json::from_slice(&serde_json::to_vec(&run.standing).unwrap()).unwrap();
        prop_assert_eq!(read, run.standing.remembered());
    }
}
