//! The stopper on a fake machine: what has no answer, who is found, and of whom nothing is claimed.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;

use super::*;
use crate::quarantine::orders::order::{Authority, Order, ProcessMatch};
use crate::quarantine::plan::{IsolationSettings, Scope, fold};

/// What the fake machine holds: who is stopped, who is found by a mark, and what it answers.
#[derive(Default)]
struct Held {
    running: BTreeSet<u32>,
    stopped: BTreeSet<u32>,
    asked: usize,
    answer: Option<SignalFailure>,
}

#[derive(Clone, Default)]
struct Fake(Arc<Mutex<Held>>);

fn process(pid: u32) -> Process {
    Process {
        identity: ProcessId { pid, start_ticks: 7 },
        parent: 1,
        name: "rogue".into(),
        exe: Some("/opt/rogue".into()),
        cgroup: None,
        workload: None,
    }
}

impl Processes for Fake {
    async fn list(&mut self) -> Result<Vec<Process>, Obstacle> {
        let held = self.0.lock().unwrap();
        let all = held.running.iter().chain(&held.stopped);
        Ok(all.map(|pid| process(*pid)).collect())
    }

    async fn frozen(&mut self, _: Vec<ProcessId>) -> Result<Vec<(Process, bool)>, Obstacle> {
        let held = self.0.lock().unwrap();
        Ok(held.stopped.iter().map(|pid| (process(*pid), true)).collect())
    }

    async fn signal(&mut self, to: ProcessId, signal: Signal) -> Result<(), SignalFailure> {
        let mut held = self.0.lock().unwrap();
        held.asked += 1;
        if let Some(failure) = &held.answer {
            return Err(failure.clone());
        }
        if !held.running.remove(&to.pid) && !held.stopped.remove(&to.pid) {
            return Err(SignalFailure::Gone);
        }
        match signal {
            Signal::Freeze => held.stopped.insert(to.pid),
            Signal::Thaw => held.running.insert(to.pid),
            Signal::Kill => false,
        };
        Ok(())
    }

    fn own_pid(&self) -> u32 {
        1_000
    }
}

const NOW: Now = Now {
    wall: Timestamp::UNIX_EPOCH,
    uptime: Duration::ZERO,
};

/// Nothing ordered, or isolation that does to the rogues what `action` says, or nothing.
fn plan(isolates: bool, action: Option<ProcessAction>) -> Plan {
    let order = Order::isolate(Authority::Operator, "o", None, NOW.wall);
    let orders = if isolates { vec![order] } else { Vec::new() };
    let rule = |action| ProcessRule {
        matches: ProcessMatch {
            exe: Some("/opt/rogue".into()),
            name: None,
        },
        action,
    };
    let settings = IsolationSettings {
        processes: action.map(rule).into_iter().collect(),
        ..IsolationSettings::default()
    };
    fold(&orders, &settings, Vec::new(), Scope::Pinned, NOW.wall)
}

async fn bring(stopper: &mut Stopper<Fake>, plan: &Plan, keeps: bool) -> Vec<Obstacle> {
    let to_stop = stopper
        .choose(plan, &ProtectedProcesses::default(), keeps, NOW)
        .await;
    stopper.stop(to_stop).await
}

fn started(fake: &Fake) -> Stopper<Fake> {
    Stopper::restore(fake.clone(), &Journal::default(), Vec::new())
}

fn shown(stopper: &Stopper<Fake>) -> usize {
    let mut state = State::default();
    stopper.show(&mut state);
    state.stopped.len()
}

#[tokio::test]
async fn a_machine_that_does_not_answer_is_asked_once_a_pass_and_nobody_is_forgotten() {
    let fake = Fake::default();
    fake.0.lock().unwrap().stopped.extend(10..30);
    let mut stopper = started(&fake);
    fake.0.lock().unwrap().answer = Some(SignalFailure::Unanswered("too late".into()));
    for pass in 1..=3 {
        let obstacles = bring(&mut stopper, &plan(false, None), false).await;
        assert_eq!(fake.0.lock().unwrap().asked, pass, "each would be waited for");
        assert_eq!(obstacles.len(), MAX_SHOWN);
        assert!(matches!(&obstacles[0], Obstacle::ProcessStaysFrozen { why, .. } if why == "too late"));
        assert_eq!((shown(&stopper), stopper.freed()), (20, 0));
    }
    fake.0.lock().unwrap().answer = None;
    assert_eq!(bring(&mut stopper, &plan(false, None), false).await, []);
    assert_eq!((shown(&stopper), stopper.freed()), (0, 20));
    assert!(fake.0.lock().unwrap().stopped.is_empty());
}

#[tokio::test]
async fn who_could_not_be_stopped_is_not_shown_and_is_let_go_all_the_same() {
    let fake = Fake::default();
    fake.0.lock().unwrap().running.insert(10);
    let mut stopper = started(&fake);
    let freezes = plan(true, Some(ProcessAction::Freeze));
    for failure in [
        SignalFailure::Unanswered("too late".into()),
        SignalFailure::Refused("refused".into()),
    ] {
        fake.0.lock().unwrap().answer = Some(failure);
        let obstacles = bring(&mut stopper, &freezes, false).await;
        assert!(
            matches!(&obstacles[..], [Obstacle::ProcessRuns { .. }]),
            "{obstacles:?}"
        );
        assert_eq!(shown(&stopper), 0, "nobody knows that it is stopped");
    }
    // What was late was done after all.
    fake.0.lock().unwrap().answer = None;
    fake.0.lock().unwrap().running.clear();
    fake.0.lock().unwrap().stopped.insert(10);
    assert_eq!(bring(&mut stopper, &plan(false, None), false).await, []);
    assert!(fake.0.lock().unwrap().running.contains(&10));
}

#[tokio::test]
async fn who_was_found_stays_stopped_while_a_lost_order_may_have_named_him() {
    let fake = Fake::default();
    fake.0.lock().unwrap().stopped.extend([10, 11]);
    let mut stopper = started(&fake);
    let isolates = plan(true, None);
    assert_eq!(bring(&mut stopper, &isolates, true).await, []);
    assert_eq!(shown(&stopper), 2);
    // One is let go by other hands, one ends.
    fake.0.lock().unwrap().stopped.clear();
    fake.0.lock().unwrap().running.insert(10);
    assert_eq!(bring(&mut stopper, &isolates, true).await, []);
    assert_eq!(shown(&stopper), 1);
    assert!(fake.0.lock().unwrap().stopped.contains(&10));
    assert_eq!(bring(&mut stopper, &isolates, false).await, []);
    assert_eq!((shown(&stopper), stopper.freed()), (0, 1));
    // With nothing ordered nobody is kept.
    fake.0.lock().unwrap().stopped.extend([10]);
    let mut successor = started(&fake);
    assert_eq!(bring(&mut successor, &plan(false, None), true).await, []);
    assert_eq!((shown(&successor), successor.freed()), (0, 1));
}

#[tokio::test]
async fn somebody_elses_marks_are_looked_for_a_few_times_only() {
    let fake = Fake::default();
    let mut stopper = started(&fake);
    let mut freed = Vec::new();
    for _ in 0..100 {
        // They put it on again, whatever is done.
        fake.0.lock().unwrap().running.clear();
        fake.0.lock().unwrap().stopped.extend(2_000..2_400);
        bring(&mut stopper, &plan(false, None), false).await;
        freed.push(stopper.freed());
    }
    assert!(freed[0] > 0, "control: found, and let go");
    assert_eq!(freed[7], freed[99], "{freed:?}");
}
