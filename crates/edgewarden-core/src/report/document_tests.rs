//! The document against the specification's shape, and against every limit.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::*;
use crate::observe::flow::IpProtocol;
use crate::observe::sockets::{OpenSocket, SocketOwner};

fn established(local: &str, remote: &str) -> OpenSocket {
    OpenSocket {
        protocol: IpProtocol::Tcp,
        local: local.parse().unwrap(),
        remote: Some(remote.parse().unwrap()),
        owner: SocketOwner {
            inode: 1,
            uid: 0,
            listening: false,
        },
    }
}

fn snapshot() -> SocketSnapshot {
    let mut snapshot = SocketSnapshot {
        established: vec![
            established("192.0.2.1:49812", "198.51.100.2:8883"),
            established("[2001:db8::1]:50022", "[2001:db8::9]:443"),
            established("203.0.113.3:50023", "198.51.100.3:443"),
        ],
        established_total: 3,
        listening_tcp: ["192.0.2.1:22", "0.0.0.0:1883", "[::]:1883"]
            .map(|end| end.parse().unwrap())
            .to_vec(),
        ..SocketSnapshot::default()
    };
    snapshot
        .interfaces
        .insert("192.0.2.1".parse().unwrap(), "eth0".into());
    snapshot
        .interfaces
        .insert("2001:db8::1".parse().unwrap(), "eth1".into());
    snapshot
}

fn big_snapshot(connections: u16, ports: u16) -> SocketSnapshot {
    let ends = |count: u16| {
        (1..=count)
            .map(|port| SocketAddr::new("0.0.0.0".parse().unwrap(), port))
            .collect()
    };
    SocketSnapshot {
        established: (1..=connections)
            .map(|port| established(&format!("192.0.2.1:{port}"), "[2001:db8::1234:5678]:443"))
            .collect(),
        established_total: u64::from(connections) + 1_000_000,
        listening_tcp: ends(ports),
        listening_udp: ends(3),
        ..SocketSnapshot::default()
    }
}

fn value(report: &Report) -> Value {
    serde_json::from_slice(&report.encode(Encoding::PLAIN).unwrap()).unwrap()
}

#[test]
fn a_complete_report_has_the_documented_shape() {
    let sockets = snapshot();
    let network = Counters {
        bytes_in: 1,
        bytes_out: 2,
        packets_in: 3,
        packets_out: 4,
    };
    let input = ReportInput {
        report_id: 1_790_000_000,
        network: Some(network),
        sockets: Some(&sockets),
        custom: &[],
    };
    let report = build(&input, Encoding::PLAIN, 131_072, 1).unwrap();
    assert_eq!(
        value(&report),
        json!({
            "header": {"report_id": 1_790_000_000_u64, "version": "1.0"},
            "metrics": {
                "listening_tcp_ports": {"ports": [
                    {"interface": "0.0.0.0", "port": 1883},
                    {"interface": "::", "port": 1883},
                    {"interface": "eth0", "port": 22}], "total": 3},
                "listening_udp_ports": {"ports": [], "total": 0},
                "network_stats": {"bytes_in": 1, "bytes_out": 2, "packets_in": 3, "packets_out": 4},
                "tcp_connections": {"established_connections": {"connections": [
                    {"local_port": 50023, "remote_addr": "198.51.100.3:443"},
                    {"local_interface": "eth0", "local_port": 49812, "remote_addr": "198.51.100.2:8883"},
                    {"local_interface": "eth1", "local_port": 50022, "remote_addr": "[2001:db8::9]:443"}],
                    "total": 3}}
            }
        })
    );
}

#[test]
fn what_was_not_collected_is_absent() {
    let report = build(
        &ReportInput {
            report_id: 5,
            network: None,
            sockets: None,
            custom: &[],
        },
        Encoding::PLAIN,
        131_072,
        1,
    )
    .unwrap();
    assert_eq!(
        value(&report),
        json!({"header": {"report_id": 5, "version": "1.0"}, "metrics": {}})
    );
}

#[test]
fn every_limit_is_kept_and_used_and_totals_stay_true() {
    let sockets = big_snapshot(20_000, 400);
    let input = ReportInput {
        report_id: 9_007_199_254_740_991,
        network: Some(Counters::default()),
        sockets: Some(&sockets),
        custom: &[],
    };
    for limit in (360..1_500).chain([7_290, 131_072]) {
        let report = build(&input, Encoding::PLAIN, limit, limit as u64).unwrap();
        let length = report.encode(Encoding::PLAIN).unwrap().len();
        assert!(length <= limit, "{length} bytes in {limit}");
        assert!(
            limit < 700 || length + 100 > limit,
            "{length} bytes wasted in {limit}"
        );
        let metrics = &report.metrics;
        assert_eq!(metrics.listening_tcp_ports.as_ref().unwrap().total, 400);
        let connections = &metrics.tcp_connections.as_ref().unwrap().established_connections;
        assert_eq!(connections.total, 1_020_000);
        assert_ne!(
            connections.connections.as_deref(),
            Some(&[][..]),
            "an empty list would clear an alarm"
        );
    }
}

#[test]
fn a_long_list_does_not_push_out_short_ones() {
    let sockets = big_snapshot(20_000, 400);
    let input = ReportInput {
        report_id: 1,
        network: None,
        sockets: Some(&sockets),
        custom: &[],
    };
    let metrics = build(&input, Encoding::PLAIN, 7_290, 3).unwrap().metrics;
    assert_eq!(metrics.listening_udp_ports.unwrap().ports.unwrap().len(), 3);
    let tcp = metrics.listening_tcp_ports.unwrap().ports.unwrap().len();
    let connections = metrics
        .tcp_connections
        .unwrap()
        .established_connections
        .connections
        .unwrap()
        .len();
    // At the very end a short element may fit where a longer one does not.
    assert!(
        tcp.abs_diff(connections) <= 3,
        "{tcp} ports, {connections} connections"
    );
}

#[test]
fn samples_differ_by_seed_and_are_repeatable() {
    let sockets = big_snapshot(20_000, 0);
    let input = ReportInput {
        report_id: 1,
        network: None,
        sockets: Some(&sockets),
        custom: &[],
    };
    let sample = |seed| build(&input, Encoding::PLAIN, 7_290, seed).unwrap();
    assert_eq!(sample(1), sample(1));
    assert_ne!(sample(1), sample(2));
}

#[test]
fn a_limit_below_the_bare_report_is_refused_with_both_numbers() {
    let input = ReportInput {
        report_id: 1,
        network: None,
        sockets: None,
        custom: &[],
    };
    assert_eq!(
        build(&input, Encoding::PLAIN, 10, 1),
        Err(BuildError::TooSmall {
            needed: 55,
            limit: 10
        })
    );
}
