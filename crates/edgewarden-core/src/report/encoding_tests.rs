//! Both encodings and both sets of names: complete, equal, and never above a limit.

use serde_json::{Value, json};

use super::*;
use crate::observe::Counters;
use crate::observe::flow::IpProtocol;
use crate::observe::sockets::{OpenSocket, SocketOwner, SocketSnapshot};
use crate::report::custom::{CustomMetric, MetricItem, MetricType};
use crate::report::document::{Report, ReportInput, build};

const ALL: [Encoding; 4] = [
    Encoding::PLAIN,
    encoding(Format::Json, NameLength::Short),
    encoding(Format::Cbor, NameLength::Long),
    encoding(Format::Cbor, NameLength::Short),
];

const fn encoding(format: Format, names: NameLength) -> Encoding {
    Encoding { format, names }
}

fn snapshot(connections: u16) -> SocketSnapshot {
    let connection = |port: u16| OpenSocket {
        protocol: IpProtocol::Tcp,
        local: format!("192.0.2.1:{port}").parse().unwrap(),
        remote: Some(format!("[2001:db8::{port:x}]:443").parse().unwrap()),
        owner: SocketOwner {
            inode: 1,
            uid: 0,
            listening: false,
        },
    };
    SocketSnapshot {
        established: (1..=connections).map(connection).collect(),
        established_total: u64::from(connections),
        listening_tcp: vec!["192.0.2.1:22".parse().unwrap()],
        listening_udp: vec!["0.0.0.0:5353".parse().unwrap()],
        interfaces: [("192.0.2.1".parse().unwrap(), "eth0".into())].into(),
        ..SocketSnapshot::default()
    }
}

fn custom(items: u64) -> Vec<CustomMetric> {
    let texts = (0..items)
        .map(|n| MetricItem::text(&format!("process-{n}")))
        .collect();
    let addresses = (0..items).map(|_| MetricItem::Address("203.0.113.9".parse().unwrap()));
    vec![
        CustomMetric::number("total", 7),
        CustomMetric::ranked(
            "bytes",
            MetricType::NumberList,
            (0..items).map(MetricItem::from).collect(),
        ),
        CustomMetric::ranked("names", MetricType::StringList, texts),
        CustomMetric {
            ranked: false,
            ..CustomMetric::ranked("remotes", MetricType::IpList, addresses.collect())
        },
    ]
}

fn report(connections: u16, items: u64, encoding: Encoding, limit: usize) -> Report {
    let sockets = snapshot(connections);
    let custom = custom(items);
    let input = ReportInput {
        report_id: 1_790_000_000,
        network: Some(Counters::default()),
        sockets: Some(&sockets),
        custom: &custom,
    };
    build(&input, encoding, limit, 1).unwrap()
}

fn read(report: &Report, encoding: Encoding) -> Value {
    let bytes = report.encode(encoding).unwrap();
    match encoding.format {
        Format::Json => serde_json::from_slice(&bytes).unwrap(),
        Format::Cbor => ciborium::from_reader(bytes.as_slice()).unwrap(),
    }
}

#[test]
fn both_encodings_and_both_sets_of_names_are_complete() {
    let long = json!({
        "header": {"report_id": 1_790_000_000, "version": "1.0"},
        "metrics": {
            "listening_tcp_ports": {"total": 1, "ports": [{"port": 22, "interface": "eth0"}]},
            "listening_udp_ports": {"total": 1, "ports": [{"port": 5353, "interface": "0.0.0.0"}]},
            "network_stats": {"bytes_in": 0, "bytes_out": 0, "packets_in": 0, "packets_out": 0},
            "tcp_connections": {"established_connections": {"total": 1, "connections":
                [{"local_port": 1, "remote_addr": "[2001:db8::1]:443", "local_interface": "eth0"}]}}},
        "custom_metrics": {
            "total": [{"number": 7}],
            "bytes": [{"number_list": [0, 1]}],
            "names": [{"string_list": ["process-0", "process-1"]}],
            "remotes": [{"ip_list": ["203.0.113.9", "203.0.113.9"]}]}});
    let short = json!({
        "hed": {"rid": 1_790_000_000, "v": "1.0"},
        "met": {
            "tp": {"t": 1, "pts": [{"pt": 22, "if": "eth0"}]},
            "up": {"t": 1, "pts": [{"pt": 5353, "if": "0.0.0.0"}]},
            "ns": {"bi": 0, "bo": 0, "pi": 0, "po": 0},
            "tc": {"ec": {"t": 1, "cs": [{"lp": 1, "rad": "[2001:db8::1]:443", "li": "eth0"}]}}},
        "cmet": long["custom_metrics"]});
    for encoding in ALL {
        let report = report(1, 2, encoding, 7_290);
        assert!(report.unfit.is_empty());
        let expected = if encoding.names == NameLength::Long {
            &long
        } else {
            &short
        };
        assert_eq!(&read(&report, encoding), expected, "{encoding:?}");
    }
}

#[test]
fn every_limit_is_kept_and_used_in_every_encoding() {
    for encoding in ALL {
        for limit in (400..1_200).step_by(37).chain([7_290, 131_072]) {
            let report = report(6_000, 1_000, encoding, limit);
            let length = report.encode(encoding).unwrap().len();
            assert!(length <= limit, "{encoding:?}: {length} bytes in {limit}");
            assert!(
                limit < 900 || length + 120 > limit,
                "{encoding:?}: {length} bytes used of {limit}"
            );
            let total = report.metrics.tcp_connections.as_ref().unwrap();
            assert_eq!(total.established_connections.total, 6_000);
            let empty = |metric: &CustomMetric| metric.items.is_empty();
            assert!(
                !report.custom.iter().any(empty),
                "an empty list would clear an alarm"
            );
            let told = report.custom.len() + report.unfit.len();
            assert_eq!(told, 4, "what is not sent is named");
        }
    }
}

#[test]
fn a_custom_list_shares_fairly_and_a_ranked_one_keeps_its_first() {
    for encoding in ALL {
        let report = report(6_000, 1_000, encoding, 7_290);
        let established = &report
            .metrics
            .tcp_connections
            .as_ref()
            .unwrap()
            .established_connections;
        let connections = established.connections.as_ref().unwrap().len();
        let lengths: Vec<usize> = report.custom.iter().skip(1).map(|it| it.items.len()).collect();
        for length in &lengths {
            // At the very end a short element may fit where a longer one does not.
            assert!(
                connections.abs_diff(*length) <= 30,
                "{connections} connections, {lengths:?}"
            );
        }
        let bytes = &report.custom[1].items;
        let first: Vec<MetricItem> = (0..bytes.len() as u64).map(MetricItem::from).collect();
        assert_eq!(bytes, &first);
    }
}

#[test]
fn short_names_and_cbor_carry_more() {
    let carried = |encoding| {
        let metrics = report(6_000, 0, encoding, 7_290).metrics;
        metrics
            .tcp_connections
            .unwrap()
            .established_connections
            .connections
            .unwrap()
            .len()
    };
    let [json, short, cbor, both] = ALL.map(carried);
    assert!(
        json < cbor && cbor < short && short < both,
        "{json} {short} {cbor} {both}"
    );
    assert!(both > 2 * json, "{json} {both}");
}
