//! Who stops with a child that is stopped, and goes on with it.

use std::borrow::Cow;

use super::*;

/// The one above everybody, who is no rogue.
const ABOVE: u32 = 20;

/// Two rogues below one who runs.
fn below() -> (Fake, Stopper<Fake>) {
    let fake = Fake::default();
    {
        let mut held = fake.0.lock().unwrap();
        held.running.extend([10, 11, ABOVE]);
        held.above = vec![process(ABOVE).identity];
    }
    let stopper = started(&fake);
    (fake, stopper)
}

fn stops(fake: &Fake, pid: u32) {
    let mut held = fake.0.lock().unwrap();
    assert!(held.running.remove(&pid), "control: it ran");
    held.stopped.insert(pid);
}

fn runs(fake: &Fake, pid: u32) -> bool {
    fake.0.lock().unwrap().running.contains(&pid)
}

#[tokio::test]
async fn who_stopped_with_one_goes_on_when_the_last_below_him_does() {
    let (fake, mut stopper) = below();
    let freezes = plan(true, Some(ProcessAction::Freeze));
    bring(&mut stopper, &freezes, false).await;
    assert_eq!(shown(&stopper), 2, "control");
    stops(&fake, ABOVE);
    bring(&mut stopper, &freezes, false).await;
    // One ends.
    fake.0.lock().unwrap().stopped.remove(&10);
    bring(&mut stopper, &freezes, false).await;
    assert!(!runs(&fake, ABOVE), "another one below him is frozen still");
    // The journal has it.
    let journal = Journal {
        stopped: Cow::Owned(stopper.remembered().to_vec()),
        ..Journal::default()
    };
    let (_, goes_on) = watch::channel(false);
    let mut next = Stopper::restore(fake.clone(), &journal, Vec::new(), goes_on);
    bring(&mut next, &plan(false, None), false).await;
    assert!(runs(&fake, 11) && runs(&fake, ABOVE));
    assert!(!next.follows(), "nobody is left to be looked for");
}

#[tokio::test]
async fn who_stops_a_moment_after_the_one_below_him_was_let_go_goes_on_too() {
    let (fake, mut stopper) = below();
    bring(&mut stopper, &plan(true, Some(ProcessAction::Freeze)), false).await;
    let free = plan(false, None);
    fake.0.lock().unwrap().at_work = Some(ABOVE);
    bring(&mut stopper, &free, false).await;
    assert!(stopper.follows(), "he may be about to");
    stops(&fake, ABOVE);
    bring(&mut stopper, &free, false).await;
    assert!(runs(&fake, ABOVE));
    // Later it is somebody else who stops him.
    bring(&mut stopper, &free, false).await;
    assert!(!stopper.follows());
    stops(&fake, ABOVE);
    bring(&mut stopper, &free, false).await;
    assert!(!runs(&fake, ABOVE));
}

#[tokio::test]
async fn whom_somebody_stops_after_the_release_or_kill_of_the_one_below_him_stays_so() {
    for action in [ProcessAction::Freeze, ProcessAction::Kill] {
        let (fake, mut stopper) = below();
        bring(&mut stopper, &plan(true, Some(action)), false).await;
        // He has work of his own when that one is killed.
        fake.0.lock().unwrap().at_work = (action == ProcessAction::Kill).then_some(ABOVE);
        bring(&mut stopper, &plan(false, None), false).await;
        assert!(!stopper.follows(), "{action:?}");
        stops(&fake, ABOVE);
        bring(&mut stopper, &plan(false, None), false).await;
        assert!(!runs(&fake, ABOVE), "{action:?}");
    }
}

#[tokio::test]
async fn who_stopped_with_one_that_was_killed_goes_on() {
    let (fake, mut stopper) = below();
    let kills = wanted(&plan(true, Some(ProcessAction::Kill)), false);
    let to_stop = stopper.choose(&kills, NOW).await;
    stops(&fake, ABOVE);
    stopper.stop(to_stop, NOW).await;
    assert!(runs(&fake, ABOVE));
}
