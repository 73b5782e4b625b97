//! Silence that proves little: of a stopped agent, of an outage that ends, where the owner holds, and long after the
//! confirmation.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use edgewarden_lab::front::Front;
use edgewarden_lab::lab_test;
use edgewarden_lab::site::{ATTACKER_V4, BROKER_PORT, INTERNET_V4, Ns, lab_program};
use edgewarden_lab::stage::{Stage, StageOptions, Turns};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::channel::broker_unreachable;
use crate::common::{
    LIMIT, connected_and_released, done, isolate, opens_within, options, ready, release, reports,
};

/// How long the channel may be silent.
pub(crate) const WINDOW: Duration = Duration::from_secs(10);

pub(super) fn short_windows() -> StageOptions {
    StageOptions {
        configuration: json!({"isolation": {"confirmSeconds": WINDOW.as_secs()}}),
        ..options()
    }
}

/// What the nucleus goes through on the way to its broker: then no connection of it tells the agent where its cloud is.
pub(crate) const DETOUR: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 18_883);

/// A device that is not online yet, whose nucleus takes a detour that leads nowhere yet.
pub(crate) fn detoured() -> Stage {
    let options = StageOptions {
        configuration: json!({"isolation": {
            "confirmSeconds": WINDOW.as_secs(),
            "dataEndpoint": INTERNET_V4.to_string(),
        }}),
        online: false,
        broker: DETOUR.to_string(),
        ..options()
    };
    Stage::start(options).unwrap()
}

/// Leads the detour to a broker at this address, until dropped.
pub(crate) fn lead_to(stage: &Stage, address: IpAddr) -> Front {
    lead_by(stage, &lab_program().unwrap(), address)
}

/// The same by a copy of the lab's program, which an order may name.
pub(crate) fn lead_by(stage: &Stage, program: &Path, address: IpAddr) -> Front {
    let ends = (DETOUR, SocketAddr::new(address, BROKER_PORT));
    Front::start(&stage.site, Ns::Gateway, program, "detour", ends).unwrap()
}

lab_test!(an_agent_that_was_stopped_takes_none_of_that_for_silence, || {
    let mut stage = ready(StageOptions {
        // Nobody turns while it is stopped.
        turns: Turns::Unmeasured,
        ..short_windows()
    });
    broker_unreachable(&stage, true);
    done(&stage, &["quarantine", "--reason", "stopped"]);
    let status = stage.wait_phase(LIMIT, "provisional").unwrap();
    assert_eq!(status["enforcement"]["scope"], "pinned", "control: {status}");
    let agent = stage.agent.as_mut().unwrap();
    agent.signal(Signal::SIGSTOP).unwrap();
    broker_unreachable(&stage, false);
    // More than two windows; the nucleus has its connection back long before.
    std::thread::sleep(WINDOW * 12 / 5);
    stage.agent.as_mut().unwrap().signal(Signal::SIGCONT).unwrap();
    stage.wait_phase(LIMIT, "enforced").unwrap();
    assert_eq!(
        stage.status()["enforcement"]["scope"],
        "pinned",
        "{}",
        stage.status()
    );
    let told = done(&stage, &["history"]);
    assert!(!told.contains("wider") && !told.contains("GIVEN UP"), "{told}");
});

lab_test!(
    silence_behind_a_living_connection_of_the_nucleus_is_forgiven,
    || {
        let stage = ready(StageOptions {
            front: true,
            ..short_windows()
        });
        // What stands before the broker takes everything and passes nothing on.
        stage.front().black_hole(true).unwrap();
        done(&stage, &["quarantine", "--reason", "swallowed"]);
        stage.wait_phase(LIMIT, "provisional").unwrap();
        assert_eq!(opens_within(&stage, WINDOW * 2), None);
        stage.front().black_hole(false).unwrap();
        let status = stage.wait_phase(LIMIT, "enforced").unwrap();
        assert_eq!(status["enforcement"]["scope"], "pinned", "{status}");
    }
);

lab_test!(where_the_owner_holds_no_silence_opens_the_device, || {
    let stage = ready(StageOptions {
        configuration: json!({"isolation": {"confirmSeconds": WINDOW.as_secs(), "onSilence": "hold"}}),
        ..options()
    });
    assert_eq!(stage.status()["configuration"]["faults"], json!([]));
    broker_unreachable(&stage, true);
    done(&stage, &["quarantine", "--reason", "held"]);
    stage.wait_phase(LIMIT, "provisional").unwrap();
    assert_eq!(opens_within(&stage, WINDOW * 4), None);
    let text = done(&stage, &["status"]);
    assert!(text.contains("stays closed"), "{text}");
    broker_unreachable(&stage, false);
    stage.wait_phase(LIMIT, "enforced").unwrap();
    reports(&stage, &json!(true));
});

lab_test!(a_channel_that_dies_late_is_rescued_by_wider_lifelines, || {
    let mut stage = detoured();
    let first = lead_to(&stage, INTERNET_V4);
    stage.go_online().unwrap();
    stage.start_agent().unwrap();
    connected_and_released(&stage);
    isolate(&stage);
    let status = stage.status();
    assert_eq!(status["enforcement"]["scope"], "pinned", "control: {status}");

    drop(first);
    let _second = lead_to(&stage, ATTACKER_V4);
    let rescued = |s: &Value| s["enforcement"]["scope"] == "wide" && s["enforcement"]["phase"] == "enforced";
    let status = stage.wait_status(LIMIT * 3, "rescued", rescued).unwrap();
    assert_eq!(status["enforcement"]["posture"], "isolate", "{status}");
    release(&stage);
});

// Q-258.
lab_test!(a_silent_restriction_is_not_said_to_be_widened, || {
    let stage = ready(short_windows());
    broker_unreachable(&stage, true);
    let file = stage.site.directory().join("restrict.json");
    let order = json!({"posture": "restrict", "reason": "r", "block": {"remotes": ["198.51.100.7"]}});
    std::fs::write(&file, order.to_string()).unwrap();
    done(&stage, &["quarantine", "--order", file.to_str().unwrap()]);
    stage.wait_phase(LIMIT, "provisional").unwrap();
    let pages = RefCell::new(String::new());
    let given_up = |s: &Value| {
        let enforcement = &s["enforcement"];
        assert_eq!(enforcement["scope"], "pinned", "no rule is wider: {s}");
        assert_ne!(enforcement["coming"]["turn"], "widen", "no rule will be: {s}");
        pages.borrow_mut().push_str(&done(&stage, &["status"]));
        enforcement["phase"] == "rolled-back"
    };
    stage.wait_status(LIMIT * 2, "it is given up", given_up).unwrap();
    let told = pages.into_inner() + &done(&stage, &["history"]);
    for control in ["the rules are taken away for four windows", "GIVEN UP"] {
        assert!(told.contains(control), "control: {control} in\n{told}");
    }
    assert!(!told.contains("wide"), "{told}");
    broker_unreachable(&stage, false);
    done(&stage, &["release"]);
});
