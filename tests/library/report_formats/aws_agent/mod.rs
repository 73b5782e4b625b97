//! The same namespace, the same moment: AWS's Python agent and ours.
//!
//! Every difference is listed and expected exactly; docs/report-format.md says why they are there.

mod agent;
mod scene;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use agent::AwsAgent;
use edgewarden::host::net::links;
use edgewarden::host::net::sock_diag::SockDiag;
use edgewarden::observe::link::Link;
use edgewarden::observe::{Counters, SocketSnapshot};
use edgewarden_lab::cloud::ingest::Format;
use edgewarden_lab::lab_test;
use edgewarden_lab::site::in_lab;
use scene::{CONNECTED_UDP, Scene, TWICE};
use serde_json::Value;

use super::checker::{Sample, by_intake};
use crate::judge::python;

/// Runs `body` in a lab, with a Python that was looked for outside, where PyPI can be reached.
fn beside_aws_agent(test: &str, body: impl FnOnce(&Path)) {
    if let Some(python) = python() {
        in_lab(test, || body(python));
    }
}

/// A port with its interface as a report names it.
type Place = (Option<String>, u16);

/// The ports of a block, and its total.
fn ports(report: &Value, block: &str) -> (BTreeSet<Place>, u64) {
    let block = &report["metrics"][block];
    let place = |port: &Value| {
        let number = port["port"].as_u64().unwrap();
        (
            port["interface"].as_str().map(str::to_owned),
            u16::try_from(number).unwrap(),
        )
    };
    let places = block["ports"].as_array().unwrap().iter().map(place).collect();
    (places, block["total"].as_u64().unwrap())
}

/// The connections of AWS's report: our port, the other end, the interface. It writes IPv6 without brackets.
fn connections(report: &Value) -> (BTreeSet<(u16, SocketAddr, Option<String>)>, u64) {
    let block = &report["metrics"]["tcp_connections"]["established_connections"];
    let connection = |entry: &Value| {
        let (host, port) = entry["remote_addr"].as_str().unwrap().rsplit_once(':').unwrap();
        let host: IpAddr = host.parse().unwrap();
        let local = u16::try_from(entry["local_port"].as_u64().unwrap()).unwrap();
        let remote = SocketAddr::new(host, port.parse().unwrap());
        (
            local,
            remote,
            entry["local_interface"].as_str().map(str::to_owned),
        )
    };
    let list = block["connections"].as_array().unwrap();
    (
        list.iter().map(connection).collect(),
        block["total"].as_u64().unwrap(),
    )
}

fn ours(ends: &[SocketAddr], snapshot: &SocketSnapshot) -> BTreeSet<Place> {
    let place = |end: &SocketAddr| (snapshot.interface_of(*end), end.port());
    ends.iter().map(place).collect()
}

lab_test!(
    both_agents_see_the_same_ports_and_connections,
    beside_aws_agent,
    |python| {
        let _scene = Scene::build();
        let mut agent = AwsAgent::start(python, &["--all"]);
        let theirs = agent.report().unwrap();
        let snapshot = SockDiag::open().unwrap().snapshot().unwrap();

        let (tcp, tcp_total) = ports(&theirs, "listening_tcp_ports");
        assert_eq!(ours(&snapshot.listening_tcp, &snapshot), tcp);
        let twice = u64::from(TWICE.1 - 1);
        let of_ours = snapshot.listening_tcp.len() as u64;
        assert_eq!(
            tcp_total,
            of_ours + twice,
            "SO_REUSEPORT: it counts sockets, we count ports"
        );

        let (udp, udp_total) = ports(&theirs, "listening_udp_ports");
        let of_ours = ours(&snapshot.listening_udp, &snapshot);
        let surplus: Vec<_> = udp.difference(&of_ours).collect();
        let interface = Some("ew0".to_owned());
        assert_eq!(
            surplus,
            [&(interface, CONNECTED_UDP)],
            "it calls a connected client a listener"
        );
        assert!(of_ours.is_subset(&udp));
        assert_eq!(udp_total, snapshot.listening_udp.len() as u64 + 1);

        let (theirs, total) = connections(&theirs);
        assert_eq!(total, snapshot.established_total);
        assert_eq!(total, Scene::ESTABLISHED);
        let plain = |remote: SocketAddr| SocketAddr::new(remote.ip().to_canonical(), remote.port());
        let of_ours: BTreeSet<_> = snapshot
            .established
            .iter()
            .map(|socket| (socket.local.port(), socket.remote.unwrap()))
            .collect();
        let seen: BTreeSet<_> = theirs
            .iter()
            .map(|(port, remote, _)| (*port, plain(*remote)))
            .collect();
        assert_eq!(of_ours, seen);
        // A dual-stack socket's IPv4 peer is ::ffff:a.b.c.d to it, whose interface it does not find; we write IPv4.
        for (port, remote, interface) in &theirs {
            let socket = |socket: &&edgewarden::observe::sockets::OpenSocket| {
                socket.local.port() == *port && socket.remote == Some(plain(*remote))
            };
            let found = snapshot.established.iter().find(socket).unwrap();
            let of_ours = snapshot.interface_of(found.local);
            assert!(of_ours.is_some());
            let mapped = plain(*remote) != *remote;
            assert_eq!(*interface, of_ours.filter(|_| !mapped), "{port} {remote}");
        }
    }
);

lab_test!(
    aws_report_with_ipv6_is_not_one_the_specification_describes,
    beside_aws_agent,
    |python| {
        let _scene = Scene::build();
        let report = AwsAgent::start(python, &["--all"]).report().unwrap();
        let fault = intake(&report).unwrap_err();
        assert!(
            fault.contains("remote_addr: ip:port") || fault.contains("local_interface: a string"),
            "{fault}"
        );
        let mut without = report;
        without["metrics"]
            .as_object_mut()
            .unwrap()
            .remove("tcp_connections");
        assert_eq!(intake(&without), Ok(()), "control: the rest keeps to it");
    }
);

fn intake(report: &Value) -> Result<(), String> {
    by_intake(&Sample {
        name: "AWS".to_owned(),
        format: Format::Json,
        names: "long",
        bytes: Format::Json.encode(report),
    })
}

/// Kernel counters: loopback's, and the sum of the others.
fn counters() -> (Counters, Counters) {
    let (loopback, others): (Vec<Link>, Vec<Link>) = links::links()
        .unwrap()
        .into_iter()
        .partition(|link| link.loopback);
    let sum = |links: Vec<Link>| {
        links.iter().fold(Counters::default(), |mut sum, link| {
            sum += link.counters;
            sum
        })
    };
    (sum(loopback), sum(others))
}

/// Its report, taken between two looks at counters that stood still.
fn quiet_report(agent: &mut AwsAgent) -> Option<(Value, (Counters, Counters))> {
    let before = counters();
    let report = agent.report().unwrap();
    (counters() == before).then_some((report, before))
}

lab_test!(
    network_totals_differ_by_loopback_alone,
    beside_aws_agent,
    |python| {
        let scene = Scene::build();
        let mut agent = AwsAgent::start(python, &[]);
        // A namespace is never quite still: the kernel looks for IPv6 routers.
        let compared = (0..20).any(|_| {
            let Some((_, (loopback, others))) = quiet_report(&mut agent) else {
                return false;
            };
            scene.traffic();
            let Some((report, after)) = quiet_report(&mut agent) else {
                return false;
            };
            let grown = after.1.growth_since(&others);
            assert!(grown.bytes_out > 0 && after.0.growth_since(&loopback).bytes_out > 0);
            let mut all = grown;
            all += after.0.growth_since(&loopback);
            let stats = &report["metrics"]["network_stats"];
            for (name, expected) in [
                ("bytes_in", all.bytes_in),
                ("bytes_out", all.bytes_out),
                ("packets_in", all.packets_in),
                ("packets_out", all.packets_out),
            ] {
                assert_eq!(stats[name].as_u64(), Some(expected), "{name}");
            }
            true
        });
        assert!(compared, "the namespace was never still");
    }
);

lab_test!(
    its_first_report_has_totals_since_boot_and_its_second_short_one_fails,
    beside_aws_agent,
    |python| {
        let scene = Scene::build();
        scene.traffic();
        let (loopback, others) = counters();
        let report = AwsAgent::start(python, &[]).report().unwrap();
        let sent = report["metrics"]["network_stats"]["bytes_out"].as_u64();
        assert!(sent >= Some(loopback.bytes_out + others.bytes_out));
        let mut short = AwsAgent::start(python, &["--short"]);
        assert!(short.report().unwrap()["met"]["tp"].is_object(), "control");
        assert_eq!(short.report(), Err("KeyError: 'bi'".to_owned()));
    }
);
