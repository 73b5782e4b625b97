//! The roll: who is remembered, and of whom what may be said.

use super::*;
use crate::quarantine::plan::processes::MAX_ABOVE;

fn process(pid: u32) -> Process {
    Process {
        identity: ProcessId { pid, start_ticks: 7 },
        parent: 1,
        name: format!("p{pid}"),
        exe: Some("/opt/p".into()),
        cgroup: None,
        workload: None,
    }
}

fn pids(stopped: &[StoppedProcess]) -> Vec<u32> {
    stopped.iter().map(|known| known.identity.pid).collect()
}

fn found(pid: u32) -> FoundFrozen {
    FoundFrozen {
        process: process(pid),
        stopped: true,
        stopped_before: false,
    }
}

const AT: Timestamp = Timestamp::UNIX_EPOCH;

#[test]
fn nobody_is_said_to_be_stopped_before_he_is() {
    let mut roll = Roll::default();
    let id = process(10).identity;
    assert_eq!(
        roll.note(&process(10), ProcessAction::Freeze, Named::default(), AT),
        Ok(true)
    );
    assert_eq!((pids(roll.all()), roll.proven()), (vec![10], vec![]));
    roll.prove(id, true);
    assert_eq!(pids(&roll.proven()), [10]);
    let restored = Roll::restore(roll.all());
    assert_eq!((pids(restored.all()), restored.proven()), (vec![10], vec![]));
    roll.prove(id, false);
    assert_eq!((pids(roll.all()), roll.proven()), (vec![10], vec![]));
    assert!(roll.adopt(&found(10), AT) && roll.adopt(&found(11), AT));
    assert_eq!(
        (pids(roll.all()), pids(&roll.proven())),
        (vec![10, 11], vec![10, 11])
    );
    roll.strike(id);
    assert_eq!(pids(roll.all()), [11]);
}

#[test]
fn of_more_than_we_ever_stop_the_first_are_shown() {
    let mut roll = Roll::default();
    for pid in 2..1_000 {
        roll.adopt(&found(pid), AT);
    }
    let shown = pids(&roll.proven());
    assert_eq!(
        roll.all().len(),
        MAX_FROZEN + MAX_KILLING,
        "control: all are remembered"
    );
    let wanted: Vec<u32> = (2..).take(MAX_STOPPED_SHOWN).collect();
    assert_eq!(shown, wanted);
}

fn kill(roll: &mut Roll, pid: u32) -> Result<bool, String> {
    roll.note(&process(pid), ProcessAction::Kill, Named::default(), AT)
}

#[test]
fn whoever_could_not_be_killed_is_not_forgotten_for_the_next() {
    let mut roll = Roll::default();
    let most = u32::try_from(MAX_KILLING).unwrap();
    for pid in 0..most {
        assert_eq!(kill(&mut roll, pid), Ok(true), "{pid}");
    }
    let full = kill(&mut roll, most).unwrap_err();
    assert!(full.contains("being killed already"), "{full}");
    roll.prove(process(5).identity, true);
    assert_eq!(kill(&mut roll, most), Ok(true));
    roll.forget_dead();
    assert_eq!(pids(&roll.proven()), [5]);
    let mut restored = Roll::restore(roll.all());
    for pid in (0..=most).filter(|pid| *pid != 5) {
        assert!(restored.adopt(&found(pid), AT));
    }
    restored.forget_dead();
    assert!(kill(&mut restored, 9_999).is_err(), "they live");
    assert_eq!(pids(&restored.proven()), [5], "nobody else was killed");
}

#[test]
fn of_the_dead_the_newest_are_shown_and_all_are_told() {
    let mut roll = Roll::default();
    for pid in 0..100 {
        kill(&mut roll, pid).unwrap();
    }
    roll.note_dead(&process(100), Named::default(), AT);
    let told = (0..=100).filter(|pid| {
        roll.prove(process(*pid).identity, true);
        roll.take_untold(process(*pid).identity).is_some()
    });
    assert_eq!(told.count(), 101);
    roll.forget_dead();
    let newest: Vec<u32> = (69..=100).collect();
    assert_eq!((pids(&roll.proven()), roll.all().len()), (newest, MAX_KILLED));
}

#[test]
fn a_frozen_one_that_is_killed_is_told_as_killed() {
    let mut roll = Roll::default();
    let id = process(10).identity;
    roll.note(&process(10), ProcessAction::Freeze, Named::default(), AT)
        .unwrap();
    roll.prove(id, true);
    assert!(roll.take_untold(id).is_some());
    kill(&mut roll, 10).unwrap();
    assert_eq!((roll.dying(), roll.proven()), (vec![id], vec![]));
    roll.prove(id, true);
    let told = roll.take_untold(id).unwrap();
    assert_eq!(told.action, ProcessAction::Kill);
}

#[test]
fn more_than_can_be_remembered_is_told_and_left_for_later() {
    let mut roll = Roll::default();
    let most = u32::try_from(MAX_FROZEN).unwrap();
    for pid in 0..most {
        roll.note(&process(pid), ProcessAction::Freeze, Named::default(), AT)
            .unwrap();
    }
    assert!(
        roll.note(&process(most), ProcessAction::Freeze, Named::default(), AT)
            .is_err()
    );
    let room = u32::try_from(MAX_KILLING).unwrap();
    for pid in most..most + room {
        assert!(roll.adopt(&found(pid), AT), "{pid}");
    }
    assert!(!roll.adopt(&found(most + room), AT));
    assert!(roll.adopt(&found(0), AT), "whom it knows already needs no room");
}

#[test]
fn as_many_as_can_be_with_the_longest_paths_fit_into_a_journal_that_is_read() {
    let mut roll = Roll::default();
    // Each byte is written as six.
    let exe = Some("\u{1}".repeat(4_096));
    let most = |limit: usize| u32::try_from(limit).unwrap();
    for pid in 1..=most(MAX_FROZEN + MAX_KILLING) {
        let process = Process {
            exe: exe.clone(),
            ..process(pid)
        };
        let action = if pid <= most(MAX_FROZEN) {
            ProcessAction::Freeze
        } else {
            ProcessAction::Kill
        };
        let named = Named {
            above: vec![
                OneAbove {
                    identity: ProcessId {
                        pid: 4_000_000,
                        start_ticks: u64::MAX
                    },
                    held_at: Some(u32::MAX),
                };
                MAX_ABOVE
            ],
            ..Named::default()
        };
        roll.note(&process, action, named, AT).unwrap();
    }
    let text = serde_json::to_vec(roll.all()).unwrap();
    assert!(text.len() < 3_000_000, "{}", text.len());
}

/// One that is frozen, in a roll that remembers it.
fn frozen(stopped_before: bool) -> Roll {
    let mut roll = Roll::default();
    let named = Named {
        stopped_before,
        ..Named::default()
    };
    roll.note(&process(10), ProcessAction::Freeze, named, AT).unwrap();
    roll
}

/// What it does, and how many milliseconds it has had of a processor, of which it had some when it was frozen.
fn doing(stopped: bool, ran: u64) -> Doing {
    Doing {
        id: process(10).identity,
        reached: true,
        stopped,
        defies: false,
        by_owner: false,
        ran: Duration::from_millis(5_000 + ran),
    }
}

fn look(roll: &mut Roll, doing: &Doing) -> Option<u32> {
    roll.look(doing, Duration::ZERO)
}

#[test]
fn who_ran_between_two_looks_is_contested_and_told_for_a_while() {
    let (mut roll, id) = (frozen(true), process(10).identity);
    assert_eq!(
        look(&mut roll, &doing(false, 1)),
        None,
        "it was not seen to be stopped yet"
    );
    roll.saw_stopped(&doing(true, 5));
    assert_eq!(look(&mut roll, &doing(true, 5)), None);
    assert!(roll.was_stopped_before(id) && roll.contested().next().is_none());
    assert_eq!(look(&mut roll, &doing(false, 5)), Some(1), "it goes on");
    assert_eq!(
        roll.saw_stopped(&doing(true, 500)),
        None,
        "told once, however long it takes to stop"
    );
    assert_eq!(
        look(&mut roll, &doing(true, 510)),
        Some(2),
        "it ran, and is stopped again"
    );
    assert_eq!(roll.saw_stopped(&doing(true, 510)), None);
    assert_eq!(roll.proven()[0].contested, 2);
    assert!(!roll.was_stopped_before(id), "others may be its owner");
    for _ in 1..TOLD_LOOKS {
        look(&mut roll, &doing(true, 510));
    }
    assert_eq!(roll.contested().count(), 1);
    look(&mut roll, &doing(true, 510));
    assert_eq!((roll.contested().count(), roll.proven()[0].contested), (0, 2));
    assert_eq!(Roll::restore(roll.all()).all()[0].contested, 0, "since the start");
}

#[test]
fn who_only_stops_or_is_looked_at_by_a_debugger_is_not_contested() {
    let (mut roll, id) = (frozen(true), process(10).identity);
    roll.saw_stopped(&doing(true, 0));
    assert_eq!(pids(&roll.proven()), [10]);
    assert_eq!(
        look(&mut roll, &doing(true, 9)),
        None,
        "it came to the end of its call"
    );
    assert_eq!(look(&mut roll, &doing(true, 18)), None, "a debugger looked at it");
    assert!(roll.was_stopped_before(id) && roll.contested().next().is_none());
    assert_eq!(
        look(&mut roll, &doing(true, 28)),
        Some(1),
        "it ran for ten milliseconds"
    );
    assert_eq!(look(&mut roll, &doing(false, 28)), Some(2), "it goes on");
}

#[test]
fn who_runs_a_little_at_each_look_is_contested_once_that_comes_together() {
    let mut roll = frozen(false);
    roll.saw_stopped(&doing(true, 0));
    for ran in 0..30 {
        assert_eq!(look(&mut roll, &doing(true, ran)), None, "{ran}");
    }
    assert_eq!(look(&mut roll, &doing(true, 30)), Some(1));
    assert_eq!(roll.saw_stopped(&doing(true, 30)), None);
    assert_eq!(
        look(&mut roll, &doing(true, 31)),
        None,
        "what was told excuses what only stops no less than before"
    );
    for ran in 32..60 {
        assert_eq!(look(&mut roll, &doing(true, ran)), None, "{ran}");
    }
    assert_eq!(look(&mut roll, &doing(true, 60)), Some(2), "and not more");
}

#[test]
fn who_ran_while_no_look_reached_him_is_contested_when_he_is_seen_again() {
    let unreached = |ran| Doing {
        reached: false,
        ..doing(false, ran)
    };
    let mut roll = frozen(false);
    roll.saw_stopped(&doing(true, 0));
    // No look at all, and he is seen after his signal.
    roll.miss(process(10).identity, Duration::ZERO);
    assert_eq!(roll.saw_stopped(&doing(true, 1)), None, "he stood still");
    roll.miss(process(10).identity, Duration::ZERO);
    assert_eq!(roll.saw_stopped(&doing(true, 7_000)), Some(1));
    assert_eq!(roll.contested().count(), 1);
    // A look that has not reached his threads.
    assert_eq!(look(&mut roll, &unreached(7_001)), None, "he stands still");
    assert_eq!(look(&mut roll, &unreached(14_000)), Some(2));
    assert_eq!(
        roll.saw_stopped(&doing(true, 14_100)),
        None,
        "what he did until he stopped was told"
    );
    assert_eq!(look(&mut roll, &unreached(14_101)), None);
    assert_eq!(
        roll.missed(TOLD_AFTER).count(),
        1,
        "nobody says that he is stopped"
    );
    assert_eq!(look(&mut roll, &doing(true, 14_101)), None);
    assert_eq!(roll.missed(TOLD_AFTER).count(), 0);
}

/// One that is frozen below these, or killed.
fn below(roll: &mut Roll, pid: u32, above: &[u32], action: ProcessAction) -> ProcessId {
    let above = above.iter();
    let above = above
        .map(|pid| OneAbove::that_runs(process(*pid).identity))
        .collect();
    let named = Named {
        above,
        ..Named::default()
    };
    roll.note(&process(pid), action, named, AT).unwrap();
    process(pid).identity
}

/// Who goes on now.
fn go_on(roll: &mut Roll) -> Vec<u32> {
    let rows = roll.take_behind().into_iter();
    rows.flat_map(|(row, _)| row.into_iter().map(|one| one.identity.pid))
        .collect()
}

#[test]
fn who_is_above_one_that_is_held_is_remembered_with_that_one() {
    let mut roll = Roll::default();
    let first = below(&mut roll, 10, &[20, 21, 22], ProcessAction::Freeze);
    // Of them it was not known when these were frozen.
    let other = below(&mut roll, 11, &[21], ProcessAction::Freeze);
    let held = below(&mut roll, 20, &[], ProcessAction::Freeze);
    roll.strike(first);
    assert_eq!(go_on(&mut roll), [] as [u32; 0], "they wait for two");
    roll.strike(held);
    assert_eq!(go_on(&mut roll), [] as [u32; 0], "one of them is held still");
    roll.strike(other);
    assert_eq!(go_on(&mut roll), [21, 22]);
    assert_eq!(go_on(&mut roll), [] as [u32; 0]);
}

#[test]
fn who_is_above_one_that_was_killed_does_not_wait_for_it() {
    let mut roll = Roll::default();
    let work = below(&mut roll, 10, &[20, 21], ProcessAction::Freeze);
    let killed = below(&mut roll, 20, &[21], ProcessAction::Kill);
    roll.prove(killed, true);
    assert_eq!(go_on(&mut roll), [] as [u32; 0], "another one below is held");
    roll.strike(work);
    assert!(
        roll.knows(killed),
        "control: it is shown, and nobody strikes it now"
    );
    assert_eq!(go_on(&mut roll), [20, 21]);
}

#[test]
fn who_was_held_by_a_debugger_did_not_run_for_all_that_is_known_and_is_looked_at_in_the_end() {
    let mut roll = Roll::default();
    let held = |pid: u32| OneAbove {
        identity: process(pid).identity,
        held_at: Some(7),
    };
    let named = Named {
        stopped_before: true,
        above: vec![held(10), held(20), OneAbove::that_runs(process(21).identity)],
        ..Named::default()
    };
    for pid in [10, 11] {
        roll.note(&process(pid), ProcessAction::Freeze, named.clone(), AT)
            .unwrap();
    }
    assert_eq!(roll.ran(), BTreeSet::from([process(21).identity]));
    // At a later look he runs.
    roll.note_above(process(11).identity, &[OneAbove::that_runs(process(20).identity)]);
    assert!(roll.ran().contains(&process(20).identity));
    roll.goes_on(process(10).identity);
    assert!(roll.ran().contains(&process(10).identity));
    roll.strike(process(10).identity);
    roll.strike(process(11).identity);
    let rows: Vec<_> = roll.take_behind().into_iter().map(|(row, _)| row).collect();
    let twenty = OneAbove::that_runs(process(20).identity);
    assert!(rows.iter().any(|row| row[..2] == [held(10), twenty]), "{rows:?}");
}
