//! What a look does not reach, who ends, and looks that nobody waits for.

use std::borrow::Cow;

use super::*;

#[tokio::test]
async fn whom_a_look_did_not_reach_is_neither_let_go_on_nor_stopped() {
    let fake = Fake::default();
    fake.0.lock().unwrap().stopped.insert(10);
    let mut stopper = Stopper {
        searched: true,
        ..started(&fake)
    };
    let freezes = plan(true, Some(ProcessAction::Freeze));
    assert_eq!(bring(&mut stopper, &freezes, false).await, []);
    assert!(stopper.remembered()[0].stopped_before, "control");
    {
        let mut held = fake.0.lock().unwrap();
        held.unreached = true;
        held.running.insert(11);
    }
    let at = |seconds| Now {
        uptime: Duration::from_secs(seconds),
        ..NOW
    };
    for (seconds, told) in [(0, None), (9, None), (11, Some(8)), (40, Some(32))] {
        let to_stop = stopper.choose(&wanted(&freezes, false), at(seconds)).await;
        let obstacles = stopper.stop(to_stop, at(seconds)).await;
        let shown = stopper.shown();
        assert_eq!((shown.stopped.len(), shown.stopped[0].contested), (1, 0));
        assert!(stopper.remembered()[0].stopped_before, "it stays what was known");
        let missed = obstacles.iter().find_map(|obstacle| match obstacle {
            Obstacle::ProcessNotSeen { pid: 10, seconds, .. } => Some(*seconds),
            _ => None,
        });
        assert_eq!(missed, told, "{obstacles:?}");
        let runs =
            |obstacle: &Obstacle| matches!(obstacle, Obstacle::ProcessRuns { what } if what.contains("11"));
        assert!(
            obstacles.iter().any(runs),
            "nobody has seen that one stopped: {obstacles:?}"
        );
    }
    fake.0.lock().unwrap().unreached = false;
    assert_eq!(bring(&mut stopper, &freezes, false).await, []);
    assert_eq!(shown(&stopper), 2);
}

#[tokio::test]
async fn who_runs_while_looks_before_signals_have_no_answer_is_told_when_he_is_seen_stopped() {
    let (fake, mut stopper, freezes) = frozen().await;
    fake.0.lock().unwrap().silent = true;
    let contested = |obstacles: Vec<Obstacle>| {
        let is_contested =
            |obstacle: &Obstacle| matches!(obstacle, Obstacle::ProcessContested { pid: 10, .. });
        obstacles.iter().any(is_contested)
    };
    assert!(
        !contested(bring(&mut stopper, &freezes, false).await),
        "control: he stands still"
    );
    for times in 1..=3 {
        fake.0.lock().unwrap().ran += Duration::from_secs(6);
        assert!(contested(bring(&mut stopper, &freezes, false).await));
        assert_eq!(stopper.shown().stopped[0].contested, times);
    }
    assert_eq!(
        recorded(&mut stopper).len(),
        3,
        "frozen, let go on once and twice"
    );
}

#[tokio::test]
async fn one_that_stays_stopped_is_said_to_be_after_a_signal_that_was_refused() {
    let (fake, mut stopper, freezes) = frozen().await;
    fake.0.lock().unwrap().answer = Some(SignalFailure::Refused("refused".into()));
    assert_eq!(bring(&mut stopper, &freezes, false).await.len(), 1);
    fake.0.lock().unwrap().answer = None;
    assert_eq!(bring(&mut stopper, &freezes, false).await, []);
    assert_eq!(shown(&stopper), 1);
}

#[tokio::test]
async fn the_end_of_one_that_is_frozen_is_told() {
    let (fake, mut stopper, freezes) = frozen().await;
    fake.0.lock().unwrap().stopped.clear();
    assert_eq!(bring(&mut stopper, &freezes, false).await, []);
    let told = recorded(&mut stopper);
    assert_eq!(
        told.last().unwrap(),
        "process rogue (10) ended while frozen",
        "{told:?}"
    );
    assert_eq!(shown(&stopper), 0);
}

#[tokio::test]
async fn a_rule_that_had_matched_before_a_restart_is_not_idle() {
    let fake = Fake::default();
    fake.0.lock().unwrap().running.insert(10);
    let mut stopper = started(&fake);
    let kills = plan(true, Some(ProcessAction::Kill));
    bring(&mut stopper, &kills, false).await;
    let kept = stopper.remembered().to_vec();
    let (_, goes_on) = watch::channel(false);
    let idle_after = |stopped: Vec<StoppedProcess>| {
        let journal = Journal {
            stopped: Cow::Owned(stopped),
            ..Journal::default()
        };
        Stopper::restore(fake.clone(), &journal, Vec::new(), goes_on.clone())
    };
    for (kept, idle) in [(kept, 0), (Vec::new(), 1)] {
        let mut successor = idle_after(kept);
        bring(&mut successor, &kills, false).await;
        assert_eq!(successor.shown().idle_rules.len(), idle);
    }
}

#[tokio::test]
async fn a_look_that_nobody_waits_for_ends_and_nobody_is_let_go_for_it() {
    let fake = Fake::default();
    fake.0.lock().unwrap().running.insert(10);
    let (put_off, goes_on) = watch::channel(false);
    let mut stopper = Stopper::restore(fake.clone(), &Journal::default(), Vec::new(), goes_on);
    let freezes = plan(true, Some(ProcessAction::Freeze));
    assert_eq!(bring(&mut stopper, &freezes, false).await, []);
    put_off.send_replace(true);
    fake.0.lock().unwrap().running.insert(11);
    assert!(!bring(&mut stopper, &freezes, false).await.is_empty());
    assert!(fake.0.lock().unwrap().stopped.contains(&10));
    assert!(fake.0.lock().unwrap().running.contains(&11), "nobody was listed");
    // What is let go needs no look.
    bring(&mut stopper, &plan(false, None), false).await;
    assert!(fake.0.lock().unwrap().running.contains(&10));
}

#[tokio::test]
async fn who_was_to_be_killed_is_only_stopped_when_another_plan_comes_before() {
    for next in [None, Some(ProcessAction::Freeze), Some(ProcessAction::Kill)] {
        let fake = Fake::default();
        fake.0.lock().unwrap().running.insert(10);
        let (put_off, goes_on) = watch::channel(false);
        let mut stopper = Stopper::restore(fake.clone(), &Journal::default(), Vec::new(), goes_on);
        let kills = wanted(&plan(true, Some(ProcessAction::Kill)), false);
        let to_stop = stopper.choose(&kills, NOW).await;
        put_off.send_replace(true);
        stopper.stop(to_stop, NOW).await;
        assert!(fake.0.lock().unwrap().stopped.contains(&10), "not killed");
        put_off.send_replace(false);
        bring(&mut stopper, &plan(true, next), false).await;
        let held = fake.0.lock().unwrap();
        let (runs, stopped) = (held.running.contains(&10), held.stopped.contains(&10));
        assert_eq!(runs, next.is_none(), "{next:?}");
        assert_eq!(stopped, next == Some(ProcessAction::Freeze), "{next:?}");
    }
}

#[tokio::test]
async fn who_was_killed_is_recorded_also_where_another_plan_comes_before_it_is_seen() {
    let fake = Fake::default();
    fake.0.lock().unwrap().running.insert(10);
    let mut stopper = started(&fake);
    let kills = wanted(&plan(true, Some(ProcessAction::Kill)), false);
    let to_stop = stopper.choose(&kills, NOW).await;
    // Nobody looks at what has become of it.
    let (put_off, goes_on) = watch::channel(false);
    stopper.put_off = goes_on;
    fake.0.lock().unwrap().put_off_by_kill = Some(put_off);
    stopper.stop(to_stop, NOW).await;
    assert_eq!(recorded(&mut stopper), Vec::<String>::new(), "control");
    stopper.put_off = watch::channel(false).1;
    bring(&mut stopper, &plan(false, None), false).await;
    assert_eq!(recorded(&mut stopper), ["process rogue (10) killed: /opt/rogue"]);
}

#[tokio::test]
async fn one_that_goes_on_after_its_signal_is_not_left_stopped_against_its_owner() {
    let fake = Fake::default();
    fake.0.lock().unwrap().stopped.insert(10);
    let mut stopper = Stopper {
        searched: true,
        ..started(&fake)
    };
    let freezes = wanted(&plan(true, Some(ProcessAction::Freeze)), false);
    let to_stop = stopper.choose(&freezes, NOW).await;
    assert!(stopper.remembered()[0].stopped_before, "control");
    // Whoever held it has let a part of it go on.
    fake.0.lock().unwrap().stubborn = true;
    let obstacles = stopper.stop(to_stop, NOW).await;
    assert!(
        matches!(&obstacles[..], [Obstacle::ProcessRuns { .. }]),
        "{obstacles:?}"
    );
    assert!(!stopper.remembered()[0].stopped_before);
}
