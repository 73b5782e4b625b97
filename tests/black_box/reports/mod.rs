//! Reports of the real binary under every failure: what is told again, what is given up, and what never happens.
//!
//! Where the test itself answers in the service's place the cloud is stopped, so that nobody else does.

mod answers;
mod content;
mod outages;

use std::process::Command;

use edgewarden_lab::site::{Ns, wait_until};
use edgewarden_lab::stage::{Stage, StageOptions, THING};
use serde_json::{Value, json};

use crate::common::gateway::ip;
use crate::common::{LIMIT, done, options};

/// Reports only when the test wants one: the first slot lies within 100 seconds, the next are as far apart.
const RARELY: u64 = 100;

fn stage_with(reporting: &Value, seconds: u64, cloud: &[&str]) -> StageOptions {
    StageOptions {
        configuration: json!({"reporting": reporting, "development": {"reportIntervalSeconds": seconds}}),
        // A flood would be an alarm, and the alarm a quarantine.
        cloud: [&["--no-lambda"], cloud]
            .concat()
            .iter()
            .map(|&text| text.to_owned())
            .collect(),
        ..options()
    }
}

/// A stage that reports every two seconds; the control case: reports are accepted.
fn reporting(options: StageOptions) -> Stage {
    let mut stage = Stage::start(options).unwrap();
    stage.start_agent().unwrap();
    count_above(&stage, "accepted", 1);
    stage
}

/// A stage without cloud, whose agent is connected: the test answers.
fn alone(reporting: &Value, seconds: u64) -> Stage {
    let mut stage = Stage::start(stage_with(reporting, seconds, &[])).unwrap();
    stage.start_agent().unwrap();
    stage
        .wait_status(LIMIT, "control: the channel works", |s| {
            s["cloud"]["channelWorks"] == true
        })
        .unwrap();
    stage.cloud = None;
    stage
}

fn count(stage: &Stage, what: &str) -> u64 {
    stage.status()["reports"][what].as_u64().unwrap()
}

/// Waits until a count is above a number and gives it.
fn count_above(stage: &Stage, what: &str, number: u64) -> u64 {
    let status = stage.wait_status(LIMIT, &format!("{what} above {number}"), |s| {
        s["reports"][what].as_u64() > Some(number)
    });
    status.unwrap()["reports"][what].as_u64().unwrap()
}

/// The next report the cloud accepts.
fn next_accepted(stage: &mut Stage) -> Value {
    let accepted = |event: &Value| event["event"] == "report" && event["outcome"] == "accepted";
    stage.cloud.as_mut().unwrap().wait_event(LIMIT, accepted).unwrap()
}

fn bytes_in(event: &Value) -> u64 {
    event["report"]["metrics"]["network_stats"]["bytes_in"]
        .as_u64()
        .unwrap_or_default()
}

/// `edgewarden report …`: exit code, output, errors.
fn report(stage: &Stage, arguments: &[&str]) -> (Option<i32>, String, String) {
    let all: Vec<&str> = std::iter::once("report")
        .chain(arguments.iter().copied())
        .collect();
    stage.edgewarden(&all).unwrap()
}

fn report_json(stage: &Stage, arguments: &[&str]) -> Value {
    let all = [&["report"], arguments, &["--json"]].concat();
    serde_json::from_str(&done(stage, &all)).unwrap()
}

fn send(stage: &Stage) -> u64 {
    report_json(stage, &["send"])["reportId"].as_u64().unwrap()
}

/// What the service would say.
fn answer(stage: &Stage, format: &str, suffix: &str, body: &Value) {
    let topic = format!("$aws/things/{THING}/defender/metrics/{format}/{suffix}");
    stage.publish(&topic, &body.to_string()).unwrap();
}

fn accept(stage: &Stage, report_id: u64) {
    let body = json!({"thingName": THING, "reportId": report_id, "status": "ACCEPTED", "timestamp": 1});
    answer(stage, "json", "accepted", &body);
}

/// Waits for what became of the newest report.
fn became(stage: &Stage, outcome: &str) -> Value {
    stage
        .wait_status(LIMIT, &format!("the report became {outcome}"), |_| {
            report_json(stage, &["last"])["outcome"] == outcome
        })
        .unwrap();
    report_json(stage, &["last"])
}

/// The shortest time between two reports the lab's cloud takes.
const QUICK: [&str; 2] = ["--min-interval-seconds", "1"];

/// Bytes received through a pair of interfaces of the gateway's own, more than everything else in the lab by far.
const FLOOD: u64 = 8 * 1024 * 1024;

fn flood(stage: &Stage) {
    let link = "link add flood0 type veth peer name flood1
        link set flood1 up
        link set flood0 up
        address add 192.0.2.201/30 dev flood0
        neighbour replace 192.0.2.202 lladdr 02:00:00:00:00:01 dev flood0";
    ip(stage, link);
    // Packets are lost without a word until the kernel has noticed that the other end is up.
    let is_up = || {
        let run = || Command::new("ip").args(["link", "show", "flood0"]).output();
        let output = stage.site.run_in(Ns::Gateway, run).unwrap().unwrap();
        String::from_utf8_lossy(&output.stdout).contains("state UP")
    };
    wait_until(LIMIT, "flood0 is up", is_up).unwrap();
    let send = || {
        let socket = std::net::UdpSocket::bind("192.0.2.201:0").unwrap();
        for _ in 0..FLOOD / 1_024 {
            let _ = socket.send_to(&[0; 1_024], "192.0.2.202:9");
        }
    };
    stage.site.run_in(Ns::Gateway, send).unwrap();
}
