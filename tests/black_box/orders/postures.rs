//! Orders that are more than `true`: restrictions, allowances, processes.

use std::time::Duration;

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{ATTACKER_V4, ATTACKER_V6, DEVICE_V4, GATEWAY_WAN_V4, INTERNET_V4, Ns};
use edgewarden_lab::stage::StageOptions;
use serde_json::{Value, json};

use crate::common::gateway::know_neighbours;
use crate::common::programs::{sender, state_of, wait_state};
use crate::common::{LIMIT, isolate, options, order, ready, release};

lab_test!(a_restriction_cuts_what_it_names_and_nothing_else, || {
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

lab_test!(an_allowed_datagram_passes_in_pieces_too, || {
    let stage = ready(options());
    let site = &stage.site;
    let remotes = [ATTACKER_V4, ATTACKER_V6];
    let hears = |remote: std::net::IpAddr, length: usize| {
        let listen = || std::net::UdpSocket::bind((remote, 5_000)).unwrap();
        let server = site.run_in(Ns::Internet, listen).unwrap();
        server.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let unspecified = if remote.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let send = || {
            let socket = std::net::UdpSocket::bind(unspecified).unwrap();
            // A refusal shows in that nothing arrives.
            let _ = socket.send_to(&vec![0; length], (remote, 5_000));
        };
        site.run_in(Ns::Gateway, send).unwrap();
        server.recv(&mut [0; 8_000]).is_ok_and(|heard| heard == length)
    };
    let all = || remotes.map(|remote| [100, 1_400, 3_000].map(|length| hears(remote, length)));
    know_neighbours(&stage, &remotes.map(|remote| (Ns::Gateway, remote)));
    assert_eq!(all(), [[true; 3]; 2], "control");
    order(&stage, &json!({"id": "p-0", "posture": "isolate", "allow": []}));
    assert_eq!(all(), [[false; 3]; 2], "control: not allowed");
    let allow = remotes.map(|remote| {
        json!({"remote": ipnet::IpNet::from(remote).to_string(), "protocol": "udp", "ports": [5_000], "direction": "out"})
    });
    order(
        &stage,
        &json!({"id": "p-1", "posture": "isolate", "allow": allow}),
    );
    assert_eq!(all(), [[true; 3]; 2]);
});

lab_test!(an_allowance_opens_one_port_to_one_remote, || {
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

fn stops(pattern: &str, action: &str) -> StageOptions {
    let rule = json!({"match": {"exe": pattern}, "action": action});
    StageOptions {
        configuration: json!({"isolation": {"processes": [rule]}}),
        ..options()
    }
}

lab_test!(a_frozen_process_runs_again_after_release, || {
    let mut stage = ready(stops("*/opt/frozen-rogue", "freeze"));
    let rogue = sender(&stage, "frozen-rogue");
    let other = sender(&stage, "other");
    wait_state(&rogue, "SR");
    isolate(&stage);
    wait_state(&rogue, "T");
    assert_ne!(state_of(other.pid()), Some('T'), "nobody else is stopped");
    let late = sender(&stage, "frozen-rogue");
    wait_state(&late, "T");
    stage.agent.as_mut().unwrap().kill9().unwrap();
    stage.start_agent().unwrap();
    stage.wait_phase(LIMIT, "enforced").unwrap();
    assert_eq!([state_of(rogue.pid()), state_of(late.pid())], [Some('T'); 2]);
    release(&stage);
    wait_state(&rogue, "SR");
    wait_state(&late, "SR");
});

lab_test!(a_killed_process_that_comes_back_is_killed_again, || {
    let stage = ready(stops("*/opt/killed-rogue", "kill"));
    let mut rogue = sender(&stage, "killed-rogue");
    wait_state(&rogue, "SR");
    isolate(&stage);
    rogue.wait_exit(LIMIT).unwrap();
    for _ in 0..40 {
        sender(&stage, "killed-rogue")
            .wait_exit(Duration::from_secs(10))
            .unwrap();
    }
    let none_left = |s: &Value| s["enforcement"]["leftRunning"] == json!([]);
    stage.wait_status(LIMIT, "nobody is left", none_left).unwrap();
    release(&stage);
    let mut rogue = sender(&stage, "killed-rogue");
    wait_state(&rogue, "SR");
    assert!(rogue.is_running(), "after release it may run");
});
