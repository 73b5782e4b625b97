//! What was counted: it survives the table, and mode observe counts a packet once and apart from what is cut.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{ATTACKER_V4, GATEWAY_WAN_V4, Ns};
use edgewarden_lab::stage::{Stage, StageOptions};
use serde_json::{Value, json};

use super::frames::{Between, Frame, IPV4};
use super::wire::{Ear, Port};
use super::{bridges, cut, free};
use crate::common::packet::{UDP, ip, udp};
use crate::common::{LIMIT, done, options, order};

const PAYLOAD: usize = 1_000;
/// A datagram at the IP layer.
const PACKET: u64 = PAYLOAD as u64 + 28;
const OPEN_PORT: u16 = 5001;
const BLOCKED_PORT: u16 = 5002;

fn observing() -> StageOptions {
    StageOptions {
        configuration: json!({"mode": "observe"}),
        ..options()
    }
}

/// Sends datagrams to a port of the attacker; gives how many arrive.
fn send(stage: &Stage, from: Ns, port: u16, count: usize) -> usize {
    let open = |ns, address: SocketAddr| {
        stage
            .site
            .run_in(ns, || UdpSocket::bind(address).unwrap())
            .unwrap()
    };
    let target = SocketAddr::new(ATTACKER_V4, port);
    let receiver = open(Ns::Internet, target);
    receiver
        .set_read_timeout(Some(std::time::Duration::from_millis(300)))
        .unwrap();
    let sender = open(from, SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0));
    let mut arrived = 0;
    for _ in 0..count {
        let _refused_where_it_is_cut = sender.send_to(&[b'c'; PAYLOAD], target);
        arrived += usize::from(receiver.recv(&mut [0; 2_000]).is_ok());
    }
    arrived
}

fn used(status: &Value) -> u64 {
    status["enforcement"]["quotas"][0]["used"]
        .as_u64()
        .unwrap_or_default()
}

/// Packets by way, of what was cut or would have been.
fn ways(status: &Value, totals: &str) -> Value {
    let totals = &status["enforcement"][totals];
    ["out", "in", "forward", "bridged", "raw"]
        .map(|way| totals[way]["packets"].clone())
        .into_iter()
        .collect()
}

lab_test!(what_was_counted_survives_the_loss_of_the_table, || {
    // The journal has a hundredth of it as its step: less than what is sent here.
    const QUOTA: u64 = 10_000_000;
    let stage = free(options());
    assert_eq!(send(&stage, Ns::Gateway, BLOCKED_PORT, 3), 3, "control");
    let limit = json!({"quotaBytes": QUOTA, "quotaPeriodSeconds": 3_600});
    let block = json!({"ports": [{"protocol": "udp", "port": BLOCKED_PORT}]});
    let quota = json!({"id": "c-1", "posture": "restrict", "limit": limit, "block": block});
    order(&stage, &quota);
    assert_eq!(send(&stage, Ns::Gateway, OPEN_PORT, 80), 80);
    assert_eq!(send(&stage, Ns::Lan, BLOCKED_PORT, 1), 0, "cut");
    let counted = |s: &Value| used(s) >= 80 * PACKET && cut(s, "forward", "port") > 0;
    let mut before = stage
        .wait_status(LIMIT, "control: both are counted", counted)
        .unwrap();
    assert!(used(&before) < QUOTA / 100, "control: the journal has none of it");

    let losses: [&[&str]; 3] = [
        &["delete", "table", "inet", "edgewarden"],
        &["reset", "quotas"],
        &["reset", "counters"],
    ];
    for (times, loss) in losses.iter().enumerate() {
        let (code, _, errors) = stage.nft(loss).unwrap();
        assert_eq!(code, Some(0), "{errors}");
        let again = |s: &Value| {
            s["enforcement"]["reasserted"] == times + 1 && s["enforcement"]["phase"] == "enforced"
        };
        stage.wait_status(LIMIT, "put back", again).unwrap();
        assert_eq!(send(&stage, Ns::Gateway, OPEN_PORT, 10), 10);
        assert_eq!(send(&stage, Ns::Lan, BLOCKED_PORT, 1), 0);
        let goes_on = |s: &Value| {
            used(s) >= used(&before) + 10 * PACKET
                && cut(s, "forward", "port") > cut(&before, "forward", "port")
        };
        before = stage
            .wait_status(LIMIT, &format!("it goes on after {loss:?}"), goes_on)
            .unwrap();
    }
});

/// A datagram to the blocked port, made by hand.
fn past_the_ip_stack() -> (Port, Frame) {
    let wan = Port::of("gateway", "wan0");
    let between = Between {
        from: wan.mac(),
        to: Port::of("internet", "gw0").mac(),
    };
    let datagram = |m: Vec<u8>| ip(GATEWAY_WAN_V4, ATTACKER_V4, UDP, 0, &udp(1_000, BLOCKED_PORT, &m));
    (wan, between.frame("by hand", IPV4, datagram))
}

lab_test!(
    mode_observe_counts_a_packet_once_and_apart_from_what_is_cut,
    || {
        let mut stage = free(observing());
        let block = json!({"ports": [{"protocol": "udp", "port": BLOCKED_PORT}]});
        let blocks = json!({"id": "c-2", "posture": "restrict", "block": block});
        stage.desire(&json!({ "quarantine": blocks })).unwrap();
        stage.wait_phase(LIMIT, "observed").unwrap();
        assert_eq!(
            send(&stage, Ns::Gateway, BLOCKED_PORT, 20),
            20,
            "control: nothing is cut"
        );
        assert_eq!(
            send(&stage, Ns::Lan, BLOCKED_PORT, 10),
            10,
            "control: nothing is cut"
        );
        let (wan, frame) = past_the_ip_stack();
        assert_eq!(
            wan.flood(&Ear::open("internet"), &frame, 5).0,
            5,
            "control: nothing is cut"
        );
        let would = |wanted: Value| move |s: &Value| ways(s, "wouldBlock") == wanted;
        let (once, nothing) = (json!([20, 0, 10, 0, 5]), json!([0, 0, 0, 0, 0]));
        let status = stage
            .wait_status(LIMIT, "each once", would(once.clone()))
            .unwrap();
        assert_eq!(ways(&status, "blocked"), nothing, "{status}");

        stage.deploy(&json!({"mode": "enforce"})).unwrap();
        stage.wait_phase(LIMIT, "enforced").unwrap();
        let told = |shadow: &Value| shadow["state"]["reported"]["quarantineStatus"]["state"] == "enforced";
        let shadow = stage.wait_shadow(LIMIT, "the shadow says so", told).unwrap();
        let blocked = &shadow["state"]["reported"]["quarantineStatus"]["blocked"];
        assert_eq!(
            (&blocked["out"], &blocked["raw"]),
            (&json!(0), &json!(0)),
            "only what was cut"
        );
        assert_eq!(send(&stage, Ns::Gateway, BLOCKED_PORT, 3), 0, "control: cut");
        let cut = json!([3, 0, 0, 0, 0]);
        let status = stage
            .wait_status(LIMIT, "what is cut", |s| ways(s, "blocked") == cut)
            .unwrap();
        assert_eq!(ways(&status, "wouldBlock"), once, "{status}");

        stage.deploy(&json!({"mode": "observe"})).unwrap();
        stage.wait_phase(LIMIT, "observed").unwrap();
        assert_eq!(
            send(&stage, Ns::Gateway, BLOCKED_PORT, 4),
            4,
            "control: nothing is cut"
        );
        let more = json!([24, 0, 10, 0, 5]);
        let status = stage.wait_status(LIMIT, "it goes on", would(more)).unwrap();
        assert_eq!(ways(&status, "blocked"), cut, "{status}");
        let page = done(&stage, &["status"]);
        for line in [
            "  would block packets: 24 out, 0 in, 10 forwarded, 0 bridged, 5 past the IP stack",
            "  blocked     packets: 3 out, 0 in, 0 forwarded, 0 bridged, 0 past the IP stack",
        ] {
            assert!(page.contains(line), "{line}\n{page}");
        }
    }
);

lab_test!(mode_observe_counts_a_bridged_frame_once, || {
    let (stage, left, ear, frames) = bridges::bridged(observing());
    let block = json!({"ports": [{"protocol": "udp", "port": 53}]});
    let blocks = json!({"id": "c-3", "posture": "restrict", "block": block});
    stage.desire(&json!({ "quarantine": blocks })).unwrap();
    stage.wait_phase(LIMIT, "observed").unwrap();
    let plain = frames.iter().find(|frame| frame.name == "UDP").unwrap();
    assert_eq!(left.flood(&ear, plain, 20).0, 20, "control: nothing is cut");
    let sum = |s: &Value| -> u64 {
        let ways = ways(s, "wouldBlock");
        ways.as_array().unwrap().iter().filter_map(Value::as_u64).sum()
    };
    let status = stage.wait_status(LIMIT, "counted", |s| sum(s) > 0).unwrap();
    // Where bridges hand IP packets to the IP stack's hooks (br_netfilter), the forward chain has them.
    assert_eq!(sum(&status), 20, "{status}");
    let uncovered = status["enforcement"]["uncovered"].to_string();
    assert!(uncovered.contains("not counted on 2 interfaces"), "{status}");
});
