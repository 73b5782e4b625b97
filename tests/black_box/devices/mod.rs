//! A gateway whose uplink is each kind of interface that its kernel has: VLAN, macvlan, ipvlan, bond, bridge, member of a VRF, VXLAN,
//! GRE, WireGuard, tun.
//!
//! Each test shows first that the interface carries the cloud, what the IP stack sends, and what a program sends past it. Then the
//! device is isolated: the cloud goes on, and nothing else leaves, nor does it by one of that kind that is made meanwhile. A kernel
//! without the kind, and a machine without the programs that make one, skip the test and say so, also under CI: there a test
//! that needs them is run by `cargo xtask kernels`.

mod kinds;

use std::net::UdpSocket;
use std::time::Duration;

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{INTERNET_V4, Ns, limit_here, wait_until};
use edgewarden_lab::stage::{Stage, StageOptions};
use nix::sys::socket::{setsockopt, sockopt};
use serde_json::json;

use crate::common::gateway::run;
use crate::common::packet::{UDP, ip as packet, marker, udp};
use crate::common::{LIMIT, connected_and_released, isolate, options, release};
use crate::layers::frames::{BROADCAST, Between, UNKNOWN};
use crate::layers::wire::{Ear, Port, emit, within};
use kinds::{BOND, BRIDGE, FIRST, GRE, IPVLAN, Kind, LATER, MACVLAN, TUN, VLAN, VRF, VXLAN, WIREGUARD};

const MQTT: u16 = 8883;
const ANY_PORT: u16 = 5_555;
/// How long something may be under way, through whatever it is wrapped in.
const FLIGHT: Duration = Duration::from_secs(1);
/// Within which an interface that appears is cut.
const SOON: Duration = Duration::from_secs(1);
/// Repetitions of whatever is sent: a first packet may wait for a neighbour's address or a tunnel's keys.
const SENDS: usize = 5;
const PAUSE: Duration = Duration::from_millis(20);

/// Whether what the IP stack sends by the interface arrives.
fn datagram_arrives(ear: &Ear, number: u8) -> bool {
    let [_, to] = Kind::addresses(number);
    let socket = within("gateway", || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        // By that one, whatever table its routes are in.
        let interface = Kind::interface(number).into();
        setsockopt(&socket, sockopt::BindToDevice, &interface).unwrap();
        socket
    });
    ear.drain();
    let mark = marker("datagram");
    for _ in 0..SENDS {
        // A refusal only means that it does not arrive.
        let _refused = socket.send_to(&mark, (to, ANY_PORT));
        std::thread::sleep(PAUSE);
    }
    ear.hears_mark(&mark, FLIGHT)
}

/// Sends packets as they are by an interface that has no hardware address, which the C library's list leaves out.
const BY_HAND: &str = r"
import socket, sys, time
port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
port.bind((sys.argv[1], 0x0800))
for _ in range(5):
    try:
        port.send(bytes.fromhex(sys.argv[2]))
    except OSError:
        pass
    time.sleep(0.02)
";

/// Whether what a program sends by the interface past the IP stack arrives.
fn frame_arrives(stage: &Stage, kind: &Kind, ear: &Ear, number: u8) -> bool {
    let interface = Kind::interface(number);
    ear.drain();
    if kind.is_framed {
        let port = Port::of("gateway", &interface);
        let between = Between {
            from: port.mac(),
            to: BROADCAST,
        };
        let frame = between.frame("by hand", UNKNOWN, |m| m);
        let socket = port.sender(UNKNOWN);
        for _ in 0..SENDS {
            emit(&socket, &frame.bytes);
            std::thread::sleep(PAUSE);
        }
    } else {
        let [from, to] = Kind::addresses(number);
        let bytes = packet(from, to, UDP, 0, &udp(1_000, ANY_PORT, &marker("by hand")));
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        run(
            stage,
            Ns::Gateway,
            "python3",
            &["-c", BY_HAND, &interface, &digits],
        );
    }
    ear.hears_mark(&marker("by hand"), FLIGHT)
}

fn arrive(stage: &Stage, kind: &Kind, ear: &Ear, number: u8) -> [bool; 2] {
    [
        datagram_arrives(ear, number),
        frame_arrives(stage, kind, ear, number),
    ]
}

/// A stage whose broker is behind such an interface, where the kind leads there.
fn stage_of(kind: &Kind) -> Stage {
    let [_, broker] = Kind::addresses(FIRST);
    let mut isolation = json!({"allow": kind.allowances()});
    let mut options = StageOptions {
        online: false,
        ..options()
    };
    if kind.has_cloud {
        isolation["dataEndpoint"] = json!(broker.to_string());
        options.broker = format!("{broker}:{MQTT}");
    }
    options.configuration = json!({"isolation": isolation});
    options.cloud.push("--no-lambda".into());
    Stage::start(options).unwrap()
}

/// The uplink of that kind, through its life.
fn lives_and_is_cut(test: &str, kind: &Kind) {
    let mut stage = stage_of(kind);
    if let Some(reason) = kind.lacks(&stage) {
        println!("SKIPPED {test}: {reason}");
        return;
    }
    let _first = kind.join(&stage, FIRST);
    stage.go_online().unwrap();
    stage.start_agent().unwrap();
    connected_and_released(&stage);
    let [_, broker] = Kind::addresses(FIRST);
    let cloud = if kind.has_cloud { broker } else { INTERNET_V4 };
    let ear = Ear::open("internet");
    wait_until(LIMIT, "control: both arrive", || {
        arrive(&stage, kind, &ear, FIRST) == [true, true]
    })
    .unwrap();
    isolate(&stage);
    assert_eq!(arrive(&stage, kind, &ear, FIRST), [false, false], "isolated");
    assert!(
        stage.site.tcp_connects(Ns::Gateway, cloud, MQTT).unwrap(),
        "the cloud goes on"
    );
    let _later = kind.join(&stage, LATER);
    std::thread::sleep(limit_here(SOON));
    assert_eq!(
        arrive(&stage, kind, &ear, LATER),
        [false, false],
        "made while isolated"
    );
    let status = stage.status();
    let enforcement = &status["enforcement"];
    assert_eq!(enforcement["phase"], "enforced", "{status}");
    assert_eq!(enforcement["scope"], "pinned", "{status}");
    let gaps = enforcement["uncovered"].to_string();
    assert!(!gaps.contains("past the IP stack are not cut"), "{gaps}");
    release(&stage);
    for number in [FIRST, LATER] {
        wait_until(LIMIT, "free again", || {
            arrive(&stage, kind, &ear, number) == [true, true]
        })
        .unwrap();
    }
}

/// One test for each kind.
macro_rules! kinds {
    ($($test:ident: $kind:expr,)*) => {
        $(lab_test!($test, || {
            lives_and_is_cut(edgewarden_lab::test_name!($test), &$kind);
        });)*
    };
}

kinds! {
    a_vlan_as_uplink_lives_and_is_cut: VLAN,
    a_macvlan_as_uplink_lives_and_is_cut: MACVLAN,
    an_ipvlan_as_uplink_lives_and_is_cut: IPVLAN,
    a_bond_as_uplink_lives_and_is_cut: BOND,
    a_bridge_as_uplink_lives_and_is_cut: BRIDGE,
    a_member_of_a_vrf_is_cut: VRF,
    a_vxlan_as_uplink_lives_and_is_cut: VXLAN,
    a_gre_tunnel_is_cut: GRE,
    a_wireguard_tunnel_as_uplink_lives_and_is_cut: WIREGUARD,
    a_tun_as_uplink_lives_and_is_cut: TUN,
}
