//! Connection tracking whose table is full drops what begins anew before any rule of ours sees it. Whoever fills it would silence
//! the control channel of an isolated device as soon as its connection ends, and the isolation would be taken for what had
//! silenced it.

use std::process::Command;
use std::time::Duration;

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{BROKER_PORT, INTERNET_V4, Ns, Running, lab_program, wait_until};
use edgewarden_lab::stage::{Stage, StageOptions};
use serde_json::{Value, json};

use crate::common::agent::joined;
use crate::common::gateway::{by_nobody, nft_takes, run};
use crate::common::{LIMIT, done, opens_within, options, ready, reports};

/// How long the channel may be silent behind new rules, in seconds.
const WINDOW: u64 = 10;
/// For what fills or empties the table in seconds where it has a processor of its own.
const FLOODED: Duration = Duration::from_secs(120);
/// A firewall as hosts have it, a strict one: without one that asks for states nothing is tracked.
const FIREWALL: &str = "table inet host {
    chain input { type filter hook input priority 10; ct state established,related accept; ct state invalid drop; }
}";
/// What connection tracking has not seen from its beginning is invalid.
const STRICT: &str = "echo 0 > /proc/sys/net/netfilter/nf_conntrack_tcp_loose";
/// Flows that are there anyway, at most.
const FEW: u64 = 1_000;

/// A device that tracks connections, behind a front that can end the nucleus' own.
fn tracking_stage() -> Stage {
    let mut stage = ready(StageOptions {
        configuration: json!({"isolation": {"confirmSeconds": WINDOW}}),
        front: true,
        ..options()
    });
    nft_takes(&stage, FIREWALL, &[]).unwrap();
    // The connection of before was not seen from its beginning.
    reconnects(&mut stage);
    assert!(connects(&stage), "control: there is room");
    stage
}

/// A new connection of root's to the broker.
fn connects(stage: &Stage) -> bool {
    stage
        .site
        .tcp_connects(Ns::Gateway, INTERNET_V4, BROKER_PORT)
        .unwrap()
}

/// The nucleus' connection ends, and it makes another one.
fn reconnects(stage: &mut Stage) {
    stage.front().cut().unwrap();
    for state in ["disconnected", "connected"] {
        let told = |event: &Value| event["event"] == "mqtt" && event["state"] == state;
        stage.nucleus.wait_event(LIMIT, told).unwrap();
    }
}

/// Fills or empties connection tracking; gives how many flows it has then.
fn flows(stage: &Stage, words: &[&str]) -> u64 {
    let run = || {
        Command::new(lab_program().unwrap())
            .arg("flows")
            .args(words)
            .output()
    };
    let output = stage.site.run_in(Ns::Gateway, run).unwrap().unwrap();
    assert!(output.status.success(), "{words:?}: {output:?}");
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    told["flows"].as_u64().unwrap()
}

/// Full of open connections whose sockets are gone, some of them to the broker.
fn fill(stage: &Stage) {
    let broker = format!("{INTERNET_V4}:{BROKER_PORT}");
    // From other ports than connections get.
    let some = flows(stage, &["--remote", &broker, "--count", "30000"]);
    assert!(some >= 30_000, "control: {some} to the broker");
    flows(stage, &[]);
    assert!(!connects(stage), "control: no room for a new connection");
}

/// Many of these, as a busy gateway has them: less than what is crowded.
const ALLOWED: u64 = 190_000;

/// Connections that the order allows.
fn allowed_flows(stage: &Stage) {
    let all = flows(stage, &["--count", &ALLOWED.to_string()]);
    assert!((ALLOWED..ALLOWED + FEW).contains(&all), "control: {all}");
}

/// An ordinary user's flows to himself, as many as there is room, once none of them could be pushed out.
fn echoes(stage: &Stage) -> Running {
    let mut running = by_nobody(stage, &["echoes", "--ends", "300"]);
    let echoing = |event: &Value| event["event"] == "echoing";
    running.wait_event(FLOODED, echoing).unwrap();
    running
}

fn tells_of_a_crowd(status: &Value) -> bool {
    joined(&status["enforcement"]["uncovered"]).contains("connection tracking was crowded")
}

/// For more than two windows the rules stay, and stay pinned; the channel is heard through them.
fn stays_isolated(stage: &Stage) {
    let opened = opens_within(stage, Duration::from_secs(3 * WINDOW));
    assert_eq!(opened, None);
    let status = stage.wait_phase(LIMIT, "enforced").unwrap();
    assert!(tells_of_a_crowd(&status), "{status}");
    assert!(connects(stage));
    stage.desire(&json!({"quarantine": true})).unwrap();
    stage
        .wait_status(LIMIT, "the cloud's order is heard", |s| {
            s["enforcement"]["orders"]
                .as_array()
                .is_some_and(|orders| orders.len() == 2)
        })
        .unwrap();
    reports(stage, &json!(true));
}

lab_test!(
    flows_of_before_the_order_silence_no_control_channel_of_an_isolated_device,
    || {
        let mut stage = tracking_stage();
        run(&stage, Ns::Gateway, "sh", &["-c", STRICT]);
        fill(&stage);
        done(&stage, &["quarantine", "--reason", "crowded"]);
        // The nucleus' connection is not one of those that are forgotten, or nothing of it would arrive.
        reports(&stage, &json!(true));
        let lost = |event: &Value| event["event"] == "mqtt" && event["state"] == "disconnected";
        assert!(stage.nucleus.wait_event(Duration::from_secs(5), lost).is_err());
        reconnects(&mut stage);
        wait_until(
            FLOODED,
            "nothing is left of what is cut, nor of nobody's lifelines",
            || flows(&stage, &["--count", "0"]) < FEW,
        )
        .unwrap();
        stays_isolated(&stage);
        stage.desire(&json!({"quarantine": false})).unwrap();
        done(&stage, &["release"]);
        stage.wait_phase(LIMIT, "released").unwrap();
        assert!(!tells_of_a_crowd(&stage.status()));
    }
);

lab_test!(
    an_ordinary_users_flows_inside_the_device_silence_no_control_channel,
    || {
        let mut stage = tracking_stage();
        allowed_flows(&stage);
        let mut first = echoes(&stage);
        wait_until(LIMIT, "control: no room for new connections", || {
            (0..4).all(|_| !connects(&stage))
        })
        .unwrap();
        first.kill9().unwrap();
        flows(&stage, &["--flush"]);
        wait_until(LIMIT, "control: there is room again", || connects(&stage)).unwrap();

        allowed_flows(&stage);
        let allow =
            json!([{"remote": "203.0.113.0/24", "protocol": "tcp", "ports": [4444], "direction": "out"}]);
        let file = stage.site.directory().join("order.json");
        let order = json!({"id": "busy", "posture": "isolate", "allow": allow, "reason": "flooded"});
        std::fs::write(&file, order.to_string()).unwrap();
        done(&stage, &["quarantine", "--order", file.to_str().unwrap()]);
        let status = stage.wait_phase(LIMIT, "enforced").unwrap();
        assert!(!tells_of_a_crowd(&status), "control: {status}");
        let mut second = echoes(&stage);
        reconnects(&mut stage);
        wait_until(
            FLOODED,
            "what is allowed is left, and nothing of the flood",
            || {
                let left = flows(&stage, &["--count", "0"]);
                (ALLOWED..ALLOWED + FEW).contains(&left)
            },
        )
        .unwrap();
        stays_isolated(&stage);
        assert!(second.is_running(), "control: the flood goes on");
        second.kill9().unwrap();
    }
);
