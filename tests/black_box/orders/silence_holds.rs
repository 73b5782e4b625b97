//! What a silence must not undo over restarts and other orders, and what it must always lead to.

use std::time::{Duration, Instant};

use edgewarden_lab::lab_test;
use edgewarden_lab::site::ATTACKER_V4;
use edgewarden_lab::stage::{Stage, StageOptions};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::channel::broker_unreachable;
use super::silence::{WINDOW, detoured, lead_to, short_windows};
use crate::common::{LIMIT, connected_and_released, done, isolate, opens_within, options, ready, release};

/// As long as an ordinary trial takes to be given up, and some.
pub(super) const TRIAL: Duration = Duration::from_secs(35);

pub(super) fn often_asked() -> StageOptions {
    StageOptions {
        configuration: json!({
            "isolation": {"confirmSeconds": WINDOW.as_secs()},
            "shadow": {"refreshSeconds": 30},
        }),
        ..options()
    }
}

/// A device that was confirmed isolated, whose lifelines an outage has had widened.
fn widened_late() -> Stage {
    let stage = ready(often_asked());
    isolate(&stage);
    let status = stage.status();
    assert_eq!(status["enforcement"]["scope"], "pinned", "control: {status}");
    broker_unreachable(&stage, true);
    let wide = |s: &Value| s["enforcement"]["scope"] == "wide";
    stage
        .wait_status(LIMIT * 4, "control: the outage is noticed", wide)
        .unwrap();
    stage
}

/// Looks for so long; the status in which the device is not isolated, if there is one.
pub(super) fn is_free_within(stage: &Stage, time: Duration) -> Option<Value> {
    let begun = Instant::now();
    while begun.elapsed() < time {
        let status = stage.status();
        if status["enforcement"]["wanted"] == "isolate" && status["enforcement"]["phase"] == "rolled-back" {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(300));
    }
    None
}

fn dies_and_starts_again(stage: &mut Stage) {
    let agent = stage.agent.as_mut().unwrap();
    agent.signal(Signal::SIGKILL).unwrap();
    stage.start_agent().unwrap();
}

lab_test!(a_confirmed_isolation_is_not_given_up_over_a_restart, || {
    let mut stage = widened_late();
    dies_and_starts_again(&mut stage);
    assert_eq!(is_free_within(&stage, TRIAL), None);
    assert!(stage.has_table().unwrap());
    broker_unreachable(&stage, false);
    stage.wait_phase(LIMIT * 2, "enforced").unwrap();
    release(&stage);
});

lab_test!(a_confirmed_isolation_is_not_given_up_for_another_order, || {
    let stage = widened_late();
    done(&stage, &["quarantine", "--reason", "another one"]);
    assert_eq!(is_free_within(&stage, TRIAL), None);
    // And one that ends.
    done(&stage, &["release"]);
    assert_eq!(is_free_within(&stage, TRIAL), None);
    assert!(stage.has_table().unwrap());
    broker_unreachable(&stage, false);
    stage.wait_phase(LIMIT * 2, "enforced").unwrap();
    release(&stage);
});

lab_test!(how_long_a_device_is_open_is_counted_over_restarts, || {
    let mut stage = ready(short_windows());
    broker_unreachable(&stage, true);
    done(&stage, &["quarantine", "--reason", "in an outage"]);
    let gave_up = |s: &Value| s["enforcement"]["phase"] == "rolled-back";
    stage
        .wait_status(LIMIT * 3, "control: given up for the silence", gave_up)
        .unwrap();
    let begun = Instant::now();
    std::thread::sleep(WINDOW * 3);
    assert!(!stage.has_table().unwrap(), "control: still open");
    dies_and_starts_again(&mut stage);
    // Four windows, one of them in this run; a wait that begins anew would take seven.
    let back = |s: &Value| s["enforcement"]["phase"] == "provisional";
    let left = (WINDOW * 6).saturating_sub(begun.elapsed());
    stage.wait_status(left, "the rules are back", back).unwrap();
    assert!(stage.has_table().unwrap());
});

lab_test!(
    an_order_in_an_outage_is_widened_to_where_the_cloud_has_moved,
    || {
        let mut stage = detoured();
        stage.start_agent().unwrap();
        let released = |s: &Value| s["enforcement"]["phase"] == "released";
        let status = stage.wait_status(LIMIT, "control: released", released).unwrap();
        assert_ne!(
            status["cloud"]["channelWorks"], true,
            "control: an outage: {status}"
        );
        done(&stage, &["quarantine", "--reason", "in an outage"]);
        let status = stage.wait_phase(LIMIT, "provisional").unwrap();
        assert_eq!(status["enforcement"]["scope"], "pinned", "control: {status}");

        let _way = lead_to(&stage, ATTACKER_V4);
        stage.go_online().unwrap();
        let rescued =
            |s: &Value| s["enforcement"]["scope"] == "wide" && s["enforcement"]["phase"] == "enforced";
        let status = stage.wait_status(LIMIT * 3, "rescued", rescued).unwrap();
        assert_eq!(status["enforcement"]["posture"], "isolate", "{status}");
        done(&stage, &["release"]);
        connected_and_released(&stage);
    }
);

lab_test!(
    a_late_silence_behind_a_living_connection_is_not_forgiven_for_ever,
    || {
        let mut stage = ready(often_asked());
        isolate(&stage);
        // The broker's kernel lives and acknowledges; the broker answers nothing.
        stage.broker.as_mut().unwrap().signal(Signal::SIGSTOP).unwrap();
        let silent = |s: &Value| s["cloud"]["channelWorks"] == false;
        stage.wait_status(LIMIT * 3, "control: silent", silent).unwrap();
        assert_eq!(opens_within(&stage, WINDOW * 2), None, "forgiven for a while");
        let wide = |s: &Value| s["enforcement"]["scope"] == "wide";
        let status = stage.wait_status(WINDOW * 6, "widened", wide).unwrap();
        assert_eq!(status["enforcement"]["posture"], "isolate", "{status}");
        stage.broker.as_mut().unwrap().signal(Signal::SIGCONT).unwrap();
        stage.wait_phase(LIMIT * 2, "enforced").unwrap();
        release(&stage);
    }
);
