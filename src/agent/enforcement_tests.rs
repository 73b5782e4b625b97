//! The enforcer's task is ended while it holds an isolation, and started again.

use edgewarden_lab::site::in_lab;
use tokio::task::JoinSet;

use super::*;
use crate::agent::configuration;
use crate::config::Config;
use crate::host::clock;
use crate::host::netfilter::kernel;
use crate::quarantine::orders::document::Wish;
use crate::quarantine::orders::order::{Authority, Posture};
use crate::quarantine::proof::obstacle::Obstacle;
use crate::quarantine::proof::state::Phase;

fn wish(wish: Wish) -> EnforcerCommand {
    EnforcerCommand::Wish {
        authority: Authority::Operator,
        wish: Ok(wish),
    }
}

fn tables() -> usize {
    kernel::tables(&mut kernel::open().unwrap()).unwrap().len()
}

async fn a_rebuilt_enforcer_holds_what_was_ordered() {
    let directory = tempfile::tempdir().unwrap();
    let settings = configuration::settings(&Config::defaults(), None);
    let (task, enforcement) =
        restore(directory.path(), &directory.path().join("control.sock"), settings).await;
    let mut running = JoinSet::new();
    running.spawn(task.clone().run());
    let order = Order::isolate(Authority::Operator, "test", None, clock::now().wall);
    let state = enforcement.ask(wish(Wish::Order(Box::new(order)))).await.unwrap();
    assert_eq!(state.posture, Some(Posture::Isolate), "control: {state:?}");
    let held = tables();
    assert!(held > 0, "control: the kernel holds it");

    running.shutdown().await;
    let gone = enforcement.state().borrow().clone();
    assert_eq!((gone.phase, gone.posture), (Phase::Failed, None), "{gone:?}");
    assert_eq!(gone.obstacles, [Obstacle::EnforcerFailed]);
    assert_eq!(tables(), held, "the kernel keeps what it has");

    // What is asked meanwhile waits for the successor.
    let waiting = enforcement.clone();
    let mut asked = JoinSet::new();
    asked.spawn(async move { waiting.ask(EnforcerCommand::Look).await });
    running.spawn(task.run());
    let answer = asked.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(answer.posture, Some(Posture::Isolate), "{answer:?}");
    let mut states = enforcement.state();
    let back = states
        .wait_for(|state| state.posture == Some(Posture::Isolate))
        .await;
    assert_eq!(back.unwrap().orders.len(), 1);
    let state = enforcement.ask(wish(Wish::Release)).await.unwrap();
    assert_eq!(state.posture, Some(Posture::Normal), "{state:?}");
    assert_eq!(tables(), 0, "the same handle still rules");
}

#[test]
fn an_enforcer_that_ended_claims_nothing_and_its_successor_holds_the_order() {
    in_lab(
        "agent::enforcement::tests::an_enforcer_that_ended_claims_nothing_and_its_successor_holds_the_order",
        || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let limit = Duration::from_secs(60);
            let test = a_rebuilt_enforcer_holds_what_was_ordered();
            runtime
                .block_on(async { tokio::time::timeout(limit, Box::pin(test)).await })
                .unwrap();
        },
    );
}

#[tokio::test(start_paused = true)]
async fn an_enforcer_that_says_nothing_for_long_is_stuck_and_one_that_speaks_is_not() {
    let (say, states) = watch::channel(State::default());
    let stuck = stuck(states);
    tokio::pin!(stuck);
    for _ in 0..5 {
        let quiet = tokio::time::timeout(STUCK - Duration::from_secs(1), &mut stuck).await;
        assert!(quiet.is_err(), "it has spoken a moment ago");
        say.send_replace(State::default());
    }
    let ended = tokio::time::timeout(STUCK + Duration::from_secs(1), &mut stuck).await;
    assert!(ended.is_ok(), "it has not spoken since");
}
