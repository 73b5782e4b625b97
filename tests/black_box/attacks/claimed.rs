//! What says that it comes from a lifeline and reaches the device by a detour: wrapped for a tunnel of the device's own, by an
//! interface that leads to no lifeline, or from where its owner leads a connection.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{GATEWAY_WAN_V4, GATEWAY_WAN_V6, INTERNET_V4, INTERNET_V6, Ns, wait_until};
use edgewarden_lab::stage::{Stage, StageOptions};
use nix::sys::socket::{MsgFlags, SockaddrIn, recv, sendto, setsockopt, sockopt};
use rustix::net::{Protocol, SocketType};
use serde_json::json;

use super::silence_inside::{NTP, answers, forged, loopback, send, takes};
use crate::common::gateway::{ip, run};
use crate::common::packet::{UDP, ip as packet, udp};
use crate::common::{LIMIT, isolate, options, order, ready, release};
use crate::layers::wire::{NOBODY, Port, emit, hand_over, packets_of};

/// Ports of two VXLANs.
const VXLAN: u16 = 4_789;
const OTHER: u16 = 4_790;
/// All hosts of a link.
const EVERYBODY: IpAddr = IpAddr::V4(Ipv4Addr::BROADCAST);
/// How long a packet may be under way within the device.
const FLIGHT: Duration = Duration::from_millis(300);

/// A device with these time servers.
fn with_servers(servers: &[IpAddr]) -> Stage {
    let servers: Vec<String> = servers.iter().map(IpAddr::to_string).collect();
    ready(StageOptions {
        configuration: json!({"isolation": {"timeServers": servers}}),
        ..options()
    })
}

/// Restricts the device to all but an address that nobody uses.
fn restrict(stage: &Stage) {
    let remotes = json!({"remotes": ["203.0.113.77"]});
    order(stage, &json!({"posture": "restrict", "block": remotes}));
    stage.wait_phase(LIMIT, "enforced").unwrap();
}

fn make_vxlan(stage: &Stage, port: u16) {
    ip(
        stage,
        &format!(
            "link add vx0 type vxlan id 7 remote 203.0.113.9 dstport {port} dev wan0
             addr add 203.0.113.129/28 dev vx0
             link set vx0 up"
        ),
    );
}

/// A frame in the envelope of the network that is numbered 7.
fn wrapped(frame: &[u8]) -> Vec<u8> {
    [[8, 0, 0, 0, 0, 0, 7, 0].as_slice(), frame].concat()
}

/// Whether a program takes what somebody here wraps for the tunnel at this port for the answer of a time server.
fn unwraps(stage: &Stage, port: u16) -> bool {
    unwraps_what_is_sent_to(stage, SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port))
}

fn unwraps_what_is_sent_to(stage: &Stage, remote: SocketAddr) -> bool {
    let ends = (INTERNET_V4, GATEWAY_WAN_V4);
    let to = Port::of("gateway", "vx0").mac();
    takes(stage, ends, |asked| {
        let frame = [to.as_slice(), &[2, 1, 1, 1, 1, 1, 8, 0], &forged(ends, asked)].concat();
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_broadcast(true).unwrap();
        // What is cut may be refused.
        let _ = socket.send_to(&wrapped(&frame), remote);
    })
}

/// The same to everybody, in the name of an address that is none of this device's.
fn unwraps_in_anothers_name(stage: &Stage, port: u16) -> bool {
    let ends = (INTERNET_V4, GATEWAY_WAN_V4);
    let to = Port::of("gateway", "vx0").mac();
    let other = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 9));
    takes(stage, ends, |asked| {
        let frame = [to.as_slice(), &[2, 1, 1, 1, 1, 1, 8, 0], &forged(ends, asked)].concat();
        let datagram = udp(50_000, port, &wrapped(&frame));
        let sends = packets_of("gateway", NOBODY);
        setsockopt(&sends, sockopt::Broadcast, &true).unwrap();
        hand_over(&sends, &packet(other, EVERYBODY, UDP, 0, &datagram));
    })
}

lab_test!(a_tunnel_unwraps_nothing_that_is_sent_to_it_here, || {
    let stage = with_servers(&[INTERNET_V4]);
    make_vxlan(&stage, VXLAN);
    assert!(unwraps(&stage, VXLAN), "control");
    let by_all = || unwraps_what_is_sent_to(&stage, SocketAddr::new(EVERYBODY, VXLAN));
    assert!(by_all(), "control: a copy of what is sent to everybody");
    assert!(
        unwraps_in_anothers_name(&stage, VXLAN),
        "control: whoever has sent it"
    );
    isolate(&stage);
    assert!(!unwraps(&stage, VXLAN));
    release(&stage);
    restrict(&stage);
    assert!(!unwraps(&stage, VXLAN), "restricted");
    assert!(!by_all(), "restricted");
    assert!(!unwraps_in_anothers_name(&stage, VXLAN), "restricted");
    // One that is made meanwhile.
    ip(&stage, "link del vx0");
    make_vxlan(&stage, OTHER);
    wait_until(LIMIT, "it is cut too", || !unwraps(&stage, OTHER)).unwrap();
    release(&stage);
    assert!(unwraps(&stage, OTHER), "control: free again");
});

/// Whether a packet of that protocol on loopback arrives behind the rules of what arrives.
fn arrives_inside(stage: &Stage, protocol: u8) -> bool {
    let exchange = || {
        let number = Protocol::from_raw(u32::from(protocol).try_into().unwrap());
        let family = rustix::net::AddressFamily::INET;
        let socket = rustix::net::socket(family, SocketType::RAW, Some(number)).unwrap();
        let to = SockaddrIn::new(127, 0, 0, 1, 0);
        let _ = sendto(socket.as_raw_fd(), b"wrapped", &to, MsgFlags::empty());
        std::thread::sleep(FLIGHT);
        let mut buffer = [0; 64];
        let heard = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT);
        heard.is_ok_and(|length| buffer[..length].ends_with(b"wrapped"))
    };
    stage.site.run_in(Ns::Gateway, exchange).unwrap()
}

lab_test!(packets_in_packets_do_not_go_round_inside, || {
    const PROTOCOLS: [u8; 5] = [4, 41, 47, 97, 115];
    /// Of nothing that wraps.
    const OTHER: u8 = 253;
    let stage = ready(options());
    let all = || PROTOCOLS.map(|protocol| arrives_inside(&stage, protocol));
    assert_eq!(all(), [true; 5], "control");
    isolate(&stage);
    assert_eq!(all(), [false; 5]);
    assert!(arrives_inside(&stage, OTHER), "control: another protocol");
    release(&stage);
    restrict(&stage);
    assert_eq!(all(), [false; 5], "restricted");
});

/// Whether a program takes what a neighbour on the LAN says for the answer of a time server.
fn believes_a_neighbour(stage: &Stage, ends: (IpAddr, IpAddr)) -> bool {
    let (to, from) = (Port::of("gateway", "lan0").mac(), Port::of("lan", "eth0"));
    let kind: u16 = if ends.0.is_ipv4() { 0x0800 } else { 0x86dd };
    let sender = from.sender_as(kind, NOBODY);
    takes(stage, ends, |asked| {
        let header = [to.as_slice(), &from.mac(), &kind.to_be_bytes()].concat();
        emit(&sender, &[header, forged(ends, asked)].concat());
    })
}

lab_test!(
    nobody_answers_for_a_lifeline_by_an_interface_that_is_no_way,
    || {
        let stage = with_servers(&[INTERNET_V4, INTERNET_V6]);
        let both = [(INTERNET_V4, GATEWAY_WAN_V4), (INTERNET_V6, GATEWAY_WAN_V6)];
        let believed = || both.map(|ends| believes_a_neighbour(&stage, ends));
        assert_eq!(believed(), [true; 2], "control");
        isolate(&stage);
        assert_eq!(believed(), [false; 2]);
        // Where a way leads there too, answers may come by it.
        ip(&stage, "route add 198.51.100.0/24 dev lan0 metric 900");
        wait_until(LIMIT, "control: a way to it", || believed() == [true; 2]).unwrap();
        release(&stage);
    }
);

lab_test!(nobody_here_answers_for_where_a_lifeline_is_led_outside, || {
    /// Nobody is there: its owner leads it on.
    const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 78));
    /// An owner's program answers for it on an address of the device's own.
    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 79));
    let stage = with_servers(&[INTERNET_V4, NOWHERE, HERE]);
    let led = format!(
        "add table ip own; add chain ip own out {{ type nat hook output priority -100; }}; \
             add rule ip own out ip daddr {NOWHERE} udp dport {NTP} dnat to {INTERNET_V4}; \
             add rule ip own out ip daddr {HERE} udp dport {NTP} dnat to {GATEWAY_WAN_V4}:5353"
    );
    run(&stage, Ns::Gateway, "/usr/sbin/nft", &[&led]);
    let believes = || {
        let lies = loopback();
        takes(&stage, (NOWHERE, GATEWAY_WAN_V4), |asked| {
            send(&lies, [8, 0], &forged((INTERNET_V4, GATEWAY_WAN_V4), asked));
        })
    };
    let own = SocketAddr::new(GATEWAY_WAN_V4, 5_353);
    let answered = || answers(&stage, own, SocketAddr::new(HERE, NTP));
    assert!(believes() && answered(), "control");
    isolate(&stage);
    assert!(!believes());
    release(&stage);
    restrict(&stage);
    assert!(!believes(), "restricted");
    assert!(answered(), "the owner's own program");
});
