//! What leaves by our interfaces and no socket of ours has sent, and what interfaces and groups of others take of shares.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use edgewarden_lab::lab_test;
use edgewarden_lab::site::INTERNET_V4;
use edgewarden_lab::stage::{Stage, StageOptions};
use serde_json::json;

use super::frames::{ARP, BROADCAST, Between, IPV6, LLDP, arp};
use super::free;
use super::wire::{Ear, Flood, NOBODY, Port, ROOT, emit, names, within};
use crate::common::gateway::ip;
use crate::common::packet::{ICMPV6, ip as packet};
use crate::common::{isolate, options};

const HTTPS: u16 = 8_443;
const OTHER_HTTPS: u16 = 443;
const MQTT: u16 = 8_883;
const NTP: u16 = 123;
/// How long an answer takes at most where one comes.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(1);

/// What `user` of a namespace can send within this time by TCP, as it arrives in bytes.
fn streamed(namespace: &str, user: u32, time: Duration) -> usize {
    let listener = within("internet", || TcpListener::bind((INTERNET_V4, HTTPS)).unwrap());
    std::thread::scope(|scope| {
        let arrived = scope.spawn(|| {
            listener.set_nonblocking(true).unwrap();
            let (begun, mut sum, mut buffer) = (Instant::now(), 0, vec![0; 1 << 20]);
            let mut stream = None;
            while begun.elapsed() < time + PATIENCE {
                if stream.is_none() {
                    stream = listener.accept().ok().map(|(stream, _)| stream);
                }
                if let Some(stream) = &mut stream {
                    stream.set_nonblocking(true).unwrap();
                    sum += stream.read(&mut buffer).unwrap_or_default();
                }
                std::thread::sleep(PAUSE);
            }
            sum
        });
        within(namespace, || {
            nix::unistd::setfsuid(user.into());
            let begun = Instant::now();
            let Ok(mut stream) = TcpStream::connect_timeout(&(INTERNET_V4, HTTPS).into(), PATIENCE) else {
                return;
            };
            stream
                .set_write_timeout(Some(Duration::from_millis(100)))
                .unwrap();
            while begun.elapsed() < time {
                let _ = stream.write(&[b'x'; 16_384]);
            }
        });
        arrived.join().unwrap()
    })
}

lab_test!(interfaces_that_come_and_go_give_nobody_his_share_anew, || {
    let stage = free(options());
    let time = Duration::from_secs(5);
    assert!(streamed("gateway", NOBODY, PATIENCE) > 1_000_000, "control");
    isolate(&stage);
    // What may come at once is gone.
    let first = streamed("gateway", NOBODY, time);
    let quiet = streamed("gateway", NOBODY, time);
    assert!(first > quiet && quiet < 40_000, "{first}, then {quiet}");
    let ends = AtomicBool::new(false);
    let (busy, made) = std::thread::scope(|scope| {
        let stage = &stage;
        let makes = scope.spawn(|| {
            let mut made = 0;
            while !ends.load(Ordering::Relaxed) {
                ip(stage, "link add vx0 type veth peer name vy0");
                std::thread::sleep(Duration::from_millis(400));
                ip(stage, "link del vx0");
                std::thread::sleep(Duration::from_millis(200));
                made += 1;
            }
            made
        });
        let busy = streamed("gateway", NOBODY, time);
        ends.store(true, Ordering::Relaxed);
        (busy, makes.join().unwrap())
    });
    assert!(made > 4, "{made} interfaces");
    assert!(
        busy < 40_000,
        "{busy} bytes while interfaces come and go, {quiet} without"
    );
    let status = stage.status();
    assert_eq!(status["enforcement"]["phase"], "enforced", "{status}");
    assert_eq!(status["enforcement"]["reasserted"], 0, "{status}");
});

/// A container with an interface that stands on the uplink.
pub(crate) fn contained(stage: &Stage) {
    let inside = "netns add onwan
        link add mv1 link wan0 type macvlan mode bridge
        link set mv1 netns onwan
        -n onwan addr add 198.51.100.50/24 dev mv1
        -n onwan link set mv1 up";
    ip(stage, inside);
}

/// It writes the uplink's hardware address into what it sends.
pub(crate) fn wears(stage: &Stage) {
    let hardware = Port::of("gateway", "wan0").mac_text();
    let text = format!(
        "table netdev t {{ chain e {{ type filter hook egress device \"mv1\" priority 0; ether type ip ether saddr set {hardware}; }}\n}}\n"
    );
    has_rules(stage, &text);
}

/// The container has rules of its own.
pub(crate) fn has_rules(stage: &Stage, text: &str) {
    let file = stage.site.directory().join("onwan.nft");
    std::fs::write(&file, text).unwrap();
    let nft = || Command::new("nft").arg("-f").arg(&file).status().unwrap();
    assert!(within("onwan", nft).success());
}

lab_test!(
    what_wears_our_hardware_address_has_a_small_share_of_a_lifeline,
    || {
        let stage = free(StageOptions {
            configuration: json!({"isolation": {"timeServers": [INTERNET_V4.to_string()]}}),
            ..options()
        });
        contained(&stage);
        wears(&stage);
        let server = within("internet", || UdpSocket::bind((INTERNET_V4, NTP)).unwrap());
        server.set_nonblocking(true).unwrap();
        let asked = |length: usize| {
            within("onwan", || {
                let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                for _ in 0..200 {
                    let _ = socket.send_to(&vec![b'?'; length], (INTERNET_V4, NTP));
                    std::thread::sleep(PAUSE);
                }
            });
            let mut buffer = [0; 2_048];
            std::iter::from_fn(|| server.recv(&mut buffer).ok())
                .filter(|heard| *heard == length)
                .count()
        };
        let time = Duration::from_secs(3);
        assert!(streamed("onwan", ROOT, time) > 1_000_000, "control");
        assert!(asked(1_000) > 50 && asked(100) > 50, "control");
        isolate(&stage);
        let sent = streamed("onwan", ROOT, time);
        assert!(sent < 100_000, "{sent} bytes by TCP");
        assert_eq!(asked(1_000), 0);
        let few = asked(100);
        assert!(few <= 4, "{few} questions");
        // What it uses up is nobody's of this device.
        std::thread::scope(|scope| {
            let flood = scope.spawn(|| streamed("onwan", ROOT, time));
            std::thread::sleep(Duration::from_millis(500));
            let own = stage
                .site
                .tcp_connects(edgewarden_lab::site::Ns::Gateway, INTERNET_V4, MQTT)
                .unwrap();
            assert!(own, "the lifeline itself lives");
            flood.join().unwrap();
        });
        // And our kernel says that a connection is closed, though no program has it any more.
        std::thread::scope(|scope| {
            let flood = scope.spawn(|| streamed("onwan", ROOT, time));
            std::thread::sleep(Duration::from_millis(500));
            for round in 0..5 {
                assert!(is_refused_late(), "round {round}");
            }
            flood.join().unwrap();
        });
        let root = streamed("gateway", ROOT, PATIENCE);
        assert!(root > 1_000_000, "root's own: {root}");
        let status = stage.status();
        assert_eq!(status["enforcement"]["phase"], "enforced", "{status}");
    }
);

/// Whether a server learns that its client is gone, from what the client's kernel answers to more data.
fn is_refused_late() -> bool {
    let listener = within("internet", || {
        TcpListener::bind((INTERNET_V4, OTHER_HTTPS)).unwrap()
    });
    let client = within("gateway", || {
        TcpStream::connect_timeout(&(INTERNET_V4, OTHER_HTTPS).into(), PATIENCE)
    });
    let (mut server, _) = client.is_ok().then(|| listener.accept().unwrap()).unwrap();
    drop(client);
    std::thread::sleep(Duration::from_millis(100));
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if server.write(b"more").is_err() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

lab_test!(an_uplink_that_sends_copies_is_not_bounded, || {
    let stage = free(options());
    // As a hub does: every frame leaves by all ports; ours is not the first, so that its frames are the copies.
    let bridged = "link add hub0 type veth peer name hub1
        link set hub0 up
        link set hub1 up
        link add br0 type bridge ageing_time 0
        link set hub0 master br0
        link set br0 up
        addr flush dev wan0
        link set wan0 master br0
        addr add 198.51.100.2/24 dev br0
        addr add 2001:db8:1::2/64 dev br0 nodad
        route replace default via 198.51.100.1";
    ip(&stage, bridged);
    isolate(&stage);
    let sent = streamed("gateway", ROOT, Duration::from_secs(2));
    assert!(sent > 1_000_000, "{sent} bytes");
    let status = stage.status();
    assert_eq!(status["enforcement"]["phase"], "enforced", "{status}");
});

lab_test!(what_stands_on_a_link_of_ours_takes_nothing_of_its_share, || {
    let stage = free(options());
    contained(&stage);
    let port = Port::of("onwan", "mv1");
    let all = Between {
        from: port.mac(),
        to: BROADCAST,
    };
    let lldp = Between {
        to: [0x01, 0x80, 0xc2, 0, 0, 0x0e],
        ..all
    };
    let lldp = [lldp.frame("LLDP of a container", LLDP, |m| m)];
    let asks = all.frame("ARP of a container", ARP, |m| {
        arp(port.mac(), [198, 51, 100, 50], [198, 51, 100, 99], &m)
    });
    let ear = Ear::open("internet");
    assert_eq!(port.arrivals(&ear, &lldp), names(&lldp), "control");
    let found = |stage: &Stage| {
        let mut found = 0;
        for _ in 0..4 {
            ip(stage, "neigh flush dev wan0");
            let connects = || TcpStream::connect_timeout(&(INTERNET_V4, MQTT).into(), PATIENCE).is_ok();
            found += usize::from(within("gateway", connects));
        }
        found
    };
    isolate(&stage);
    assert_eq!(found(&stage), 4, "control: nobody floods");
    let _flood = Flood::begin(port.sender_as(ARP, ROOT), asks.bytes, Duration::from_micros(500));
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(found(&stage), 4, "the kernel's own questions leave");
    assert_eq!(port.arrivals(&ear, &lldp), Vec::<&str>::new());
});

/// A router's question for all groups, to be answered within a second.
fn query(from: &Port) -> Vec<u8> {
    let (own, all): (Ipv6Addr, Ipv6Addr) = ("fe80::1".parse().unwrap(), "ff02::1".parse().unwrap());
    let mut question = vec![130, 0, 0, 0, 0x03, 0xe8, 0, 0];
    question.extend([0; 16]);
    question.extend([2, 125, 0, 0]);
    let length = u32::try_from(question.len()).unwrap();
    let pseudo = [
        &own.octets()[..],
        &all.octets(),
        &length.to_be_bytes(),
        &[0, 0, 0, ICMPV6],
        &question,
    ]
    .concat();
    let words = pseudo
        .chunks(2)
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    question[2..4].copy_from_slice(&(!u16::try_from(sum).unwrap()).to_be_bytes());
    // A router alert comes before it.
    let data = [&[ICMPV6, 0, 5, 2, 0, 0, 1, 0], question.as_slice()].concat();
    let mut whole = packet(IpAddr::V6(own), IpAddr::V6(all), 0, 0, &data);
    whole[7] = 1;
    let between = Between {
        from: from.mac(),
        to: [0x33, 0x33, 0, 0, 0, 1],
    };
    between.frame("query", IPV6, |_| whole.clone()).bytes
}

lab_test!(groups_that_others_join_silence_none_of_the_kernels, || {
    let stage = free(options());
    let router = Port::of("internet", "gw0");
    let question = query(&router);
    // The group by which neighbours find 2001:db8:1::2.
    let own = "ff02::1:ff00:2".parse::<Ipv6Addr>().unwrap().octets();
    let ear = Ear::open("internet");
    let answered = || {
        ear.drain();
        emit(&router.sender(IPV6), &question);
        let begun = Instant::now();
        let mut named = false;
        while begun.elapsed() < Duration::from_secs(3) {
            named |= ear.drain().iter().any(|frame| {
                frame.starts_with(&[0x33, 0x33, 0, 0, 0, 0x16]) && frame.windows(16).any(|part| part == own)
            });
            std::thread::sleep(Duration::from_millis(5));
        }
        named
    };
    assert!(answered(), "control");
    isolate(&stage);
    let _joined: Vec<UdpSocket> = within("gateway", || {
        nix::unistd::setfsuid(NOBODY.into());
        let wan = nix::net::if_::if_nametoindex("wan0").unwrap();
        let sockets = (0..60_u16).map(|number| {
            let socket = UdpSocket::bind("[::]:0").unwrap();
            for group in 0..10_u16 {
                let group = Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0x1000 + number, group);
                socket.join_multicast_v6(&group, wan).unwrap();
            }
            socket
        });
        sockets.collect()
    });
    for round in 0..3 {
        assert!(answered(), "round {round}");
    }
});
