//! Root of a container that stands beside the device on its link (macvlan, a bridge's port): what he says to switch and server in the
//! device's name, of where the device is, and what he puts tags before; and hosts behind the device, who go on.

use std::collections::BTreeSet;
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{ATTACKER_V4, DEVICE_V6, INTERNET_V4, INTERNET_V6, Ns, wait_until};
use edgewarden_lab::stage::{Stage, StageOptions};
use serde_json::json;

use super::in_others_names::heard_by;
use super::said::{Said, at_another_link, called_tagged, control_of_links, to_switches};
use super::silence_inside::{ISOLATE, restriction};
use super::without_socket::container_on_bridge;
use crate::common::gateway::{ip, run};
use crate::common::programs::build;
use crate::common::{LIMIT, done, options, order, ready};
use crate::layers::frames::UNKNOWN;
use crate::layers::unsent::contained;
use crate::layers::wire::{Ear, Port, ROOT, within};

/// How long a connection takes at most where one comes.
const PATIENCE: Duration = Duration::from_secs(2);

lab_test!(
    a_container_beside_the_device_does_not_speak_to_its_switch_for_it,
    || {
        let stage = ready(options());
        contained(&stage);
        let port = Port::of("onwan", "mv1");
        let ear = Ear::open("internet");
        let said = [control_of_links(port.mac()), to_switches(port.mac())].concat();
        let names = |said: &[Said]| said.iter().map(|(name, _)| *name).collect::<BTreeSet<_>>();
        assert_eq!(heard_by(&ear, &port, ROOT, &said), names(&said), "control");
        let own: [Said; 1] = [("a frame of his own", own_frame(&port))];
        under_each_order(&stage, |order| {
            assert_eq!(heard_by(&ear, &port, ROOT, &said), BTreeSet::new(), "{order:?}");
            let hears = heard_by(&ear, &port, ROOT, &own) == names(&own);
            assert_eq!(hears, order != ISOLATE, "control");
        });
    }
);

/// Restricts the device, and then isolates it; what is asked meanwhile is told the order.
pub(super) fn under_each_order(stage: &Stage, ask: impl Fn(&[&str])) {
    let file = restriction(stage);
    for order in [&["quarantine", "--order", &file], ISOLATE.as_slice()] {
        done(stage, order);
        stage.wait_phase(LIMIT, "enforced").unwrap();
        ask(order);
        done(stage, &["release"]);
        stage.wait_phase(LIMIT, "released").unwrap();
    }
}

/// A frame in its sender's own name that says nothing of links.
fn own_frame(port: &Port) -> Vec<u8> {
    let mut own = [&[0xff; 6], port.mac().as_slice(), &UNKNOWN.to_be_bytes()].concat();
    own.resize(80, 7);
    own
}

/// What a container says of where the device is reaches its link while the device is free, and not in isolation or a restriction.
pub(super) fn is_not_believed(prepare: impl Fn(&Stage), said: impl Fn() -> Vec<Said>) {
    let stage = ready(options());
    contained(&stage);
    prepare(&stage);
    let port = Port::of("onwan", "mv1");
    let ear = Ear::open("internet");
    let said = said();
    let names: BTreeSet<_> = said.iter().map(|(name, _)| *name).collect();
    assert_eq!(heard_by(&ear, &port, ROOT, &said), names, "control");
    under_each_order(&stage, |order| {
        assert_eq!(heard_by(&ear, &port, ROOT, &said), BTreeSet::new(), "{order:?}");
    });
}

lab_test!(
    a_container_does_not_say_that_the_device_is_at_another_of_its_interfaces,
    || is_not_believed(|_| {}, at_another_link)
);

lab_test!(a_container_hides_no_lie_by_calling_it_tagged, || {
    is_not_believed(|_| {}, called_tagged);
});

/// What a container on the uplink's bridge says to switch and server in the device's name does not leave, and what it says as itself does.
pub(super) fn is_not_passed_on(bridged: bool, isolates: bool, prepare: impl Fn(&Stage)) {
    let stage = ready(StageOptions {
        configuration: json!({"isolation": {"bridged": bridged}}),
        ..options()
    });
    let port = container_on_bridge(&stage);
    prepare(&stage);
    if !bridged {
        // Else the kernel waits for the rest of what comes in pieces.
        let off = "cd /proc/sys/net/bridge || exit 0; echo 0 > bridge-nf-call-iptables";
        run(&stage, Ns::Gateway, "sh", &["-c", off]);
    }
    let ear = Ear::open("internet");
    let said = control_of_links(port.mac());
    let free = heard_by(&ear, &port, ROOT, &said);
    // Some groups a bridge keeps to itself.
    for name in BRIDGED {
        assert!(free.contains(name), "control: {name} among {free:?}");
    }
    let own: [Said; 1] = [("a frame of his own", own_frame(&port))];
    let file = restriction(&stage);
    let restrict = ["quarantine", "--order", &file];
    done(&stage, if isolates { &ISOLATE } else { &restrict });
    stage.wait_phase(LIMIT, "enforced").unwrap();
    // Switches that do not hear each other see no loop between them.
    assert_eq!(heard_by(&ear, &port, ROOT, &said), BTreeSet::from(SWITCHES_SAY));
    assert_eq!(heard_by(&ear, &port, ROOT, &own).len(), 1, "control");
    ip(&stage, "link set br0 type bridge stp_state 1");
    let uplink = Port::of("gateway", "wan0").mac();
    let begins = [[1, 0x80, 0xc2, 0, 0, 0].as_slice(), &uplink].concat();
    wait_until(LIMIT, "the bridge's own spanning tree", || {
        ear.drain().iter().any(|frame| frame.starts_with(&begins))
    })
    .unwrap();
}

/// What of it switches say to each other through the bridge, in their own names.
const SWITCHES_SAY: [&str; 2] = [
    "a spanning tree of Cisco's, of his own",
    "a spanning tree of his own",
];

/// What of it a bridge passes on.
const BRIDGED: [&str; 8] = [
    "data as keys of a link",
    "a spanning tree",
    "a spanning tree of his own",
    "the end of a session of PPPoE",
    "the lease of the device's address",
    "the lease of the device",
    "a lease in pieces",
    "a lease in pieces behind options",
];

lab_test!(
    a_container_on_the_uplinks_bridge_does_not_speak_to_its_switch_for_it,
    || {
        is_not_passed_on(true, false, |_| {});
    }
);

lab_test!(
    what_bridges_pass_on_is_left_alone_but_for_what_is_said_for_the_device,
    || {
        is_not_passed_on(false, true, |_| {});
    }
);

lab_test!(
    hosts_behind_the_device_speak_to_servers_of_leases_in_a_restriction,
    || {
        let stage = ready(options());
        let servers = within("internet", || {
            let bind = |address: IpAddr, port| UdpSocket::bind((address, port)).unwrap();
            [bind(INTERNET_V6, 547), bind(INTERNET_V4, 67)]
        });
        for server in &servers {
            server.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        let arrive = || {
            within("lan", || {
                let relay = UdpSocket::bind((DEVICE_V6, 547)).unwrap();
                relay.send_to(&[12; 60], (INTERNET_V6, 547)).unwrap();
                let sends = UdpSocket::bind("0.0.0.0:0").unwrap();
                sends.send_to(&[2; 2_000], (INTERNET_V4, 67)).unwrap();
            });
            let mut buffer = [0; 2_048];
            [0, 1].map(|server: usize| servers[server].recv(&mut buffer).is_ok())
        };
        assert_eq!(arrive(), [true; 2], "control");
        let file = restriction(&stage);
        done(&stage, &["quarantine", "--order", &file]);
        stage.wait_phase(LIMIT, "enforced").unwrap();
        assert_eq!(
            arrive(),
            [true; 2],
            "a relay by IPv6, and large datagrams in pieces"
        );
    }
);

/// Has a tag of no VLAN put before all that the container sends, as its own interface of such a VLAN does.
fn tags(stage: &Stage) {
    let program = build(stage, "tags", include_str!("tags.c"));
    let place = stage.site.directory().join("bpf");
    std::fs::create_dir(&place).unwrap();
    let (place, pinned) = (place.to_str().unwrap().to_owned(), place.join("tags"));
    let pinned = pinned.to_str().unwrap();
    run(stage, Ns::Gateway, "mount", &["-t", "bpf", "bpf", &place]);
    run(stage, Ns::Gateway, program.to_str().unwrap(), &[pinned]);
    let tc = |words: &str| {
        let words: Vec<&str> = words.split_whitespace().collect();
        let command = || std::process::Command::new("tc").args(words).output().unwrap();
        let output = within("onwan", command);
        assert!(output.status.success(), "{output:?}");
    };
    tc("qdisc add dev mv1 clsact");
    tc(&format!(
        "filter add dev mv1 egress bpf da object-pinned {pinned}"
    ));
}

lab_test!(
    what_a_container_puts_a_tag_before_reaches_no_blocked_remote,
    || {
        let stage = ready(options());
        contained(&stage);
        ip(&stage, "-n onwan route add default via 198.51.100.1");
        let server = within("internet", || TcpListener::bind((ATTACKER_V4, 7_000)).unwrap());
        let connects = || {
            let connect = || TcpStream::connect_timeout(&(ATTACKER_V4, 7_000).into(), PATIENCE);
            within("onwan", connect).is_ok()
        };
        assert!(connects(), "control");
        tags(&stage);
        assert!(connects(), "control: the router takes the tag off");
        let remote = IpAddr::to_string(&ATTACKER_V4);
        order(
            &stage,
            &json!({"id": "own", "posture": "restrict", "block": {"remotes": [remote]}}),
        );
        assert!(!connects());
        drop(server);
    }
);
