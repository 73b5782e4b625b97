//! What one link, or what stands on one, takes of the others: another namespace's interface on one of ours, neighbours that have the
//! kernel answer without end, routers and interfaces by the hundred.

use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{DEVICE_V4, GATEWAY_LAN_V4, GATEWAY_WAN_V4, INTERNET_V4, Ns, wait_until};
use edgewarden_lab::stage::Stage;
use serde_json::json;

use super::frames::{ARP, BROADCAST, Between, IPV4, arp};
use super::free;
use super::wire::{Flood, Port, ROOT, within};
use crate::common::gateway::{ip, run};
use crate::common::packet::{UDP, ip as packet, udp};
use crate::common::{LIMIT, isolate, options, ready, release};

const MQTT: u16 = 8883;
/// From one frame of a busy neighbour to the next.
const PAUSE: Duration = Duration::from_millis(1);
/// How long an answer takes at most where one comes.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whether a program of this namespace connects.
fn connects(namespace: &str, to: IpAddr, port: u16) -> bool {
    within(namespace, || {
        TcpStream::connect_timeout(&(to, port).into(), PATIENCE).is_ok()
    })
}

/// Two containers with an interface each that stands on one of ours, and who has taken a lifeline's address on the LAN.
fn contained(stage: &Stage) -> TcpListener {
    let inside = "netns add onlan
        netns add onwan
        link add mv0 link lan0 type macvlan mode bridge
        link set mv0 netns onlan
        -n onlan addr add 192.0.2.50/24 dev mv0
        -n onlan link set mv0 up
        -n onlan route add default dev mv0
        link add mv1 link wan0 type macvlan mode bridge
        link set mv1 netns onwan
        -n onwan addr add 198.51.100.50/24 dev mv1
        -n onwan link set mv1 up";
    ip(stage, inside);
    let taken = format!("{INTERNET_V4}/32");
    run(stage, Ns::Lan, "ip", &["addr", "add", &taken, "dev", "eth0"]);
    let listen = || TcpListener::bind(("0.0.0.0", MQTT)).unwrap();
    stage.site.run_in(Ns::Lan, listen).unwrap()
}

lab_test!(
    what_stands_on_our_interfaces_in_another_namespace_reaches_no_lifeline,
    || {
        let stage = ready(options());
        let _impostor = contained(&stage);
        let both = || ["onlan", "onwan"].map(|namespace| connects(namespace, INTERNET_V4, MQTT));
        assert_eq!(both(), [true, true], "control");
        isolate(&stage);
        assert_eq!(both(), [false, false]);
        let own = stage.site.tcp_connects(Ns::Gateway, INTERNET_V4, MQTT).unwrap();
        assert!(own, "the lifeline itself lives");
        release(&stage);
        assert_eq!(both(), [true, true], "free again");
    }
);

lab_test!(an_uplink_that_stands_on_another_interface_lives, || {
    let stage = ready(options());
    // With a hardware address of its own.
    let moved = "addr flush dev wan0
        link add up0 link wan0 type macvlan mode bridge
        addr add 198.51.100.2/24 dev up0
        addr add 2001:db8:1::2/64 dev up0 nodad
        link set up0 up
        route replace default via 198.51.100.1";
    ip(&stage, moved);
    isolate(&stage);
    assert!(stage.site.tcp_connects(Ns::Gateway, INTERNET_V4, MQTT).unwrap());
    // And another one while isolated.
    ip(
        &stage,
        "link set up0 down\nlink set up0 address 02:00:00:00:77:01\nlink set up0 up\nroute replace default via 198.51.100.1",
    );
    // The rules follow it, later on a busy machine.
    wait_until(LIMIT, "the new address has its way", || {
        stage.site.tcp_connects(Ns::Gateway, INTERNET_V4, MQTT).unwrap()
    })
    .unwrap();
    let status = stage.status();
    assert_eq!(status["enforcement"]["phase"], "enforced", "{status}");
});

/// The LAN's device asks who the gateway is, without end.
fn asks(lan: &Port) -> Flood {
    let IpAddr::V4(own) = DEVICE_V4 else {
        unreachable!()
    };
    let IpAddr::V4(asked) = GATEWAY_LAN_V4 else {
        unreachable!()
    };
    let between = Between {
        from: lan.mac(),
        to: BROADCAST,
    };
    let frame = between.frame("ARP", ARP, |m| arp(lan.mac(), own.octets(), asked.octets(), &m));
    Flood::begin(lan.sender_as(ARP, ROOT), frame.bytes, PAUSE)
}

/// And answers a question for a lease that nobody asked it.
fn offers(lan: &Port) -> Flood {
    let to = Port::of("gateway", "lan0").mac();
    let between = Between { from: lan.mac(), to };
    let frame = between.frame("lease", IPV4, |m| {
        packet(DEVICE_V4, GATEWAY_LAN_V4, UDP, 0, &udp(67, 68, &m))
    });
    Flood::begin(lan.sender_as(IPV4, ROOT), frame.bytes, PAUSE)
}

lab_test!(a_busy_neighbour_takes_nothing_of_another_links_share, || {
    let stage = free(options());
    let lan = Port::of("lan", "eth0");
    let found = |stage: &Stage| {
        let mut found = 0;
        for _ in 0..4 {
            ip(stage, "neigh flush dev wan0");
            found += usize::from(connects("gateway", INTERNET_V4, MQTT));
        }
        found
    };
    let client = within("gateway", || {
        let socket = UdpSocket::bind("0.0.0.0:68").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    });
    let server = within("internet", || UdpSocket::bind((INTERNET_V4, 67)).unwrap());
    let leased = || {
        let mut buffer = [0; 64];
        let mut offered = 0;
        for number in 0..5_u8 {
            let own = [b"own".as_slice(), &[number]].concat();
            server.send_to(&own, (GATEWAY_WAN_V4, 68)).unwrap();
            let begun = std::time::Instant::now();
            while begun.elapsed() < PATIENCE {
                let Ok(length) = client.recv(&mut buffer) else {
                    break;
                };
                if buffer[..length] == own {
                    offered += 1;
                    break;
                }
            }
        }
        offered
    };
    isolate(&stage);
    assert_eq!((found(&stage), leased()), (4, 5), "control: nobody is busy");
    {
        let _flood = asks(&lan);
        std::thread::sleep(Duration::from_secs(3));
        assert_eq!(found(&stage), 4, "the kernel's own questions leave");
    }
    let _flood = offers(&lan);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(leased(), 5, "a lease's answers arrive");
});

lab_test!(interfaces_beyond_those_that_are_filtered_are_told, || {
    let stage = free(options());
    isolate(&stage);
    assert_eq!(stage.status()["enforcement"]["uncovered"], json!([]), "control");
    let pairs: Vec<String> = (0..560)
        .map(|number| format!("link add va{number} type veth peer name vb{number}\n"))
        .collect();
    let file = stage.site.directory().join("pairs");
    std::fs::write(&file, pairs.concat()).unwrap();
    ip(&stage, &format!("-batch {}", file.display()));
    let told = |status: &serde_json::Value| {
        status["enforcement"]["uncovered"]
            .to_string()
            .contains("beyond the 1024th")
    };
    stage.wait_status(LIMIT, "it is told", told).unwrap();
});
