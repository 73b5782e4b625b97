//! The reference model: what should follow from what the authorities say. It knows the rules and nothing of the code: sets
//! of remotes and ports, the strictest posture wins.
//!
//! In: [`Step`]s. Out: the live orders, the posture, and for each probe whether a datagram leaves. Two runs compare with it:
//! [`super::model`] on the real kernel, [`super::model_run`] on a fake one.

use std::collections::{BTreeMap, BTreeSet};

use edgewarden::agent::configuration;
use edgewarden::agent::enforcer::{EnforcerCommand, EnforcerSettings};
use edgewarden::config::{Config, Mode};
use edgewarden::quarantine::orders;
use edgewarden::quarantine::orders::order::{Allowance, Authority, Direction, Posture, Protocol};
use jiff::Timestamp;
use proptest::prelude::*;
use proptest::test_runner::{Config as Runs, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use serde_json::{Value, json};

use super::random;

/// The other ends of the probes: 203.0.113.1 and so on.
pub(super) const REMOTES: [u8; 3] = [1, 2, 3];
/// Their ports.
pub(super) const PORTS: [u16; 2] = [1000, 2000];
pub(super) const AUTHORITIES: [Authority; 4] = [
    Authority::Shadow,
    Authority::Deployment,
    Authority::Detector,
    Authority::Operator,
];

/// What an authority says. Which remotes and ports: bits, so that equal wishes come up often.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Said {
    Release,
    Isolate,
    Rich {
        isolate: bool,
        remotes: u8,
        ports: u8,
        allow: u8,
    },
    Invalid,
    /// An order whose own end had passed when it was said: as faulty as one that cannot be read.
    Expired,
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Says(usize, Said),
    /// Shadow and deployment are read again, and say what they said last.
    Repeats(usize),
    Override,
    /// No nucleus was there for as long as the owner allows.
    WithoutNucleus,
    Observe(bool),
    /// A standing allowance for the third remote's second port.
    Standing(bool),
    Restart,
    OtherHand(usize),
    Addresses,
}

/// Edits by another program; what is not there cannot be edited.
pub(super) const EDITS: [&str; 5] = [
    "flush ruleset",
    "delete table inet edgewarden",
    "flush chain inet edgewarden output",
    "insert rule inet edgewarden output accept",
    "add table inet edgewarden",
];

pub(super) fn said() -> impl Strategy<Value = Said> {
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

pub(super) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..AUTHORITIES.len(), said()).prop_map(|(who, said)| Step::Says(who, said)),
        4 => (0..2usize).prop_map(Step::Repeats),
        4 => Just(Step::Override),
        2 => Just(Step::WithoutNucleus),
        1 => any::<bool>().prop_map(Step::Observe),
        1 => any::<bool>().prop_map(Step::Standing),
        3 => Just(Step::Restart),
        3 => (0..EDITS.len()).prop_map(Step::OtherHand),
        1 => Just(Step::Addresses),
    ]
}

/// The reference: what should be.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    /// What each said last.
    pub(super) said: BTreeMap<usize, Said>,
    pub(super) live: BTreeMap<usize, Said>,
    /// Ended by the operator, and not to come back by being repeated.
    pub(super) ended: BTreeMap<usize, Said>,
    pub(super) observe: bool,
    pub(super) standing: bool,
}

impl Model {
    pub(super) fn take(&mut self, step: &Step) {
        match step {
            Step::Says(who, said) => {
                self.said.insert(*who, said.clone());
                self.says(*who, said);
            }
            Step::Repeats(who) => self.says(*who, &self.last(*who)),
            // What shadow and deployment repeat counts again.
            Step::WithoutNucleus => self.live.retain(|who, _| *who >= 2),
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
    pub(super) fn last(&self, who: usize) -> Said {
        self.said.get(&who).cloned().unwrap_or(Said::Release)
    }

    pub(super) fn says(&mut self, who: usize, said: &Said) {
        if matches!(said, Said::Invalid | Said::Expired) || self.ended.get(&who) == Some(said) {
            return;
        }
        self.ended.remove(&who);
        if *said == Said::Release {
            self.live.remove(&who);
        } else {
            self.live.insert(who, said.clone());
        }
    }

    pub(super) fn posture(&self) -> Posture {
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
    pub(super) fn passes(&self, remote: usize, port: usize) -> bool {
        let blocks = |said: &Said| match said {
            Said::Rich { remotes, ports, .. } => remotes & (1 << remote) != 0 || ports & (1 << port) != 0,
            _ => false,
        };
        if self.observe {
            return true;
        }
        !self.live.values().any(blocks) && self.grants(remote, port)
    }

    /// Whether no isolation cuts it.
    fn grants(&self, remote: usize, port: usize) -> bool {
        let grants = |said: &Said| match said {
            Said::Isolate => Some(false),
            Said::Rich {
                isolate: true, allow, ..
            } => Some(port == 0 && allow & (1 << remote) != 0),
            _ => None,
        };
        let of = |wanted: &dyn Fn(usize) -> bool| -> Vec<bool> {
            let live = self.live.iter().filter(|(who, _)| wanted(**who));
            live.filter_map(|(_, said)| grants(said)).collect()
        };
        // The detector's order counts where nobody else isolates.
        let owners = of(&|who| AUTHORITIES[who] != Authority::Detector);
        let granted = if owners.is_empty() { of(&|_| true) } else { owners };
        granted.iter().all(|granted| *granted) || (self.standing && (remote, port) == (2, 1))
    }

    /// Whether whatever lives behind `other` lives behind this: it is no stricter, blocks nothing else and grants as much.
    pub(super) fn spares_no_less(&self, other: &Self) -> bool {
        let blocks = |model: &Self| -> BTreeSet<(u8, u8)> {
            let blocked = model.live.values().filter_map(|said| match said {
                Said::Rich { remotes, ports, .. } => Some((*remotes, *ports)),
                _ => None,
            });
            blocked.filter(|blocked| *blocked != (0, 0)).collect()
        };
        let mut probes = (0..REMOTES.len()).flat_map(|remote| [(remote, 0), (remote, 1)]);
        self.posture() <= other.posture()
            && blocks(self).is_subset(&blocks(other))
            && probes.all(|(remote, port)| !other.grants(remote, port) || self.grants(remote, port))
    }
}

/// The order as the authority writes it.
pub(super) fn document(who: usize, said: &Said) -> Value {
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

pub(super) fn address(remote: usize) -> String {
    format!("203.0.113.{}", REMOTES[remote])
}

pub(super) fn settings(model: &Model) -> EnforcerSettings {
    configuration::settings(&config(model), None)
}

/// The configuration that the model was told of.
pub(super) fn config(model: &Model) -> Config {
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
    config
}

/// What `who` says, as a command at `now`.
pub(super) fn wish(who: usize, said: &Said, now: Timestamp) -> EnforcerCommand {
    let authority = AUTHORITIES[who];
    EnforcerCommand::Wish {
        authority,
        wish: orders::document::read(Some(&document(who, said)), authority, now),
    }
}

/// Runs `cases` random cases with a printed seed; panics with the shortest that fails, for which up to `shrinks` are tried.
pub(super) fn check<S: Strategy>(
    cases: u32,
    shrinks: u32,
    strategy: &S,
    test: impl Fn(S::Value) -> Result<(), TestCaseError>,
) {
    let mut seed = [0; 32];
    random::random().fill(&mut seed);
    let runs = Runs {
        cases,
        max_shrink_iters: shrinks,
        failure_persistence: None,
        ..Runs::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    match TestRunner::new_with_rng(runs, rng).run(strategy, test) {
        Ok(()) => {}
        Err(TestError::Fail(reason, case)) => panic!("shortest sequence: {case:#?}\n{reason}"),
        Err(error) => panic!("{error}"),
    }
}
