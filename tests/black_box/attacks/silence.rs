//! Ordinary users and services try to silence the control channel, so that the isolation is taken for what had silenced it.

use std::time::Duration;

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{
    BROKER_PORT, INTERNET_V4, Ns, Running, ask_name_servers, lab_program, wait_until,
};
use edgewarden_lab::stage::{Stage, StageOptions};
use serde_json::json;

use crate::common::gateway::{NOBODY, by_user, run};
use crate::common::{LIMIT, done, opens_within, options, ready, reports};

/// How long the channel may be silent behind new rules, in seconds.
const WINDOW: u64 = 10;
/// An uplink as a device in the field may have it, with room for a second: it stays full also when the flood has to wait for its
/// turn on a busy machine.
const SLOW: &str = "qdisc add dev wan0 root tbf rate 128kbit burst 1600 latency 1s";
/// Packets a second: forty times what the uplink carries.
const PACE: &str = "8000";
/// The account of some service.
const SERVICE: &str = "101";
/// Somebody whose nucleus it is.
const PERSON: u32 = 1_234;

fn slow_stage(options: StageOptions) -> Stage {
    ask_name_servers(&[INTERNET_V4]).unwrap();
    let stage = ready(StageOptions {
        configuration: json!({"isolation": {"confirmSeconds": WINDOW}}),
        ..options
    });
    let words: Vec<&str> = SLOW.split(' ').collect();
    run(&stage, Ns::Gateway, "tc", &words);
    stage
}

/// Packets to the internet, by a program of this user.
fn flood(stage: &Stage, user: &str, words: &[&str]) -> Running {
    // Segments are made through a raw socket.
    let raw_alone = [
        "--bounding-set=-all,+net_raw",
        "--inh-caps=-all,+net_raw",
        "--ambient-caps=-all,+net_raw",
    ];
    by_user(stage, user, &raw_alone, &lab_program().unwrap(), words)
}

/// Datagrams to that port.
fn datagrams(stage: &Stage, user: &str, port: u16) -> Running {
    let remote = format!("{INTERNET_V4}:{port}");
    let words = [
        "flood", "--remote", &remote, "--size", "20", "--rate", PACE, "--millis", "600000",
    ];
    flood(stage, user, &words)
}

/// Segments to the broker.
fn segments(stage: &Stage, user: &str) -> Running {
    let remote = format!("{INTERNET_V4}:{BROKER_PORT}");
    flood(
        stage,
        user,
        &["syn", "--remote", &remote, "--rate", PACE, "--millis", "600000"],
    )
}

/// How many of five connections of root's to the broker are made.
fn connects(stage: &Stage) -> usize {
    let connect = |_: &i32| stage.site.tcp_connects(Ns::Gateway, INTERNET_V4, 8883).unwrap();
    (0..5).filter(connect).count()
}

/// The flood silences the free device, and not the isolated one: its channel is heard all the time, and the cloud through it.
fn silences_nothing(stage: &Stage, flood: impl Fn(&Stage) -> Running) {
    assert_eq!(connects(stage), 5, "control: the slow uplink carries a channel");
    let mut first = flood(stage);
    wait_until(LIMIT, "control: the flood silences a free device", || {
        connects(stage) <= 1
    })
    .unwrap();
    first.kill9().unwrap();
    let heard = |s: &serde_json::Value| s["cloud"]["channelWorks"] == true;
    stage
        .wait_status(LIMIT, "control: the channel is back", heard)
        .unwrap();

    let mut second = flood(stage);
    done(stage, &["quarantine", "--reason", "flooded"]);
    let opened = opens_within(stage, Duration::from_secs(4 * WINDOW));
    assert_eq!(opened, None);
    stage.wait_phase(LIMIT, "enforced").unwrap();
    let isolated = connects(stage);
    assert!(isolated >= 4, "{isolated} of 5 connections of root's are made");
    reports(stage, &json!(true));
    assert!(second.is_running(), "control: the flood goes on");
    stage.desire(&json!({"quarantine": true})).unwrap();
    stage
        .wait_status(LIMIT, "the cloud's order is heard", |s| {
            s["enforcement"]["orders"]
                .as_array()
                .is_some_and(|orders| orders.len() == 2)
        })
        .unwrap();
    second.kill9().unwrap();
}

lab_test!(
    an_ordinary_users_flood_of_a_lifeline_silences_no_control_channel,
    || silences_nothing(&slow_stage(options()), |stage| datagrams(stage, NOBODY, 53))
);

lab_test!(a_services_flood_of_a_lifeline_silences_no_control_channel, || {
    silences_nothing(&slow_stage(options()), |stage| segments(stage, SERVICE));
});

lab_test!(a_flood_silences_no_nucleus_that_runs_as_an_ordinary_user, || {
    let stage = slow_stage(StageOptions {
        nucleus_user: Some(PERSON),
        ..options()
    });
    silences_nothing(&stage, |stage| segments(stage, NOBODY));
});
