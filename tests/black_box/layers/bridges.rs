//! Frames that a bridge of the gateway passes on between two other namespaces.

use std::net::{IpAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{limit_here, wait_until};
use edgewarden_lab::stage::{Stage, StageOptions};
use serde_json::json;

use super::frames::{Between, Frame, IEEE_802_2, IPV4, IPV6, UNKNOWN, VLAN, vlan};
use super::shares::detours;
use super::wire::{Ear, Port, heard, names, within};
use super::{cut, free};
use crate::common::gateway::ip;
use crate::common::packet::{self, SYN, TCP, UDP, tcp, udp};
use crate::common::{LIMIT, isolate, options, order, release};

const BRIDGE: &str = "link add br0 type bridge
    link set br0 up
    link set l0 master br0
    link set r0 master br0";
const ENDS: &str = "netns add left
    netns add right
    link add l0 type veth peer name l1 netns left
    link add r0 type veth peer name r1 netns right
    link set l0 up
    link set r0 up
    -n left link set l1 up
    -n right link set r1 up";
const LEFT: [&str; 2] = ["192.0.2.129", "2001:db8:9::1"];
const RIGHT: [&str; 2] = ["192.0.2.130", "2001:db8:9::2"];

/// From the left end to the right one.
fn frames() -> (Port, Ear, Vec<Frame>) {
    let left = Port::of("left", "l1");
    let b = Between {
        from: left.mac(),
        to: Port::of("right", "r1").mac(),
    };
    let address = |text: &str| -> IpAddr { text.parse().unwrap() };
    let ways = [0, 1].map(|family| (address(LEFT[family]), address(RIGHT[family])));
    let of = |family: usize, protocol, data: Vec<u8>| {
        packet::ip(ways[family].0, ways[family].1, protocol, 0, &data)
    };
    let frames = vec![
        b.frame("UDP", IPV4, |m| of(0, UDP, udp(1000, 53, &m))),
        b.frame("TCP to 22", IPV4, |m| of(0, TCP, tcp(1000, 22, SYN, &m))),
        b.frame("UDP6", IPV6, |m| of(1, UDP, udp(1000, 53, &m))),
        b.frame("VLAN", VLAN, |m| vlan(7, IPV4, &of(0, UDP, udp(1000, 53, &m)))),
        b.frame("unknown", UNKNOWN, |m| m),
        Frame {
            said: IEEE_802_2,
            ..b.frame("SNAP", 60, |m| {
                let headers = [0xaa, 0xaa, 3, 0, 0, 0, 8, 0];
                [headers.as_slice(), &of(0, UDP, udp(1000, 53, &m))].concat()
            })
        },
    ];
    (left, Ear::open("right"), frames)
}

/// A bridge of the gateway that passes all of these frames on from left to right.
pub(super) fn bridged(options: StageOptions) -> (Stage, Port, Ear, Vec<Frame>) {
    let stage = free(options);
    ip(&stage, ENDS);
    ip(&stage, BRIDGE);
    let (left, ear, frames) = frames();
    wait_until(LIMIT, "the bridge forwards", || {
        left.arrivals(&ear, &frames) == names(&frames)
    })
    .unwrap();
    (stage, left, ear, frames)
}

lab_test!(bridged_frames_are_cut, || {
    let (stage, left, ear, frames) = bridged(options());
    isolate(&stage);
    assert_eq!(left.arrivals(&ear, &frames), Vec::<&str>::new());
    let status = stage.status();
    assert!(cut(&status, "bridged", "isolated") >= 15, "{status}");
    release(&stage);
    assert_eq!(left.arrivals(&ear, &frames), names(&frames), "free again");
});

lab_test!(a_restriction_cuts_bridged_frames_that_it_names, || {
    let (stage, left, ear, frames) = bridged(options());
    let detours = detours(&Between {
        from: left.mac(),
        to: Port::of("right", "r1").mac(),
    });
    assert_eq!(left.arrivals(&ear, &detours), names(&detours), "control");
    let block = json!({"ports": [{"protocol": "tcp", "port": 22}]});
    order(
        &stage,
        &json!({"id": "b-1", "posture": "restrict", "block": block}),
    );
    assert_eq!(left.arrivals(&ear, &frames), ["UDP", "UDP6", "VLAN", "unknown"]);
    assert_eq!(
        left.arrivals(&ear, &detours),
        Vec::<&str>::new(),
        "by other places"
    );
    let block = json!({"remotes": RIGHT});
    stage.desire(&json!({"quarantine": false})).unwrap();
    stage.wait_phase(LIMIT, "released").unwrap();
    order(
        &stage,
        &json!({"id": "b-2", "posture": "restrict", "block": block}),
    );
    assert_eq!(left.arrivals(&ear, &frames), ["unknown"]);
    let status = stage.status();
    assert!(cut(&status, "bridged", "remote") >= 9, "{status}");
});

/// Where bridges hand IP packets to the IP stack's hooks (br_netfilter), the forward chain sees them.
fn leave_bridges_alone() {
    within("gateway", || {
        for family in ["iptables", "ip6tables"] {
            let path = format!("/proc/sys/net/bridge/bridge-nf-call-{family}");
            if Path::new(&path).exists() {
                std::fs::write(path, "0").unwrap();
            }
        }
    });
}

lab_test!(the_configuration_leaves_bridged_frames_alone, || {
    let left_alone = StageOptions {
        configuration: json!({"isolation": {"bridged": false}}),
        ..options()
    };
    let (stage, left, ear, frames) = bridged(left_alone);
    leave_bridges_alone();
    isolate(&stage);
    assert_eq!(left.arrivals(&ear, &frames), names(&frames));
    // What a program of the gateway makes by hand is not passed on.
    let port = Port::of("gateway", "r0");
    let between = Between {
        from: port.mac(),
        to: Port::of("right", "r1").mac(),
    };
    let own = between.frame("by hand", UNKNOWN, |m| m);
    assert!(!ear.hears(&port, &own));
    release(&stage);
    assert!(ear.hears(&port, &own), "control: free again");
});

lab_test!(what_is_wrapped_for_a_tunnel_here_leaves_by_no_bridge, || {
    let left_alone = StageOptions {
        configuration: json!({"isolation": {"bridged": false}}),
        ..options()
    };
    let (stage, left, ear, frames) = bridged(left_alone);
    leave_bridges_alone();
    ip(
        &stage,
        "link add vx0 type vxlan id 7 remote 203.0.113.9 dstport 4789 dev wan0
         link set vx0 master br0
         link set vx0 up",
    );
    let between = Between {
        from: [2, 1, 1, 1, 1, 1],
        to: Port::of("right", "r1").mac(),
    };
    let inner = between.frame("unwrapped", UNKNOWN, |m| m);
    let leaves = || {
        ear.drain();
        within("gateway", || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let envelope = [8, 0, 0, 0, 0, 0, 7, 0];
            for _ in 0..3 {
                // What is cut may be refused.
                let _ = socket.send_to(&[envelope.as_slice(), &inner.bytes].concat(), "127.0.0.1:4789");
            }
        });
        !heard(&ear, std::slice::from_ref(&inner)).is_empty()
    };
    wait_until(LIMIT, "control: it leaves", leaves).unwrap();
    isolate(&stage);
    assert!(!leaves());
    assert_eq!(
        left.arrivals(&ear, &frames),
        names(&frames),
        "what others send passes"
    );
    release(&stage);
    assert!(leaves(), "control: free again");
});

lab_test!(a_bridge_made_while_isolated_is_cut_within_a_second, || {
    let (stage, left, ear, frames) = bridged(options());
    ip(&stage, "link del br0");
    isolate(&stage);
    ip(&stage, BRIDGE);
    std::thread::sleep(limit_here(Duration::from_secs(1)));
    assert_eq!(left.arrivals(&ear, &frames), Vec::<&str>::new());
});
