//! Orders that are more than `true`: restrictions, allowances, processes.

#![expect(
    clippy::disallowed_methods,
    reason = "reads what the kernel says of a process"
)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::Path;
use std::time::Duration;

use common::{LIMIT, options, ready};
use edgewarden_lab::site::{
    ATTACKER_V4, ATTACKER_V6, DEVICE_V4, GATEWAY_WAN_V4, INTERNET_V4, Ns, Running, in_lab, lab_program,
    wait_until,
};
use edgewarden_lab::stage::{Stage, StageOptions, copy_program};
use serde_json::{Value, json};

fn order(stage: &Stage, order: &Value) {
    stage.desire(&json!({ "quarantine": order })).unwrap();
    let reported = |shadow: &Value| shadow["state"]["reported"]["quarantine"] == *order;
    stage
        .wait_shadow(LIMIT, "the order is reported as carried out", reported)
        .unwrap();
}

#[test]
fn a_restriction_cuts_what_it_names_and_nothing_else() {
    in_lab("a_restriction_cuts_what_it_names_and_nothing_else", || {
        let stage = ready(options());
        let site = &stage.site;
        let _servers = [4444, 2323, 8080].map(|port| site.echo_server(Ns::Internet, port).unwrap());
        let reach = |ns, address, port| site.tcp_connects(ns, address, port).unwrap();
        let named = || {
            [
                reach(Ns::Gateway, ATTACKER_V4, 4444),
                reach(Ns::Gateway, ATTACKER_V6, 4444),
                reach(Ns::Lan, ATTACKER_V4, 4444),
                reach(Ns::Gateway, INTERNET_V4, 2323),
                reach(Ns::Lan, INTERNET_V4, 2323),
            ]
        };
        let others = || {
            [
                reach(Ns::Gateway, INTERNET_V4, 8080),
                reach(Ns::Lan, INTERNET_V4, 8080),
            ]
        };
        let mut held = site.open_connection(Ns::Gateway, ATTACKER_V4, 4444).unwrap();
        let mut free = site.open_connection(Ns::Gateway, INTERNET_V4, 8080).unwrap();
        assert_eq!(named(), [true; 5], "control: open before");
        assert!(
            held.exchange() && free.exchange(),
            "control: both connections work"
        );
        let block = json!({
            "remotes": [ATTACKER_V4.to_string(), ATTACKER_V6.to_string()],
            "ports": [{"protocol": "tcp", "port": 2323}, {"protocol": "tcp", "port": 8883}],
        });
        order(
            &stage,
            &json!({"id": "r-1", "posture": "restrict", "block": block}),
        );
        assert_eq!(named(), [false; 5], "what is named is cut");
        assert!(!held.exchange(), "the open connection is dead");
        assert_eq!(others(), [true; 2], "the rest flows");
        assert!(free.exchange(), "also what was open");
        let status = stage.status();
        assert_eq!(
            status["enforcement"]["phase"], "enforced",
            "8883 is a lifeline: {status}"
        );
        stage.desire(&json!({"quarantine": false})).unwrap();
        stage.wait_phase(LIMIT, "released").unwrap();
        assert_eq!(named(), [true; 5]);
    });
}

#[test]
fn an_allowance_opens_one_port_to_one_remote() {
    in_lab("an_allowance_opens_one_port_to_one_remote", || {
        let stage = ready(options());
        let site = &stage.site;
        let _servers = [
            (Ns::Gateway, 22),
            (Ns::Gateway, 23),
            (Ns::Internet, 4444),
            (Ns::Internet, 5555),
        ]
        .map(|(ns, port)| site.echo_server(ns, port).unwrap());
        let reach = |ns, address, port| site.tcp_connects(ns, address, port).unwrap();
        let ways = || {
            [
                reach(Ns::Internet, GATEWAY_WAN_V4, 22),
                reach(Ns::Gateway, ATTACKER_V4, 4444),
                reach(Ns::Internet, GATEWAY_WAN_V4, 23),
                reach(Ns::Lan, edgewarden_lab::site::GATEWAY_LAN_V4, 22),
                reach(Ns::Gateway, ATTACKER_V4, 5555),
                reach(Ns::Gateway, INTERNET_V4, 4444),
                site.ping(Ns::Gateway, DEVICE_V4).unwrap(),
            ]
        };
        assert_eq!(ways(), [true; 7], "control: all is open before");
        let allow = json!([
            {"remote": format!("{INTERNET_V4}/32"), "protocol": "tcp", "ports": [22], "direction": "in"},
            {"remote": format!("{ATTACKER_V4}/32"), "protocol": "tcp", "ports": [4444], "direction": "out"},
        ]);
        order(
            &stage,
            &json!({"id": "a-1", "posture": "isolate", "allow": allow}),
        );
        assert_eq!(ways(), [true, true, false, false, false, false, false]);
        let mut held = site.open_connection(Ns::Gateway, ATTACKER_V4, 4444).unwrap();
        assert!(held.exchange(), "control: an allowed connection works");
        order(&stage, &json!({"id": "a-2", "posture": "isolate", "allow": []}));
        assert!(!held.exchange(), "without its allowance it dies");
    });
}

/// A program of its own name in the gateway that sends for ever. Labs share the machine's processes, so each test's
/// rogue has another name.
fn sender(stage: &Stage, name: &str) -> Running {
    let program = stage.site.directory().join("opt").join(name);
    if !program.exists() {
        copy_program(&lab_program().unwrap(), &program).unwrap();
    }
    let args = ["sensor", "--remote", "198.51.100.1:9000", "--udp"];
    let log = stage.site.directory().join(format!("{name}.log"));
    stage.site.spawn(Ns::Gateway, &program, &args, &[], log).unwrap()
}

fn state_of(running: &Running) -> char {
    let stat = std::fs::read_to_string(Path::new("/proc").join(running.pid().to_string()).join("stat"));
    let stat = stat.unwrap_or_default();
    stat.rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next())
        .unwrap_or('?')
}

fn wait_state(running: &Running, states: &str) {
    wait_until(LIMIT, states, || states.contains(state_of(running))).unwrap();
}

fn stops(pattern: &str, action: &str) -> StageOptions {
    let rule = json!({"match": {"exe": pattern}, "action": action});
    StageOptions {
        configuration: json!({"isolation": {"processes": [rule]}}),
        ..options()
    }
}

#[test]
fn a_frozen_process_runs_again_after_release() {
    in_lab("a_frozen_process_runs_again_after_release", || {
        let mut stage = ready(stops("*/opt/frozen-rogue", "freeze"));
        let rogue = sender(&stage, "frozen-rogue");
        let other = sender(&stage, "other");
        wait_state(&rogue, "SR");
        common::isolate(&stage);
        wait_state(&rogue, "T");
        assert_ne!(state_of(&other), 'T', "nobody else is stopped");
        let late = sender(&stage, "frozen-rogue");
        wait_state(&late, "T");
        stage.agent.as_mut().unwrap().kill9().unwrap();
        stage.start_agent().unwrap();
        stage.wait_phase(LIMIT, "enforced").unwrap();
        assert_eq!([state_of(&rogue), state_of(&late)], ['T', 'T']);
        common::release(&stage);
        wait_state(&rogue, "SR");
        wait_state(&late, "SR");
    });
}

#[test]
fn a_killed_process_that_comes_back_is_killed_again() {
    in_lab("a_killed_process_that_comes_back_is_killed_again", || {
        let stage = ready(stops("*/opt/killed-rogue", "kill"));
        let mut rogue = sender(&stage, "killed-rogue");
        wait_state(&rogue, "SR");
        common::isolate(&stage);
        rogue.wait_exit(LIMIT).unwrap();
        for _ in 0..40 {
            sender(&stage, "killed-rogue")
                .wait_exit(Duration::from_secs(10))
                .unwrap();
        }
        let status = stage.status();
        assert_eq!(status["enforcement"]["leftRunning"], json!([]), "{status}");
        common::release(&stage);
        let mut rogue = sender(&stage, "killed-rogue");
        wait_state(&rogue, "SR");
        assert!(rogue.is_running(), "after release it may run");
    });
}
