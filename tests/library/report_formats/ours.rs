//! Edgewarden's own reports before the two judges.

use std::collections::HashMap;
use std::net::SocketAddr;

use edgewarden::observe::Counters;
use edgewarden::observe::flow::IpProtocol;
use edgewarden::observe::sockets::{OpenSocket, SocketOwner, SocketSnapshot};
use edgewarden::report::custom::{CustomMetric, MetricItem, MetricType};
use edgewarden::report::{Encoding, Format, NameLength, ReportInput, build};
use edgewarden_lab::cloud::ingest;
use serde_json::{Value, json};

use super::checker::{Sample, by_intake, by_schema};
use crate::judge::python;

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
            protocol: IpProtocol::Tcp,
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
        ..SocketSnapshot::default()
    }
}

/// A metric of every type; one name is that of a field, which must not be shortened.
fn custom() -> [CustomMetric; 4] {
    let addresses = ["192.0.2.3", "2001:db8::1"].map(|text| MetricItem::Address(text.parse().unwrap()));
    let half = MetricItem::Number(serde_json::Number::from_f64(0.5).unwrap());
    [
        CustomMetric::number("total", 7),
        CustomMetric::ranked(
            "sizes",
            MetricType::NumberList,
            vec![half, MetricItem::from(u64::MAX), MetricItem::from(0)],
        ),
        CustomMetric::ranked(
            "names",
            MetricType::StringList,
            vec![MetricItem::text("sshd"), MetricItem::text("ü\u{1f512}")],
        ),
        CustomMetric::ranked("remotes", MetricType::IpList, addresses.into()),
    ]
}

/// What a report with room for everything says of [`custom`].
fn custom_document() -> Value {
    json!({
        "total": [{"number": 7}],
        "sizes": [{"number_list": [0.5, u64::MAX, 0]}],
        "names": [{"string_list": ["sshd", "ü\u{1f512}"]}],
        "remotes": [{"ip_list": ["192.0.2.3", "2001:db8::1"]}],
    })
}

fn encodings() -> impl Iterator<Item = Encoding> {
    let formats = [Format::Json, Format::Cbor];
    let both = |format| [NameLength::Long, NameLength::Short].map(|names| Encoding { format, names });
    formats.into_iter().flat_map(both)
}

/// The report of this input, for the judges.
fn sample(name: String, input: &ReportInput<'_>, encoding: Encoding, limit: usize) -> Sample {
    let bytes = build(input, encoding, limit, 7)
        .unwrap()
        .encode(encoding)
        .unwrap();
    assert!(bytes.len() <= limit, "{} of {limit} bytes", bytes.len());
    Sample {
        name,
        format: match encoding.format {
            Format::Json => ingest::Format::Json,
            Format::Cbor => ingest::Format::Cbor,
        },
        names: match encoding.names {
            NameLength::Long => "long",
            NameLength::Short => "short",
        },
        bytes,
    }
}

/// Every encoding, every limit, few and many connections.
fn reports() -> Vec<(Sample, usize, SocketSnapshot)> {
    let custom = custom();
    let mut reports = Vec::new();
    for encoding in encodings() {
        for (connections, limit) in [0, 1, 2_000]
            .into_iter()
            .flat_map(|some| LIMITS.map(|limit| (some, limit)))
        {
            let sockets = snapshot(connections);
            let input = ReportInput {
                report_id: 1_790_000_000,
                network: Some(Counters {
                    bytes_in: u64::MAX,
                    bytes_out: 2,
                    packets_in: 3,
                    packets_out: 4,
                }),
                sockets: Some(&sockets),
                custom: &custom,
            };
            let name = format!("{encoding:?}: {connections} connections in {limit} bytes");
            reports.push((sample(name, &input, encoding, limit), limit, sockets));
        }
    }
    reports
}

#[test]
fn our_reports_keep_to_the_specification_and_their_totals_are_true() {
    let Some(python) = python() else { return };
    let reports = reports();
    let mut samples = Vec::new();
    let mut expected = Vec::new();
    for (sample, limit, sockets) in reports {
        samples.push(sample);
        expected.push((limit, sockets));
    }
    for ((sample, (limit, sockets)), judged) in samples.iter().zip(expected).zip(by_schema(python, &samples))
    {
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
        if limit == LIMITS[1] {
            assert_eq!(document["custom_metrics"], custom_document(), "{}", sample.name);
        }
        if limit == LIMITS[1] && sockets.established_total == 1 {
            assert_eq!(
                established["connections"],
                json!([{"local_interface": "eth0", "local_port": 1024, "remote_addr": "198.51.100.7:1"}])
            );
        }
    }
}

#[test]
fn every_encoding_says_the_same() {
    let Some(python) = python() else { return };
    let custom = custom();
    let sockets = snapshot(50);
    let input = ReportInput {
        report_id: 1_790_000_000,
        network: None,
        sockets: Some(&sockets),
        custom: &custom,
    };
    let samples: Vec<Sample> = encodings()
        .map(|encoding| sample(format!("{encoding:?}"), &input, encoding, LIMITS[1]))
        .collect();
    // Lists are in no order; everything fits, so they are equal as sets.
    let said: Vec<Value> = by_schema(python, &samples)
        .into_iter()
        .map(|judged| sorted(judged.unwrap()))
        .collect();
    assert_eq!(
        said[0]["metrics"]["tcp_connections"]["established_connections"]["total"],
        50
    );
    for (sample, document) in samples.iter().zip(&said) {
        assert_eq!(document, &said[0], "{}", sample.name);
    }
}

/// The document with every list of connections and ports in order.
fn sorted(mut document: Value) -> Value {
    for pointer in [
        "/metrics/listening_tcp_ports/ports",
        "/metrics/listening_udp_ports/ports",
        "/metrics/tcp_connections/established_connections/connections",
    ] {
        let list = document
            .pointer_mut(pointer)
            .and_then(Value::as_array_mut)
            .unwrap();
        list.sort_by_key(Value::to_string);
    }
    document
}

#[test]
fn a_report_without_anything_collected_has_no_list_that_would_clear_an_alarm() {
    let Some(python) = python() else { return };
    let input = ReportInput {
        report_id: 1,
        network: None,
        sockets: None,
        custom: &[],
    };
    let samples: Vec<Sample> = encodings()
        .map(|encoding| sample("nothing".to_owned(), &input, encoding, LIMITS[2]))
        .collect();
    let expected = json!({"header": {"report_id": 1, "version": "1.0"}, "metrics": {}});
    for (sample, judged) in samples.iter().zip(by_schema(python, &samples)) {
        assert_eq!(by_intake(sample), Ok(()));
        assert_eq!(judged, Ok(expected.clone()));
    }
}
