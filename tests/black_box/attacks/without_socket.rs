//! What leaves by the uplink though no socket of the device has sent it: a container's whose interface stands there, in the nucleus' own
//! stream, with the numbers that a program on the device has heard, or as the router; what is passed on from another link.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::process::Command;
use std::time::Duration;

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{BROKER_PORT, GATEWAY_WAN_V6, INTERNET_V4, INTERNET_V6, Ns, wait_until};
use edgewarden_lab::stage::Stage;
use nix::sys::socket::sockopt::{RcvBuf, ReuseAddr, SndBuf};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, listen, setsockopt, socket,
};
use serde_json::json;

use super::in_others_names::heard_by;
use super::said::{CONTAINER, NOWHERE, arp};
use super::silence_inside::{
    ISOLATE, Resets, in_force_all_the_time, restriction, short_windows, silences_the_free_device_only,
};
use crate::common::gateway::{ip, know_neighbours};
use crate::common::packet::{ACK, TCP, ip as packet, tcp};
use crate::common::{LIMIT, done, options, order, ready};
use crate::layers::frames::{ARP, IPV4, Mac, VLAN};
use crate::layers::unsent::{contained, has_rules, wears};
use crate::layers::wire::{Ear, Port, ROOT, emit, packets_of, within};
use crate::orders::lifelines::{ENDPOINT, with_names};

/// A port of the control channel.
const HTTPS: u16 = 8_443;
/// How long a frame may be under way.
const FLIGHT: Duration = Duration::from_millis(300);
/// How long a connection takes at most where one comes.
const PATIENCE: Duration = Duration::from_secs(1);

/// A container on the uplink, which need not ask where the router is.
fn container(stage: &Stage) -> Port {
    contained(stage);
    let router = Port::of("internet", "gw0").mac_text();
    ip(
        stage,
        &format!("-n onwan neigh replace 198.51.100.1 lladdr {router} dev mv1 nud permanent"),
    );
    Port::of("onwan", "mv1")
}

lab_test!(
    a_container_that_is_told_the_numbers_of_a_stream_ends_no_isolation,
    || {
        let stage = ready(short_windows());
        container(&stage);
        // Its own kernel sends it, so that it has a route there.
        wears(&stage);
        let begin = || Resets::by_packets(packets_of("onwan", ROOT));
        silences_the_free_device_only(&stage, begin, &ISOLATE);
    }
);

lab_test!(
    a_container_that_is_told_the_numbers_of_a_stream_ends_no_restriction,
    || {
        let stage = ready(short_windows());
        let port = container(&stage);
        let begin = || Resets::by_frames(port.sender_as(IPV4, ROOT));
        let file = restriction(&stage);
        silences_the_free_device_only(&stage, begin, &["quarantine", "--order", &file]);
    }
);

lab_test!(a_container_on_the_uplink_sends_nothing_as_the_router, || {
    let stage = ready(options());
    let port = container(&stage);
    let ear = Ear::open("internet");
    let router = Port::of("internet", "gw0").mac();
    let heard = |sender| {
        let of_himself = [("of himself", arp(sender, CONTAINER, port.mac()))];
        !heard_by(&ear, &port, ROOT, &of_himself).is_empty()
    };
    assert!(heard(router), "control");
    let file = restriction(&stage);
    for order in [ISOLATE.as_slice(), &["quarantine", "--order", &file]] {
        done(&stage, order);
        stage.wait_phase(LIMIT, "enforced").unwrap();
        // The rules know him once something was handed to him.
        wait_until(LIMIT, "nothing leaves as the router", || !heard(router)).unwrap();
        assert!(!heard(router), "{order:?}");
        std::thread::sleep(PATIENCE);
        assert!(heard(port.mac()), "control: as himself, {order:?}");
        done(&stage, &["release"]);
        stage.wait_phase(LIMIT, "released").unwrap();
    }
});

lab_test!(a_container_beside_the_device_may_be_the_way_to_the_cloud, || {
    let stage = ready(short_windows());
    contained(&stage);
    within("onwan", || {
        for (file, value) in [
            ("ip_forward", "1"),
            ("conf/mv1/send_redirects", "0"),
            ("conf/all/send_redirects", "0"),
        ] {
            std::fs::write(format!("/proc/sys/net/ipv4/{file}"), value).unwrap();
        }
    });
    has_rules(
        &stage,
        "table ip t { chain p { type nat hook postrouting priority 100; masquerade; }\n}\n",
    );
    // The device stands on the link as its containers do, so that they reach each other.
    ip(
        &stage,
        "link add mvh link wan0 type macvlan mode bridge
        addr flush dev wan0
        link set mvh up
        addr add 198.51.100.2/24 dev mvh
        route replace default via 198.51.100.1
        route add 198.51.100.1/32 via 198.51.100.50 dev mvh",
    );
    let server = within("internet", || TcpListener::bind((INTERNET_V4, HTTPS)).unwrap());
    let comes_by = || {
        let connects = || TcpStream::connect_timeout(&(INTERNET_V4, HTTPS).into(), PATIENCE);
        within("gateway", connects).map(|_stream| server.accept().unwrap().1.ip())
    };
    wait_until(LIMIT, "control: the container is the way", || {
        comes_by().is_ok_and(|from| from == CONTAINER)
    })
    .unwrap();
    let works = |s: &serde_json::Value| s["cloud"]["channelWorks"] == true;
    stage.wait_status(LIMIT * 2, "control: it works", works).unwrap();
    let file = restriction(&stage);
    in_force_all_the_time(&stage, &["quarantine", "--order", &file]);
    assert_eq!(comes_by().unwrap(), CONTAINER);
    // While he is down, what is meant for him leaves as for a neighbour, in whose name he could say nothing then.
    ip(&stage, "-n onwan link set mv1 down");
    let neighbour = format!("\"wan0\" . {}", hardware_number(Port::of("onwan", "mv1").mac()));
    let list = ["list", "set", "netdev", "edgewarden", "hops"];
    wait_until(LIMIT, "he is no neighbour for long", || {
        let _nobody = comes_by();
        let nft = || Command::new("nft").args(list).output().unwrap();
        let listed = String::from_utf8(within("gateway", nft).stdout).unwrap();
        let mut lines = listed.lines();
        lines.any(|line| line.contains(&neighbour) && line.contains("expires 1m"))
    })
    .unwrap();
});

/// As nft writes it.
fn hardware_number(mac: Mac) -> String {
    mac.iter()
        .fold("0x".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

lab_test!(
    nothing_is_passed_on_in_a_stream_of_the_device_from_another_link,
    || {
        let names = json!({ENDPOINT: ["198.51.100.1", INTERNET_V6.to_string()]});
        let (stage, _servers) = with_names(options(), &names);
        know_neighbours(&stage, &[(Ns::Gateway, INTERNET_V6), (Ns::Lan, INTERNET_V6)]);
        let port = Port::of("lan", "eth0");
        let gateway = Port::of("gateway", "lan0").mac();
        let ear = Ear::open("internet");
        // Of IPv4 the kernel takes such a source for wrong by itself.
        let passes = |from: u16, mark: &[u8]| {
            ear.drain();
            let segment = tcp(from, BROKER_PORT, ACK, mark);
            let packet = packet(GATEWAY_WAN_V6, INTERNET_V6, TCP, 0, &segment);
            let frame = [gateway.as_slice(), &port.mac(), &[0x86, 0xdd], &packet].concat();
            emit(&port.sender(0x86dd), &frame);
            ear.hears_mark(mark, FLIGHT)
        };
        assert!(passes(1_000, b"<<free>>"), "control: passed on");
        order(
            &stage,
            &json!({"id": "own", "posture": "restrict", "block": {"ports": [{"protocol": "udp", "port": 9_999}]}}),
        );
        let stream = within("gateway", || {
            TcpStream::connect_timeout(&SocketAddr::new(INTERNET_V6, BROKER_PORT), PATIENCE).unwrap()
        });
        let own = stream.local_addr().unwrap().port();
        assert!(!passes(own, b"<<in the stream>>"));
        assert!(passes(own ^ 1, b"<<in another>>"), "control: in none");
        // Once its owner has ended it nobody is harmed, and what the kernel says of it passes.
        drop(stream);
        wait_until(LIMIT, "its rest passes", || passes(own, b"<<the rest>>")).unwrap();
    }
);

/// Makes the uplink a port of a bridge that has its address; gives the interface of a container on that bridge.
pub(super) fn container_on_bridge(stage: &Stage) -> Port {
    let mac = Port::of("gateway", "wan0").mac_text();
    ip(
        stage,
        &format!(
            "link add br0 type bridge
            link set br0 address {mac}
            addr flush dev wan0
            link set wan0 master br0
            link set br0 up
            addr add 198.51.100.2/24 dev br0
            route replace default via 198.51.100.1
            netns add onbr
            link add vc0 type veth peer name ve1 netns onbr
            link set vc0 master br0
            link set vc0 up
            -n onbr link set ve1 up"
        ),
    );
    Port::of("onbr", "ve1")
}

lab_test!(a_container_on_the_uplinks_bridge_ends_no_restriction, || {
    let stage = ready(short_windows());
    let port = container_on_bridge(&stage);
    let begin = || Resets::by_frames(port.sender_as(IPV4, ROOT));
    let file = restriction(&stage);
    silences_the_free_device_only(&stage, begin, &["quarantine", "--order", &file]);
});

lab_test!(
    what_a_bridge_passes_on_behind_tags_of_no_vlan_ends_no_isolation,
    || {
        let mut options = short_windows();
        options.configuration["isolation"]["bridged"] = json!(false);
        let stage = ready(options);
        let port = container_on_bridge(&stage);
        let begin = || {
            let tags = &[0x81, 0, 0, 0, 0x81, 0, 0, 0];
            Resets::by_tagged_frames(port.sender_as(VLAN, ROOT), tags)
        };
        silences_the_free_device_only(&stage, begin, &ISOLATE);
    }
);

lab_test!(
    a_neighbour_who_says_that_the_router_is_here_cuts_nobody_off_for_long,
    || {
        let stage = ready(options());
        done(&stage, &ISOLATE);
        stage.wait_phase(LIMIT, "enforced").unwrap();
        let own = Port::of("gateway", "wan0").mac();
        let connects = || {
            let connects = stage.site.tcp_connects(Ns::Gateway, INTERNET_V4, BROKER_PORT);
            connects.unwrap()
        };
        assert!(connects(), "control");
        // Believed where it is said to this device about somebody whom it knows.
        let neighbour = Port::of("internet", "gw0");
        let mut lie = arp(NOWHERE, INTERNET_V4, own);
        lie[..6].copy_from_slice(&own);
        wait_until(LIMIT, "control: it is believed, and nobody is reached", || {
            emit(&neighbour.sender(ARP), &lie);
            !connects()
        })
        .unwrap();
        // As the kernel does by itself when it is not answered for a while.
        ip(&stage, "neigh flush dev wan0");
        wait_until(LIMIT / 6, "the router is asked for anew", connects).unwrap();
    }
);

/// What of a program's data arrives that it had not sent when it ended.
fn arrives_after_its_end(length: usize) -> usize {
    let listener = within("internet", || {
        let listener = socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), None).unwrap();
        setsockopt(&listener, ReuseAddr, &true).unwrap();
        // Most of it waits at the sender's side.
        setsockopt(&listener, RcvBuf, &4_096).unwrap();
        let IpAddr::V4(address) = INTERNET_V4 else {
            unreachable!("an address of IPv4")
        };
        bind(
            listener.as_raw_fd(),
            &SockaddrIn::from(SocketAddrV4::new(address, HTTPS)),
        )
        .unwrap();
        listen(&listener, Backlog::new(1).unwrap()).unwrap();
        TcpListener::from(listener)
    });
    within("gateway", || {
        let mut stream = TcpStream::connect_timeout(&(INTERNET_V4, HTTPS).into(), PATIENCE).unwrap();
        setsockopt(&stream, SndBuf, &(4 * length)).unwrap();
        stream.write_all(&vec![b'x'; length]).unwrap();
    });
    let (mut stream, _) = listener.accept().unwrap();
    std::thread::sleep(FLIGHT);
    stream.set_read_timeout(Some(3 * PATIENCE)).unwrap();
    let mut all = Vec::new();
    let _ends_or_stalls = stream.read_to_end(&mut all);
    all.len()
}

lab_test!(
    what_a_program_had_still_to_send_to_a_lifeline_when_it_ended_leaves,
    || {
        let stage = ready(options());
        let length = 100_000;
        assert_eq!(arrives_after_its_end(length), length, "control");
        done(&stage, &ISOLATE);
        stage.wait_phase(LIMIT, "enforced").unwrap();
        assert_eq!(arrives_after_its_end(length), length);
    }
);
