//! What may be said on a link of where an address is, and what ends a session or a lease there: lies in many shapes, and truths.

use std::net::IpAddr;

use edgewarden_lab::site::{GATEWAY_WAN_V4, GATEWAY_WAN_V6, INTERNET_V4, INTERNET_V6};

use crate::common::packet::{ICMP, ICMPV6, UDP, ip as packet, sum, udp};
use crate::layers::frames::{ARP, BROADCAST, EAPOL, IPV4, IPV6, Mac, PPPOE_DISCOVERY, UNKNOWN};
use crate::layers::wire::Port;

/// Nobody's.
pub(super) const NOWHERE: Mac = [2, 0xde, 0xad, 0, 0, 1];

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// An address on the uplink that is a container's.
pub(super) const CONTAINER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 50));
/// Of a packet that was cut up, one that is not the last.
const MORE_PIECES: u16 = 0x2000;

/// A frame to everybody.
fn frame(from: Mac, kind: u16, content: &[u8]) -> Vec<u8> {
    let mut frame = [BROADCAST.as_slice(), &from, &kind.to_be_bytes(), content].concat();
    frame.resize(frame.len().max(60), 0);
    frame
}

/// The answer of ARP, from `sender`, that this address is there.
pub(super) fn arp(sender: Mac, address: IpAddr, there: Mac) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, 2];
    let who = octets(address);
    frame(
        sender,
        ARP,
        &[head.as_slice(), &there, &who, &BROADCAST, &who].concat(),
    )
}

/// A neighbour's message in the name of an address, with the option of that kind which tells where it is.
fn neighbour(
    sender: Mac,
    address: IpAddr,
    kind: u8,
    target: Option<IpAddr>,
    (option, there): (u8, Mac),
) -> Vec<u8> {
    let target = target.map(octets).unwrap_or_default();
    let message = [
        [kind, 0, 0, 0, 0, 0, 0, 0].as_slice(),
        &target,
        &[option, 1],
        &there,
    ]
    .concat();
    let all = "ff02::1".parse().unwrap();
    let mut packet = packet(address, all, ICMPV6, 0, &message);
    // Sent on this link.
    packet[7] = 255;
    frame(sender, IPV6, &packet)
}

/// What its sender calls otherwise.
pub(super) const DECLARED: &str = "ARP that is declared as something else";

/// What its sender calls tagged, and is not.
pub(super) const CALLED_TAGGED: &str = "ARP that is called tagged";

/// A frame, and what it says.
pub(super) type Said = (&'static str, Vec<u8>);

/// The first of them in other shapes, which its receivers take for it.
fn disguised(own: Mac) -> Vec<Said> {
    vec![
        (
            "ARP that is longer",
            [arp(own, GATEWAY_WAN_V4, NOWHERE), vec![0; 40]].concat(),
        ),
        ("ARP of another link", {
            let mut lie = arp(own, GATEWAY_WAN_V4, NOWHERE);
            // Of IEEE 802, which the kernel takes for Ethernet.
            lie[15] = 6;
            lie
        }),
        ("ARP in a tag of no VLAN", {
            let lie = arp(own, GATEWAY_WAN_V4, NOWHERE);
            // Of a length of its own, by which it is known without its tag.
            [&lie[..12], &[0x81, 0, 0, 0], &lie[12..], &[0; 2]].concat()
        }),
        (DECLARED, arp(own, GATEWAY_WAN_V4, NOWHERE)),
        ("ARP as other links carry it", {
            let lie = arp(own, GATEWAY_WAN_V4, NOWHERE);
            // A length in the place of the type, which follows the headers of LLC and SNAP.
            [&lie[..12], &[0, 54, 0xaa, 0xaa, 3, 0, 0, 0], &lie[12..]].concat()
        }),
        (
            "a longer advertisement",
            [
                neighbour(own, GATEWAY_WAN_V6, 136, Some(GATEWAY_WAN_V6), (2, NOWHERE)),
                vec![0; 80],
            ]
            .concat(),
        ),
        (
            "a better router",
            neighbour(own, INTERNET_V6, 137, Some(GATEWAY_WAN_V6), (2, NOWHERE)),
        ),
    ]
}

/// Lies, and what is true.
pub(super) fn said() -> (Vec<Said>, Vec<Said>) {
    let [own, other] = ["wan0", "lan0"].map(|name| Port::of("gateway", name).mac());
    let router = Port::of("internet", "gw0").mac();
    let lies = vec![
        ("ARP: the device is nowhere", arp(own, GATEWAY_WAN_V4, NOWHERE)),
        (
            "ARP: the device is at its other interface",
            arp(own, GATEWAY_WAN_V4, other),
        ),
        ("ARP: the router is here", arp(own, INTERNET_V4, own)),
        ("a frame of the router's", arp(router, GATEWAY_WAN_V4, own)),
        (
            "advertisement of the device",
            neighbour(own, GATEWAY_WAN_V6, 136, Some(GATEWAY_WAN_V6), (2, NOWHERE)),
        ),
        (
            "advertisement of the router",
            neighbour(own, INTERNET_V6, 136, Some(INTERNET_V6), (2, NOWHERE)),
        ),
        (
            "solicitation of a neighbour",
            neighbour(own, GATEWAY_WAN_V6, 135, Some(INTERNET_V6), (1, NOWHERE)),
        ),
        (
            "solicitation of a router",
            neighbour(own, GATEWAY_WAN_V6, 133, None, (1, NOWHERE)),
        ),
        (
            "the same at the other interface",
            neighbour(own, GATEWAY_WAN_V6, 133, None, (1, other)),
        ),
        (
            "solicitation in the router's name",
            neighbour(own, INTERNET_V6, 133, None, (1, own)),
        ),
    ];
    let truths = vec![
        ("ARP: the device is here", arp(own, GATEWAY_WAN_V4, own)),
        (
            "solicitation of a router, true",
            neighbour(own, GATEWAY_WAN_V6, 133, None, (1, own)),
        ),
    ];
    ([lies, disguised(own)].concat(), truths)
}

/// Says of the device's addresses on the uplink that they are where its other interface is, as its uplink.
pub(super) fn at_another_link() -> Vec<Said> {
    let [own, other] = ["wan0", "lan0"].map(|name| Port::of("gateway", name).mac());
    placed(own, (GATEWAY_WAN_V4, GATEWAY_WAN_V6), other)
}

/// Says of an address of each family that it is there.
pub(super) fn placed(sender: Mac, (v4, v6): (IpAddr, IpAddr), there: Mac) -> Vec<Said> {
    vec![
        ("ARP", arp(sender, v4, there)),
        ("advertisement", neighbour(sender, v6, 136, Some(v6), (2, there))),
        (
            "solicitation",
            neighbour(sender, v6, 135, Some(INTERNET_V6), (1, there)),
        ),
    ]
}

/// Says of the device's address that it is nowhere, by bytes that are called tagged.
pub(super) fn called_tagged() -> Vec<Said> {
    let lie = arp(Port::of("gateway", "wan0").mac(), GATEWAY_WAN_V4, NOWHERE);
    let behind = |tags: usize| {
        // Of a length of its own, by which it is known without its tag.
        let tags = [0x81, 0, 0, 0].repeat(tags);
        [&lie[..12], &tags, &lie[12..], &tags].concat()
    };
    vec![
        (CALLED_TAGGED, lie.clone()),
        ("ARP in a tag", behind(1)),
        ("ARP in two tags", behind(2)),
    ]
}

/// A frame to one of the groups that no bridge passes on.
fn to_group(last: u8, kind: u16, content: &[u8]) -> Vec<u8> {
    to([1, 0x80, 0xc2, 0, 0, last], kind, content)
}

fn to(group: Mac, kind: u16, content: &[u8]) -> Vec<u8> {
    let mut frame = frame(Port::of("gateway", "wan0").mac(), kind, content);
    frame[..6].copy_from_slice(&group);
    frame
}

/// Which of several routers is better, as these and switches tell each other, and hosts.
fn better_ways() -> Vec<Said> {
    let own = Port::of("gateway", "wan0").mac();
    let routers = |protocol: u8, message: &[u8]| {
        let all = "224.0.0.18".parse().unwrap();
        let packet = packet(GATEWAY_WAN_V4, all, protocol, 0, message);
        frame(own, IPV4, &packet)
    };
    let datagram = |from: u16, port: u16, message: &[u8]| routers(UDP, &udp(from, port, message));
    vec![
        ("a better router by VRRP", routers(112, &[0x21, 1, 255, 1])),
        ("a better router by HSRP", datagram(1_985, 1_985, &[0; 20])),
        ("a better way by RIP", datagram(1_520, 520, &[2; 24])),
        ("a better way by Babel", datagram(6_696, 6_696, &[42, 2, 0, 0])),
        (
            "a better router by a redirect",
            routers(ICMP, &[5, 1, 0, 0, 198, 51, 100, 9]),
        ),
        (
            "a better way by IS-IS",
            to_group(0x14, 40, &[0xfe, 0xfe, 3, 0x83]),
        ),
        ("a switch's neighbour by TRILL", to(NOWHERE, 0x22f3, &[0; 40])),
    ]
}

/// What ends a session or a lease of the device's, or has a switch send elsewhere: services may have to say such.
pub(super) fn endings() -> Vec<Said> {
    let uplink = Port::of("gateway", "wan0");
    let release = |from: u16| {
        let datagram = udp(from, 67, &[1; 240]);
        frame(
            uplink.mac(),
            IPV4,
            &packet(GATEWAY_WAN_V4, INTERNET_V4, UDP, 0, &datagram),
        )
    };
    let other = Port::of("gateway", "lan0").mac();
    let ends = vec![
        ("as the device's other interface", frame(other, UNKNOWN, b"here")),
        (
            "the end of a session of 802.1X",
            to_group(3, EAPOL, &[1, 2, 0, 0]),
        ),
        ("a bridge's", to_group(0, 38, &[0x42, 0x42, 3, 0, 0])),
        (
            "the end of a VLAN's registration",
            to_group(0x21, 0x88f5, &[0, 1, 2, 0]),
        ),
        ("a fault between switches", to_group(0x31, 0x8902, &[0; 40])),
        ("a pause", to(NOWHERE, 0x8808, &[0, 1, 0xff, 0xff])),
        (
            "a spanning tree of Cisco's",
            to(
                [1, 0, 0x0c, 0xcc, 0xcc, 0xcd],
                50,
                &[0xaa, 0xaa, 3, 0, 0, 0x0c, 1, 0x0b, 0],
            ),
        ),
        (
            "the end of a session of PPPoE",
            frame(uplink.mac(), PPPOE_DISCOVERY, &[0x11, 0xa7, 0, 1, 0, 0]),
        ),
        ("a lease's release", release(68)),
        ("a lease's release by anybody", release(1_068)),
    ];
    [ends, better_ways()].concat()
}

/// What opens and ends a link, as whoever stands beside the device says it, in the device's name or about its lease.
pub(super) fn control_of_links(beside: Mac) -> Vec<Said> {
    let own = Port::of("gateway", "wan0").mac();
    let as_himself = |mut frame: Vec<u8>| {
        frame[6..12].copy_from_slice(&beside);
        frame
    };
    let lease = |from: u16, address: &[u8], hardware: Mac| {
        let (head, between, rest) = ([1, 1, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0], [0; 12], [0; 206]);
        let parts = [&head, address, &between, &hardware, &rest];
        let message = udp(from, 67, &parts.concat());
        let packet = packet(CONTAINER, INTERNET_V4, UDP, 0, &message);
        as_himself(frame(own, IPV4, &packet))
    };
    let nobody = [0; 4];
    vec![
        (
            "the end of a session of 802.1X",
            to_group(3, EAPOL, &[1, 2, 0, 0]),
        ),
        ("data as keys of a link", to(NOWHERE, EAPOL, &[7; 1_000])),
        ("data to a group of the link", to_group(14, 0x1234, &[7; 1_000])),
        ("a spanning tree", to_group(0, 38, &[0x42, 0x42, 3, 0, 0])),
        (
            "a spanning tree of his own",
            as_himself(to_group(0, 39, &[0x42, 0x42, 3, 0, 0])),
        ),
        (
            "a spanning tree of Cisco's, of his own",
            as_himself(to(
                [1, 0, 0x0c, 0xcc, 0xcc, 0xcd],
                50,
                &[0xaa, 0xaa, 3, 0, 0, 0x0c, 1, 0x0b, 0],
            )),
        ),
        ("a pause", to(NOWHERE, 0x8808, &[0, 1, 0xff, 0xff])),
        ("who is at the port", to_group(14, 0x88cc, &[2, 7, 4])),
        (
            "the end of a session of PPPoE",
            frame(own, PPPOE_DISCOVERY, &[0x11, 0xa7, 0, 1, 0, 0]),
        ),
        (
            "the lease of the device's address",
            lease(68, &octets(GATEWAY_WAN_V4), beside),
        ),
        ("the lease of the device", lease(1_068, &nobody, own)),
        ("a lease in pieces", {
            // It does not tell yet whose.
            let message = udp(68, 67, &[1; 24]);
            let packet = packet(CONTAINER, INTERNET_V4, UDP, MORE_PIECES, &message);
            as_himself(frame(own, IPV4, &packet))
        }),
        (
            "a lease in pieces behind options",
            as_himself(frame(own, IPV4, &behind_options())),
        ),
    ]
}

/// The first piece of a message to a server of leases, as long as a whole one with what tells whose it is: its options are as long as
/// they can be.
fn behind_options() -> Vec<u8> {
    let message = udp(68, 67, &[1; 8]);
    let packet = packet(CONTAINER, INTERNET_V4, UDP, MORE_PIECES, &message);
    let (header, rest) = packet.split_at(20);
    let mut packet = [header, &[1; 40], rest].concat();
    packet[0] = 0x4f;
    packet[3] += 40;
    packet[10..12].fill(0);
    let checksum = sum(&[&packet[..60]]);
    packet[10..12].copy_from_slice(&checksum);
    packet
}

/// What ends a session behind two tags of no VLAN, and what switches tell each other and those that have VLANs.
pub(super) fn to_switches(beside: Mac) -> Vec<Said> {
    let own = Port::of("gateway", "wan0").mac();
    let as_himself = |mut frame: Vec<u8>| {
        frame[6..12].copy_from_slice(&beside);
        frame
    };
    let twice = |frame: Vec<u8>| {
        let tags = [0x81, 0, 0, 0].repeat(2);
        [&frame[..12], &tags, &frame[12..], &tags].concat()
    };
    vec![
        (
            "the end of a session of PPPoE in two tags",
            twice(frame(own, PPPOE_DISCOVERY, &[0x11, 0xa7, 0, 1, 0, 0])),
        ),
        (
            "the end of a session of 802.1X in two tags",
            twice(frame(own, EAPOL, &[1, 2, 0, 0])),
        ),
        (
            "the end of a VLAN's registration",
            to_group(0x21, 0x88f5, &[0, 1, 2, 0]),
        ),
        (
            "the same of his own",
            as_himself(to_group(0x21, 0x88f5, &[0, 1, 2, 0])),
        ),
        (
            "a fault between switches",
            as_himself(to_group(0x31, 0x8902, &[0; 40])),
        ),
        (
            "a ring that is cut",
            as_himself(to([1, 0x15, 0x4e, 0, 0, 1], 0x88e3, &[0; 40])),
        ),
    ]
}
