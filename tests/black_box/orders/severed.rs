//! Connections that a quarantine cuts lose their sockets too: their programs are told at once.

use std::io::{ErrorKind, Read as _};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{
    ATTACKER_V4, ATTACKER_V6, BROKER_PORT, EchoServer, GATEWAY_LAN_V4, GATEWAY_WAN_V4, GATEWAY_WAN_V6,
    INTERNET_V4, Ns, OpenConnection, wait_until,
};
use edgewarden_lab::stage::{Stage, StageOptions};
use serde_json::{Value, json};

use crate::common::programs::start_named;
use crate::common::{LIMIT, done, isolate, options, ready, release};

/// How soon after the rules are in the kernel a socket must be closed.
const AT_ONCE: Duration = Duration::from_secs(1);

/// The gateway's sockets as `ss` lists them, without the lengths of their queues; `filter` is one of `ss`.
fn sockets(stage: &Stage, filter: &[&str]) -> Vec<String> {
    let mut args = vec!["-Hn"];
    args.extend(filter);
    let output = stage
        .site
        .run_in(Ns::Gateway, || {
            std::process::Command::new("ss").args(&args).output()
        })
        .unwrap()
        .unwrap();
    assert!(output.status.success(), "ss {args:?}: {output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| {
            let words = line.split_ascii_whitespace();
            let queues = |word: &&str| word.parse::<u64>().is_err();
            words.filter(queues).collect::<Vec<_>>().join(" ")
        })
        .collect()
}

/// TCP connections of the gateway with this port at either end.
fn established(stage: &Stage, port: u16) -> usize {
    let filter = format!("( sport = :{port} or dport = :{port} )");
    sockets(stage, &["-t", "state", "established", &filter]).len()
}

fn connect(stage: &Stage, address: IpAddr, port: u16) -> TcpStream {
    let to = SocketAddr::new(address, port);
    stage
        .site
        .run_in(Ns::Gateway, || TcpStream::connect_timeout(&to, LIMIT))
        .unwrap()
        .unwrap()
}

/// What a program learns that waits for data, and when.
fn wait_for_news(mut stream: TcpStream) -> std::thread::JoinHandle<(std::io::Result<usize>, Instant)> {
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    std::thread::spawn(move || {
        let news = stream.read(&mut [0; 8]);
        (news, Instant::now())
    })
}

fn wait_for_table(stage: &Stage) -> Instant {
    wait_until(LIMIT, "the rules", || stage.has_table().unwrap()).unwrap();
    Instant::now()
}

fn order(stage: &Stage, order: &Value) {
    stage.desire(&json!({ "quarantine": order })).unwrap();
}

/// Everything that is open when the isolation comes.
struct Held {
    /// From the gateway to the attacker.
    outgoing: [TcpStream; 2],
    /// From the attacker to the gateway.
    incoming: [OpenConnection; 2],
    /// From the gateway to the attacker, UDP.
    datagrams: UdpSocket,
    /// Within the gateway.
    internal: [OpenConnection; 3],
    ssh: OpenConnection,
    _servers: [EchoServer; 3],
}

impl Held {
    fn open(stage: &Stage) -> Self {
        let site = &stage.site;
        let servers = [(Ns::Internet, 4444), (Ns::Gateway, 8080), (Ns::Gateway, 22)];
        let servers = servers.map(|(ns, port)| site.echo_server(ns, port).unwrap());
        let open = |from, to, port| site.open_connection(from, to, port).unwrap();
        let inside = [IpAddr::from([127, 0, 0, 1]), GATEWAY_WAN_V4, GATEWAY_LAN_V4];
        let connected_udp = || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.connect((ATTACKER_V4, 5555)).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        };
        let mut held = Self {
            outgoing: [ATTACKER_V4, ATTACKER_V6].map(|to| connect(stage, to, 4444)),
            incoming: [GATEWAY_WAN_V4, GATEWAY_WAN_V6].map(|to| open(Ns::Internet, to, 8080)),
            datagrams: site.run_in(Ns::Gateway, connected_udp).unwrap(),
            internal: inside.map(|to| open(Ns::Gateway, to, 8080)),
            ssh: open(Ns::Internet, GATEWAY_WAN_V4, 22),
            _servers: servers,
        };
        assert!(held.incoming.iter_mut().all(OpenConnection::exchange) && held.lives());
        held
    }

    /// Whether all that must live does.
    fn lives(&mut self) -> bool {
        self.internal.iter_mut().all(OpenConnection::exchange) && self.ssh.exchange()
    }
}

/// What the kernel lists of [`Held`]: to the attacker, within and to the gateway, SSH, UDP.
fn listed(stage: &Stage) -> [usize; 4] {
    let datagrams = sockets(stage, &["-u", "state", "established", "dport = :5555"]);
    let [outgoing, service, ssh] = [4444, 8080, 22].map(|port| established(stage, port));
    [outgoing, service, ssh, datagrams.len()]
}

lab_test!(isolation_closes_the_sockets_of_what_it_cuts, || {
    let stage = ready(options());
    let mut held = Held::open(&stage);
    // A connection within the gateway has both its ends there.
    assert_eq!(
        listed(&stage),
        [2, 2 + 2 * 3, 1, 1],
        "control: the kernel lists them"
    );
    let broker = format!("dport = :{BROKER_PORT}");
    let uplink = ["-t", "state", "established", &broker];
    let (uplinks, listeners) = (sockets(&stage, &uplink), sockets(&stage, &["-tl"]));
    assert!(!uplinks.is_empty(), "control: the nucleus is connected");

    let told = held
        .outgoing
        .each_ref()
        .map(|stream| wait_for_news(stream.try_clone().unwrap()));
    let allow =
        json!([{"remote": INTERNET_V4.to_string(), "protocol": "tcp", "ports": [22], "direction": "in"}]);
    order(
        &stage,
        &json!({"id": "s-1", "posture": "isolate", "allow": allow}),
    );
    let closed = wait_for_table(&stage);
    for thread in told {
        let (news, at) = thread.join().unwrap();
        assert_eq!(news.unwrap_err().kind(), ErrorKind::ConnectionAborted);
        let late = at.saturating_duration_since(closed);
        assert!(late < AT_ONCE, "told {late:?} after the rules");
    }
    let left = AT_ONCE.saturating_sub(closed.elapsed());
    let gone = || listed(&stage) == [0, 2 * 3, 1, 0];
    wait_until(left, "the sockets are gone", gone).unwrap();
    let news = held.datagrams.recv(&mut [0; 8]).unwrap_err();
    assert_eq!(news.kind(), ErrorKind::ConnectionAborted);

    stage.wait_phase(LIMIT, "enforced").unwrap();
    assert!(held.lives(), "what stays inside lives, and what is allowed");
    assert_eq!(
        sockets(&stage, &uplink),
        uplinks,
        "the same connection of the nucleus"
    );
    assert_eq!(sockets(&stage, &["-tl"]), listeners, "listeners stay");
    is_told(&stage, 5);
});

/// The status counts the closed sockets, and the log names the program and whom it talked to.
fn is_told(stage: &Stage, count: u64) {
    let status = stage.status();
    assert_eq!(status["enforcement"]["severed"], count, "{status}");
    assert_eq!(status["enforcement"]["severing"], Value::Null);
    let (_, page, _) = stage.edgewarden(&["status"]).unwrap();
    let line = format!("{count} sockets of cut connections");
    assert!(page.contains(&line), "{page}");
    let log = stage.agent_output();
    let remote = format!("remote={ATTACKER_V4}:4444");
    let line = log.lines().find(|line| line.contains(&remote));
    let own = format!("pid=Some({})", std::process::id());
    assert!(line.is_some_and(|line| line.contains(&own)), "{line:?}\n{log}");
}

lab_test!(a_restriction_closes_only_what_it_names, || {
    let stage = ready(options());
    let site = &stage.site;
    let _servers = [
        (Ns::Internet, 4444),
        (Ns::Internet, 2323),
        (Ns::Internet, 8080),
        (Ns::Gateway, 2323),
    ]
    .map(|(ns, port)| site.echo_server(ns, port).unwrap());
    let open = |from, address, port| site.open_connection(from, address, port).unwrap();
    let mut named = [
        open(Ns::Gateway, ATTACKER_V4, 4444),
        open(Ns::Gateway, INTERNET_V4, 2323),
        open(Ns::Lan, GATEWAY_LAN_V4, 2323),
    ];
    let mut others = [
        open(Ns::Gateway, INTERNET_V4, 4444),
        open(Ns::Gateway, INTERNET_V4, 8080),
    ];
    assert!(named.iter_mut().chain(&mut others).all(OpenConnection::exchange));
    let ports = || [4444, 2323, 8080].map(|port| established(&stage, port));
    assert_eq!(ports(), [2, 2, 1], "control: the kernel lists them");
    let block = json!({
        "remotes": [ATTACKER_V4.to_string()],
        "ports": [{"protocol": "tcp", "port": 2323}],
    });
    order(
        &stage,
        &json!({"id": "s-2", "posture": "restrict", "block": block}),
    );
    let loaded = wait_for_table(&stage);
    let left = AT_ONCE.saturating_sub(loaded.elapsed());
    wait_until(left, "only what is named is gone", || ports() == [1, 0, 1]).unwrap();
    stage.wait_phase(LIMIT, "enforced").unwrap();
    assert!(others.iter_mut().all(OpenConnection::exchange), "the others live");
    assert!(!named.iter_mut().any(OpenConnection::exchange));
    assert_eq!(stage.status()["enforcement"]["severed"], 3);
});

// Without its lifeline the nucleus is cut like anybody else; its socket is what it comes back with after a release.
lab_test!(sockets_of_the_nucleus_are_spared_even_when_it_is_cut, || {
    let stage = ready(StageOptions {
        configuration: json!({"isolation": {"lifelines": {"dataEndpoint": false}}}),
        ..options()
    });
    let _server = stage.site.echo_server(Ns::Internet, 4444).unwrap();
    let _held = stage
        .site
        .open_connection(Ns::Gateway, ATTACKER_V4, 4444)
        .unwrap();
    let broker = format!("dport = :{BROKER_PORT}");
    let uplink = ["-t", "state", "established", &broker];
    let uplinks = sockets(&stage, &uplink);
    assert!(
        !uplinks.is_empty() && established(&stage, 4444) == 1,
        "control: both are there"
    );
    stage.edgewarden(&["quarantine", "--reason", "test"]).unwrap();
    let gone = || established(&stage, 4444) == 0;
    wait_until(LIMIT, "the other socket is closed", gone).unwrap();
    assert_eq!(sockets(&stage, &uplink), uplinks);
});

lab_test!(sockets_of_a_protected_program_are_spared, || {
    let stage = ready(StageOptions {
        configuration: json!({"isolation": {"protected": ["*/opt/protected"]}}),
        ..options()
    });
    let _server = stage.site.echo_server(Ns::Internet, 4444).unwrap();
    let _running = ["protected", "other"].map(|name| {
        let args = [
            "sensor",
            "--remote",
            "203.0.113.1:4444",
            "--every-millis",
            "600000",
        ];
        start_named(&stage, Ns::Gateway, name, &args)
    });
    let holders = || sockets(&stage, &["-tp", "state", "established", "dport = :4444"]);
    let holds = |name: &str| holders().iter().any(|line| line.contains(&format!("\"{name}\"")));
    wait_until(LIMIT, "both are connected", || {
        holds("protected") && holds("other")
    })
    .unwrap();
    isolate(&stage);
    assert_eq!(
        [holds("protected"), holds("other")],
        [true, false],
        "{:?}",
        holders()
    );
    release(&stage);
    assert!(stage.site.tcp_connects(Ns::Gateway, ATTACKER_V4, 4444).unwrap());
});

/// What an order closed, as the status says.
fn closed_by(status: &Value, authority: &str) -> Option<u64> {
    let orders = status["enforcement"]["severedByOrder"].as_array()?;
    let is_of = |by: &&Value| {
        let order = by["order"].as_str();
        order.is_some_and(|order| order.starts_with(&format!("{authority}:")))
    };
    orders.iter().find(is_of)?["sockets"].as_u64()
}

lab_test!(closed_sockets_count_for_every_live_order_that_cuts_them, || {
    // Both orders are given before anything is cut, so that one connection is cut by both.
    let mut stage = ready(StageOptions {
        configuration: json!({"mode": "observe"}),
        ..options()
    });
    let _servers = [4444, 2323].map(|port| stage.site.echo_server(Ns::Internet, port).unwrap());
    let open = |address, port| stage.site.open_connection(Ns::Gateway, address, port).unwrap();
    let mut held = [
        open(ATTACKER_V4, 4444),
        open(INTERNET_V4, 2323),
        open(ATTACKER_V4, 2323),
        open(INTERNET_V4, 4444),
    ];
    let by_port = json!({"id": "by-port", "posture": "restrict", "reason": "test",
        "block": {"ports": [{"protocol": "tcp", "port": 2323}]}});
    let path = stage.site.directory().join("order.json");
    std::fs::write(&path, by_port.to_string()).unwrap();
    // It fails because nothing is cut.
    let (_, _, errors) = stage
        .edgewarden(&["quarantine", "--order", path.to_str().unwrap()])
        .unwrap();
    assert!(errors.contains("mode observe"), "{errors}");
    let remotes = json!({"remotes": [ATTACKER_V4.to_string()]});
    order(
        &stage,
        &json!({"id": "by-remote", "posture": "restrict", "block": remotes}),
    );
    let status = stage
        .wait_status(LIMIT, "both orders", |s| {
            s["enforcement"]["phase"] == "observed"
                && s["enforcement"]["orders"].as_array().map(Vec::len) == Some(2)
        })
        .unwrap();
    assert!(
        held.iter_mut().all(OpenConnection::exchange),
        "control: nothing is cut"
    );
    assert_eq!(status["enforcement"]["severedByOrder"], json!([]), "{status}");

    stage.deploy(&json!({"mode": "enforce"})).unwrap();
    stage.wait_phase(LIMIT, "enforced").unwrap();
    let status = stage
        .wait_status(LIMIT, "closed", |s| s["enforcement"]["severed"] == 3)
        .unwrap();
    assert_eq!(
        held.each_mut().map(OpenConnection::exchange),
        [false, false, false, true]
    );
    let closed = |status: &Value| ["operator", "shadow"].map(|authority| closed_by(status, authority));
    assert_eq!(closed(&status), [Some(2), Some(2)], "{status}");
    let page = done(&stage, &["status"]);
    let line = "3 sockets of cut connections since the agent started; of live orders: ";
    let line = page.lines().find(|found| found.contains(line));
    assert!(
        line.is_some_and(
            |line| line.contains("2 by operator:by-port") && line.contains("2 by shadow:by-remote")
        ),
        "{page}"
    );

    stage.desire(&json!({"quarantine": false})).unwrap();
    let status = stage
        .wait_status(LIMIT, "an order that has ended is forgotten", |s| {
            closed(s)[1].is_none()
        })
        .unwrap();
    assert_eq!(closed(&status), [Some(2), None], "{status}");
    assert_eq!(status["enforcement"]["severed"], 3, "{status}");
});
