//! Attacks on a device whose isolation is proven: hand-made packets and the administrator's own tools; and on one that is to
//! be isolated, by exhausting it.
//!
//! Each test shows first that the attack works on the free device. A packet counts as arrived where it would do harm:
//! on the wire of the internet or of the LAN for what leaves, at a raw socket behind the input hook for what enters.

mod above;
mod beside;
mod chased;
mod claimed;
mod contained;
mod debugged;
mod disguised;
mod elsewhere;
mod exhaustion;
mod floods;
mod in_others_names;
mod meant;
mod names;
mod names_silenced;
mod packets;
mod paths;
mod processes;
mod repointed;
mod said;
mod silence;
mod silence_inside;
mod standing;
mod stopped;
mod table;
mod tracking;
mod unburied;
mod unseen;
mod waiting;
mod without_socket;
mod xdp;

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd as _;
use std::process::Command;

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{
    ATTACKER_V4, ATTACKER_V6, DEVICE_V4, DEVICE_V6, GATEWAY_WAN_V4, INTERNET_V4, Ns, Site,
};
use edgewarden_lab::stage::Stage;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, socket};
use packets::{FLIGHT, arrivals, entering, forwarded, leaving};
use serde_json::json;

use crate::common::gateway::{ip, know_neighbours, nft_takes};
use crate::common::{LIMIT, options};

fn free_stage() -> Stage {
    let mut stage = Stage::start(options()).unwrap();
    stage.start_agent().unwrap();
    stage.wait_phase(LIMIT, "released").unwrap();
    let ways = [
        (Ns::Gateway, ATTACKER_V6),
        (Ns::Lan, ATTACKER_V6),
        (Ns::Gateway, DEVICE_V6),
        (Ns::Internet, DEVICE_V4),
    ];
    know_neighbours(&stage, &ways);
    stage
}

fn isolate(stage: &Stage) {
    stage.desire(&json!({"quarantine": true})).unwrap();
    let status = stage.wait_phase(LIMIT, "enforced").unwrap();
    assert_eq!(status["enforcement"]["scope"], "pinned", "{status}");
}

lab_test!(hand_made_packets_do_not_pass, || {
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

lab_test!(a_source_port_of_the_control_channel_opens_nothing, || {
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

lab_test!(other_tables_and_containers_open_nothing, || {
    let stage = free_stage();
    let _server = stage.site.echo_server(Ns::Internet, 4444).unwrap();
    ip(&stage, CONTAINER);
    nft_takes(&stage, REDIRECT, &[]).unwrap();
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
    nft_takes(&stage, OTHER_TABLES, &[]).unwrap();
    assert_eq!(ways(), [false; 6], "with other tables");
    assert_eq!(stage.status()["enforcement"]["phase"], "enforced");
});

lab_test!(an_edit_that_keeps_our_comments_is_undone, || {
    let stage = free_stage();
    let _server = stage.site.echo_server(Ns::Internet, 4444).unwrap();
    let connects = || stage.site.tcp_connects(Ns::Gateway, ATTACKER_V4, 4444).unwrap();
    assert!(connects(), "control: open before");
    isolate(&stage);
    let (_, listing, _) = stage.nft(&["list", "table", "inet", "edgewarden"]).unwrap();
    let edited = listing.replace(
        "meta oiftype loopback fib daddr type != unicast accept",
        "meta l4proto tcp accept",
    );
    let edited = edited.replace("meta iiftype loopback accept", "meta l4proto tcp accept");
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
        (
            "a table that nft cannot list",
            "add table inet edgewarden { flags dormant; }".into(),
        ),
    ];
    for (round, (what, edit)) in (1..).zip(edits) {
        nft_takes(&stage, &edit, &[]).unwrap();
        let undone = stage.wait_status(LIMIT, what, |s| s["enforcement"]["reasserted"] == round);
        undone.unwrap();
        assert!(!connects(), "{what}");
    }
    assert_eq!(stage.status()["enforcement"]["phase"], "enforced");
});
