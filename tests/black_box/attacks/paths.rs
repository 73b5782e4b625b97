//! Lifelines are ways, and not addresses alone: whoever takes a lifeline's address on another link, or beside the router, is
//! not reached; and the ways follow the host's routes, so that nobody is locked out.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{INTERNET_V4, INTERNET_V6, Ns, ask_name_servers, wait_until};
use edgewarden_lab::stage::{Stage, StageOptions};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, connect, setsockopt, socket, sockopt,
};
use serde_json::{Value, json};

use crate::common::gateway::{ip, run};
use crate::common::{LIMIT, done, isolate, options, ready, release};

const MQTT: u16 = 8883;
const NTP: u16 = 123;
/// A time server behind the router of the uplink.
const TIME_SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));
/// How long an answer takes at most where one comes.
const PATIENCE: Duration = Duration::from_secs(1);
/// Within which a way that moved is followed.
const FOLLOWED: Duration = Duration::from_secs(2);

/// Whether a program of the gateway that binds its socket to this interface connects.
fn connects_by(stage: &Stage, interface: &str, to: IpAddr, port: u16) -> bool {
    let connects = || {
        let family = if to.is_ipv4() {
            AddressFamily::Inet
        } else {
            AddressFamily::Inet6
        };
        let socket = socket(family, SockType::Stream, SockFlag::SOCK_NONBLOCK, None).unwrap();
        setsockopt(&socket, sockopt::BindToDevice, &OsString::from(interface)).unwrap();
        let place = SockaddrStorage::from(SocketAddr::new(to, port));
        // It is under way, or refused at once.
        let _ = connect(socket.as_raw_fd(), &place);
        let (stream, begun) = (TcpStream::from(socket), Instant::now());
        while begun.elapsed() < PATIENCE {
            if stream.peer_addr().is_ok() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    };
    stage.site.run_in(Ns::Gateway, connects).unwrap()
}

/// Whether a datagram of the gateway arrives at a time server; `beside` the router it is handed to whoever has the address on
/// the uplink itself.
fn asks_time(stage: &Stage, beside: bool) -> bool {
    let server = || UdpSocket::bind((TIME_SERVER, NTP)).unwrap();
    let server = stage.site.run_in(Ns::Internet, server).unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let ask = || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        if beside {
            setsockopt(&socket, sockopt::BindToDevice, &OsString::from("wan0")).unwrap();
            setsockopt(&socket, sockopt::DontRoute, &true).unwrap();
        }
        socket.send_to(b"time?", (TIME_SERVER, NTP)).is_ok()
    };
    stage.site.run_in(Ns::Gateway, ask).unwrap() && server.recv(&mut [0; 16]).is_ok()
}

/// By which interfaces the control channel's address is reached while the device is isolated.
fn ways(stage: &Stage) -> Vec<String> {
    let plan: Value = serde_json::from_str(&done(stage, &["plan", "--json"])).unwrap();
    let ways = plan["plan"]["ways"].as_array().unwrap().iter();
    let own = ways.filter(|way| way["address"] == json!(INTERNET_V4));
    own.map(|way| way["interface"].as_str().unwrap().to_owned())
        .collect()
}

fn listener(stage: &Stage, ns: Ns, port: u16) -> TcpListener {
    let listen = || TcpListener::bind(("0.0.0.0", port)).unwrap();
    stage.site.run_in(ns, listen).unwrap()
}

lab_test!(a_lifelines_address_on_another_link_is_not_reached, || {
    let stage = ready(options());
    let taken = format!("{INTERNET_V4}/32");
    run(&stage, Ns::Lan, "ip", &["addr", "add", &taken, "dev", "eth0"]);
    let _impostor = listener(&stage, Ns::Lan, MQTT);
    let by = |interface| connects_by(&stage, interface, INTERNET_V4, MQTT);
    assert_eq!(["lan0", "wan0"].map(by), [true, true], "control");
    isolate(&stage);
    assert_eq!(["lan0", "wan0"].map(by), [false, true]);
    assert!(
        stage.site.tcp_connects(Ns::Gateway, INTERNET_V4, MQTT).unwrap(),
        "who binds to nothing"
    );
    assert_eq!(ways(&stage), ["wan0"]);
    let status = stage.status();
    assert_eq!(status["enforcement"]["uncovered"], json!([]), "{status}");
    release(&stage);
    assert_eq!(["lan0", "wan0"].map(by), [true, true], "free again");
});

lab_test!(a_resolver_of_one_link_is_reached_by_that_link_alone, || {
    const DNS: u16 = 53;
    let resolver: IpAddr = "fe80::53".parse().unwrap();
    ask_name_servers(&[format!("{resolver}%wan0")]).unwrap();
    let stage = ready(options());
    for (ns, interface) in [(Ns::Lan, "eth0"), (Ns::Internet, "gw0")] {
        let address = ["addr", "add", "fe80::53/64", "dev", interface, "nodad"];
        run(&stage, ns, "ip", &address);
    }
    let listen = |ns| {
        let listen = || TcpListener::bind(("::", DNS)).unwrap();
        stage.site.run_in(ns, listen).unwrap()
    };
    let _both = [Ns::Lan, Ns::Internet].map(listen);
    let by = |interface| connects_by(&stage, interface, resolver, DNS);
    // The device's own addresses of these links may not be usable yet: the kernel looks for duplicates of them first.
    wait_until(LIMIT, "control: both are reached", || {
        ["lan0", "wan0"].map(by) == [true, true]
    })
    .unwrap();
    isolate(&stage);
    wait_until(LIMIT, "it is a lifeline", || by("wan0")).unwrap();
    assert!(!by("lan0"));
    release(&stage);
});

lab_test!(a_lifelines_address_beside_its_router_is_not_reached, || {
    let servers = json!({"isolation": {"timeServers": [TIME_SERVER.to_string()]}});
    let stage = ready(StageOptions {
        configuration: servers,
        ..options()
    });
    let taken = format!("{TIME_SERVER}/32");
    run(&stage, Ns::Internet, "ip", &["addr", "add", &taken, "dev", "gw0"]);
    let both = || [false, true].map(|beside| asks_time(&stage, beside));
    assert_eq!(both(), [true, true], "control");
    isolate(&stage);
    wait_until(LIMIT, "the time server is a lifeline", || {
        asks_time(&stage, false)
    })
    .unwrap();
    assert_eq!(both(), [true, false]);
    release(&stage);
});

/// A second uplink, which leads nowhere yet.
fn second_uplink(stage: &Stage) {
    ip(
        stage,
        "link add wan1 type veth peer name gw1 netns internet
         addr add 100.64.0.2/24 dev wan1
         link set wan1 up",
    );
    for words in ["addr add 100.64.0.1/24 dev gw1", "link set gw1 up"] {
        let words: Vec<&str> = words.split_whitespace().collect();
        run(stage, Ns::Internet, "ip", &words);
    }
}

lab_test!(a_lifeline_follows_its_route_while_isolated, || {
    let stage = ready(options());
    isolate(&stage);
    second_uplink(&stage);
    let reaches = || stage.site.tcp_connects(Ns::Gateway, INTERNET_V4, MQTT).unwrap();
    assert!(reaches(), "control: by the first uplink");
    assert!(
        !connects_by(&stage, "wan1", INTERNET_V4, MQTT),
        "an interface that no route leads to it by"
    );
    // The uplink dies, and its routes with it.
    let moved = Instant::now();
    ip(
        &stage,
        "link set wan0 down
         route replace default via 100.64.0.1 dev wan1",
    );
    wait_until(FOLLOWED, "the other uplink is taken", || {
        connects_by(&stage, "wan1", INTERNET_V4, MQTT)
    })
    .unwrap();
    println!("followed within {:?}", moved.elapsed());
    assert!(reaches(), "who binds to nothing");
    assert_eq!(ways(&stage), ["wan1"]);

    // Nothing leads there at all: what led there last is kept, and nothing else is opened.
    ip(&stage, "route del default via 100.64.0.1 dev wan1");
    wait_until(LIMIT, "control: no route", || !reaches()).unwrap();
    assert_eq!(ways(&stage), ["wan1"]);
    assert!(!connects_by(&stage, "lan0", INTERNET_V4, MQTT));
    let status = stage.status();
    assert_eq!(status["enforcement"]["uncovered"], json!([]), "{status}");
    ip(&stage, "route replace default via 100.64.0.1 dev wan1");
    assert!(reaches());
});

lab_test!(an_uplink_that_stands_by_is_a_way_too, || {
    let stage = ready(options());
    second_uplink(&stage);
    // One by its metric, one by a table that a rule leads to.
    ip(&stage, "route add default via 100.64.0.1 dev wan1 metric 500");
    isolate(&stage);
    assert!(connects_by(&stage, "wan1", INTERNET_V4, MQTT));
    ip(&stage, "route del default via 100.64.0.1 dev wan1 metric 500");
    wait_until(LIMIT, "it is a way no more", || ways(&stage) == ["wan0"]).unwrap();
    assert!(!connects_by(&stage, "wan1", INTERNET_V4, MQTT));
    ip(
        &stage,
        "route add default via 100.64.0.1 dev wan1 table 100
         rule add from 100.64.0.2 table 100",
    );
    wait_until(FOLLOWED, "a rule leads there", || {
        ways(&stage) == ["wan0", "wan1"]
    })
    .unwrap();
    assert!(stage.site.tcp_connects(Ns::Gateway, INTERNET_V4, MQTT).unwrap());
    release(&stage);
});

lab_test!(a_mark_that_leads_by_another_uplink_cuts_no_lifeline, || {
    let stage = ready(options());
    second_uplink(&stage);
    ip(
        &stage,
        "route add default via 100.64.0.1 dev wan1 table 100
         rule add fwmark 7 table 100",
    );
    let marks = format!(
        "add table ip own; add chain ip own out {{ type route hook output priority -150; }}; \
         add rule ip own out ip daddr {INTERNET_V4} tcp dport {MQTT} counter meta mark set 7; \
         add chain ip own behind {{ type nat hook postrouting priority 100; }}; \
         add rule ip own behind oifname wan1 counter masquerade"
    );
    run(&stage, Ns::Gateway, "/usr/sbin/nft", &[&marks]);
    let reaches = || stage.site.tcp_connects(Ns::Gateway, INTERNET_V4, MQTT).unwrap();
    assert!(reaches(), "control");
    let listed = stage.nft(&["list", "chain", "ip", "own", "behind"]).unwrap().1;
    assert!(!listed.contains("packets 0"), "control: by the other uplink");
    isolate(&stage);
    assert!(reaches());
    let status = stage.status();
    assert_eq!(status["enforcement"]["scope"], "pinned", "{status}");
    release(&stage);
});

lab_test!(many_routers_untie_no_lifeline, || {
    let servers = json!({"isolation": {"timeServers": [INTERNET_V6.to_string()]}});
    let stage = ready(StageOptions {
        configuration: servers,
        ..options()
    });
    let taken = format!("{INTERNET_V4}/32");
    run(&stage, Ns::Lan, "ip", &["addr", "add", &taken, "dev", "eth0"]);
    let _impostor = listener(&stage, Ns::Lan, MQTT);
    let by = |interface| connects_by(&stage, interface, INTERNET_V4, MQTT);
    assert_eq!(["lan0", "wan0"].map(by), [true, true], "control");
    isolate(&stage);
    assert_eq!(["lan0", "wan0"].map(by), [false, true], "control");
    // As a neighbour's announcements make them, of one family; and a way of one lifeline by a strange interface.
    let routers: Vec<String> = (1..=40)
        .map(|router| {
            format!(
                "-6 route add default via fe80::bad:{router} dev wan0 metric {}",
                2_000 + router
            )
        })
        .collect();
    ip(&stage, &routers.join("\n"));
    let told = |status: &Value, text: &str| status["enforcement"]["uncovered"].to_string().contains(text);
    let many = |status: &Value| told(status, " ways lead to ");
    let status = stage.wait_status(LIMIT, "many ways are told", many).unwrap();
    assert!(!told(&status, "reached by any interface"), "{status}");
    assert_eq!(["lan0", "wan0"].map(by), [false, true]);
    ip(
        &stage,
        "link add a;b type veth peer name ab1
        link set a;b up
        route add default dev a;b metric 4000",
    );
    let strange = |status: &Value| told(status, "unusual name: ") || told(status, "with an unusual name");
    let status = stage.wait_status(LIMIT, "the route is told", strange).unwrap();
    assert!(!told(&status, "reached by any interface"), "{status}");
    assert_eq!(["lan0", "wan0"].map(by), [false, true]);
});
