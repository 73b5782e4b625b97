//! Hand-made packets, and where they arrive.
//!
//! A packet counts as arrived where it would do harm: on the wire of the internet or of the LAN for what leaves, at a
//! raw socket behind the input hook for what enters.

use std::net::{IpAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

use edgewarden_lab::site::{
    ATTACKER_V4, ATTACKER_V6, DEVICE_V4, DEVICE_V6, GATEWAY_LAN_V4, GATEWAY_WAN_V4, GATEWAY_WAN_V6,
    INTERNET_V4, INTERNET_V6, Ns, Site,
};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, recv, sendto,
    setsockopt, socket, sockopt,
};

use crate::common::packet::{
    ACK, DESTINATION_OPTIONS, FRAGMENT, GRE, ICMP, ICMPV6, SCTP, SYN, TCP, UDP, icmp, ip, marker, ports, tcp,
    udp,
};

/// How long packets may be under way; the namespaces are joined by veth pairs.
pub(super) const FLIGHT: Duration = Duration::from_millis(400);
/// Repetitions of each packet, so that one lost to neighbour resolution is not "blocked".
pub(super) const SENDS: usize = 3;

/// One hand-made packet.
pub(super) struct Attack {
    pub(super) name: &'static str,
    from: Ns,
    to: IpAddr,
    /// Where its arrival is harm.
    harm: Ns,
    packet: Vec<u8>,
}

/// Sends every attack and gives the names of those that arrived.
pub(super) fn arrivals(site: &Site, attacks: &[Attack]) -> Vec<&'static str> {
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
pub(super) fn listen(ns: Ns) -> Vec<OwnedFd> {
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
pub(super) fn send(to: IpAddr, packet: &[u8]) {
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

pub(super) fn out4(name: &'static str, to: IpAddr, protocol: u8, data: impl Fn(&[u8]) -> Vec<u8>) -> Attack {
    let packet = ip(GATEWAY_WAN_V4, to, protocol, 0, &data(&marker(name)));
    Attack {
        name,
        from: Ns::Gateway,
        to,
        harm: Ns::Internet,
        packet,
    }
}

pub(super) fn out6(name: &'static str, to: IpAddr, next: u8, data: impl Fn(&[u8]) -> Vec<u8>) -> Attack {
    let packet = ip(GATEWAY_WAN_V6, to, next, 0, &data(&marker(name)));
    Attack {
        name,
        from: Ns::Gateway,
        to,
        harm: Ns::Internet,
        packet,
    }
}

pub(super) fn in4(name: &'static str, protocol: u8, data: impl Fn(&[u8]) -> Vec<u8>) -> Attack {
    let packet = ip(ATTACKER_V4, GATEWAY_WAN_V4, protocol, 0, &data(&marker(name)));
    Attack {
        name,
        from: Ns::Internet,
        to: GATEWAY_WAN_V4,
        harm: Ns::Gateway,
        packet,
    }
}

#[expect(clippy::too_many_lines, reason = "a table")]
pub(super) fn leaving() -> Vec<Attack> {
    let tail = |packet: &[u8], m: &[u8]| [packet, m].concat();
    let fragment = |name| Attack {
        name,
        from: Ns::Gateway,
        to: ATTACKER_V4,
        harm: Ns::Internet,
        packet: ip(GATEWAY_WAN_V4, ATTACKER_V4, UDP, 100, &marker(name)),
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
        out6("neighbour solicitation with a load", ATTACKER_V6, ICMPV6, |m| {
            icmp(135, &[m, &[0; 200]].concat())
        }),
        out6("router advertisement", ATTACKER_V6, ICMPV6, |m| icmp(134, m)),
        out6("DHCPv6 to a routed address", ATTACKER_V6, UDP, |m| {
            udp(546, 547, m)
        }),
        out4("DHCP with a load", ATTACKER_V4, UDP, |m| {
            udp(68, 67, &[m, &[0; 800]].concat())
        }),
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

pub(super) fn entering() -> Vec<Attack> {
    let spoofed = |name: &'static str, protocol, data: Vec<u8>| Attack {
        name,
        from: Ns::Internet,
        to: GATEWAY_WAN_V4,
        harm: Ns::Gateway,
        packet: ip(INTERNET_V4, GATEWAY_WAN_V4, protocol, 0, &data),
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

#[expect(clippy::too_many_lines, reason = "a table")]
pub(super) fn forwarded() -> Vec<Attack> {
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
            ip(
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
            ip(DEVICE_V4, ATTACKER_V4, UDP, 0, &udp(68, 67, &m("fwd: DHCP"))),
        ),
        from_lan(
            "fwd: ND",
            ATTACKER_V6,
            ip(DEVICE_V6, ATTACKER_V6, ICMPV6, 0, &icmp(135, &m("fwd: ND"))),
        ),
        from_lan(
            "fwd: GRE",
            ATTACKER_V4,
            ip(
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
            ip(
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
            ip(
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
            packet: ip(
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
            packet: ip(
                DEVICE_V4,
                GATEWAY_LAN_V4,
                UDP,
                0,
                &udp(1000, 5000, &m("from the LAN")),
            ),
        },
    ]
}
