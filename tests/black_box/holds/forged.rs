//! A program in the kernel's place: it tells every listener that somebody else changed the packet filter.
//!
//! In: nothing. The agent is stopped meanwhile, so that the forged messages stand on both sides of the kernel's own, and
//! are many more than the agent keeps.

use edgewarden_lab::site::{Ns, wait_until};
use edgewarden_lab::stage::Stage;
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::common::programs::wait_state;
use crate::common::{LIMIT, done, isolate, options, ready, release};

/// `NFNLGRP_NFTABLES` as a group's number and as an address has it.
const GROUP: u32 = 7;
const GROUPS: u32 = 1 << (GROUP - 1);
/// `NFNL_SUBSYS_NFTABLES` and `NFT_MSG_NEWGEN`.
const NEW_GENERATION: u16 = 10 << 8 | 15;
/// Later than every generation of a packet filter that is as young as the lab's.
const LATER: u32 = 1_000_000;
/// More than wait for the agent's turn at once.
const MANY: usize = 40;
/// Whom the messages name.
const SCAPEGOAT: &str = "scapegoat";
const SCAPEGOAT_PID: u32 = 4_242;

fn attribute(number: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap();
    let mut bytes = [length.to_ne_bytes(), number.to_ne_bytes()].concat();
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// As the kernel tells a generation and who made it.
fn message() -> Vec<u8> {
    let name = format!("{SCAPEGOAT}\0");
    let attributes = [
        attribute(1, &LATER.to_be_bytes()),
        attribute(2, &SCAPEGOAT_PID.to_be_bytes()),
        attribute(3, name.as_bytes()),
    ]
    .concat();
    let length = u32::try_from(16 + 4 + attributes.len()).unwrap();
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(NEW_GENERATION.to_ne_bytes());
    bytes.extend([0; 2 + 4 + 4 + 4]);
    bytes.extend(attributes);
    bytes
}

/// Sends them from the gateway; a listener of ours hears the first.
fn forge(stage: &Stage) {
    let forged = || {
        let mut listener = Socket::new(NETLINK_NETFILTER).unwrap();
        listener.bind(&SocketAddr::new(0, 0)).unwrap();
        listener.add_membership(GROUP).unwrap();
        let mut sender = Socket::new(NETLINK_NETFILTER).unwrap();
        sender.bind_auto().unwrap();
        let (bytes, everybody) = (message(), SocketAddr::new(0, GROUPS));
        for _ in 0..MANY {
            sender.send_to(&bytes, &everybody, 0).unwrap();
        }
        let (heard, from) = listener.recv_from_full().unwrap();
        assert_eq!(heard, bytes, "control: whoever listens hears it");
        assert_ne!(from.port_number(), 0, "control: and it is not the kernel's");
    };
    stage.site.run_in(Ns::Gateway, forged).unwrap();
}

/// The real hand is named, never the forged one.
pub(crate) fn names_nobody() {
    let mut stage = ready(options());
    isolate(&stage);
    let agent = stage.agent.as_mut().unwrap();
    agent.signal(Signal::SIGSTOP).unwrap();
    wait_state(agent, "T");
    forge(&stage);
    let (code, _, errors) = stage.nft(&["flush", "ruleset"]).unwrap();
    assert_eq!(code, Some(0), "{errors}");
    forge(&stage);
    stage.agent.as_mut().unwrap().signal(Signal::SIGCONT).unwrap();

    let put_back = |s: &Value| s["enforcement"]["reasserted"].as_u64() >= Some(1);
    let status = stage
        .wait_status(LIMIT, "put back and counted", put_back)
        .unwrap();
    let by = status["enforcement"]["changedBy"].as_str().unwrap_or_default();
    assert!(by.starts_with("nft ("), "{status}");
    wait_until(LIMIT, "it is back", || stage.has_table().unwrap()).unwrap();
    let directory = stage.state_directory();
    let history = done(&stage, &["history", "--state-dir", directory.to_str().unwrap()]);
    assert!(history.contains("nft"), "the real one: {history}");
    let everything = format!("{status}{history}{}", stage.agent_output());
    assert!(!everything.contains(SCAPEGOAT), "{everything}");
    release(&stage);
}
