//! Attacks on a device whose isolation is proven: hand-made packets and the administrator's own tools.
//!
//! Each test shows first that the attack works on the free device. A packet counts as arrived where it would do harm:
//! on the wire of the internet or of the LAN for what leaves, at a raw socket behind the input hook for what enters.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6, TcpStream};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::process::Command;
use std::time::{Duration, Instant};

use edgewarden_lab::site::{
    ATTACKER_V4, ATTACKER_V6, DEVICE_V4, DEVICE_V6, GATEWAY_LAN_V4, GATEWAY_WAN_V4, GATEWAY_WAN_V6,
    INTERNET_V4, INTERNET_V6, Ns, Site, in_lab, wait_until,
};
use edgewarden_lab::stage::{Stage, StageOptions};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, SockaddrStorage,
    bind, connect, recv, sendto, setsockopt, socket, sockopt,
};
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(30);
/// How long packets may be under way; the namespaces are joined by veth pairs.
const FLIGHT: Duration = Duration::from_millis(400);
/// Repetitions of each packet, so that one lost to neighbour resolution is not "blocked".
const SENDS: usize = 3;

/// IP protocol numbers.
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const GRE: u8 = 47;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;
/// TCP flags.
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

fn options() -> StageOptions {
    let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/recipe.yaml");
    StageOptions::new(env!("CARGO_BIN_EXE_edgewarden"), recipe)
}

fn free_stage() -> Stage {
    let mut stage = Stage::start(options()).unwrap();
    stage.start_agent().unwrap();
    stage.wait_phase(LIMIT, "released").unwrap();
    // Neighbours must be known, or the packets of the control case only wait for their resolution.
    for (from, to) in [
        (Ns::Gateway, ATTACKER_V6),
        (Ns::Lan, ATTACKER_V6),
        (Ns::Gateway, DEVICE_V6),
        (Ns::Internet, DEVICE_V4),
    ] {
        wait_until(LIMIT, "neighbours are known", || {
            stage.site.ping(from, to).unwrap()
        })
        .unwrap();
    }
    stage
}

fn isolate(stage: &Stage) {
    stage.desire(&json!({"quarantine": true})).unwrap();
    let status = stage.wait_phase(LIMIT, "enforced").unwrap();
    assert_eq!(status["enforcement"]["scope"], "pinned", "{status}");
}

/// One hand-made packet.
struct Attack {
    name: &'static str,
    from: Ns,
    to: IpAddr,
    /// Where its arrival is harm.
    harm: Ns,
    packet: Vec<u8>,
}

fn marker(name: &str) -> Vec<u8> {
    format!("<<{name}>>").into_bytes()
}

fn ports(source: u16, destination: u16) -> Vec<u8> {
    [source.to_be_bytes(), destination.to_be_bytes()].concat()
}

fn udp(source: u16, destination: u16, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + data.len()).unwrap();
    [
        ports(source, destination),
        length.to_be_bytes().to_vec(),
        vec![0, 0],
        data.to_vec(),
    ]
    .concat()
}

fn tcp(source: u16, destination: u16, flags: u8, data: &[u8]) -> Vec<u8> {
    let mut segment = ports(source, destination);
    segment.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0x20, 0, 0, 0, 0, 0]);
    segment.extend_from_slice(data);
    segment
}

fn icmp(kind: u8, data: &[u8]) -> Vec<u8> {
    [&[kind, 0, 0, 0, 0x45, 0x57, 0, 1], data].concat()
}

fn ip4(source: IpAddr, to: IpAddr, protocol: u8, fragment: u16, data: &[u8]) -> Vec<u8> {
    let (IpAddr::V4(source), IpAddr::V4(to)) = (source, to) else {
        panic!("IPv4 only")
    };
    let mut packet = vec![0x45, 0];
    packet.extend(u16::try_from(20 + data.len()).unwrap().to_be_bytes());
    packet.extend([0x45, 0x57]);
    packet.extend(fragment.to_be_bytes());
    // The kernel fills the checksum in.
    packet.extend([64, protocol, 0, 0]);
    packet.extend(source.octets());
    packet.extend(to.octets());
    packet.extend_from_slice(data);
    packet
}

fn ip6(source: IpAddr, to: IpAddr, next: u8, hops: u8, data: &[u8]) -> Vec<u8> {
    let (IpAddr::V6(source), IpAddr::V6(to)) = (source, to) else {
        panic!("IPv6 only")
    };
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
    packet.extend([next, hops]);
    packet.extend(source.octets());
    packet.extend(to.octets());
    packet.extend_from_slice(data);
    packet
}

/// Sends every attack and gives the names of those that arrived.
fn arrivals(site: &Site, attacks: &[Attack]) -> Vec<&'static str> {
    let mut ears: Vec<(Ns, OwnedFd)> = Vec::new();
    for ns in [Ns::Internet, Ns::Lan, Ns::Gateway] {
        ears.extend(
            site.run_in(ns, || listen(ns))
                .unwrap()
                .into_iter()
                .map(|ear| (ns, ear)),
        );
    }
    for attack in attacks.iter().cycle().take(attacks.len() * SENDS) {
        site.run_in(attack.from, || send(attack.to, &attack.packet))
            .unwrap();
    }
    let deadline = Instant::now() + FLIGHT;
    let mut arrived = Vec::new();
    while Instant::now() < deadline {
        let mut buffer = [0_u8; 4096];
        for (ns, ear) in &ears {
            while let Ok(length) = recv(ear.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                let heard = |attack: &&Attack| {
                    let wanted = marker(attack.name);
                    attack.harm == *ns && buffer[..length].windows(wanted.len()).any(|part| part == wanted)
                };
                arrived.extend(attacks.iter().find(heard).map(|attack| attack.name));
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    arrived.sort_unstable();
    arrived.dedup();
    arrived
}

/// The gateway's ears are behind its input hook; elsewhere the wire itself tells.
fn listen(ns: Ns) -> Vec<OwnedFd> {
    let open = |family, protocol| socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol).unwrap();
    if ns != Ns::Gateway {
        return vec![open(AddressFamily::Packet, SockProtocol::EthAll)];
    }
    let inet = [SockProtocol::Icmp, SockProtocol::Tcp, SockProtocol::Udp];
    let inet6 = [SockProtocol::IcmpV6, SockProtocol::Tcp, SockProtocol::Udp];
    let first = inet.map(|protocol| open(AddressFamily::Inet, protocol));
    first
        .into_iter()
        .chain(inet6.map(|protocol| open(AddressFamily::Inet6, protocol)))
        .collect()
}

/// Whatever the kernel says to it: a refusal only means that the packet does not arrive.
fn send(to: IpAddr, packet: &[u8]) {
    let open = |family| {
        let raw = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw).unwrap();
        setsockopt(&raw, sockopt::Broadcast, &true).unwrap();
        raw
    };
    let _ = match to {
        IpAddr::V4(v4) => sendto(
            open(AddressFamily::Inet).as_raw_fd(),
            packet,
            &SockaddrIn::from(SocketAddrV4::new(v4, 0)),
            MsgFlags::empty(),
        ),
        IpAddr::V6(v6) => sendto(
            open(AddressFamily::Inet6).as_raw_fd(),
            packet,
            &SockaddrIn6::from(SocketAddrV6::new(v6, 0, 0, 0)),
            MsgFlags::empty(),
        ),
    };
}

fn out4(name: &'static str, to: IpAddr, protocol: u8, data: impl Fn(&[u8]) -> Vec<u8>) -> Attack {
    let packet = ip4(GATEWAY_WAN_V4, to, protocol, 0, &data(&marker(name)));
    Attack {
        name,
        from: Ns::Gateway,
        to,
        harm: Ns::Internet,
        packet,
    }
}

fn out6(name: &'static str, to: IpAddr, next: u8, data: impl Fn(&[u8]) -> Vec<u8>) -> Attack {
    let packet = ip6(GATEWAY_WAN_V6, to, next, 255, &data(&marker(name)));
    Attack {
        name,
        from: Ns::Gateway,
        to,
        harm: Ns::Internet,
        packet,
    }
}

fn in4(name: &'static str, protocol: u8, data: impl Fn(&[u8]) -> Vec<u8>) -> Attack {
    let packet = ip4(ATTACKER_V4, GATEWAY_WAN_V4, protocol, 0, &data(&marker(name)));
    Attack {
        name,
        from: Ns::Internet,
        to: GATEWAY_WAN_V4,
        harm: Ns::Gateway,
        packet,
    }
}

fn leaving() -> Vec<Attack> {
    let tail = |packet: &[u8], m: &[u8]| [packet, m].concat();
    let fragment = |name| Attack {
        name,
        from: Ns::Gateway,
        to: ATTACKER_V4,
        harm: Ns::Internet,
        packet: ip4(GATEWAY_WAN_V4, ATTACKER_V4, UDP, 100, &marker(name)),
    };
    vec![
        out4("GRE", ATTACKER_V4, GRE, |m| tail(&[0, 0, 8, 0], m)),
        out4("SCTP to 8883", ATTACKER_V4, SCTP, |m| tail(&ports(1000, 8883), m)),
        out4("SCTP to the endpoint", INTERNET_V4, SCTP, |m| {
            tail(&ports(1000, 8883), m)
        }),
        out4("UDP to the endpoint", INTERNET_V4, UDP, |m| udp(1000, 8883, m)),
        out4("TCP to the endpoint, port 22", INTERNET_V4, TCP, |m| {
            tcp(1000, 22, SYN, m)
        }),
        out4("TCP to the endpoint, from 8883 to 22", INTERNET_V4, TCP, |m| {
            tcp(8883, 22, ACK, m)
        }),
        out4("TCP ACK to 8883", ATTACKER_V4, TCP, |m| tcp(1000, 8883, ACK, m)),
        out4("TCP ACK from 8883", ATTACKER_V4, TCP, |m| tcp(8883, 1000, ACK, m)),
        out4("UDP 53 to 53", ATTACKER_V4, UDP, |m| udp(53, 53, m)),
        out4("UDP 123 to 123", ATTACKER_V4, UDP, |m| udp(123, 123, m)),
        out4("UDP 68 to 53", ATTACKER_V4, UDP, |m| udp(68, 53, m)),
        out4("UDP 1000 to 67", ATTACKER_V4, UDP, |m| udp(1000, 67, m)),
        out4("broadcast", IpAddr::from([198, 51, 100, 255]), UDP, |m| {
            udp(1000, 5000, m)
        }),
        out4("multicast", IpAddr::from([224, 0, 0, 251]), UDP, |m| {
            udp(5353, 5353, m)
        }),
        out4("ICMP unreachable", ATTACKER_V4, ICMP, |m| icmp(3, m)),
        out4("ICMP timestamp", ATTACKER_V4, ICMP, |m| icmp(13, m)),
        fragment("later fragment"),
        out6("ICMPv6 unreachable", ATTACKER_V6, ICMPV6, |m| icmp(1, m)),
        out6("ICMPv6 redirect", ATTACKER_V6, ICMPV6, |m| icmp(137, m)),
        out6(
            "UDP behind options to 8883",
            ATTACKER_V6,
            DESTINATION_OPTIONS,
            |m| [&[UDP, 0, 1, 4, 0, 0, 0, 0], udp(1000, 8883, m).as_slice()].concat(),
        ),
        out6(
            "TCP behind options to 8883",
            ATTACKER_V6,
            DESTINATION_OPTIONS,
            |m| [&[TCP, 0, 1, 4, 0, 0, 0, 0], tcp(1000, 8883, SYN, m).as_slice()].concat(),
        ),
        out6("later IPv6 fragment", ATTACKER_V6, FRAGMENT, |m| {
            [&[TCP, 0, 0, 8, 0, 0, 0, 1], m].concat()
        }),
        out6("TCP to the endpoint over IPv6, port 22", INTERNET_V6, TCP, |m| {
            tcp(1000, 22, SYN, m)
        }),
    ]
}

fn entering() -> Vec<Attack> {
    let spoofed = |name: &'static str, protocol, data: Vec<u8>| Attack {
        name,
        from: Ns::Internet,
        to: GATEWAY_WAN_V4,
        harm: Ns::Gateway,
        packet: ip4(INTERNET_V4, GATEWAY_WAN_V4, protocol, 0, &data),
    };
    let m = marker;
    vec![
        in4("in: TCP SYN from 8883", TCP, |m| tcp(8883, 22, SYN, m)),
        in4("in: TCP ACK from 8883", TCP, |m| tcp(8883, 22, ACK, m)),
        in4("in: UDP from 53", UDP, |m| udp(53, 1000, m)),
        in4("in: UDP from 123", UDP, |m| udp(123, 123, m)),
        in4("in: UDP 67 to 69", UDP, |m| udp(67, 69, m)),
        in4("in: ICMP echo", ICMP, |m| icmp(8, m)),
        in4("in: ICMP unreachable", ICMP, |m| icmp(3, m)),
        spoofed(
            "in: SYN of the endpoint",
            TCP,
            tcp(8883, 22, SYN, &m("in: SYN of the endpoint")),
        ),
        spoofed(
            "in: endpoint's other port",
            TCP,
            tcp(9999, 22, ACK, &m("in: endpoint's other port")),
        ),
        spoofed("in: endpoint's UDP", UDP, udp(8883, 22, &m("in: endpoint's UDP"))),
    ]
}

fn forwarded() -> Vec<Attack> {
    let from_lan = |name: &'static str, to, packet: Vec<u8>| Attack {
        name,
        from: Ns::Lan,
        to,
        harm: Ns::Internet,
        packet,
    };
    let to_lan = |name: &'static str, to, packet: Vec<u8>| Attack {
        name,
        from: Ns::Internet,
        to,
        harm: Ns::Lan,
        packet,
    };
    let m = marker;
    vec![
        from_lan(
            "fwd: to the endpoint",
            INTERNET_V4,
            ip4(
                DEVICE_V4,
                INTERNET_V4,
                TCP,
                0,
                &tcp(1000, 8883, SYN, &m("fwd: to the endpoint")),
            ),
        ),
        from_lan(
            "fwd: DHCP",
            ATTACKER_V4,
            ip4(DEVICE_V4, ATTACKER_V4, UDP, 0, &udp(68, 67, &m("fwd: DHCP"))),
        ),
        from_lan(
            "fwd: ND",
            ATTACKER_V6,
            ip6(DEVICE_V6, ATTACKER_V6, ICMPV6, 255, &icmp(135, &m("fwd: ND"))),
        ),
        from_lan(
            "fwd: GRE",
            ATTACKER_V4,
            ip4(
                DEVICE_V4,
                ATTACKER_V4,
                GRE,
                0,
                &[&[0, 0, 8, 0], m("fwd: GRE").as_slice()].concat(),
            ),
        ),
        to_lan(
            "fwd: from 8883",
            DEVICE_V4,
            ip4(
                INTERNET_V4,
                DEVICE_V4,
                TCP,
                0,
                &tcp(8883, 1000, ACK, &m("fwd: from 8883")),
            ),
        ),
        to_lan(
            "fwd: DHCP answer",
            DEVICE_V4,
            ip4(
                ATTACKER_V4,
                DEVICE_V4,
                UDP,
                0,
                &udp(67, 68, &m("fwd: DHCP answer")),
            ),
        ),
        Attack {
            name: "to the LAN",
            from: Ns::Gateway,
            to: DEVICE_V4,
            harm: Ns::Lan,
            packet: ip4(
                GATEWAY_LAN_V4,
                DEVICE_V4,
                UDP,
                0,
                &udp(1000, 5000, &m("to the LAN")),
            ),
        },
        Attack {
            name: "from the LAN",
            from: Ns::Lan,
            to: GATEWAY_LAN_V4,
            harm: Ns::Gateway,
            packet: ip4(
                DEVICE_V4,
                GATEWAY_LAN_V4,
                UDP,
                0,
                &udp(1000, 5000, &m("from the LAN")),
            ),
        },
    ]
}

#[test]
fn hand_made_packets_do_not_pass() {
    in_lab("hand_made_packets_do_not_pass", || {
        let stage = free_stage();
        let attacks: Vec<_> = leaving()
            .into_iter()
            .chain(entering())
            .chain(forwarded())
            .collect();
        let free = arrivals(&stage.site, &attacks);
        let lost: Vec<_> = attacks
            .iter()
            .map(|a| a.name)
            .filter(|name| !free.contains(name))
            .collect();
        assert!(
            lost.is_empty(),
            "control: every packet arrives before, but {lost:?}"
        );
        isolate(&stage);
        let passed = arrivals(&stage.site, &attacks);
        assert!(passed.is_empty(), "passed the isolation: {passed:?}");
        assert_eq!(
            stage.status()["enforcement"]["phase"],
            "enforced",
            "and the lifeline lives"
        );
    });
}

/// Opens a connection from a source port of the control channel's.
fn from_port(site: &Site, from: Ns, source: &str, to: IpAddr, port: u16) -> TcpStream {
    let stream = site.run_in(from, || {
        let family = if to.is_ipv4() {
            AddressFamily::Inet
        } else {
            AddressFamily::Inet6
        };
        let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        let source: SocketAddr = source.parse().unwrap();
        bind(socket.as_raw_fd(), &SockaddrStorage::from(source)).unwrap();
        connect(
            socket.as_raw_fd(),
            &SockaddrStorage::from(SocketAddr::new(to, port)),
        )
        .unwrap();
        TcpStream::from(socket)
    });
    let stream = stream.unwrap();
    stream.set_read_timeout(Some(FLIGHT)).unwrap();
    stream
}

/// Whether an echo comes back.
fn carries(stream: &mut TcpStream) -> bool {
    stream.write_all(b"x").is_ok() && matches!(stream.read(&mut [0]), Ok(1))
}

#[test]
fn a_source_port_of_the_control_channel_opens_nothing() {
    in_lab("a_source_port_of_the_control_channel_opens_nothing", || {
        let stage = free_stage();
        let site = &stage.site;
        let _servers = [(Ns::Internet, 4444), (Ns::Gateway, 8080), (Ns::Lan, 8080)]
            .map(|(ns, port)| site.echo_server(ns, port).unwrap());
        let mut held = [
            from_port(site, Ns::Gateway, "0.0.0.0:8883", ATTACKER_V4, 4444),
            from_port(site, Ns::Gateway, "[::]:8443", ATTACKER_V6, 4444),
            from_port(site, Ns::Internet, "203.0.113.1:8443", GATEWAY_WAN_V4, 8080),
            // Even from the endpoint's own address, as a client.
            from_port(site, Ns::Internet, "198.51.100.1:9999", GATEWAY_WAN_V4, 8080),
            from_port(site, Ns::Internet, "203.0.113.1:443", DEVICE_V4, 8080),
            from_port(site, Ns::Lan, "192.0.2.2:8883", ATTACKER_V4, 4444),
        ];
        assert_eq!(
            held.each_mut().map(carries),
            [true; 6],
            "control: all carry before"
        );
        isolate(&stage);
        assert_eq!(held.each_mut().map(carries), [false; 6]);
    });
}

fn nft(stage: &Stage, text: &str) {
    let file = stage.site.directory().join("attack.nft");
    std::fs::write(&file, text).unwrap();
    let (code, _, errors) = stage.nft(&["-f", file.to_str().unwrap()]).unwrap();
    assert_eq!(code, Some(0), "{errors}\n{text}");
}

fn ip(stage: &Stage, commands: &str) {
    for command in commands.lines() {
        let words: Vec<&str> = command.split_whitespace().collect();
        let output = stage
            .site
            .run_in(Ns::Gateway, || Command::new("ip").args(&words).output());
        let output = output.unwrap().unwrap();
        assert!(
            output.status.success(),
            "{command}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

/// Accepts, marks and untracks all that is to leave, where other tables can.
const OTHER_TABLES: &str = "table ip edgewarden {
  chain output {
    type filter hook output priority -400
    meta mark set 1 accept
  }
}
table inet other {
  chain raw_output {
    type filter hook output priority -300
    notrack accept
  }
  chain raw_prerouting {
    type filter hook prerouting priority -300
    notrack accept
  }
  chain last {
    type filter hook output priority 300
    accept
  }
  chain forward {
    type filter hook forward priority -10
    accept
  }
}
";

/// Sends connections elsewhere once they are let through.
const REDIRECT: &str = "table ip dnats {
  chain output {
    type nat hook output priority -100
    tcp dport 5000 dnat to 203.0.113.1:4444
  }
  chain prerouting {
    type nat hook prerouting priority -100
    tcp dport 5000 dnat to 203.0.113.1:4444
  }
}
";

/// Another namespace behind the gateway, as a container has.
const CONTAINER: &str = "netns add container
link add veth0 type veth peer name veth1 netns container
addr add 192.0.2.129/25 dev veth0
link set veth0 up
-n container addr add 192.0.2.130/25 dev veth1
-n container link set veth1 up
-n container route add default via 192.0.2.129";

fn container_connects() -> bool {
    let connect = "exec 3<>/dev/tcp/203.0.113.1/4444";
    let args = [
        "netns",
        "exec",
        "container",
        "timeout",
        "2",
        "bash",
        "-c",
        connect,
    ];
    Command::new("ip").args(args).status().unwrap().success()
}

#[test]
fn other_tables_and_containers_open_nothing() {
    in_lab("other_tables_and_containers_open_nothing", || {
        let stage = free_stage();
        let _server = stage.site.echo_server(Ns::Internet, 4444).unwrap();
        ip(&stage, CONTAINER);
        nft(&stage, REDIRECT);
        let reach = |from, to, port| stage.site.tcp_connects(from, to, port).unwrap();
        let ways = || {
            [
                reach(Ns::Gateway, ATTACKER_V4, 4444),
                reach(Ns::Gateway, ATTACKER_V6, 4444),
                reach(Ns::Lan, ATTACKER_V4, 4444),
                reach(Ns::Gateway, INTERNET_V4, 5000),
                reach(Ns::Lan, INTERNET_V4, 5000),
                container_connects(),
            ]
        };
        assert_eq!(ways(), [true; 6], "control: all is open before");
        isolate(&stage);
        assert_eq!(ways(), [false; 6]);
        nft(&stage, OTHER_TABLES);
        assert_eq!(ways(), [false; 6], "with other tables");
        assert_eq!(stage.status()["enforcement"]["phase"], "enforced");
    });
}

#[test]
fn an_edit_that_keeps_our_comments_is_undone() {
    in_lab("an_edit_that_keeps_our_comments_is_undone", || {
        let stage = free_stage();
        let _server = stage.site.echo_server(Ns::Internet, 4444).unwrap();
        let connects = || stage.site.tcp_connects(Ns::Gateway, ATTACKER_V4, 4444).unwrap();
        assert!(connects(), "control: open before");
        isolate(&stage);
        let (_, listing, _) = stage.nft(&["list", "table", "inet", "edgewarden"]).unwrap();
        let edited = listing.replace("oifname \"lo\" accept", "meta l4proto tcp accept");
        let edited = edited.replace("iifname \"lo\" accept", "meta l4proto tcp accept");
        assert_ne!(edited, listing, "control: there was something to edit");
        let edits = [
            (
                "another statement",
                format!("delete table inet edgewarden\n{edited}"),
            ),
            (
                "a rule before",
                "insert rule inet edgewarden output accept".into(),
            ),
            (
                "another policy",
                "add chain inet edgewarden output { policy accept; }".into(),
            ),
            (
                "a lifeline",
                "add element inet edgewarden endpoints4 { 203.0.113.1 . tcp . 4444 }".into(),
            ),
            ("no rules", "flush chain inet edgewarden output".into()),
            ("no table", "delete table inet edgewarden".into()),
        ];
        for (round, (what, edit)) in (1..).zip(edits) {
            nft(&stage, &edit);
            let undone = stage.wait_status(LIMIT, what, |s| s["enforcement"]["reasserted"] == round);
            undone.unwrap();
            assert!(!connects(), "{what}");
        }
        assert_eq!(stage.status()["enforcement"]["phase"], "enforced");
    });
}
