//! Attacks on the layers of the ruleset: frames past the IP stack, bridged frames, interfaces that come and go, blocked
//! remotes that end, limits, and what is counted.
//!
//! Each test shows first that the attack works on the free device. What must hold "within a second" is watched from
//! outside: asking the agent for its status makes it look at the kernel.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test touches the outside and fails by panicking"
)]

mod bridges;
#[path = "../common/mod.rs"]
mod common;
mod frames;
mod limits;
mod links;
mod raw;
mod refusals;
mod remotes;
mod wire;

use std::process::Command;

use common::LIMIT;
use edgewarden_lab::site::{ATTACKER_V4, ATTACKER_V6, DEVICE_V6, Ns, wait_until};
use edgewarden_lab::stage::{Stage, StageOptions};
use serde_json::{Value, json};

/// A free device whose neighbours are known.
fn free(mut options: StageOptions) -> Stage {
    // The attacks of the control cases would be answered by an order.
    options.cloud.push("--no-lambda".into());
    let stage = common::ready(options);
    for (from, to) in [
        (Ns::Gateway, ATTACKER_V4),
        (Ns::Gateway, ATTACKER_V6),
        (Ns::Lan, ATTACKER_V6),
        (Ns::Gateway, DEVICE_V6),
    ] {
        wait_until(LIMIT, "neighbours are known", || {
            stage.site.ping(from, to).unwrap()
        })
        .unwrap();
    }
    stage
}

/// The shadow orders, and the agent carries it out.
fn order(stage: &Stage, order: &Value) {
    stage.desire(&json!({ "quarantine": order })).unwrap();
    common::reports(stage, order);
}

/// Runs `ip` in the gateway, a command a line.
fn ip(stage: &Stage, commands: &str) {
    for command in commands.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<&str> = command.split_whitespace().collect();
        let run = || Command::new("ip").args(&words).output();
        let output = stage.site.run_in(Ns::Gateway, run).unwrap().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command}: {errors}");
    }
}

/// Packets cut on one way for one reason.
fn cut(status: &Value, way: &str, reason: &str) -> u64 {
    let reasons = status["enforcement"]["blocked"]["reasons"].as_array();
    reasons
        .into_iter()
        .flatten()
        .find(|cut| cut["way"] == way && cut["reason"] == reason)
        .and_then(|cut| cut["packets"].as_u64())
        .unwrap_or_default()
}
