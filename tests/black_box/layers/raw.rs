//! Frames that a program sends past the IP stack.

use std::net::IpAddr;
use std::time::Duration;

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{
    ATTACKER_V4, ATTACKER_V6, GATEWAY_WAN_V4, GATEWAY_WAN_V6, INTERNET_V4, Ns, wait_until,
};
use serde_json::json;

use super::frames::{
    ARP, BROADCAST, Between, EAPOL, Frame, IPV4, IPV6, LLDP, PPPOE_DISCOVERY, PPPOE_SESSION, UNKNOWN, VLAN,
    arp, vlan,
};
use super::wire::{Ear, Port, names};
use super::{cut, free};
use crate::common::packet::{ICMP, ICMPV6, SYN, TCP, UDP, icmp, ip, tcp, udp};
use crate::common::programs::build;
use crate::common::{gateway, isolate, options, order, release};

const ANYBODY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::BROADCAST);
const NOBODY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);

fn ways() -> (Port, Between) {
    let wan = Port::of("gateway", "wan0");
    let between = Between {
        from: wan.mac(),
        to: Port::of("internet", "gw0").mac(),
    };
    (wan, between)
}

fn to(address: IpAddr, protocol: u8, data: &[u8]) -> Vec<u8> {
    let from = if address.is_ipv4() {
        GATEWAY_WAN_V4
    } else {
        GATEWAY_WAN_V6
    };
    ip(from, address, protocol, 0, data)
}

fn datagrams(b: &Between) -> Vec<Frame> {
    let (v4, v6) = (ATTACKER_V4, ATTACKER_V6);
    vec![
        b.frame("UDP", IPV4, |m| to(v4, UDP, &udp(1000, 53, &m))),
        b.frame("TCP", IPV4, |m| to(v4, TCP, &tcp(1000, 8883, SYN, &m))),
        b.frame("ping", IPV4, |m| to(v4, ICMP, &icmp(8, &m))),
        b.frame("UDP6", IPV6, |m| to(v6, UDP, &udp(1000, 53, &m))),
        b.frame("TCP6", IPV6, |m| to(v6, TCP, &tcp(1000, 8883, SYN, &m))),
        b.frame("ping6", IPV6, |m| to(v6, ICMPV6, &icmp(128, &m))),
        b.frame("endpoint", IPV4, |m| {
            to(INTERNET_V4, TCP, &tcp(1000, 8883, SYN, &m))
        }),
        b.frame("endpoint, UDP", IPV4, |m| {
            to(INTERNET_V4, UDP, &udp(1000, 8883, &m))
        }),
        b.frame("endpoint, port 22", IPV4, |m| {
            to(INTERNET_V4, TCP, &tcp(8883, 22, SYN, &m))
        }),
    ]
}

fn oddities(b: &Between) -> Vec<Frame> {
    let datagram = |m: &[u8]| to(ATTACKER_V4, UDP, &udp(1000, 53, m));
    let endpoint = |m: &[u8]| to(INTERNET_V4, TCP, &tcp(1000, 8883, SYN, m));
    let mut all = vec![
        b.frame("unknown", UNKNOWN, |m| m),
        b.frame("length instead of a type", 0x0100, |m| m),
        b.frame("VLAN", VLAN, |m| vlan(7, IPV4, &datagram(&m))),
        b.frame("VLAN 0", VLAN, |m| vlan(0, IPV4, &datagram(&m))),
        b.frame("VLAN to the endpoint", VLAN, |m| vlan(7, IPV4, &endpoint(&m))),
        b.frame("two VLANs", 0x88a8, |m| {
            vlan(7, VLAN, &vlan(8, IPV4, &datagram(&m)))
        }),
        b.frame("PPPoE", PPPOE_SESSION, |m| {
            [&[0x11, 0, 0, 1, 0, 60, 0, 0x21], datagram(&m).as_slice()].concat()
        }),
        b.frame("ARP with a load", ARP, |m| {
            arp(
                b.from,
                [198, 51, 100, 2],
                [198, 51, 100, 1],
                &[&m, [0; 60].as_slice()].concat(),
            )
        }),
        // Longer on paper than on the wire.
        b.frame("a false length", IPV4, |m| {
            let mut packet = endpoint(&m);
            packet[2] = 4;
            packet
        }),
    ];
    // What the sender says of a frame is not what it is.
    for (name, said) in [
        ("said ARP", ARP),
        ("said EAPOL", EAPOL),
        ("said PPPoE", PPPOE_SESSION),
        ("said VLAN", VLAN),
        ("said IPv6", IPV6),
    ] {
        let frame = b.frame(name, IPV4, |m| to(ATTACKER_V4, UDP, &udp(1, 53, &m)));
        all.push(Frame { said, ..frame });
    }
    // An ARP header where the kernel is told to look, an IP packet for whoever takes the tag off.
    let tagged = b.frame("said ARP, a VLAN", VLAN, |m| {
        vlan(1, IPV4, &to(ATTACKER_V4, UDP, &udp(1, 53, &m)))
    });
    all.push(Frame { said: ARP, ..tagged });
    all
}

/// What keeps the link and the lifelines alive.
fn needed(b: &Between) -> Vec<Frame> {
    let all = Between { to: BROADCAST, ..*b };
    let lldp = Between {
        to: [0x01, 0x80, 0xc2, 0, 0, 0x0e],
        ..*b
    };
    let group = Between {
        to: [0x33, 0x33, 0, 0, 0, 2],
        ..*b
    };
    let padded = |m: &[u8]| [m, [0_u8; 230].as_slice()].concat();
    let solicit = "ff02::1:2".parse().unwrap();
    let link_local = "fe80::1".parse().unwrap();
    vec![
        all.frame("DHCP discover", IPV4, |m| {
            ip(NOBODY, ANYBODY, UDP, 0, &udp(68, 67, &padded(&m)))
        }),
        b.frame("DHCP renewal", IPV4, |m| {
            to(INTERNET_V4, UDP, &udp(68, 67, &padded(&m)))
        }),
        group.frame("DHCPv6", IPV6, |m| {
            ip(link_local, solicit, UDP, 0, &udp(546, 547, &m))
        }),
        group.frame("router solicitation", IPV6, |m| {
            ip(link_local, "ff02::2".parse().unwrap(), ICMPV6, 0, &icmp(133, &m))
        }),
        b.frame("EAPOL", EAPOL, |m| [&[2, 1, 0, 0], m.as_slice()].concat()),
        lldp.frame("LLDP", LLDP, |m| m),
        all.frame("ARP", ARP, |m| {
            arp(b.from, [198, 51, 100, 2], [198, 51, 100, 1], &m)
        }),
    ]
}

lab_test!(frames_past_the_ip_stack_do_not_leave, || {
    let stage = free(options());
    let (wan, between) = ways();
    let ear = Ear::open("internet");
    let attacks = [datagrams(&between), oddities(&between)].concat();
    let needed = needed(&between);
    assert_eq!(wan.arrivals(&ear, &attacks), names(&attacks), "control");
    assert_eq!(wan.arrivals(&ear, &needed), names(&needed), "control");
    isolate(&stage);
    let before = cut(&stage.status(), "raw", "isolated");
    assert_eq!(wan.arrivals(&ear, &attacks), Vec::<&str>::new());
    assert_eq!(wan.arrivals(&ear, &needed), names(&needed), "these must pass");
    let status = stage.status();
    assert!(
        stage.site.tcp_connects(Ns::Gateway, INTERNET_V4, 8883).unwrap(),
        "what the IP stack sends there does"
    );
    let counted = cut(&status, "raw", "isolated") - before;
    assert!(
        counted >= attacks.len() as u64 * 3,
        "{counted} of {} are counted",
        attacks.len() * 3
    );
    assert_eq!(status["enforcement"]["phase"], "enforced", "{status}");
    assert_eq!(status["enforcement"]["uncovered"], json!([]), "{status}");
    release(&stage);
    assert_eq!(wan.arrivals(&ear, &attacks), names(&attacks), "free again");
});

lab_test!(what_must_pass_the_egress_passes_seldom, || {
    const MANY: usize = 2_000;
    let stage = free(options());
    let (wan, between) = ways();
    let ear = Ear::open("internet");
    let needed = needed(&between);
    let find = |name| needed.iter().find(|frame| frame.name == name).unwrap();
    // Burst, and frames a second after it.
    let bounds = [
        ("ARP", 200, 100),
        ("EAPOL", 200, 100),
        ("LLDP", 200, 100),
        ("DHCP renewal", 4, 1),
        // What is broadcast may use the renewals too.
        ("DHCP discover", 24, 1),
        ("DHCPv6", 20, 1),
    ];
    for (name, ..) in bounds {
        let (heard, _) = wan.flood(&ear, find(name), MANY);
        assert!(heard > MANY / 2, "control: {heard} of {name}");
    }
    isolate(&stage);
    for (name, burst, rate) in bounds {
        let (heard, took) = wan.flood(&ear, find(name), MANY);
        let most = burst + rate * (usize::try_from(took.as_millis()).unwrap() / 1_000 + 1);
        assert!(
            (1..=most).contains(&heard),
            "{heard} of {name} in {took:?}, at most {most}"
        );
    }
});

lab_test!(a_restriction_cuts_frames_past_the_ip_stack_too, || {
    let stage = free(options());
    let (wan, between) = ways();
    let ear = Ear::open("internet");
    let all = datagrams(&between);
    assert_eq!(wan.arrivals(&ear, &all), names(&all), "control");
    let block = json!({
        "remotes": [ATTACKER_V4.to_string(), ATTACKER_V6.to_string()],
        "ports": [{"protocol": "tcp", "port": 22}],
    });
    order(
        &stage,
        &json!({"id": "raw", "posture": "restrict", "block": block}),
    );
    assert_eq!(
        wan.arrivals(&ear, &all),
        ["endpoint", "endpoint, UDP"],
        "what is not named flows"
    );
    let status = stage.status();
    assert!(cut(&status, "raw", "remote") >= 18, "{status}");
    assert!(cut(&status, "raw", "port") >= 3, "{status}");
});

/// An interface without frames of the kind of PPP, as the kernel shows one of a dialled uplink, whatever it is called.
const DIALLED: &str = r#"
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
int main(int count, char **words) {
    struct ifreq asked = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    int tun = open("/dev/net/tun", O_RDWR);
    strncpy(asked.ifr_name, words[1], IFNAMSIZ - 1);
    if (ioctl(tun, TUNSETIFF, &asked) || ioctl(tun, TUNSETLINK, 512) || ioctl(tun, TUNSETPERSIST, 1)) {
        perror("tun");
        return 1;
    }
    return 0;
}
"#;

lab_test!(an_uplink_by_pppoe_can_be_dialled_and_its_session_lives, || {
    const MANY: usize = 200;
    let stage = free(options());
    let (wan, between) = ways();
    let ear = Ear::open("internet");
    let session = between.frame("PPPoE", PPPOE_SESSION, |m| {
        [&[0x11, 0, 0, 1, 0, 60, 0, 0x21], m.as_slice()].concat()
    });
    let to_all = Between {
        to: BROADCAST,
        ..between
    };
    let dials =
        |content: &'static [u8]| to_all.frame("PADI", PPPOE_DISCOVERY, |m| [content, m.as_slice()].concat());
    let dial = dials(&[0x11, 9, 0, 0, 0, 4, 1, 1, 0, 0]);
    assert!(ear.hears(&wan, &session) && ear.hears(&wan, &dial), "control");
    assert!(wan.flood(&ear, &dial, MANY).0 > MANY / 2, "control");
    isolate(&stage);
    assert!(!ear.hears(&wan, &session), "there is none");
    assert!(ear.hears(&wan, &dial), "none comes to be otherwise");
    let (heard, took) = wan.flood(&ear, &dial, MANY);
    assert!((1..=22).contains(&heard), "{heard} of {MANY} in {took:?}");
    // A name is no kind.
    gateway::ip(&stage, "tuntap add dev ppp0 mode tun");
    std::thread::sleep(Duration::from_secs(1));
    assert!(!ear.hears(&wan, &session));
    let program = build(&stage, "dialled", DIALLED);
    gateway::run(&stage, Ns::Gateway, program.to_str().unwrap(), &["dsl0"]);
    wait_until(Duration::from_secs(2), "the session lives", || {
        ear.hears(&wan, &session)
    })
    .unwrap();
    gateway::ip(&stage, "link del dsl0");
    wait_until(Duration::from_secs(2), "it has ended", || {
        !ear.hears(&wan, &session)
    })
    .unwrap();
});
