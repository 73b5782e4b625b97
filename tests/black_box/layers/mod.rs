//! Attacks on the layers of the ruleset: frames past the IP stack, bridged frames, interfaces that come and go, blocked
//! remotes that end, limits, and what is counted.
//!
//! Each test shows first that the attack works on the free device. What must hold "within a second" is watched from
//! outside: asking the agent for its status makes it look at the kernel.

mod apart;
mod barred;
mod bridges;
mod bypasses;
mod counts;
mod declared;
pub(crate) mod frames;
mod limits;
mod links;
mod older_rules;
mod raw;
mod refusals;
mod remotes;
mod shares;
pub(crate) mod unsent;
pub(crate) mod wire;

use edgewarden_lab::site::{ATTACKER_V4, ATTACKER_V6, DEVICE_V6, Ns};
use edgewarden_lab::stage::{Stage, StageOptions};
use serde_json::Value;

use crate::common::gateway::know_neighbours;
use crate::common::ready;

/// A free device whose neighbours are known.
pub(crate) fn free(mut options: StageOptions) -> Stage {
    // The attacks of the control cases would be answered by an order.
    options.cloud.push("--no-lambda".into());
    let stage = ready(options);
    let ways = [
        (Ns::Gateway, ATTACKER_V4),
        (Ns::Gateway, ATTACKER_V6),
        (Ns::Lan, ATTACKER_V6),
        (Ns::Gateway, DEVICE_V6),
    ];
    know_neighbours(&stage, &ways);
    stage
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
