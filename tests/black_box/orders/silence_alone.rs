//! Silence that no rule of ours makes: nobody is there to be asked, or it began before the order.

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{BROKER_PORT, INTERNET_V4, Ns, Running, wait_until};
use edgewarden_lab::stage::{Stage, StageOptions};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::channel::broker_unreachable;
use super::silence_holds::{TRIAL, is_free_within, often_asked};
use crate::common::gateway::{by_nobody, run};
use crate::common::{LIMIT, done, options, ready, reports};

lab_test!(an_order_is_not_given_up_while_the_nucleus_is_stopped, || {
    let mut stage = ready(often_asked());
    stage.nucleus.signal(Signal::SIGSTOP).unwrap();
    done(&stage, &["quarantine", "--reason", "while it is stopped"]);
    assert_eq!(is_free_within(&stage, TRIAL), None);
    let status = stage.status();
    assert_eq!(status["cloud"]["channelWorks"], false, "control: {status}");
    stage.nucleus.signal(Signal::SIGCONT).unwrap();
    stage.wait_phase(LIMIT * 3, "enforced").unwrap();
    reports(&stage, &json!(true));
});

lab_test!(an_order_is_not_given_up_while_the_nucleus_is_gone, || {
    let mut stage = ready(often_asked());
    stage.nucleus.kill9().unwrap();
    done(&stage, &["quarantine", "--reason", "while it is gone"]);
    assert_eq!(is_free_within(&stage, TRIAL), None);
    let status = stage.status();
    assert_eq!(status["cloud"]["channelWorks"], false, "control: {status}");
    assert!(stage.has_table().unwrap());
    // The way out for who stands before the device.
    done(&stage, &["release"]);
    assert!(!stage.has_table().unwrap());
});

/// A device whose kernel gives a hundred ports, all of which an ordinary user has taken in one of the ways that there are; then the
/// nucleus' connection ends.
fn without_ports(words: &[&str]) -> (Stage, Running) {
    let mut stage = ready(StageOptions {
        front: true,
        ..often_asked()
    });
    let few = "echo 40000 40099 > /proc/sys/net/ipv4/ip_local_port_range";
    run(&stage, Ns::Gateway, "sh", &["-c", few]);
    let connects = || {
        stage
            .site
            .tcp_connects(Ns::Gateway, INTERNET_V4, BROKER_PORT)
            .unwrap()
    };
    assert!(connects(), "control: there are ports");
    let mut hog = by_nobody(&stage, &[&["ports"], words].concat());
    hog.wait_event(LIMIT, |event| event["event"] == "holding")
        .unwrap();
    wait_until(LIMIT, "control: no port is left", || !connects()).unwrap();
    stage.front().cut().unwrap();
    let away = |event: &Value| event["event"] == "mqtt" && event["state"] == "disconnected";
    stage.nucleus.wait_event(LIMIT, away).unwrap();
    (stage, hog)
}

/// The order holds while the ports are held, and is confirmed afterwards.
fn is_not_given_up_for_ports(words: &[&str]) {
    let (stage, mut hog) = without_ports(words);
    done(&stage, &["quarantine", "--reason", "without ports"]);
    assert_eq!(is_free_within(&stage, TRIAL), None);
    let text = done(&stage, &["status"]);
    assert!(text.contains("no local port is left"), "{text}");
    assert!(hog.is_running(), "control");
    hog.kill9().unwrap();
    stage.wait_phase(LIMIT * 3, "enforced").unwrap();
    reports(&stage, &json!(true));
}

lab_test!(an_order_is_not_given_up_while_a_user_has_bound_every_port, || {
    is_not_given_up_for_ports(&[]);
});

lab_test!(
    an_order_is_not_given_up_while_a_user_connects_by_every_port,
    || {
        let broker = format!("{INTERNET_V4}:{BROKER_PORT}");
        is_not_given_up_for_ports(&["--remote", &broker]);
    }
);

lab_test!(
    an_outage_that_is_noticed_is_not_blamed_on_an_order_that_cuts_more,
    || {
        let stage = ready(StageOptions {
            configuration: json!({
                "isolation": {"confirmSeconds": 10},
                "shadow": {"refreshSeconds": 30},
            }),
            ..options()
        });
        let allow = json!([{"remote": "203.0.113.1", "protocol": "tcp", "ports": [22], "direction": "out"}]);
        let file = stage.site.directory().join("order.json");
        let order = json!({"id": "a1", "posture": "isolate", "allow": allow, "reason": "x"});
        std::fs::write(&file, order.to_string()).unwrap();
        done(&stage, &["quarantine", "--order", file.to_str().unwrap()]);
        stage.wait_phase(LIMIT, "enforced").unwrap();
        broker_unreachable(&stage, true);
        let silent = |s: &Value| {
            let why = s["cloud"]["lastError"].as_str();
            why.is_some_and(|why| why.contains("did not answer"))
        };
        stage
            .wait_status(LIMIT * 3, "control: the outage is noticed", silent)
            .unwrap();
        // In place of the first: nothing is allowed any more.
        done(&stage, &["quarantine", "--reason", "all of it"]);
        assert_eq!(is_free_within(&stage, TRIAL), None);
        assert!(stage.has_table().unwrap());
        broker_unreachable(&stage, false);
        stage.wait_phase(LIMIT * 2, "enforced").unwrap();
    }
);
