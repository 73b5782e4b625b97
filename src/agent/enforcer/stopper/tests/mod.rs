//! The stopper on a fake machine: what has no answer, who is found, and of whom nothing is claimed.

mod above;
mod missed;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;

use super::*;
use crate::process::Process;
use crate::quarantine::orders::order::{Authority, Order, ProcessMatch};
use crate::quarantine::plan::processes::{Candidate, NucleusTrace, OneAbove, PathsMeant};
use crate::quarantine::plan::{IsolationSettings, Plan, Scope, fold};
use crate::quarantine::ports::{Chased, Doing, FoundFrozen, RanAbove};

/// What the fake machine holds: who is stopped, who is found by a mark, and what it answers.
#[derive(Default)]
struct Held {
    running: BTreeSet<u32>,
    stopped: BTreeSet<u32>,
    /// Those that their owner had stopped, as their marks say.
    before: BTreeSet<u32>,
    /// Whoever is told to stop goes on.
    stubborn: bool,
    /// And has heard its signal.
    defiant: bool,
    /// Looks reach nobody's threads.
    unreached: bool,
    /// Who runs above everybody.
    above: Vec<ProcessId>,
    /// One of them who may be about to stop.
    at_work: Option<u32>,
    /// Looks before a signal have no answer.
    silent: bool,
    /// What everybody had of a processor.
    ran: Duration,
    asked: usize,
    answer: Option<SignalFailure>,
    /// Another plan comes right after somebody was killed.
    put_off_by_kill: Option<watch::Sender<bool>>,
    /// Nobody is in the list.
    unlisted: bool,
    /// What the next chase brings.
    chased: Option<Result<Chased, Obstacle>>,
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
    async fn list(&mut self, _: PathsMeant) -> Result<Vec<Candidate>, Obstacle> {
        let held = self.0.lock().unwrap();
        let all = held
            .running
            .iter()
            .chain(&held.stopped)
            .filter(|pid| !held.unlisted && !held.above.iter().any(|id| id.pid == **pid));
        Ok(all.map(|pid| Candidate::plain(process(*pid))).collect())
    }

    async fn frozen(&mut self, _: Vec<ProcessId>) -> Result<Vec<FoundFrozen>, Obstacle> {
        let held = self.0.lock().unwrap();
        let found = |pid: &u32| FoundFrozen {
            process: process(*pid),
            stopped: true,
            stopped_before: held.before.contains(pid),
        };
        Ok(held.stopped.iter().map(found).collect())
    }

    async fn chase(&mut self, _: Chase) -> Result<Chased, Obstacle> {
        let chased = self.0.lock().unwrap().chased.take();
        chased.unwrap_or_else(|| Ok(Chased::default()))
    }

    async fn look_at(
        &mut self,
        processes: Vec<(ProcessId, ProcessAction)>,
        patience: Duration,
    ) -> Result<Vec<Doing>, Obstacle> {
        let held = self.0.lock().unwrap();
        if held.silent && patience.is_zero() {
            let why = "too late".into();
            return Err(Obstacle::ProcessesUnknown { why });
        }
        let there = processes.into_iter().map(|(id, _)| id);
        let there = there.filter(|id| held.stopped.contains(&id.pid) || held.running.contains(&id.pid));
        let doing = there.map(|id| Doing {
            id,
            reached: !held.unreached,
            stopped: held.stopped.contains(&id.pid) && !held.stubborn,
            defies: !patience.is_zero() && held.defiant,
            by_owner: held.stopped.contains(&id.pid) && !held.stubborn,
            ran: held.ran,
        });
        Ok(doing.collect())
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
        if let Some(put_off) = held.put_off_by_kill.as_ref().filter(|_| signal == Signal::Kill) {
            put_off.send_replace(true);
        }
        match signal {
            Signal::Freeze => held.stopped.insert(to.pid),
            Signal::FreezeStopped => held.before.insert(to.pid) | held.stopped.insert(to.pid),
            Signal::Thaw => held.running.insert(to.pid),
            Signal::LeaveStopped => held.before.remove(&to.pid) | held.stopped.insert(to.pid),
            Signal::Kill => held.stubborn && held.running.insert(to.pid),
        };
        Ok(())
    }

    async fn above(&mut self, of: Vec<ProcessId>, ran: BTreeSet<ProcessId>) -> Result<RanAbove, Obstacle> {
        let held = self.0.lock().unwrap();
        let runs = |id: &&ProcessId| ran.contains(id) || !held.stopped.contains(&id.pid);
        let row = |of: ProcessId| held.above.iter().skip_while(move |id| id.pid <= of.pid);
        let above = |of: ProcessId| {
            row(of)
                .take_while(runs)
                .copied()
                .map(OneAbove::that_runs)
                .collect()
        };
        Ok(of.into_iter().map(|id| (id, above(id))).collect())
    }

    async fn go_on(&mut self, above: Vec<Vec<OneAbove>>) -> Vec<Vec<OneAbove>> {
        let mut held = self.0.lock().unwrap();
        for id in above.iter().flatten().map(|one| one.identity) {
            if held.stopped.remove(&id.pid) {
                held.running.insert(id.pid);
            }
        }
        let at_work = |row: &Vec<OneAbove>| row.iter().any(|one| held.at_work == Some(one.identity.pid));
        above.into_iter().filter(at_work).collect()
    }

    async fn trace(&mut self, _: ProcessId) -> Result<Vec<NucleusTrace>, Obstacle> {
        Ok(Vec::new())
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

fn wanted(plan: &Plan, keeps: bool) -> Wanted {
    Wanted {
        rules: plan.processes.clone(),
        releases: plan.is_normal(),
        protected: ProtectedProcesses::default(),
        keeps,
    }
}

async fn bring(stopper: &mut Stopper<Fake>, plan: &Plan, keeps: bool) -> Vec<Obstacle> {
    let to_stop = stopper.choose(&wanted(plan, keeps), NOW).await;
    stopper.stop(to_stop, NOW).await
}

fn started(fake: &Fake) -> Stopper<Fake> {
    let (_, goes_on) = watch::channel(false);
    Stopper::restore(fake.clone(), &Journal::default(), Vec::new(), goes_on)
}

/// A process that ran was frozen by the first round of this plan.
async fn frozen() -> (Fake, Stopper<Fake>, Plan) {
    let fake = Fake::default();
    fake.0.lock().unwrap().running.insert(10);
    let mut stopper = started(&fake);
    let freezes = plan(true, Some(ProcessAction::Freeze));
    assert_eq!(bring(&mut stopper, &freezes, false).await, []);
    (fake, stopper, freezes)
}

fn shown(stopper: &Stopper<Fake>) -> usize {
    stopper.shown().stopped.len()
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
    let obstacles = bring(&mut stopper, &isolates, true).await;
    assert!(
        matches!(&obstacles[..], [Obstacle::ProcessContested { pid: 10, .. }]),
        "{obstacles:?}"
    );
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

/// What was recorded since the last call.
fn recorded(stopper: &mut Stopper<Fake>) -> Vec<String> {
    stopper.take_news().iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn who_is_let_go_on_by_others_is_told_with_how_often() {
    let (fake, mut stopper, freezes) = frozen().await;
    assert_eq!(
        bring(&mut stopper, &freezes, false).await,
        [],
        "control: it stays so"
    );
    assert_eq!(recorded(&mut stopper), ["process rogue (10) frozen: /opt/rogue"]);
    for times in 1..=5 {
        // Found running, or stopped again after a while.
        if times % 2 == 0 {
            fake.0.lock().unwrap().ran += Duration::from_millis(10);
        } else {
            fake.0.lock().unwrap().stopped.clear();
            fake.0.lock().unwrap().running.insert(10);
        }
        let obstacles = bring(&mut stopper, &freezes, false).await;
        assert!(
            matches!(&obstacles[..], [Obstacle::ProcessContested { pid: 10, .. }]),
            "{obstacles:?}"
        );
        let state = stopper.shown();
        assert_eq!((state.stopped[0].contested, state.left_running.len()), (times, 1));
    }
    assert_eq!(recorded(&mut stopper).len(), 3, "at one, two and four");
}

#[tokio::test]
async fn who_goes_on_after_its_signal_is_not_said_to_be_stopped() {
    let fake = Fake::default();
    fake.0.lock().unwrap().running.insert(10);
    fake.0.lock().unwrap().stubborn = true;
    let mut stopper = started(&fake);
    let freezes = plan(true, Some(ProcessAction::Freeze));
    for _ in 0..2 {
        let obstacles = bring(&mut stopper, &freezes, false).await;
        assert!(
            matches!(&obstacles[..], [Obstacle::ProcessRuns { what }] if what.contains("goes on")),
            "{obstacles:?}"
        );
        assert_eq!((shown(&stopper), recorded(&mut stopper).len()), (0, 0));
    }
    fake.0.lock().unwrap().stubborn = false;
    assert_eq!(bring(&mut stopper, &freezes, false).await, []);
    assert_eq!(
        (shown(&stopper), recorded(&mut stopper).len()),
        (1, 1),
        "told once"
    );
}

#[tokio::test]
async fn who_hears_its_signal_and_goes_on_is_contested_from_the_first_look_on() {
    let fake = Fake::default();
    fake.0.lock().unwrap().running.insert(10);
    fake.0.lock().unwrap().stubborn = true;
    fake.0.lock().unwrap().defiant = true;
    let mut stopper = started(&fake);
    let freezes = plan(true, Some(ProcessAction::Freeze));
    let contested = |stopper: &Stopper<Fake>| stopper.shown().stopped[0].contested;
    for times in 1..3 {
        let obstacles = bring(&mut stopper, &freezes, false).await;
        assert!(
            matches!(&obstacles[..], [Obstacle::ProcessContested { pid: 10, .. }]),
            "{obstacles:?}"
        );
        assert_eq!(contested(&stopper), times);
    }
    // Seen to be stopped at last, it is no news that it never was.
    fake.0.lock().unwrap().stubborn = false;
    fake.0.lock().unwrap().defiant = false;
    let obstacles = bring(&mut stopper, &freezes, false).await;
    assert!(
        matches!(&obstacles[..], [Obstacle::ProcessContested { .. }]),
        "told for a while"
    );
    assert_eq!(contested(&stopper), 2);
}

#[tokio::test]
async fn who_was_killed_and_has_not_ended_is_told_once_a_look() {
    let fake = Fake::default();
    fake.0.lock().unwrap().running.insert(10);
    fake.0.lock().unwrap().stubborn = true;
    let mut stopper = started(&fake);
    let kills = plan(true, Some(ProcessAction::Kill));
    for _ in 0..2 {
        let obstacles = bring(&mut stopper, &kills, false).await;
        assert!(
            matches!(&obstacles[..], [Obstacle::ProcessRuns { what }] if what.contains("has not ended")),
            "{obstacles:?}"
        );
    }
    fake.0.lock().unwrap().stubborn = false;
    assert_eq!(bring(&mut stopper, &kills, false).await, [], "control");
}

#[tokio::test]
async fn whom_his_owner_had_stopped_stays_so_also_after_a_restart() {
    let fake = Fake::default();
    fake.0.lock().unwrap().stopped.insert(10);
    let mut stopper = Stopper {
        searched: true,
        ..started(&fake)
    };
    let freezes = plan(true, Some(ProcessAction::Freeze));
    assert_eq!(bring(&mut stopper, &freezes, false).await, []);
    assert!(stopper.remembered()[0].stopped_before);
    let mut successor = started(&fake);
    assert_eq!(bring(&mut successor, &plan(false, None), false).await, []);
    assert!(fake.0.lock().unwrap().stopped.contains(&10));
    assert_eq!(
        recorded(&mut successor),
        ["process rogue (10) is let go and stays stopped, as it was found"]
    );
    assert_eq!(successor.freed(), 0);
}

#[tokio::test]
async fn whom_a_chase_told_to_stop_is_remembered_whatever_becomes_of_it() {
    let fake = Fake::default();
    let mut stopper = started(&fake);
    let freezes = plan(true, Some(ProcessAction::Freeze));
    fake.0.lock().unwrap().running.extend([10, 11]);
    let late = Chased {
        unproven: vec![(process(12), ProcessAction::Freeze)],
        ..Chased::default()
    };
    fake.0.lock().unwrap().chased = Some(Ok(late));
    let obstacles = bring(&mut stopper, &freezes, false).await;
    assert!(
        matches!(&obstacles[..], [Obstacle::ProcessRuns { what }] if what.contains("not seen to do it")),
        "{obstacles:?}"
    );
    assert_eq!((shown(&stopper), stopper.remembered().len()), (2, 3));
    // It is stopped by the next look, by nobody but us.
    fake.0.lock().unwrap().stopped.insert(12);
    assert_eq!(bring(&mut stopper, &freezes, false).await, []);
    assert!(stopper.remembered().iter().all(|known| !known.stopped_before));

    // One that has no answer may have stopped somebody.
    let why = "too late".to_owned();
    fake.0.lock().unwrap().chased = Some(Err(Obstacle::ProcessesUnknown { why }));
    fake.0.lock().unwrap().running.insert(13);
    assert_eq!(bring(&mut stopper, &freezes, false).await.len(), 1);
    fake.0.lock().unwrap().stopped.insert(14);
    assert_eq!(bring(&mut stopper, &freezes, false).await, []);
    assert_eq!(stopper.remembered().len(), 5);
    assert_eq!(bring(&mut stopper, &plan(false, None), false).await, []);
    assert_eq!(stopper.freed(), 5);
}

#[tokio::test]
async fn one_that_looks_different_stays_stopped_until_no_rule_holds() {
    let (fake, mut stopper, freezes) = frozen().await;
    // The list does not have it for once.
    fake.0.lock().unwrap().unlisted = true;
    assert_eq!(bring(&mut stopper, &freezes, false).await, []);
    assert!(fake.0.lock().unwrap().stopped.contains(&10));
    assert_eq!(bring(&mut stopper, &plan(true, None), false).await, []);
    assert_eq!((shown(&stopper), stopper.freed()), (0, 1));
}

#[tokio::test]
async fn the_killed_are_shown_until_the_release() {
    let fake = Fake::default();
    fake.0.lock().unwrap().running.extend(10..110);
    let mut stopper = started(&fake);
    let kills = plan(true, Some(ProcessAction::Kill));
    for _ in 0..2 {
        assert_eq!(bring(&mut stopper, &kills, false).await, []);
        assert_eq!(shown(&stopper), 32, "the newest");
    }
    assert_eq!(recorded(&mut stopper).len(), 100, "each once");
    assert_eq!(bring(&mut stopper, &plan(false, None), false).await, []);
    assert_eq!((shown(&stopper), stopper.freed()), (0, 0));
}
