//! The documented examples, every rule broken once, and the memory of past reports.

mod over_time;

use serde_json::{Value, json};

use super::*;

const NOW: u64 = 1_790_000_000_000;

/// The reference's full example, long names.
fn long() -> Value {
    json!({
        "header": {"report_id": 1_790_000_000, "version": "1.0"},
        "metrics": {
            "listening_tcp_ports": {"ports": [{"interface": "eth0", "port": 22}, {"interface": "0.0.0.0", "port": 1883}], "total": 2},
            "listening_udp_ports": {"ports": [{"port": 5353}], "total": 1},
            "network_stats": {"bytes_in": 18342, "bytes_out": 9120, "packets_in": 212, "packets_out": 175},
            "tcp_connections": {"established_connections": {"connections": [
                {"local_interface": "eth0", "local_port": 49812, "remote_addr": "192.0.2.3:8883"},
                {"local_interface": "eth0", "local_port": 50022, "remote_addr": "[2001:db8::1]:443"},
            ], "total": 7}},
        },
        "custom_metrics": {
            "dd_cpu_percent": [{"number": 7.5}],
            "dd_negative": [{"number": -1}],
            "dd_top_process_bytes_out": [{"number_list": [8100, 900, 120]}],
            "dd_top_process_names": [{"string_list": ["curl", "nucleus", "sshd"]}],
            "dd_remote_ips": [{"ip_list": ["192.0.2.3", "2001:db8::1"]}],
        },
    })
}

/// The reference's example, short names.
fn short() -> Value {
    json!({
        "hed": {"rid": 1_790_000_000, "v": "1.0"},
        "met": {
            "tp": {"pts": [{"if": "eth0", "pt": 22}], "t": 1},
            "up": {"pts": [{"pt": 5353}], "t": 1},
            "ns": {"bi": 18342, "bo": 9120, "pi": 212, "po": 175},
            "tc": {"ec": {"cs": [{"li": "eth0", "lp": 49812, "rad": "192.0.2.3:8883"}], "t": 7}},
        },
        "cmet": {"dd_cpu_percent": [{"number": 7.5}]},
    })
}

fn judge(document: &Value) -> Verdict {
    Ingest::new(300).handle("gw-1", Format::Json, document.to_string().as_bytes(), NOW)
}

/// The document with the value at `pointer` replaced, or the field added.
fn with(mut document: Value, pointer: &str, value: Value) -> Value {
    let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
    let parent = document.pointer_mut(parent).expect("the parent exists");
    match field.parse::<usize>() {
        Ok(index) => parent[index] = value,
        Err(_) => parent[field] = value,
    }
    document
}

fn without(mut document: Value, pointer: &str) -> Value {
    let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
    let parent = document
        .pointer_mut(parent)
        .and_then(Value::as_object_mut)
        .expect("the parent exists");
    parent.remove(field).expect("the field exists");
    document
}

#[test]
fn the_documented_examples_are_accepted_and_their_values_go_to_detect() {
    let (first, second) = ("192.0.2.3", "2001:db8::1");
    for (document, tcp_ports, remotes) in [
        (long(), vec![22, 1883], vec![first, second]),
        (short(), vec![22], vec![first]),
    ] {
        let mut expected = BTreeMap::from(
            [
                (Metric::AllBytesIn, 18342),
                (Metric::AllBytesOut, 9120),
                (Metric::AllPacketsIn, 212),
                (Metric::AllPacketsOut, 175),
                (Metric::NumEstablishedTcpConnections, 7),
                (Metric::NumListeningTcpPorts, tcp_ports.len() as u64),
                (Metric::NumListeningUdpPorts, 1),
            ]
            .map(|(metric, count)| (metric, MetricValue::Count(count))),
        );
        let remotes = remotes.iter().map(|remote| remote.parse().expect("an address"));
        expected.extend([
            (Metric::ListeningTcpPorts, MetricValue::Ports(tcp_ports)),
            (Metric::ListeningUdpPorts, MetricValue::Ports(vec![5353])),
            (
                Metric::DestinationIpAddresses,
                MetricValue::Addresses(remotes.collect()),
            ),
        ]);
        for format in Format::ALL {
            let bytes = format.encode(&document);
            let verdict = Ingest::new(300).handle("gw-1", format, &bytes, NOW);
            let Verdict::Accepted {
                report_id,
                mut values,
            } = verdict
            else {
                panic!("{format:?}: {verdict:?}")
            };
            assert_eq!(report_id, 1_790_000_000);
            values.retain(|metric, _| !matches!(metric, Metric::Custom(_)));
            assert_eq!(values, expected, "{format:?}");
        }
    }
}

#[test]
fn custom_metrics_reach_detect_with_their_types() {
    let Verdict::Accepted { values, .. } = judge(&long()) else {
        panic!("accepted")
    };
    let addresses = ["192.0.2.3", "2001:db8::1"].map(|address| address.parse().expect("an address"));
    let texts = ["curl", "nucleus", "sshd"].map(str::to_owned);
    for (name, expected) in [
        ("dd_cpu_percent", MetricValue::Number(7.5)),
        ("dd_negative", MetricValue::Number(-1.0)),
        (
            "dd_top_process_bytes_out",
            MetricValue::Numbers(vec![8100.0, 900.0, 120.0]),
        ),
        ("dd_top_process_names", MetricValue::Strings(texts.to_vec())),
        ("dd_remote_ips", MetricValue::Addresses(addresses.to_vec())),
    ] {
        assert_eq!(values.get(&Metric::Custom(name.to_owned())), Some(&expected));
    }
}

#[test]
fn what_is_optional_may_be_left_out() {
    for document in [
        without(long(), "/metrics"),
        without(long(), "/custom_metrics"),
        with(long(), "/metrics", json!({})),
        without(long(), "/metrics/network_stats/bytes_in"),
        without(long(), "/metrics/listening_tcp_ports/total"),
        without(long(), "/metrics/listening_tcp_ports/ports"),
        without(long(), "/metrics/listening_tcp_ports/ports/0/port"),
        without(long(), "/metrics/tcp_connections/established_connections"),
        without(
            long(),
            "/metrics/tcp_connections/established_connections/connections/0/local_port",
        ),
        with(long(), "/metrics/listening_tcp_ports/ports", json!([])),
        with(long(), "/header/version", json!("1.12")),
        with(long(), "/metrics/network_stats/bytes_out", json!(0)),
        with(long(), "/custom_metrics/dd_remote_ips/0/ip_list", json!([])),
    ] {
        let verdict = judge(&document);
        assert!(matches!(verdict, Verdict::Accepted { .. }), "{verdict:?}");
    }
}

#[test]
fn a_list_without_total_counts_its_entries_and_an_absent_block_counts_nothing() {
    let document = without(
        without(long(), "/metrics/tcp_connections/established_connections/total"),
        "/metrics/listening_udp_ports",
    );
    let Verdict::Accepted { values, .. } = judge(&document) else {
        panic!("accepted")
    };
    assert_eq!(
        values.get(&Metric::NumEstablishedTcpConnections),
        Some(&MetricValue::Count(2))
    );
    assert_eq!(values.get(&Metric::NumListeningUdpPorts), None);
}

/// A report with one fault, and words the refusal must have.
type Broken = (Value, &'static str);

/// The long example with one value replaced or added.
fn set(pointer: &str, value: Value, expected: &'static str) -> Broken {
    (with(long(), pointer, value), expected)
}

/// The long example with one field taken away.
fn cut(pointer: &str, expected: &'static str) -> Broken {
    (without(long(), pointer), expected)
}

fn assert_refused(table: impl IntoIterator<Item = Broken>) {
    for (document, expected) in table {
        match judge(&document) {
            Verdict::Rejected {
                code: "InvalidPayload",
                message: MALFORMED,
                detail,
                ..
            } => {
                assert!(detail.contains(expected), "expected {expected:?} in {detail:?}");
            }
            verdict => panic!("expected {expected:?}, got {verdict:?}"),
        }
    }
}

#[test]
fn names_are_documented_and_never_mixed() {
    assert_refused([
        (json!([]), "header (or hed) is required"),
        cut("/header", "header (or hed) is required"),
        set("/hed", json!({}), "may not be mixed"),
        set(
            "/met",
            json!({}),
            "report: the field met is not expected: long and short",
        ),
        (
            with(short(), "/metrics", json!({})),
            "report: the field metrics is not expected: long and short",
        ),
        (
            with(short(), "/met/ns/bytes_in", json!(1)),
            "met.ns: the field bytes_in is not expected: long and short",
        ),
        (
            with(short(), "/met/tp/pts/0/interface", json!("eth0")),
            "met.tp.pts[0]: the field interface",
        ),
        set(
            "/uptime",
            json!(1),
            "report: the field uptime is not expected: it is not documented",
        ),
        set("/header/thing", json!("x"), "header: the field thing"),
        set("/metrics/cpu", json!(1), "metrics: the field cpu"),
    ]);
}

#[test]
fn the_header_has_a_positive_id_and_a_version() {
    assert_refused([
        cut("/header/report_id", "header: the field report_id is required"),
        set("/header/report_id", json!("1"), "header.report_id: an integer"),
        set("/header/report_id", json!(0), "header.report_id: an integer"),
        set("/header/report_id", json!(-5), "header.report_id: an integer"),
        set("/header/report_id", json!(1.5), "header.report_id: an integer"),
        set(
            "/header/report_id",
            json!(u64::MAX),
            "header.report_id: an integer",
        ),
        cut("/header/version", "header: the field version is required"),
        set("/header/version", json!(1.0), "header.version: a string"),
        set(
            "/header/version",
            json!("1"),
            "header.version: a string Major.Minor",
        ),
        set(
            "/header/version",
            json!("1.0.0"),
            "header.version: a string Major.Minor",
        ),
        set(
            "/header/version",
            json!("v1.0"),
            "header.version: a string Major.Minor",
        ),
        set("/header/version", json!("2.0"), "header.version: major version 1"),
    ]);
}

#[test]
fn metrics_have_the_documented_types_and_ranges() {
    let stats = "/metrics/network_stats";
    let ports = "/metrics/listening_tcp_ports";
    assert_refused([
        (
            without(without(long(), "/metrics"), "/custom_metrics"),
            "at least one of metrics",
        ),
        set("/metrics", json!(null), "metrics: an object"),
        set(
            &format!("{stats}/bytes_out"),
            json!(-1),
            "metrics.network_stats.bytes_out: an integer",
        ),
        set(
            &format!("{stats}/bytes_out"),
            json!("9"),
            "metrics.network_stats.bytes_out: an integer",
        ),
        set(stats, json!([]), "metrics.network_stats: an object"),
        set(
            &format!("{ports}/total"),
            json!(-1),
            "listening_tcp_ports.total: an integer",
        ),
        set(
            &format!("{ports}/ports"),
            json!({}),
            "listening_tcp_ports.ports: a list",
        ),
        set(
            &format!("{ports}/ports/0/port"),
            json!(0),
            "ports[0].port: an integer from 1 to 65535",
        ),
        set(
            &format!("{ports}/ports/1/port"),
            json!(65536),
            "ports[1].port: an integer",
        ),
        set(
            &format!("{ports}/ports/1/interface"),
            json!(1),
            "ports[1].interface: a string",
        ),
    ]);
}

#[test]
fn connections_have_an_address_with_port() {
    let at = |field: &str| format!("/metrics/tcp_connections/established_connections/connections/0/{field}");
    let remote = |value: &str| {
        set(
            &at("remote_addr"),
            json!(value),
            "connections[0].remote_addr: ip:port",
        )
    };
    assert_refused([
        set(&at("pid"), json!(1), "connections[0]: the field pid"),
        cut(
            &at("remote_addr"),
            "connections[0]: the field remote_addr is required",
        ),
        set(
            &at("remote_addr"),
            json!(5),
            "connections[0].remote_addr: a string",
        ),
        remote("192.0.2.3"),
        remote("192.0.2.3:0"),
        remote("192.0.2.3:65536"),
        remote("2001:db8::1:443"),
        remote("broker:443"),
        set(&at("local_port"), json!(-1), "local_port: an integer"),
        set(&at("local_interface"), json!(""), "local_interface: a string"),
    ]);
}

#[test]
fn custom_metrics_are_a_list_of_one_typed_value() {
    let x = |value: Value, expected| set("/custom_metrics/x", value, expected);
    assert_refused([
        set("/custom_metrics", json!([]), "custom_metrics: an object"),
        set(
            "/custom_metrics/a b",
            json!([{"number": 1}]),
            "custom_metrics.a b: a name",
        ),
        set(
            "/custom_metrics/aws:cpu",
            json!([{"number": 1}]),
            "custom_metrics.aws:cpu: a name",
        ),
        x(
            json!({"number": 0}),
            "custom_metrics.x: an array with exactly one",
        ),
        x(json!([]), "custom_metrics.x: an array with exactly one"),
        x(
            json!([{"number": 0}, {"number": 1}]),
            "custom_metrics.x: an array",
        ),
        x(
            json!([{"number": 0, "string_list": []}]),
            "custom_metrics.x: exactly one",
        ),
        x(json!([{}]), "custom_metrics.x: exactly one of"),
        x(json!([{"number": "5"}]), "custom_metrics.x.number: a number"),
        x(
            json!([{"number_list": [1, "2"]}]),
            "x.number_list: a list of numbers",
        ),
        x(json!([{"string_list": [1]}]), "x.string_list: a list of strings"),
        x(json!([{"ip_list": ["10.0.0.0/8"]}]), "x.ip_list: a list of IP"),
        x(json!([{"float": 1}]), "custom_metrics.x.float: one of"),
    ]);
}

#[test]
fn cbor_is_checked_like_json_and_floats_are_no_integers() {
    let cbor = |document: &Value| {
        let bytes = Format::Cbor.encode(document);
        match Ingest::new(300).handle("gw-1", Format::Cbor, &bytes, NOW) {
            Verdict::Accepted { .. } => "accepted".to_owned(),
            Verdict::Rejected { detail, .. } => detail,
        }
    };
    assert_eq!(cbor(&short()), "accepted", "control");
    for (pointer, value, expected) in [
        ("/hed/rid", json!(1_790_000_000.0), "hed.rid: an integer"),
        ("/met/ns/bo", json!(1.0), "met.ns.bo: an integer"),
        ("/met/tp/pts/0/pt", json!(22.0), "met.tp.pts[0].pt: an integer"),
        ("/met/tp/t", json!(1.0), "met.tp.t: an integer"),
        ("/met/ns/bytes_in", json!(1), "may not be mixed"),
        ("/cmet/x", json!({"number": 0}), "an array with exactly one"),
    ] {
        let refused = cbor(&with(short(), pointer, value));
        assert!(refused.contains(expected), "{refused}");
    }
}

#[test]
fn bytes_that_are_no_report_are_refused_without_an_id() {
    let oversized = with(
        long(),
        "/custom_metrics/x",
        json!([{"string_list": ["y".repeat(MAX_REPORT_BYTES)]}]),
    );
    for (payload, expected) in [
        (b"".to_vec(), "not JSON"),
        (b"{\"header\"".to_vec(), "not JSON"),
        (b"\xff\xfe".to_vec(), "not JSON"),
        (oversized.to_string().into_bytes(), "at most 131072"),
    ] {
        match Ingest::new(0).handle("gw-1", Format::Json, &payload, NOW) {
            Verdict::Rejected {
                report_id: None,
                code: "InvalidPayload",
                message: MALFORMED,
                detail,
            } => {
                assert!(detail.contains(expected), "{detail}");
            }
            verdict => panic!("{verdict:?}"),
        }
    }
}

#[test]
fn a_report_of_exactly_the_limit_is_accepted_and_reasons_stay_short() {
    let frame = with(long(), "/custom_metrics/x", json!([{"string_list": [""]}]))
        .to_string()
        .len();
    let filler = "y".repeat(MAX_REPORT_BYTES - frame);
    let full = with(long(), "/custom_metrics/x", json!([{"string_list": [filler]}]));
    assert!(matches!(judge(&full), Verdict::Accepted { .. }));
    let long_name = format!("/{}", "é".repeat(5_000));
    let Verdict::Rejected { detail, .. } = judge(&with(long(), &long_name, json!(1))) else {
        panic!("refused")
    };
    assert!(detail.len() <= MAX_DETAIL_BYTES, "{}", detail.len());
}
