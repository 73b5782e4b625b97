//! Where an address of the device is: at the interface that carries it, and not at another one of the device's that stands on the same
//! link, or is on the same switch; whatever pairs of interfaces a container brings with it; and others' addresses, which the device
//! has elsewhere.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::Duration;

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{GATEWAY_LAN_V4, GATEWAY_LAN_V6, GATEWAY_WAN_V4, GATEWAY_WAN_V6, wait_until};
use edgewarden_lab::stage::{Stage, StageOptions};
use serde_json::json;

use super::beside::{is_not_believed, is_not_passed_on, under_each_order};
use super::in_others_names::{heard_beside, heard_by};
use super::said::{NOWHERE, Said, arp, at_another_link, placed};
use super::silence_inside::{ISOLATE, restriction};
use super::without_socket::container_on_bridge;
use crate::common::gateway::ip;
use crate::common::{LIMIT, done, options, ready};
use crate::layers::frames::{ARP, Mac, UNKNOWN};
use crate::layers::unsent::contained;
use crate::layers::wire::{Ear, Port, ROOT, emit, within};

/// Addresses of an interface that stands on the uplink.
const STANDING_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 8));
const STANDING_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 8));
/// On the same link.
const NOBODY_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 77));
/// A router's, as many of them have it.
const ROUTER_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1));

/// As a virtual router has it that is none at this moment.
fn stands_on_the_uplink(stage: &Stage) {
    let standing = "link add own0 link wan0 type macvlan mode bridge
        link set own0 up";
    ip(stage, standing);
}

/// As one has it that is one, or a host that speaks to its own containers.
fn speaks_by_the_uplink(stage: &Stage) {
    stands_on_the_uplink(stage);
    let addresses = "addr add 198.51.100.8/32 dev own0
        addr add 2001:db8:1::8/128 dev own0 nodad";
    ip(stage, addresses);
}

fn macs() -> [Mac; 2] {
    ["wan0", "own0"].map(|name| Port::of("gateway", name).mac())
}

lab_test!(
    a_container_does_not_say_that_the_device_is_at_what_stands_on_its_uplink,
    || {
        is_not_believed(stands_on_the_uplink, || {
            let [own, standing] = macs();
            placed(own, (GATEWAY_WAN_V4, GATEWAY_WAN_V6), standing)
        });
    }
);

/// Whether the kernel asks for a neighbour by this interface in the name of that address. Nobody is there, so that it asks again and
/// again.
fn asks(stage: &Stage, ear: &Ear, interface: &str, name: IpAddr) -> Result<(), impl std::fmt::Debug + use<>> {
    ip(stage, &format!("route replace {NOBODY_V4}/32 dev {interface}"));
    let socket = within("gateway", || UdpSocket::bind((name, 0)).unwrap());
    let sender = Port::of("gateway", interface).mac();
    let begins = [[0xff; 6].as_slice(), &sender, &ARP.to_be_bytes()].concat();
    let IpAddr::V4(name) = name else { panic!("{name}") };
    wait_until(LIMIT / 6, "its question", || {
        let _unknown = socket.send_to(b"x", (NOBODY_V4, 9));
        let heard = ear.drain().into_iter();
        let mut questions = heard.filter(|frame| frame.starts_with(&begins));
        questions.any(|frame| frame.get(28..32) == Some(&name.octets()))
    })
}

lab_test!(
    the_kernel_asks_on_a_link_by_one_interface_in_the_name_of_another_in_a_restriction,
    || {
        let stage = ready(options());
        speaks_by_the_uplink(&stage);
        let ear = Ear::open("internet");
        // As what a program has bound itself to, or the owner's rules put in its place, and the route's interface.
        let ways = [("wan0", STANDING_V4), ("own0", GATEWAY_WAN_V4)];
        for (interface, name) in ways {
            asks(&stage, &ear, interface, name).expect("control");
        }
        let file = restriction(&stage);
        done(&stage, &["quarantine", "--order", &file]);
        stage.wait_phase(LIMIT, "enforced").unwrap();
        for (interface, name) in ways {
            asks(&stage, &ear, interface, name).unwrap();
        }
    }
);

lab_test!(what_stands_on_the_uplink_is_said_to_be_where_it_is, || {
    let stage = ready(options());
    contained(&stage);
    speaks_by_the_uplink(&stage);
    let [own, standing] = macs();
    let port = Port::of("onwan", "mv1");
    let ear = Ear::open("internet");
    // Whoever says so: what the kernel says looks the same.
    let truths = [
        placed(standing, (STANDING_V4, STANDING_V6), standing),
        vec![("ARP of the uplink", arp(own, GATEWAY_WAN_V4, own))],
    ];
    let truths = truths.concat();
    let names: BTreeSet<_> = truths.iter().map(|(name, _)| *name).collect();
    under_each_order(&stage, |order| {
        assert_eq!(heard_by(&ear, &port, ROOT, &truths), names, "{order:?}");
    });
});

/// A pair of interfaces of the device's own to a bridge of its own, and one as a container is given it, before it is moved: the other
/// end is down, and has nothing.
fn pairs(stage: &Stage, onto: &str) {
    ip(
        stage,
        &format!(
            "link add br7 type bridge
            link set br7 up
            link add pa0 type veth peer name pa1
            link set pa1 master br7
            link set pa1 up
            addr add 203.0.113.65/28 dev pa0
            link set pa0 up
            link add new0 type veth peer name new1
            link set new0 master {onto}
            link set new0 up"
        ),
    );
}

lab_test!(
    a_pair_of_interfaces_lets_no_container_say_where_the_device_is,
    || is_not_believed(|stage| pairs(stage, "br7"), at_another_link)
);

lab_test!(a_pair_of_interfaces_lets_no_container_speak_to_the_switch, || {
    is_not_passed_on(true, false, |stage| pairs(stage, "br0"));
});

/// What a container on the uplink's bridge says falsely of the device, in its own name, is not passed on though bridges are left alone.
fn no_lie_is_passed_on(order: impl Fn(&Stage) -> Vec<String>) {
    let stage = ready(StageOptions {
        configuration: json!({"isolation": {"bridged": false}}),
        ..options()
    });
    let port = container_on_bridge(&stage);
    let ear = Ear::open("internet");
    let lan = Port::of("gateway", "lan0").mac();
    let lies = [
        vec![
            ("ARP: nowhere", arp(port.mac(), GATEWAY_WAN_V4, NOWHERE)),
            (
                "ARP: with the container",
                arp(port.mac(), GATEWAY_WAN_V4, port.mac()),
            ),
        ],
        placed(port.mac(), (GATEWAY_WAN_V4, GATEWAY_WAN_V6), lan),
    ];
    let lies = lies.concat();
    let names: BTreeSet<_> = lies.iter().map(|(name, _)| *name).collect();
    ip(&stage, "addr add 2001:db8:1::2/64 dev br0 nodad");
    assert_eq!(heard_by(&ear, &port, ROOT, &lies), names, "control");
    let words = order(&stage);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    done(&stage, &words);
    stage.wait_phase(LIMIT, "enforced").unwrap();
    assert_eq!(heard_by(&ear, &port, ROOT, &lies), BTreeSet::new());
    let own: [Said; 1] = [("his own", arp(port.mac(), STANDING_V4, port.mac()))];
    assert_eq!(
        heard_by(&ear, &port, ROOT, &own).len(),
        1,
        "control: what is true"
    );
}

lab_test!(
    what_bridges_pass_on_says_nothing_false_of_the_device_in_isolation,
    || no_lie_is_passed_on(|_| ISOLATE.map(str::to_owned).into())
);

lab_test!(
    what_bridges_pass_on_says_nothing_false_of_the_device_in_a_restriction,
    || no_lie_is_passed_on(|stage| vec!["quarantine".into(), "--order".into(), restriction(stage)])
);

lab_test!(
    a_container_is_a_virtual_router_of_the_number_that_the_device_has,
    || {
        let stage = ready(options());
        let port = container_on_lan(&stage);
        let vmac = "link add vrrp.51 link wan0 address 00:00:5e:00:01:33 type macvlan mode private
        link set vrrp.51 up";
        ip(&stage, vmac);
        let ear = Ear::open("lan");
        let router = [0, 0, 0x5e, 0, 1, 0x33];
        let said = [(
            "as a virtual router",
            arp(router, "192.0.2.9".parse().unwrap(), router),
        )];
        let heard = || heard_beside(&ear, ("lan0", GATEWAY_LAN_V4), (&port, ROOT), &said).len();
        assert_eq!(heard(), 1, "control");
        let file = restriction(&stage);
        done(&stage, &["quarantine", "--order", &file]);
        stage.wait_phase(LIMIT, "enforced").unwrap();
        assert_eq!(heard(), 1);
    }
);

/// A container whose interface stands on the device's other one.
fn container_on_lan(stage: &Stage) -> Port {
    let inside = "netns add onlan
        link add mv2 link lan0 type macvlan mode bridge
        link set mv2 netns onlan
        -n onlan link set mv2 up";
    ip(stage, inside);
    Port::of("onlan", "mv2")
}

lab_test!(a_container_sends_as_no_other_interface_of_the_device, || {
    let stage = ready(options());
    let port = container_on_lan(&stage);
    let ear = Ear::open("lan");
    let [uplink, here] = ["wan0", "lan0"].map(|name| Port::of("gateway", name).mac());
    let heard = |said: &[Said]| heard_beside(&ear, ("lan0", GATEWAY_LAN_V4), (&port, ROOT), said);
    // It is true, and yet a switch learns by it that the uplink is here.
    let stolen = [("as the uplink", arp(uplink, GATEWAY_LAN_V4, here))];
    let own = [("as what is here", arp(here, GATEWAY_LAN_V4, here))];
    assert_eq!(heard(&stolen).len(), 1, "control");
    under_each_order(&stage, |order| {
        assert_eq!(heard(&stolen).len(), 0, "{order:?}");
        assert_eq!(heard(&own).len(), 1, "control");
    });
});

lab_test!(a_guest_on_a_bridge_hears_the_uplink_that_is_on_its_switch, || {
    let stage = ready(options());
    // One interface for the host and one for its guests, both on one switch: what the host sends comes round to them.
    let port = guest_on_lan(&stage);
    let ear = Ear::open("onbrl");
    let uplink = Port::of("gateway", "wan0").mac();
    let comes = |frame: Vec<u8>| {
        ear.drain();
        let kind = u16::from_be_bytes([frame[12], frame[13]]);
        wait_until(LIMIT / 6, "it is heard", || {
            emit(&Port::of("lan", "eth0").sender(kind), &frame);
            std::thread::sleep(Duration::from_millis(50));
            ear.drain().contains(&frame)
        })
    };
    let mut frame = [port.mac().as_slice(), &uplink, &UNKNOWN.to_be_bytes()].concat();
    frame.resize(80, 7);
    let says = arp(uplink, GATEWAY_WAN_V4, uplink);
    let all = [frame, says];
    for frame in &all {
        comes(frame.clone()).expect("control");
    }
    let file = restriction(&stage);
    done(&stage, &["quarantine", "--order", &file]);
    stage.wait_phase(LIMIT, "enforced").unwrap();
    for frame in all {
        comes(frame).unwrap();
    }
});

/// A guest on a bridge of the device's, to which its other interface belongs.
fn guest_on_lan(stage: &Stage) -> Port {
    let bridge = "link add brl type bridge
        addr flush dev lan0
        link set lan0 master brl
        link set brl up
        addr add 192.0.2.1/24 dev brl
        netns add onbrl
        link add vc1 type veth peer name ve1 netns onbrl
        link set vc1 master brl
        link set vc1 up
        -n onbrl link set ve1 up";
    ip(stage, bridge);
    Port::of("onbrl", "ve1")
}

lab_test!(
    a_container_on_another_link_says_nothing_false_of_the_uplinks_link_local_address,
    || {
        let stage = ready(options());
        let port = container_on_lan(&stage);
        ip(&stage, "addr add fe80::7/64 dev wan0 nodad");
        let ear = Ear::open("lan");
        let here = Port::of("gateway", "lan0").mac();
        let mut lies = placed(here, (GATEWAY_WAN_V4, "fe80::7".parse().unwrap()), NOWHERE);
        lies.push(("of his own name", arp(port.mac(), GATEWAY_WAN_V4, NOWHERE)));
        let heard = || heard_beside(&ear, ("lan0", GATEWAY_LAN_V4), (&port, ROOT), &lies);
        assert_eq!(heard().len(), lies.len(), "control");
        under_each_order(&stage, |order| {
            assert_eq!(heard(), BTreeSet::new(), "{order:?}");
        });
    }
);

lab_test!(
    in_isolation_a_container_on_another_link_says_nothing_of_the_uplinks_address,
    || {
        let stage = ready(options());
        let port = container_on_lan(&stage);
        let ear = Ear::open("lan");
        let here = Port::of("gateway", "lan0").mac();
        let device = ("lan0", GATEWAY_LAN_V4);
        // On the same switch as the uplink this turns the router here, as what the kernel itself would say.
        let said = placed(here, (GATEWAY_WAN_V4, GATEWAY_WAN_V6), here);
        let own = [("of what is here", arp(here, GATEWAY_LAN_V4, here))];
        let heard = |said: &[Said]| heard_beside(&ear, device, (&port, ROOT), said).len();
        assert_eq!(heard(&said), said.len(), "control");
        done(&stage, &ISOLATE);
        stage.wait_phase(LIMIT, "enforced").unwrap();
        assert_eq!(heard(&said), 0);
        assert_eq!(heard(&own), 1, "control");
    }
);

lab_test!(
    an_address_that_is_at_home_on_two_links_is_on_each_where_that_ones_interface_is,
    || {
        is_not_believed(
            |stage| {
                ip(stage, "addr add fe80::7/64 dev wan0 nodad");
                ip(stage, "addr add fe80::7/64 dev lan0 nodad");
            },
            || {
                let [own, other] = ["wan0", "lan0"].map(|name| Port::of("gateway", name).mac());
                placed(own, (GATEWAY_WAN_V4, "fe80::7".parse().unwrap()), other)
            },
        );
    }
);

lab_test!(
    hosts_on_a_bridge_keep_addresses_that_the_device_has_elsewhere,
    || {
        let stage = ready(options());
        let port = container_on_bridge(&stage);
        ip(&stage, "addr add fe80::1/64 dev lan0 nodad");
        let ear = Ear::open("internet");
        // Of IPv4 the device keeps its addresses to itself on every link.
        let theirs = placed(port.mac(), (STANDING_V4, ROUTER_V6), port.mac());
        let names: BTreeSet<_> = theirs.iter().map(|(name, _)| *name).collect();
        assert_eq!(heard_by(&ear, &port, ROOT, &theirs), names, "control");
        let file = restriction(&stage);
        done(&stage, &["quarantine", "--order", &file]);
        stage.wait_phase(LIMIT, "enforced").unwrap();
        assert_eq!(heard_by(&ear, &port, ROOT, &theirs), names);
        let of_device = placed(port.mac(), (GATEWAY_LAN_V4, GATEWAY_LAN_V6), port.mac());
        let heard = heard_by(&ear, &port, ROOT, &of_device);
        assert_eq!(heard, BTreeSet::new(), "also where they are at home elsewhere");
    }
);
