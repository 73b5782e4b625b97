//! Random order sequences against a reference model, on the real enforcer with the real packet filter.
//!
//! In: steps of up to four authorities, the operator's override, settings, restarts, other hands. What is compared
//! after every step: the live orders, the posture, and for each of six probes whether a datagram leaves the device. The
//! model knows the rules of docs/orders.md and nothing of the code: sets of remotes and ports, the strictest posture
//! wins.

use std::collections::{BTreeMap, BTreeSet};
use std::net::UdpSocket;
use std::path::Path;
use std::process::Command as Program;

use edgewarden::agent::configuration;
use edgewarden::agent::enforcer::{Command, Enforcer, Handle, Settings};
use edgewarden::config::{Config, Mode};
use edgewarden::quarantine::lifelines::lifeline::{Endpoint, Purpose};
use edgewarden::quarantine::orders;
use edgewarden::quarantine::orders::order::{Allowance, Authority, Direction, Posture, Protocol};
use edgewarden::quarantine::proof::state::State;
use edgewarden_lab::lab_test;
use jiff::Timestamp;
use proptest::prelude::*;
use proptest::test_runner::{Config as Runs, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use serde_json::{Value, json};

#[path = "../shared/random.rs"]
mod random;

/// Longest sequence.
const MAX_STEPS: usize = 8;
/// Tries to find a shorter sequence that fails too.
const MAX_SHRINKS: u32 = 150;
/// The other ends of the probes: 203.0.113.1 and so on.
const REMOTES: [u8; 3] = [1, 2, 3];
/// Their ports.
const PORTS: [u16; 2] = [1000, 2000];
const AUTHORITIES: [Authority; 4] = [
    Authority::Shadow,
    Authority::Deployment,
    Authority::Detector,
    Authority::Operator,
];

/// What an authority says. Which remotes and ports: bits, so that equal wishes come up often.
#[derive(Clone, Debug, PartialEq)]
enum Said {
    Release,
    Isolate,
    Rich {
        isolate: bool,
        remotes: u8,
        ports: u8,
        allow: u8,
    },
    Invalid,
    Expired,
}

#[derive(Clone, Debug)]
enum Step {
    Says(usize, Said),
    /// Shadow and deployment are read again, and say what they said last.
    Repeats(usize),
    Override,
    Observe(bool),
    /// A standing allowance for the third remote's second port.
    Standing(bool),
    Restart,
    OtherHand(usize),
    Addresses,
}

/// Edits by another program; what is not there cannot be edited.
const EDITS: [&str; 5] = [
    "flush ruleset",
    "delete table inet edgewarden",
    "flush chain inet edgewarden output",
    "insert rule inet edgewarden output accept",
    "add table inet edgewarden",
];

fn said() -> impl Strategy<Value = Said> {
    let rich = (any::<bool>(), 0..8u8, 0..4u8, 0..4u8).prop_map(|(isolate, remotes, ports, allow)| {
        match (isolate, remotes, ports, allow) {
            // The same as `true`.
            (true, 0, 0, 0) => Said::Isolate,
            // A restriction must say what it cuts.
            (false, 0, 0, _) => Said::Rich {
                isolate,
                remotes: 1,
                ports,
                allow,
            },
            _ => Said::Rich {
                isolate,
                remotes,
                ports,
                allow,
            },
        }
    });
    prop_oneof![
        3 => Just(Said::Release),
        3 => Just(Said::Isolate),
        6 => rich,
        1 => Just(Said::Invalid),
        1 => Just(Said::Expired),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..AUTHORITIES.len(), said()).prop_map(|(who, said)| Step::Says(who, said)),
        4 => (0..2usize).prop_map(Step::Repeats),
        4 => Just(Step::Override),
        1 => any::<bool>().prop_map(Step::Observe),
        1 => any::<bool>().prop_map(Step::Standing),
        3 => Just(Step::Restart),
        3 => (0..EDITS.len()).prop_map(Step::OtherHand),
        1 => Just(Step::Addresses),
    ]
}

/// The reference: what should be.
#[derive(Clone, Debug, Default)]
struct Model {
    /// What each said last.
    said: BTreeMap<usize, Said>,
    live: BTreeMap<usize, Said>,
    /// Ended by the operator, and not to come back by being repeated.
    ended: BTreeMap<usize, Said>,
    observe: bool,
    standing: bool,
}

impl Model {
    fn take(&mut self, step: &Step) {
        match step {
            Step::Says(who, said) => {
                self.said.insert(*who, said.clone());
                self.says(*who, said);
            }
            Step::Repeats(who) => self.says(*who, &self.last(*who)),
            Step::Override => {
                let ended = std::mem::take(&mut self.live).into_iter();
                // Shadow and deployment say the same again and again; detector and operator speak once.
                self.ended.extend(ended.filter(|(who, _)| *who < 2));
            }
            Step::Observe(observe) => self.observe = *observe,
            Step::Standing(standing) => self.standing = *standing,
            Step::Restart | Step::OtherHand(_) | Step::Addresses => {}
        }
    }

    /// Whoever never said anything wants nothing.
    fn last(&self, who: usize) -> Said {
        self.said.get(&who).cloned().unwrap_or(Said::Release)
    }

    fn says(&mut self, who: usize, said: &Said) {
        if *said == Said::Invalid || self.ended.get(&who) == Some(said) {
            return;
        }
        self.ended.remove(&who);
        if matches!(said, Said::Release | Said::Expired) {
            self.live.remove(&who);
        } else {
            self.live.insert(who, said.clone());
        }
    }

    fn posture(&self) -> Posture {
        let strictness = |said: &Said| match said {
            Said::Isolate | Said::Rich { isolate: true, .. } => Posture::Isolate,
            _ => Posture::Restrict,
        };
        self.live
            .values()
            .map(strictness)
            .max()
            .unwrap_or(Posture::Normal)
    }

    /// Whether a datagram to the remote's port leaves.
    fn passes(&self, remote: usize, port: usize) -> bool {
        let blocks = |said: &Said| match said {
            Said::Rich { remotes, ports, .. } => remotes & (1 << remote) != 0 || ports & (1 << port) != 0,
            _ => false,
        };
        if self.observe {
            return true;
        }
        if self.live.values().any(blocks) {
            return false;
        }
        let grants = |said: &Said| match said {
            Said::Isolate => Some(false),
            Said::Rich {
                isolate: true, allow, ..
            } => Some(port == 0 && allow & (1 << remote) != 0),
            _ => None,
        };
        let granted: Vec<bool> = self.live.values().filter_map(grants).collect();
        granted.iter().all(|granted| *granted) || (self.standing && (remote, port) == (2, 1))
    }
}

/// The order as the authority writes it.
fn document(who: usize, said: &Said) -> Value {
    let listed = |bits: u8, of: &dyn Fn(usize) -> Value| -> Vec<Value> {
        (0..3).filter(|bit| bits & (1 << bit) != 0).map(of).collect()
    };
    match said {
        Said::Release => json!(false),
        Said::Isolate => json!(true),
        Said::Invalid => json!({"posture": "isolate", "expires": "tomorrow", "id": who}),
        Said::Expired => json!({"posture": "isolate", "expires": "2020-01-01T00:00:00Z"}),
        Said::Rich {
            isolate,
            remotes,
            ports,
            allow,
        } => json!({
            "posture": if *isolate { "isolate" } else { "restrict" },
            "block": {
                "remotes": listed(*remotes, &|bit| json!(address(bit))),
                "ports": listed(*ports, &|bit| json!({"protocol": "udp", "port": PORTS[bit]})),
            },
            "allow": listed(*allow, &|bit| json!({
                "remote": format!("{}/32", address(bit)), "protocol": "udp", "ports": [PORTS[0]], "direction": "out"})),
        }),
    }
}

fn address(remote: usize) -> String {
    format!("203.0.113.{}", REMOTES[remote])
}

fn settings(model: &Model) -> Settings {
    let mut config = Config::defaults();
    config.mode = if model.observe {
        Mode::Observe
    } else {
        Mode::Enforce
    };
    if model.standing {
        config.isolation.settings.allow = vec![Allowance {
            remote: format!("{}/32", address(2)).parse().unwrap(),
            protocol: Protocol::Udp,
            ports: vec![PORTS[1]],
            direction: Direction::Out,
        }];
    }
    configuration::settings(&config, None)
}

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

    async fn ask(&self, command: Command) -> State {
        self.handle.ask(command).await.unwrap()
    }
}

fn wish(who: usize, said: &Said) -> Command {
    let authority = AUTHORITIES[who];
    Command::Wish {
        authority,
        wish: orders::document::read(Some(&document(who, said)), authority, Timestamp::now()),
    }
}

/// Carries out a step; gives the enforcer's state after it.
async fn carry_out(real: Real, step: &Step, model: &Model, directory: &Path) -> (Real, State) {
    let command = match step {
        Step::Says(who, said) => wish(*who, said),
        Step::Repeats(who) => wish(*who, &model.last(*who)),
        Step::Override => Command::Override { reason: "r".into() },
        Step::Observe(_) | Step::Standing(_) => Command::Settings(Box::new(settings(model))),
        Step::Addresses => Command::Addresses(vec![Endpoint {
            purpose: Purpose::DataEndpoint,
            address: "198.51.100.50".parse().unwrap(),
            protocol: Protocol::Tcp,
            port: 8883,
        }]),
        Step::OtherHand(edit) => {
            // Refused when there is nothing to edit.
            let _refused = nft(EDITS[*edit]);
            Command::KernelChanged(None)
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
    let mut seed = [0; 32];
    random::random().fill(&mut seed);
    let runs = Runs {
        cases: count,
        max_shrink_iters: MAX_SHRINKS,
        failure_persistence: None,
        ..Runs::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let mut runner = TestRunner::new_with_rng(runs, rng);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let seen = std::cell::RefCell::new(Seen::default());
    let steps = proptest::collection::vec(step(), 1..=MAX_STEPS);
    runtime.block_on(sequence(&two_overrides(), &seen)).unwrap();
    let result = runner.run(&steps, |steps| runtime.block_on(sequence(&steps, &seen)));
    println!("{:?}", seen.borrow());
    match result {
        Ok(()) => {}
        Err(TestError::Fail(reason, steps)) => panic!("shortest sequence: {steps:#?}\n{reason}"),
        Err(error) => panic!("{error}"),
    }
    let seen = seen.into_inner();
    assert!(
        seen.overridden > 0 && seen.postures.len() == 3,
        "control: {seen:?}"
    );
}

lab_test!(random_orders_do_what_the_model_says, || sequences(500));

lab_test!(random_orders_do_what_the_model_says_again, || sequences(500));
