//! Edgewarden's own reports before the two judges.

use std::collections::HashMap;
use std::net::SocketAddr;

use edgewarden::observe::Counters;
use edgewarden::observe::flow::Protocol;
use edgewarden::observe::sockets::{OpenSocket, SocketOwner, SocketSnapshot};
use edgewarden::report::{ReportInput, build};
use edgewarden_lab::cloud::ingest::Format;
use serde_json::{Value, json};

use super::checker::{Sample, by_intake, by_schema};
use super::python;

/// Sizes that paths carry: lite, classic, and one that hardly holds a list.
const LIMITS: [usize; 3] = [7_290, 128 * 1024, 500];

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A device with this many connections, every other one IPv6.
fn snapshot(connections: u16) -> SocketSnapshot {
    let connection = |number: u16| {
        let ends = if number.is_multiple_of(2) {
            ["192.0.2.1:1", "198.51.100.7:1"]
        } else {
            ["[2001:db8::1]:1", "[2001:db8:ffff::7]:1"]
        };
        let [mut local, mut remote] = ends.map(address);
        local.set_port(1_024 + number);
        remote.set_port(1 + number);
        OpenSocket {
            protocol: Protocol::Tcp,
            local,
            remote: Some(remote),
            owner: SocketOwner {
                inode: 1,
                uid: 0,
                listening: false,
            },
        }
    };
    SocketSnapshot {
        established: (0..connections).map(connection).collect(),
        established_total: connections.into(),
        listening_tcp: ["0.0.0.0:22", "[::]:22", "192.0.2.1:80"].map(address).into(),
        listening_udp: ["[2001:db8::1]:53", "203.0.113.9:53"].map(address).into(),
        interfaces: HashMap::from([
            (address("192.0.2.1:1").ip(), "eth0".into()),
            (address("[2001:db8::1]:1").ip(), "eth0".into()),
        ]),
    }
}

fn reports() -> Vec<(Sample, SocketSnapshot)> {
    let cases = [0, 1, 2_000]
        .into_iter()
        .flat_map(|connections| LIMITS.map(|limit| (snapshot(connections), limit)));
    cases
        .map(|(sockets, limit)| {
            let input = ReportInput {
                report_id: 1_790_000_000,
                network: Some(Counters {
                    bytes_in: u64::MAX,
                    bytes_out: 2,
                    packets_in: 3,
                    packets_out: 4,
                }),
                sockets: Some(&sockets),
            };
            let bytes = build(&input, limit, 7).unwrap().to_json().unwrap();
            assert!(bytes.len() <= limit, "{} of {limit} bytes", bytes.len());
            let sample = Sample {
                name: format!("{} connections in {limit} bytes", sockets.established_total),
                format: Format::Json,
                names: "long",
                bytes,
            };
            (sample, sockets)
        })
        .collect()
}

#[test]
fn our_reports_keep_to_the_specification_and_their_totals_are_true() {
    let Some(python) = python() else { return };
    let (samples, snapshots): (Vec<_>, Vec<_>) = reports().into_iter().unzip();
    for ((sample, sockets), judged) in samples.iter().zip(snapshots).zip(by_schema(python, &samples)) {
        assert_eq!(by_intake(sample), Ok(()), "intake: {}", sample.name);
        let document = judged.unwrap_or_else(|fault| panic!("schema: {}: {fault}", sample.name));
        let metrics = &document["metrics"];
        let established = &metrics["tcp_connections"]["established_connections"];
        assert_eq!(established["total"], sockets.established_total);
        assert_eq!(metrics["listening_tcp_ports"]["total"], 3);
        assert_eq!(metrics["listening_udp_ports"]["total"], 2);
        assert_eq!(
            metrics["network_stats"],
            json!({"bytes_in": u64::MAX, "bytes_out": 2, "packets_in": 3, "packets_out": 4})
        );
        let listed = established["connections"].as_array().map_or(0, Vec::len) as u64;
        assert!(listed <= sockets.established_total);
        if sample.name == "1 connections in 131072 bytes" {
            assert_eq!(
                established["connections"],
                json!([{"local_interface": "eth0", "local_port": 1024, "remote_addr": "198.51.100.7:1"}])
            );
        }
    }
}

#[test]
fn a_report_without_anything_collected_has_no_list_that_would_clear_an_alarm() {
    let Some(python) = python() else { return };
    let input = ReportInput {
        report_id: 1,
        network: None,
        sockets: None,
    };
    let sample = Sample {
        name: "nothing".to_owned(),
        format: Format::Json,
        names: "long",
        bytes: build(&input, 500, 7).unwrap().to_json().unwrap(),
    };
    assert_eq!(by_intake(&sample), Ok(()));
    let judged: Vec<Result<Value, String>> = by_schema(python, &[sample]);
    assert_eq!(
        judged,
        [Ok(
            json!({"header": {"report_id": 1, "version": "1.0"}, "metrics": {}})
        )]
    );
}
