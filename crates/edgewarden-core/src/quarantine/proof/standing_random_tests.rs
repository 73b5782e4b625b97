//! From every state under every sequence of events: never locked out, never open for good, never confirmed for nothing.

use proptest::prelude::*;

use super::*;

/// Something that happens to the machine; the numbers are seconds.
#[derive(Debug, Clone)]
enum Happening {
    Plan {
        which: u8,
        cuts: bool,
        unresolved: bool,
        alike: bool,
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
    /// A question is not answered, with a nucleus or without.
    Silence(bool),
    /// Nobody looks for so long.
    Stall(u64),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        4 => (0..3u8, prop::bool::weighted(0.8), prop::bool::weighted(0.2), any::<bool>())
            .prop_map(|(which, cuts, unresolved, alike)| Happening::Plan { which, cuts, unresolved, alike }),
        4 => any::<bool>().prop_map(|anew| Happening::Loaded { anew }),
        3 => (0..90u64).prop_map(Happening::Answer),
        8 => (1..70u64, prop::bool::weighted(0.8))
            .prop_map(|(seconds, holds)| Happening::Passes { seconds, holds }),
        1 => Just(Happening::AnotherChance),
        1 => Just(Happening::Restart),
        2 => any::<bool>().prop_map(Happening::Silence),
        1 => (0..300u64).prop_map(Happening::Stall),
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
                alike,
            } => {
                let plan = id(&which.to_string());
                let like = if *alike { id("0") } else { plan.clone() };
                let carried = Carried {
                    cuts: *cuts,
                    unresolved: *unresolved,
                    cutting: cutting_of(&like),
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
            Happening::Silence(nucleus) => self.standing.on_silence(*nucleus, s(self.at)),
            Happening::Stall(seconds) => {
                self.at += seconds;
                self.standing.on_stall(s(*seconds), s(self.at));
            }
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
            alike: false,
        });
        self.standing.on_loaded(false, s(self.at));
        // Nobody answers, and the nucleus is there.
        if matches!(self.standing, Standing::Trying { .. }) {
            self.standing.on_silence(true, s(self.at));
        }
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
        let was_confirmed = matches!(run.standing, Standing::Confirmed { .. } | Standing::Trying { late: true, .. });
        if !run.standing.vouches() || was_confirmed {
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
        let given_up = run.standing.gave_up(&id(&plan.to_string()));
        // Rules that were seen to cut the channel stay away for an hour at most.
        let patience = given_up.filter(|release| release.proven).map_or(0, |_| 3_600);
        (0..patience + 10 * 60).for_each(|_| run.second(plan));
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
