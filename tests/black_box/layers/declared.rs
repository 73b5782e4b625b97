//! Frames past the IP stack whose sender says of them what they are not, or that hide behind tags.

use std::time::Duration;

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{
    ATTACKER_V4, ATTACKER_V6, GATEWAY_WAN_V4, GATEWAY_WAN_V6, INTERNET_V4, INTERNET_V6, Ns,
};
use serde_json::json;

use super::frames::{
    ARP, Between, EAPOL, Frame, IEEE_802_2, IPV4, IPV6, LLDP, PPPOE_SESSION, UNKNOWN, VLAN, arp, vlan,
};
use super::wire::{Ear, Port, emit, names};
use super::{cut, free};
use crate::common::packet::{ACK, TCP, UDP, ip, marker, tcp, udp};
use crate::common::{gateway, isolate, options, order, release};

/// How long a packet may be under way.
const FLIGHT: Duration = Duration::from_millis(500);
/// Of a provider's tag, and of one from before.
const PROVIDER: u16 = 0x88a8;
const BEFORE: u16 = 0x9100;
/// What the kernel calls frames with a length in place of a type, of which another kind than [`IEEE_802_2`].
const IEEE_802_3: u16 = 0x0001;

fn datagram(marker: &[u8]) -> Vec<u8> {
    ip(GATEWAY_WAN_V4, ATTACKER_V4, UDP, 0, &udp(1_000, 9_999, marker))
}

fn datagram6(marker: &[u8]) -> Vec<u8> {
    ip(GATEWAY_WAN_V6, ATTACKER_V6, UDP, 0, &udp(1_000, 9_999, marker))
}

/// To blocked remotes, called something else.
fn called_otherwise(b: &Between) -> Vec<Frame> {
    let v4 = [
        ("called ARP", ARP),
        ("called IPv6", IPV6),
        ("called VLAN", VLAN),
        ("called LLDP", LLDP),
        ("called 802.2", IEEE_802_2),
        ("called 802.3", IEEE_802_3),
        ("called unknown", UNKNOWN),
        ("called EAPOL", EAPOL),
        ("called PPPoE", PPPOE_SESSION),
        ("called by a provider", PROVIDER),
    ];
    let v6 = [
        ("IPv6 called ARP", ARP),
        ("IPv6 called IPv4", IPV4),
        ("IPv6 called VLAN", VLAN),
        ("IPv6 called unknown", UNKNOWN),
    ];
    let called = |frame: Frame, said| Frame { said, ..frame };
    let of_4 = v4.map(|(name, said)| called(b.frame(name, IPV4, |m| datagram(&m)), said));
    let of_6 = v6.map(|(name, said)| called(b.frame(name, IPV6, |m| datagram6(&m)), said));
    of_4.into_iter().chain(of_6).collect()
}

/// To blocked remotes behind tags, with the truth and with other words.
fn tagged(b: &Between) -> Vec<Frame> {
    let one = |kind, m: &[u8]| vlan(5, kind, m);
    let honest = vec![
        b.frame("tag", VLAN, |m| one(IPV4, &datagram(&m))),
        b.frame("tag of IPv6", VLAN, |m| one(IPV6, &datagram6(&m))),
        b.frame("provider's tag", PROVIDER, |m| one(IPV4, &datagram(&m))),
        b.frame("tag from before", BEFORE, |m| one(IPV4, &datagram(&m))),
        b.frame("two tags", PROVIDER, |m| {
            vlan(5, VLAN, &vlan(6, IPV4, &datagram(&m)))
        }),
        b.frame("two alike", VLAN, |m| {
            vlan(5, VLAN, &vlan(6, IPV6, &datagram6(&m)))
        }),
        b.frame("three tags", VLAN, |m| {
            vlan(5, VLAN, &vlan(6, VLAN, &vlan(7, IPV4, &datagram(&m))))
        }),
    ];
    let lies = [
        ("tag called IP", VLAN, IPV4),
        ("tag called ARP", VLAN, ARP),
        ("tag called IPv6", VLAN, IPV6),
        ("tag called 802.2", VLAN, IEEE_802_2),
        ("provider's tag called IP", PROVIDER, IPV4),
    ];
    let lies = lies.map(|(name, kind, said)| {
        let frame = b.frame(name, kind, |m| one(IPV4, &datagram(&m)));
        Frame { said, ..frame }
    });
    // Its tag and the type behind it look like the beginning of an IP header; where that has its destination is the source
    // of the datagram behind the tag.
    let looks = b.frame("tag for a header", VLAN, |m| {
        let large = [m.as_slice(), &[0; 2_200]].concat();
        vlan(0x4500, IPV4, &datagram(&large))
    });
    let looks = Frame { said: IPV4, ..looks };
    honest.into_iter().chain(lies).chain([looks]).collect()
}

/// As IP travels on links that are not Ethernet: behind headers of LLC and SNAP, with a length or nothing in place of a type.
fn snap(b: &Between) -> Vec<Frame> {
    let headed = |code: u8, kind: u16, packet: Vec<u8>| {
        [
            &[0xaa, 0xaa, 3, 0, 0, code],
            kind.to_be_bytes().as_slice(),
            &packet,
        ]
        .concat()
    };
    let all = [
        b.frame("SNAP", 60, |m| headed(0, IPV4, datagram(&m))),
        b.frame("SNAP without length", 0, |m| headed(0, IPV4, datagram(&m))),
        b.frame("SNAP of IPv6", 90, |m| headed(0, IPV6, datagram6(&m))),
        b.frame("SNAP of 802.1H", 60, |m| headed(0xf8, IPV4, datagram(&m))),
        b.frame("SNAP behind a tag", 64, |m| {
            headed(0, VLAN, vlan(5, IPV4, &datagram(&m)))
        }),
    ];
    all.map(|frame| Frame {
        said: IEEE_802_2,
        ..frame
    })
    .into()
}

/// What a restriction does not name.
fn others(b: &Between) -> Vec<Frame> {
    let (hardware, [asks, asked]) = (b.from, [[198, 51, 100, 2], [198, 51, 100, 1]]);
    let bpdu = b.frame("spanning tree", 60, |m| [&[0x42, 0x42, 3], m.as_slice()].concat());
    vec![
        b.frame("another remote", IPV4, |m| {
            ip(GATEWAY_WAN_V4, INTERNET_V4, UDP, 0, &udp(1_000, 9_999, &m))
        }),
        b.frame("unknown", UNKNOWN, |m| m),
        b.frame("unknown behind a tag", VLAN, |m| vlan(5, UNKNOWN, &m)),
        b.frame("LLDP", LLDP, |m| m),
        b.frame("ARP", ARP, |m| arp(hardware, asks, asked, &m)),
        b.frame("ARP behind a tag", VLAN, |m| {
            vlan(5, ARP, &arp(hardware, asks, asked, &m))
        }),
        Frame {
            said: IEEE_802_2,
            ..bpdu
        },
    ]
}

lab_test!(frames_are_judged_by_their_bytes, || {
    let stage = free(options());
    gateway::ip(&stage, "link set dev wan0 mtu 4000");
    gateway::run(
        &stage,
        Ns::Internet,
        "ip",
        &["link", "set", "dev", "gw0", "mtu", "4000"],
    );
    let wan = Port::of("gateway", "wan0");
    let between = Between {
        from: wan.mac(),
        to: Port::of("internet", "gw0").mac(),
    };
    let ear = Ear::open("internet");
    let (attacks, others) = (
        [called_otherwise(&between), tagged(&between), snap(&between)].concat(),
        others(&between),
    );
    assert_eq!(wan.arrivals(&ear, &attacks), names(&attacks), "control");
    assert_eq!(wan.arrivals(&ear, &others), names(&others), "control");
    let block = json!({"remotes": [ATTACKER_V4.to_string(), ATTACKER_V6.to_string()]});
    order(
        &stage,
        &json!({"id": "bytes", "posture": "restrict", "block": block}),
    );
    assert_eq!(wan.arrivals(&ear, &attacks), Vec::<&str>::new());
    assert_eq!(wan.arrivals(&ear, &others), names(&others), "not named");
    let status = stage.status();
    assert!(
        cut(&status, "raw", "disguised") >= attacks.len() as u64 * 3,
        "{status}"
    );
    assert_eq!(status["enforcement"]["uncovered"], json!([]), "{status}");
    release(&stage);
    isolate(&stage);
    assert_eq!(wan.arrivals(&ear, &attacks), Vec::<&str>::new());
});

lab_test!(a_false_length_hides_no_port_from_a_restriction, || {
    let stage = free(options());
    let wan = Port::of("gateway", "wan0");
    let between = Between {
        from: wan.mac(),
        to: Port::of("internet", "gw0").mac(),
    };
    let ear = Ear::open("internet");
    let to = |port: u16, marker: &[u8]| ip(GATEWAY_WAN_V4, ATTACKER_V4, UDP, 0, &udp(1_000, port, marker));
    // As long as a card would be told that it is to cut it into many.
    let longer = |mut packet: Vec<u8>| {
        packet[2..4].copy_from_slice(&60_000_u16.to_be_bytes());
        packet
    };
    let to6 = |marker: &[u8]| {
        let mut packet = ip(GATEWAY_WAN_V6, ATTACKER_V6, UDP, 0, &udp(1_000, 9_999, marker));
        packet[4..6].copy_from_slice(&60_000_u16.to_be_bytes());
        packet
    };
    let honest = [between.frame("honest", IPV4, |m| to(9_999, &m))];
    let false_ones = [
        between.frame("false length", IPV4, |m| longer(to(9_999, &m))),
        between.frame("false length of IPv6", IPV6, |m| to6(&m)),
    ];
    let others = [
        between.frame("another port", IPV4, |m| to(8_888, &m)),
        between.frame("no IP", UNKNOWN, |m| m),
    ];
    for frames in [honest.as_slice(), &false_ones, &others] {
        assert_eq!(wan.arrivals(&ear, frames), names(frames), "control");
    }
    let block = json!({"ports": [{"protocol": "udp", "port": 9_999}]});
    order(
        &stage,
        &json!({"id": "lengths", "posture": "restrict", "block": block}),
    );
    assert_eq!(wan.arrivals(&ear, &honest), Vec::<&str>::new());
    assert_eq!(wan.arrivals(&ear, &false_ones), Vec::<&str>::new());
    assert_eq!(wan.arrivals(&ear, &others), names(&others), "not named");
});

lab_test!(nothing_is_passed_on_in_the_devices_own_name, || {
    let stage = free(options());
    gateway::know_neighbours(&stage, &[(Ns::Gateway, INTERNET_V6)]);
    let inside = Port::of("gateway", "lo");
    let ear = Ear::open("internet");
    // Of IPv4 the kernel takes such a source for wrong by itself.
    let nowhere = Between {
        from: [0; 6],
        to: [0; 6],
    };
    let mark = marker("by loopback");
    let made = |protocol, transport: fn(&[u8]) -> Vec<u8>| {
        nowhere.frame("by loopback", IPV6, |m| {
            ip(GATEWAY_WAN_V6, INTERNET_V6, protocol, 0, &transport(&m))
        })
    };
    let stream = made(TCP, |m| tcp(1_000, 8_888, ACK, m));
    let datagram = made(UDP, |m| udp(1_000, 8_888, m));
    // It leaves with other hardware addresses.
    let passes = |frame: &Frame| {
        ear.drain();
        emit(&inside.sender(IPV6), &frame.bytes);
        ear.hears_mark(&mark, FLIGHT)
    };
    assert!(passes(&stream), "control: loopback passes it on");
    let block = json!({"ports": [{"protocol": "udp", "port": 9_999}]});
    order(
        &stage,
        &json!({"id": "own", "posture": "restrict", "block": block}),
    );
    assert!(!passes(&stream));
    // What a host sends to a group it may itself pass on to other links.
    assert!(passes(&datagram), "in no stream");
});
