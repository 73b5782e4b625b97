//! Random order sequences against a reference model, on the real enforcer with the real packet filter.
//!
//! In: steps of up to four authorities, the operator's override, settings, restarts, other hands. What is compared after
//! every step: the live orders, the posture, and for each of six probes whether a datagram leaves the device.

use std::collections::{BTreeMap, BTreeSet};
use std::net::UdpSocket;
use std::path::Path;
use std::process::Command as Program;

use edgewarden::agent::enforcer::{Enforcer, EnforcerCommand, Handle};
use edgewarden::quarantine::lifelines::lifeline::{Endpoint, Purpose};
use edgewarden::quarantine::orders::order::{Posture, Protocol};
use edgewarden::quarantine::proof::state::State;
use edgewarden_lab::lab_test;
use jiff::Timestamp;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use super::reference::{
    AUTHORITIES, EDITS, Model, PORTS, REMOTES, Said, Step, address, check, settings, step, wish,
};

/// Longest sequence.
const MAX_STEPS: usize = 8;
/// Tries to find a shorter sequence that fails too.
const MAX_SHRINKS: u32 = 150;
/// The real thing.
struct Real {
    handle: Handle,
    task: tokio::task::JoinHandle<()>,
}

impl Real {
    async fn start(directory: &Path, model: &Model) -> Self {
        let (enforcer, handle) = Enforcer::restore(directory, settings(model)).await;
        Self {
            handle,
            task: tokio::spawn(enforcer.run()),
        }
    }

    /// Ends as a crash would: nothing is said to it before.
    async fn end(self) {
        self.task.abort();
        let _cancelled = self.task.await;
    }

    async fn ask(&self, command: EnforcerCommand) -> State {
        self.handle.ask(command).await.unwrap()
    }
}

/// Carries out a step; gives the enforcer's state after it.
async fn carry_out(real: Real, step: &Step, model: &Model, directory: &Path) -> (Real, State) {
    let command = match step {
        Step::Says(who, said) => wish(*who, said, Timestamp::now()),
        Step::Repeats(who) => wish(*who, &model.last(*who), Timestamp::now()),
        Step::Override => EnforcerCommand::Override { reason: "r".into() },
        Step::WithoutNucleus => EnforcerCommand::ReleaseWithoutNucleus { why: "w".into() },
        Step::Observe(_) | Step::Standing(_) => EnforcerCommand::Settings(Box::new(settings(model))),
        Step::Addresses => EnforcerCommand::Connected(vec![Endpoint {
            purpose: Purpose::DataEndpoint,
            address: "198.51.100.50".parse().unwrap(),
            protocol: Protocol::Tcp,
            port: 8883,
        }]),
        Step::OtherHand(edit) => {
            // Refused when there is nothing to edit.
            let _refused = nft(EDITS[*edit]);
            EnforcerCommand::KernelChanged(None)
        }
        Step::Restart => {
            real.end().await;
            let real = Real::start(directory, model).await;
            let state = real.handle.state().borrow().clone();
            return (real, state);
        }
    };
    let state = real.ask(command).await;
    (real, state)
}

fn nft(command: &str) -> bool {
    Program::new("nft")
        .arg(command)
        .output()
        .unwrap()
        .status
        .success()
}

/// Whether a datagram gets past the packet filter.
fn leaves(remote: usize, port: usize) -> Result<bool, TestCaseError> {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    match socket.send_to(b"x", (address(remote), PORTS[port])) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Ok(false),
        Err(error) => Err(TestCaseError::fail(format!("the probe proves nothing: {error}"))),
    }
}

fn compare(model: &Model, state: &State, step: &Step) -> Result<(), TestCaseError> {
    let live: BTreeSet<usize> = state
        .orders
        .iter()
        .filter_map(|order| {
            AUTHORITIES
                .iter()
                .position(|authority| *authority == order.authority)
        })
        .collect();
    prop_assert_eq!(
        live,
        model.live.keys().copied().collect(),
        "live orders after {:?}: {:?}",
        step,
        state
    );
    prop_assert_eq!(state.wanted, model.posture(), "wanted after {:?}", step);
    let enforced = if model.observe {
        Posture::Normal
    } else {
        model.posture()
    };
    prop_assert_eq!(
        state.posture,
        Some(enforced),
        "enforced after {:?}: {:?}",
        step,
        state
    );
    prop_assert!(state.faults.is_empty(), "after {:?}: {:?}", step, state.faults);
    for remote in 0..REMOTES.len() {
        for (port, number) in PORTS.iter().enumerate() {
            let wanted = model.passes(remote, port);
            let found = leaves(remote, port)?;
            prop_assert_eq!(
                found,
                wanted,
                "{}:{} after {:?}\n{:?}",
                address(remote),
                number,
                step,
                model
            );
        }
    }
    Ok(())
}

/// What came up in all sequences; a test that only ever saw an open device would prove nothing.
#[derive(Debug, Default)]
struct Seen {
    steps: usize,
    postures: BTreeMap<String, usize>,
    overridden: usize,
}

async fn sequence(steps: &[Step], seen: &std::cell::RefCell<Seen>) -> Result<(), TestCaseError> {
    assert!(nft("flush ruleset"));
    let directory = tempfile::Builder::new().permissions(private()).tempdir().unwrap();
    let mut model = Model::default();
    let mut real = Real::start(directory.path(), &model).await;
    let mut outcome = Ok(());
    for step in steps {
        model.take(step);
        let state;
        (real, state) = carry_out(real, step, &model, directory.path()).await;
        outcome = compare(&model, &state, step);
        if outcome.is_err() {
            break;
        }
        let mut seen = seen.borrow_mut();
        seen.steps += 1;
        *seen.postures.entry(model.posture().to_string()).or_default() += 1;
        seen.overridden += usize::from(!model.ended.is_empty());
    }
    real.end().await;
    outcome
}

fn private() -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o700)
}

/// A way out for the probes: an interface whose other end swallows everything.
fn way_out() {
    for words in [
        "link add wan0 type veth peer name far0",
        "address add 198.51.100.2/24 dev wan0",
        // Nobody is there who would answer.
        "link set wan0 arp off up",
        "link set far0 up",
        "route add default dev wan0",
    ] {
        let status = Program::new("ip").args(words.split(' ')).status().unwrap();
        assert!(status.success(), "ip {words}");
    }
}

/// What chance finds too seldom: an order ended by the operator, and another one after it, are both remembered.
fn two_overrides() -> Vec<Step> {
    vec![
        Step::Says(0, Said::Isolate),
        Step::Override,
        Step::Says(1, Said::Isolate),
        Step::Override,
        Step::Repeats(0),
        Step::Restart,
        Step::Repeats(1),
    ]
}

/// Runs that many random sequences.
fn sequences(count: u32) {
    way_out();
    assert!(
        leaves(0, 0).unwrap() && leaves(2, 1).unwrap(),
        "control: datagrams leave"
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let seen = std::cell::RefCell::new(Seen::default());
    let steps = proptest::collection::vec(step(), 1..=MAX_STEPS);
    runtime.block_on(sequence(&two_overrides(), &seen)).unwrap();
    check(count, MAX_SHRINKS, &steps, |steps| {
        runtime.block_on(sequence(&steps, &seen))
    });
    println!("{:?}", seen.borrow());
    let seen = seen.into_inner();
    assert!(
        seen.overridden > 0 && seen.postures.len() == 3,
        "control: {seen:?}"
    );
}

lab_test!(random_orders_do_what_the_model_says, || sequences(500));

lab_test!(random_orders_do_what_the_model_says_again, || sequences(500));
