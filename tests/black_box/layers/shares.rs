//! What passes whatever is ordered, in its shape and size only, and each sender's share of it.

use std::net::IpAddr;
use std::time::Duration;

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{GATEWAY_WAN_V4, GATEWAY_WAN_V6, INTERNET_V4, INTERNET_V6, Ns, wait_until};
use edgewarden_lab::stage::StageOptions;
use nix::sys::socket::{setsockopt, sockopt};
use serde_json::json;

use super::frames::{ARP, BROADCAST, Between, EAPOL, Frame, IPV4, IPV6, LLDP, arp};
use super::free;
use super::wire::{Ear, Flood, NOBODY, Port, ROOT, arrivals_of_packets, emit, names};
use crate::common::gateway::{ip, run};
use crate::common::packet::{ICMPV6, SYN, TCP, UDP, icmp, ip as packet, sum, tcp, udp};
use crate::common::{LIMIT, isolate, options};

const MTU: &str = "4000";
const LLDP_GROUP: [u8; 6] = [0x01, 0x80, 0xc2, 0, 0, 0x0e];
const SERVICE: u32 = 101;
/// From one frame of a flood to the next.
const PAUSE: Duration = Duration::from_micros(200);

fn padded(marker: &[u8], length: usize) -> Vec<u8> {
    [marker, vec![0; length].as_slice()].concat()
}

fn v6(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn wan() -> (Port, Between) {
    let wan = Port::of("gateway", "wan0");
    let between = Between {
        from: wan.mac(),
        to: Port::of("internet", "gw0").mac(),
    };
    (wan, between)
}

/// Neighbour messages, link frames and ARP that are larger than such, or nothing of the kind.
fn misshapen(b: &Between) -> Vec<Frame> {
    let lldp = Between { to: LLDP_GROUP, ..*b };
    let own = v6("fe80::1");
    let to = |b: &Between, name, address: IpAddr, data: fn(&[u8]) -> Vec<u8>| {
        b.frame(name, IPV6, |m| packet(own, address, ICMPV6, 0, &data(&m)))
    };
    let large = |kind: u8, m: &[u8]| icmp(kind, &padded(m, 1_300));
    let all_nodes = v6("ff02::1");
    let called = |frame: Frame, said| Frame { said, ..frame };
    vec![
        to(b, "large solicitation", v6("fe80::2"), |m| {
            icmp(135, &padded(m, 1_300))
        }),
        to(b, "large advertisement", all_nodes, |m| {
            icmp(136, &padded(m, 1_300))
        }),
        to(b, "large router advertisement", all_nodes, |m| {
            icmp(134, &padded(m, 1_300))
        }),
        b.frame("report by hand", IPV6, |m| {
            let mut packet = packet(own, v6("ff02::16"), ICMPV6, 0, &large(143, &m));
            packet[7] = 1;
            packet
        }),
        b.frame("report to a host", IPV6, |m| {
            let mut packet = packet(own, INTERNET_V6, ICMPV6, 0, &icmp(131, &m));
            packet[7] = 1;
            packet
        }),
        b.frame("large EAPOL", EAPOL, |m| {
            [&[2, 1, 0, 0], padded(&m, 2_000).as_slice()].concat()
        }),
        lldp.frame("large LLDP", LLDP, |m| padded(&m, 2_000)),
        lldp.frame("IP to a link group", IPV4, |m| {
            packet(GATEWAY_WAN_V4, INTERNET_V4, UDP, 0, &udp(1, 2, &m))
        }),
        called(lldp.frame("LLDP called IP", LLDP, |m| m), IPV4),
        b.frame("ARP of another operation", ARP, |m| {
            let mut frame = arp(b.from, [198, 51, 100, 2], [198, 51, 100, 1], &m);
            frame[7] = 3;
            frame
        }),
    ]
}

/// To a lifeline, with options of IPv4, in words of four bytes.
fn with_options(options: &[u8], marker: &[u8]) -> Vec<u8> {
    let data = tcp(1_000, 8_883, SYN, marker);
    let plain = packet(GATEWAY_WAN_V4, INTERNET_V4, TCP, 0, &data);
    let (header, data) = plain.split_at(20);
    let mut whole = [header, options, data].concat();
    whole[0] = 0x45 + u8::try_from(options.len() / 4).unwrap();
    let length = u16::try_from(whole.len()).unwrap().to_be_bytes();
    whole[2..4].copy_from_slice(&length);
    // A bridge that hands IP to the IP stack's hooks looks at it.
    whole[10..12].fill(0);
    let checksum = sum(&[&whole[..20 + options.len()]]);
    whole[10..12].copy_from_slice(&checksum);
    whole
}

/// Those of IPv4: the IP stack sends what somebody gives it whole.
fn by_the_stack(frames: &[Frame]) -> Vec<Frame> {
    let of_v4 = frames.iter().filter(|frame| frame.name != "routing header");
    of_v4.cloned().collect()
}

/// To a lifeline, by way of others.
pub(super) fn detours(b: &Between) -> Vec<Frame> {
    let endpoint = |m: &[u8]| tcp(1_000, 8_883, SYN, m);
    // No operation comes first.
    let source_routed = |kind: u8, m: &[u8]| with_options(&[1, kind, 7, 4, 203, 0, 113, 9], m);
    // Its first place is behind it, and the kernel takes it for wrong.
    let part_done = |kind: u8, m: &[u8]| with_options(&[kind, 11, 8, 198, 51, 100, 1, 203, 0, 113, 9, 0], m);
    // The kernel takes a time stamp without room for wrong, and tells nothing of what is behind it.
    let behind_another = |m: &[u8]| with_options(&[68, 5, 5, 0, 0, 131, 7, 4, 203, 0, 113, 9], m);
    let routing = |m: &[u8]| {
        let header = [TCP, 2, 4, 1, 0, 0, 0, 0];
        let other = "2001:db8:ffff::9".parse::<std::net::Ipv6Addr>().unwrap().octets();
        let data = [header.as_slice(), &other, &endpoint(m)].concat();
        packet(GATEWAY_WAN_V6, INTERNET_V6, 43, 0, &data)
    };
    vec![
        b.frame("loose source route", IPV4, |m| source_routed(131, &m)),
        b.frame("strict source route", IPV4, |m| source_routed(137, &m)),
        b.frame("loose source route, part done", IPV4, |m| part_done(131, &m)),
        b.frame("strict source route, part done", IPV4, |m| part_done(137, &m)),
        b.frame("source route behind another option", IPV4, |m| behind_another(&m)),
        b.frame("routing header", IPV6, |m| routing(&m)),
    ]
}

lab_test!(what_passes_whatever_is_ordered_has_its_shape_and_size, || {
    let stage = free(options());
    ip(&stage, &format!("link set dev wan0 mtu {MTU}"));
    run(
        &stage,
        Ns::Internet,
        "ip",
        &["link", "set", "dev", "gw0", "mtu", MTU],
    );
    let (wan, between) = wan();
    let ear = Ear::open("internet");
    let detours = detours(&between);
    let attacks = [misshapen(&between), detours.clone()].concat();
    assert_eq!(wan.arrivals(&ear, &attacks), names(&attacks), "control");
    let of_the_stack = by_the_stack(&detours);
    let sent = || arrivals_of_packets("gateway", &ear, &of_the_stack);
    assert_eq!(sent(), names(&of_the_stack), "control");
    isolate(&stage);
    assert_eq!(wan.arrivals(&ear, &attacks), Vec::<&str>::new());
    assert_eq!(sent(), Vec::<&str>::new());
    let status = stage.status();
    assert_eq!(status["enforcement"]["phase"], "enforced", "{status}");
    assert_eq!(status["enforcement"]["uncovered"], json!([]), "{status}");
});

lab_test!(a_restriction_cuts_what_comes_by_other_places, || {
    let stage = free(options());
    let (wan, between) = wan();
    let ear = Ear::open("internet");
    let attacks = detours(&between);
    let of_the_stack = by_the_stack(&attacks);
    let sent = || arrivals_of_packets("gateway", &ear, &of_the_stack);
    assert_eq!(wan.arrivals(&ear, &attacks), names(&attacks), "control");
    assert_eq!(sent(), names(&of_the_stack), "control");
    let block = json!({"remotes": ["203.0.113.0/24", "2001:db8:ffff::/48"]});
    crate::common::order(
        &stage,
        &json!({"id": "detour", "posture": "restrict", "block": block}),
    );
    assert_eq!(wan.arrivals(&ear, &attacks), Vec::<&str>::new());
    assert_eq!(sent(), Vec::<&str>::new());
    let harmless = [between.frame("record of the route", IPV4, |m| {
        with_options(&[7, 7, 4, 0, 0, 0, 0, 0], &m)
    })];
    let passes = arrivals_of_packets("gateway", &ear, &harmless);
    assert_eq!(passes, names(&harmless));
});

/// What root's programs need, and what others send of it.
fn needed(b: &Between) -> Vec<Frame> {
    let all = Between { to: BROADCAST, ..*b };
    let lldp = Between { to: LLDP_GROUP, ..*b };
    let group = Between {
        to: [0x33, 0x33, 0, 1, 0, 2],
        ..*b
    };
    let nobody = "0.0.0.0".parse().unwrap();
    let everybody = "255.255.255.255".parse().unwrap();
    vec![
        all.frame("DHCP discover", IPV4, |m| {
            packet(nobody, everybody, UDP, 0, &udp(68, 67, &padded(&m, 230)))
        }),
        b.frame("DHCP renewal", IPV4, |m| {
            packet(
                GATEWAY_WAN_V4,
                INTERNET_V4,
                UDP,
                0,
                &udp(68, 67, &padded(&m, 230)),
            )
        }),
        group.frame("DHCPv6", IPV6, |m| {
            packet(v6("fe80::1"), v6("ff02::1:2"), UDP, 0, &udp(546, 547, &m))
        }),
        b.frame("EAPOL", EAPOL, |m| [&[2, 1, 0, 0], m.as_slice()].concat()),
        lldp.frame("LLDP", LLDP, |m| m),
        all.frame("ARP", ARP, |m| {
            arp(b.from, [198, 51, 100, 2], [198, 51, 100, 1], &m)
        }),
    ]
}

lab_test!(nobody_uses_up_the_share_of_another, || {
    let stage = free(options());
    let (wan, between) = wan();
    let ear = Ear::open("internet");
    let needed = needed(&between);
    assert_eq!(wan.arrivals(&ear, &needed), names(&needed), "control");
    isolate(&stage);
    {
        let flood = |user| {
            let senders = needed.iter();
            senders
                .map(|frame| Flood::begin(wan.sender_as(frame.said, user), frame.bytes.clone(), PAUSE))
                .collect::<Vec<_>>()
        };
        let _floods = [flood(NOBODY), flood(SERVICE)];
        // Until every bucket is empty.
        std::thread::sleep(Duration::from_millis(1_500));
        ear.drain();
        for frame in &needed {
            // Its content tells it from those of the flood.
            let bytes = [frame.bytes.as_slice(), b"<<root>>"].concat();
            let own = Frame {
                bytes,
                ..frame.clone()
            };
            emit(&wan.sender_as(own.said, ROOT), &own.bytes);
        }
        let mut kinds = std::collections::BTreeSet::new();
        let arrived = wait_until(LIMIT, "root's own arrive", || {
            let heard = ear.drain();
            let own = heard.iter().filter(|bytes| bytes.ends_with(b"<<root>>"));
            kinds.extend(own.map(|bytes| bytes[..14].to_vec()));
            kinds.len() == needed.len()
        });
        assert!(arrived.is_ok(), "{kinds:?}");
    }
    // The kernel tells of a group that somebody joins, as switches want to know.
    ear.drain();
    let joined = super::wire::within("gateway", || {
        let socket = std::net::UdpSocket::bind("[::]:0").unwrap();
        let wan = nix::net::if_::if_nametoindex("wan0").unwrap();
        socket
            .join_multicast_v6(&"ff15::77".parse().unwrap(), wan)
            .unwrap();
        socket
    });
    std::thread::sleep(Duration::from_millis(1_500));
    let reports = ear.drain();
    let is_report = |bytes: &Vec<u8>| bytes.starts_with(&[0x33, 0x33, 0, 0, 0, 0x16]);
    assert!(reports.iter().any(is_report), "{} frames", reports.len());
    drop(joined);
    // The kernel asks for the router while everybody else asks too, root among them.
    let asks = needed.iter().find(|frame| frame.name == "ARP").unwrap();
    let users = [NOBODY, SERVICE, ROOT];
    let _floods = users.map(|user| Flood::begin(wan.sender_as(ARP, user), asks.bytes.clone(), PAUSE));
    std::thread::sleep(Duration::from_millis(1_500));
    let _server = stage.site.echo_server(Ns::Internet, 8_443).unwrap();
    for round in 0..3 {
        ip(&stage, "neigh flush dev wan0");
        let reached = stage.site.tcp_connects(Ns::Gateway, INTERNET_V4, 8_443).unwrap();
        assert!(reached, "round {round}");
    }
});

lab_test!(a_users_question_counts_as_all_that_it_can_be_cut_into, || {
    let servers = json!({"isolation": {"timeServers": [INTERNET_V4.to_string()]}});
    let stage = free(StageOptions {
        configuration: servers,
        ..options()
    });
    let ear = Ear::open("internet");
    // Of 100 bytes each, which are to be cut into as many packets.
    let heard = || {
        ear.drain();
        super::wire::within("gateway", || {
            nix::unistd::setfsuid(NOBODY.into());
            let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
            setsockopt(&socket, sockopt::UdpGsoSegment, &1).unwrap();
            for _ in 0..600 {
                let _ = socket.send_to(&[b'?'; 100], (INTERNET_V4, 123));
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        // And no error that quotes one.
        let asked = |frame: &Vec<u8>| frame.get(23) == Some(&UDP) && frame.ends_with(b"????");
        let pieces = |frame: &Vec<u8>| frame.iter().filter(|byte| **byte == b'?').count();
        let all = ear.drain();
        all.iter().filter(|frame| asked(frame)).map(pieces).sum::<usize>() / 100
    };
    // The ear holds some hundreds.
    assert!(heard() > 100, "control");
    isolate(&stage);
    let (first, later) = (heard(), heard());
    assert!(first <= 10 && later <= 4, "{first} and {later}");
});
