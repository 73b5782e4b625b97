//! How much leaves: a rate, and a quota of a period.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{ATTACKER_V4, BROKER_PORT, GATEWAY_WAN_V4, INTERNET_V4, Ns};
use edgewarden_lab::stage::Stage;
use serde_json::json;

use super::wire::{Ear, NOBODY, ROOT, hand_over, packets_of};
use super::{cut, free};
use crate::common::gateway::nft_takes;
use crate::common::packet::{ACK, TCP, ip, marker, tcp};
use crate::common::{isolate, options, order};

/// How long a packet may be under way.
const FLIGHT: Duration = Duration::from_millis(500);

const PAYLOAD: usize = 1_000;
/// A datagram at the IP layer.
const PACKET: u64 = PAYLOAD as u64 + 28;

/// Where datagrams that leave are to arrive.
const TARGET: SocketAddr = SocketAddr::new(ATTACKER_V4, 5_001);
/// An address of the device's own that its owner has led there, as a published port of a container is.
const LED: SocketAddr = SocketAddr::new(GATEWAY_WAN_V4, 8_080);

/// Floods for a while from gateway and LAN; gives the bytes that arrived, at the IP layer.
fn flood(stage: &Stage, time: Duration) -> u64 {
    flood_to(stage, &[(Ns::Gateway, TARGET), (Ns::Lan, TARGET)], time)
}

fn flood_to(stage: &Stage, ways: &[(Ns, SocketAddr)], time: Duration) -> u64 {
    let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
    let open = |ns, address| {
        stage
            .site
            .run_in(ns, || UdpSocket::bind(address).unwrap())
            .unwrap()
    };
    let receiver = open(Ns::Internet, TARGET);
    receiver.set_nonblocking(true).unwrap();
    let senders: Vec<_> = ways.iter().map(|(ns, to)| (open(*ns, any), to)).collect();
    let end = Instant::now() + time;
    let mut arrived = 0;
    while Instant::now() < end {
        for (sender, to) in &senders {
            let _ = sender.send_to(&[b'f'; PAYLOAD], to);
        }
        while receiver.recv(&mut [0; 2_000]).is_ok() {
            arrived += PACKET;
        }
    }
    arrived
}

lab_test!(what_the_owner_leads_elsewhere_is_bounded_as_what_leaves, || {
    const RATE: u64 = 20_000;
    let stage = free(options());
    let leads = format!(
        "table ip owner {{
            chain out {{ type nat hook output priority -100; ip daddr {} udp dport {} dnat to {TARGET}; }}
            chain post {{ type nat hook postrouting priority 100; oifname wan0 masquerade; }}
        }}",
        LED.ip(),
        LED.port()
    );
    nft_takes(&stage, &leads, &[]).unwrap();
    let time = Duration::from_secs(4);
    let arrived = |time| flood_to(&stage, &[(Ns::Gateway, LED)], time);
    let free = arrived(Duration::from_secs(1));
    assert!(free > 20 * RATE, "control: {free} bytes in a second");
    let limit = json!({"egressBytesPerSecond": RATE});
    order(
        &stage,
        &json!({"id": "l-1", "posture": "restrict", "limit": limit}),
    );
    let most = (RATE * time.as_secs() + 65_536) * 11 / 10;
    let bounded = arrived(time);
    assert!(bounded <= most, "{bounded} bytes, at most {most}");
    assert!(cut(&stage.status(), "out", "rate") > 0);
    isolate(&stage);
    assert_eq!(arrived(Duration::from_secs(1)), 0);
    // By the hook of the IP stack, whatever the kernel has besides.
    assert!(cut(&stage.status(), "out", "isolated") > 0);
});

lab_test!(a_rate_bounds_what_leaves_and_spares_lifelines, || {
    const RATE: u64 = 50_000;
    let stage = free(options());
    let time = Duration::from_secs(4);
    let free = flood(&stage, Duration::from_secs(1));
    assert!(free > 10 * RATE, "control: {free} bytes in a second");
    let limit = json!({"egressBytesPerSecond": RATE});
    order(
        &stage,
        &json!({"id": "l-1", "posture": "restrict", "limit": limit}),
    );
    let arrived = flood(&stage, time);
    // The kernel's bucket for bytes holds a second more than the burst.
    let most = (RATE * time.as_secs() + 65_536) * 11 / 10;
    assert!(
        (RATE * time.as_secs() / 2..=most).contains(&arrived),
        "{arrived} bytes, at most {most}"
    );
    let status = stage.status();
    assert!(
        cut(&status, "out", "rate") > 0 && cut(&status, "forward", "rate") > 0,
        "{status}"
    );
    // The bucket is empty now; a lifeline does not ask it.
    let _server = stage.site.echo_server(Ns::Internet, 8443).unwrap();
    let mut lifeline = stage
        .site
        .open_connection(Ns::Gateway, INTERNET_V4, 8443)
        .unwrap();
    for _ in 0..200 {
        assert!(lifeline.exchange(), "the lifeline is not slowed");
    }
});

lab_test!(a_quota_ends_what_leaves_until_its_next_period, || {
    const QUOTA: u64 = 200_000;
    let mut stage = free(options());
    let look = Duration::from_millis(300);
    assert!(flood(&stage, look) > QUOTA, "control");
    let limit = json!({"quotaBytes": QUOTA, "quotaPeriodSeconds": 60});
    order(
        &stage,
        &json!({"id": "q-1", "posture": "restrict", "limit": limit}),
    );
    let arrived = flood(&stage, look);
    assert!((QUOTA / 2..=QUOTA).contains(&arrived), "{arrived} bytes");
    assert_eq!(flood(&stage, look), 0, "nothing more");
    let status = stage
        .wait_status(crate::common::LIMIT, "the quota is used", |status| {
            status["enforcement"]["quotas"][0]["used"].as_u64() >= Some(QUOTA)
        })
        .unwrap();
    assert!(
        cut(&status, "out", "quota") > 0 && cut(&status, "forward", "quota") > 0,
        "{status}"
    );
    let _server = stage.site.echo_server(Ns::Internet, 8443).unwrap();
    assert!(
        stage.site.tcp_connects(Ns::Gateway, INTERNET_V4, 8443).unwrap(),
        "a lifeline"
    );
    stage.agent.as_mut().unwrap().kill9().unwrap();
    let (code, _, errors) = stage.nft(&["delete", "table", "inet", "edgewarden"]).unwrap();
    assert_eq!(code, Some(0), "{errors}");
    assert!(flood(&stage, look) > QUOTA, "control: no rule is left");
    stage.start_agent().unwrap();
    stage.wait_phase(crate::common::LIMIT, "enforced").unwrap();
    assert_eq!(flood(&stage, look), 0, "not given anew");
    stage
        .wait_status(Duration::from_secs(70), "another period", |status| {
            let quota = &status["enforcement"]["quotas"][0];
            quota["used"].as_u64().is_some_and(|used| used < QUOTA)
        })
        .unwrap();
    let arrived = flood(&stage, look);
    assert!(
        (QUOTA / 2..=QUOTA).contains(&arrived),
        "{arrived} bytes of the new period"
    );
});

/// A segment of TCP that is to come by `hop` before it goes on to the broker (a loose source route).
fn by_another_place(hop: IpAddr, mark: &[u8]) -> Vec<u8> {
    let segment = tcp(1_000, BROKER_PORT, ACK, mark);
    let mut packet = ip(GATEWAY_WAN_V4, hop, TCP, 0, &segment);
    let IpAddr::V4(behind) = INTERNET_V4 else {
        unreachable!("an address of IPv4")
    };
    let route = [[131, 7, 4].as_slice(), &behind.octets(), &[0]].concat();
    packet.splice(20..20, route);
    // Two words more; the kernel writes length and checksum.
    packet[0] = 0x47;
    packet
}

lab_test!(
    nobody_hides_whose_stream_it_is_behind_another_place_in_a_restriction_that_only_limits,
    || {
        let stage = free(options());
        let ear = Ear::open("internet");
        let passes = |user: u32, packet: &[u8], mark: &[u8]| {
            ear.drain();
            hand_over(&packets_of("gateway", user), packet);
            ear.hears_mark(mark, FLIGHT)
        };
        let mark = marker("by another place");
        let hidden = by_another_place(ATTACKER_V4, &mark);
        assert!(passes(NOBODY, &hidden, &mark), "control");
        let limit = json!({"egressBytesPerSecond": 1_000_000});
        order(
            &stage,
            &json!({"id": "l-2", "posture": "restrict", "limit": limit}),
        );
        assert!(!passes(NOBODY, &hidden, &mark));
        assert!(passes(ROOT, &hidden, &mark), "control: root's");
        let straight = ip(
            GATEWAY_WAN_V4,
            ATTACKER_V4,
            TCP,
            0,
            &tcp(1_000, BROKER_PORT, ACK, &mark),
        );
        assert!(passes(NOBODY, &straight, &mark), "control: without");
    }
);
