//! Root of a container whose interface stands on the uplink (macvlan): what he sends there as the device's own hardware address has no
//! socket that rules of the device's know, as what its kernel says has none. And what the device itself is called on a link, whatever
//! its interfaces' names are.

use std::collections::BTreeSet;
use std::net::TcpStream;
use std::time::Duration;

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{BROKER_PORT, GATEWAY_WAN_V4, INTERNET_V4, wait_until};
use edgewarden_lab::stage::Stage;

use super::in_others_names::{heard_by, lying};
use super::said::{NOWHERE, Said, arp, said};
use super::silence_inside::{ISOLATE, restriction, short_windows, silences_the_free_device_only};
use crate::common::gateway::ip;
use crate::common::{LIMIT, done, options, ready};
use crate::layers::frames::ARP;
use crate::layers::unsent;
use crate::layers::wire::{Ear, NOBODY, Port, ROOT, within};

/// How long a connection takes at most where one comes.
const PATIENCE: Duration = Duration::from_secs(1);

/// Its interface in there.
fn contained(stage: &Stage) -> Port {
    unsent::contained(stage);
    Port::of("onwan", "mv1")
}

/// What is false of the device itself, in shapes that its own kernel uses for the truth.
fn false_claims() -> Vec<Said> {
    let (lies, _) = said();
    let of_the_device = |name: &str| {
        let others = [
            "router is here",
            "of the router",
            "router's",
            "other interface",
            "better router",
        ];
        !others.iter().any(|other| name.contains(other)) && !name.contains("tag of no VLAN")
    };
    lies.into_iter().filter(|(name, _)| of_the_device(name)).collect()
}

lab_test!(a_container_on_the_uplink_says_nothing_false_of_the_device, || {
    let stage = ready(options());
    let port = contained(&stage);
    let ear = Ear::open("internet");
    let claims = false_claims();
    let names: BTreeSet<&str> = claims.iter().map(|(name, _)| *name).collect();
    assert!(names.len() >= 6, "{names:?}");
    let heard = || heard_by(&ear, &port, ROOT, &claims);
    assert_eq!(heard(), names, "control");
    let file = restriction(&stage);
    for order in [ISOLATE.as_slice(), &["quarantine", "--order", &file]] {
        done(&stage, order);
        stage.wait_phase(LIMIT, "enforced").unwrap();
        assert_eq!(heard(), BTreeSet::new(), "{order:?}");
        // Of himself he speaks, seldom.
        let own = port.mac();
        let of_himself = [("of himself", arp(own, "198.51.100.50".parse().unwrap(), own))];
        assert_eq!(heard_by(&ear, &port, ROOT, &of_himself).len(), 1, "{order:?}");
        let of_the_device = [("as himself", arp(own, GATEWAY_WAN_V4, NOWHERE))];
        assert_eq!(
            heard_by(&ear, &port, ROOT, &of_the_device),
            BTreeSet::new(),
            "{order:?}"
        );
        done(&stage, &["release"]);
        stage.wait_phase(LIMIT, "released").unwrap();
    }
});

lab_test!(a_container_on_the_uplink_ends_no_isolation, || {
    let stage = ready(short_windows());
    let port = contained(&stage);
    let begin = || lying(port.sender_as(ARP, ROOT));
    silences_the_free_device_only(&stage, begin, &ISOLATE);
});

lab_test!(a_container_on_the_uplink_ends_no_restriction, || {
    let stage = ready(short_windows());
    let port = contained(&stage);
    let begin = || lying(port.sender_as(ARP, ROOT));
    let file = restriction(&stage);
    silences_the_free_device_only(&stage, begin, &["quarantine", "--order", &file]);
});

/// Whether an ordinary user of the device connects to the broker.
fn user_connects() -> bool {
    within("gateway", || {
        // Of this thread only; a socket belongs to whom its thread was when it was opened.
        nix::unistd::setfsuid(NOBODY.into());
        TcpStream::connect_timeout(&(INTERNET_V4, BROKER_PORT).into(), PATIENCE).is_ok()
    })
}

lab_test!(
    users_behind_a_bridge_with_an_unusual_name_go_on_in_a_restriction,
    || {
        let stage = ready(options());
        // Names of other characters are not written into rules.
        let bridge = "link add br+0 type bridge
        link set br+0 address 02:11:22:33:44:77
        addr flush dev wan0
        link set wan0 master br+0
        link set br+0 up
        addr add 198.51.100.2/24 dev br+0
        route replace default via 198.51.100.1";
        ip(&stage, bridge);
        wait_until(LIMIT, "control", user_connects).unwrap();
        let file = restriction(&stage);
        done(&stage, &["quarantine", "--order", &file]);
        stage.wait_phase(LIMIT, "enforced").unwrap();
        for _ in 0..3 {
            assert!(user_connects());
        }
    }
);
