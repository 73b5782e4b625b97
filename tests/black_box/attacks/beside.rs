//! Root of a container that stands beside the device on its link (macvlan): what he says to switch and server in the device's name, and
//! what he puts tags before.

use std::collections::BTreeSet;
use std::net::{IpAddr, TcpListener, TcpStream};
use std::time::Duration;

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{ATTACKER_V4, Ns};
use edgewarden_lab::stage::Stage;
use serde_json::json;

use super::in_others_names::heard_by;
use super::said::{Said, at_another_link, called_tagged, control_of_links};
use super::silence_inside::{ISOLATE, restriction};
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
        let said = control_of_links(port.mac());
        let names = |said: &[Said]| said.iter().map(|(name, _)| *name).collect::<BTreeSet<_>>();
        assert_eq!(heard_by(&ear, &port, ROOT, &said), names(&said), "control");
        let mut own = [&[0xff; 6], port.mac().as_slice(), &UNKNOWN.to_be_bytes()].concat();
        own.resize(80, 7);
        let own: [Said; 1] = [("a frame of his own", own)];
        let file = restriction(&stage);
        for order in [&["quarantine", "--order", &file], ISOLATE.as_slice()] {
            done(&stage, order);
            stage.wait_phase(LIMIT, "enforced").unwrap();
            assert_eq!(heard_by(&ear, &port, ROOT, &said), BTreeSet::new(), "{order:?}");
            let hears = heard_by(&ear, &port, ROOT, &own) == names(&own);
            assert_eq!(hears, order != ISOLATE, "control");
            done(&stage, &["release"]);
            stage.wait_phase(LIMIT, "released").unwrap();
        }
    }
);

/// What a container says of where the device is reaches its link while the device is free, and not in isolation or a restriction.
fn is_not_believed(said: impl Fn() -> Vec<Said>) {
    let stage = ready(options());
    contained(&stage);
    let port = Port::of("onwan", "mv1");
    let ear = Ear::open("internet");
    let said = said();
    let names: BTreeSet<_> = said.iter().map(|(name, _)| *name).collect();
    assert_eq!(heard_by(&ear, &port, ROOT, &said), names, "control");
    let file = restriction(&stage);
    for order in [&["quarantine", "--order", &file], ISOLATE.as_slice()] {
        done(&stage, order);
        stage.wait_phase(LIMIT, "enforced").unwrap();
        assert_eq!(heard_by(&ear, &port, ROOT, &said), BTreeSet::new(), "{order:?}");
        done(&stage, &["release"]);
        stage.wait_phase(LIMIT, "released").unwrap();
    }
}

lab_test!(
    a_container_does_not_say_that_the_device_is_at_another_of_its_interfaces,
    || is_not_believed(at_another_link)
);

lab_test!(a_container_hides_no_lie_by_calling_it_tagged, || {
    is_not_believed(called_tagged);
});

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
