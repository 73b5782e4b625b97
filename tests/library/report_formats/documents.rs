//! Hand-made reports: the specification's example, and each of its rules broken once.
//!
//! In: nothing. Out: documents with long names, and [`shorten`] for the same with short ones. Written from the
//! specification, not from Edgewarden's types.

use serde_json::{Map, Value, json};

/// The specification's table, long and short.
const NAMES: [(&str, &str); 22] = [
    ("header", "hed"),
    ("report_id", "rid"),
    ("version", "v"),
    ("metrics", "met"),
    ("custom_metrics", "cmet"),
    ("tcp_connections", "tc"),
    ("established_connections", "ec"),
    ("connections", "cs"),
    ("remote_addr", "rad"),
    ("local_port", "lp"),
    ("local_interface", "li"),
    ("total", "t"),
    ("listening_tcp_ports", "tp"),
    ("listening_udp_ports", "up"),
    ("ports", "pts"),
    ("port", "pt"),
    ("interface", "if"),
    ("network_stats", "ns"),
    ("bytes_in", "bi"),
    ("bytes_out", "bo"),
    ("packets_in", "pi"),
    ("packets_out", "po"),
];

/// The same document with short names; names inside custom metrics stay.
pub(crate) fn shorten(document: &Value) -> Value {
    match document {
        Value::Array(items) => items.iter().map(shorten).collect(),
        Value::Object(fields) => Value::Object(fields.iter().map(short_field).collect()),
        other => other.clone(),
    }
}

fn short_field((name, value): (&String, &Value)) -> (String, Value) {
    let short = NAMES.iter().find(|(long, _)| long == name);
    let short = short.map_or(name.as_str(), |(_, short)| short);
    let value = if name == "custom_metrics" {
        value.clone()
    } else {
        shorten(value)
    };
    (short.to_owned(), value)
}

/// A report with everything that the specification knows.
pub(crate) fn full() -> Value {
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
            "cpu": [{"number": 7.5}],
            "total": [{"number_list": [8100, -900, 0.5]}],
            "names:of_some-kind": [{"string_list": ["curl", ""]}],
            "remotes": [{"ip_list": ["192.0.2.3", "2001:db8::1"]}],
        },
    })
}

/// A report with the value at this pointer set; `None` takes the field away.
fn with(pointer: &str, value: Option<Value>) -> Value {
    let mut document = full();
    let (parent, field) = pointer.rsplit_once('/').unwrap();
    let parent = document.pointer_mut(parent).unwrap();
    match (field.parse::<usize>(), value) {
        (Ok(index), Some(value)) => parent[index] = value,
        (_, Some(value)) => parent[field] = value,
        (_, None) => drop(
            parent
                .as_object_mut()
                .and_then(|parent| parent.remove(field))
                .unwrap(),
        ),
    }
    document
}

/// Reports that keep to the specification, each named by what is special about it.
pub(crate) fn good() -> Vec<(String, Value)> {
    let changes = [
        ("/metrics", None),
        ("/custom_metrics", None),
        ("/metrics/network_stats", None),
        ("/metrics/network_stats/bytes_in", None),
        ("/metrics/listening_tcp_ports/total", None),
        ("/metrics/listening_tcp_ports/ports", None),
        ("/metrics/listening_tcp_ports/ports/0/port", None),
        ("/metrics/tcp_connections/established_connections", None),
        ("/metrics", Some(json!({}))),
        ("/metrics/listening_tcp_ports/ports", Some(json!([]))),
        ("/header/version", Some(json!("1.12"))),
        ("/custom_metrics/remotes/0/ip_list", Some(json!([]))),
        ("/custom_metrics", Some(json!({}))),
    ];
    let mut reports = changed(&changes);
    reports.push(("full".to_owned(), full()));
    reports
}

/// A place in the report and what is put there.
type Change<'a> = (&'a str, Option<Value>);

/// The full report after each of these changes, named by it.
fn changed(changes: &[Change<'_>]) -> Vec<(String, Value)> {
    let change = |(pointer, value): &Change<'_>| {
        let name = format!("{pointer} {value:?}");
        (name, with(pointer, value.clone()))
    };
    changes.iter().map(change).collect()
}

/// Custom metrics with one fault each.
fn bad_custom() -> [Change<'static>; 15] {
    [
        ("/custom_metrics", Some(json!([]))),
        ("/custom_metrics/a b", Some(json!([{"number": 1}]))),
        ("/custom_metrics/aws:cpu", Some(json!([{"number": 1}]))),
        ("/custom_metrics/x", Some(json!({"number": 1}))),
        ("/custom_metrics/x", Some(json!([]))),
        ("/custom_metrics/x", Some(json!([{}]))),
        ("/custom_metrics/x", Some(json!([{"number": 1}, {"number": 2}]))),
        ("/custom_metrics/x", Some(json!([{"number": 1, "ip_list": []}]))),
        ("/custom_metrics/x", Some(json!([{"number": "1"}]))),
        ("/custom_metrics/x", Some(json!([{"number": true}]))),
        ("/custom_metrics/x", Some(json!([{"number_list": [1, "2"]}]))),
        ("/custom_metrics/x", Some(json!([{"string_list": [1]}]))),
        ("/custom_metrics/x", Some(json!([{"ip_list": ["192.0.2.0/24"]}]))),
        ("/custom_metrics/x", Some(json!([{"ip_list": ["gateway"]}]))),
        ("/custom_metrics/x", Some(json!([{"strings": []}]))),
    ]
}

/// Reports with one fault each, named by it.
pub(crate) fn bad() -> Vec<(String, Value)> {
    let remote = "/metrics/tcp_connections/established_connections/connections/0/remote_addr";
    let stats = "/metrics/network_stats";
    let ports = "/metrics/listening_udp_ports";
    let changes = [
        ("/header", None),
        ("/header/report_id", None),
        ("/header/version", None),
        (remote, None),
        ("/header/report_id", Some(json!(0))),
        ("/header/report_id", Some(json!(-1))),
        ("/header/report_id", Some(json!(1.0))),
        ("/header/report_id", Some(json!("1"))),
        ("/header/report_id", Some(json!(u64::MAX))),
        ("/header/version", Some(json!(1.0))),
        ("/header/version", Some(json!("1"))),
        ("/header/version", Some(json!("2.0"))),
        ("/header/thing", Some(json!("gw"))),
        ("/uptime", Some(json!(5))),
        ("/metrics", Some(json!([]))),
        ("/metrics/cpu", Some(json!(1))),
        ("/metrics/network_stats", Some(json!(null))),
        (&format!("{stats}/bytes_out"), Some(json!(-1))),
        (&format!("{stats}/bytes_out"), Some(json!(1.0))),
        (&format!("{stats}/bytes_out"), Some(json!(true))),
        (&format!("{stats}/errors"), Some(json!(1))),
        (&format!("{ports}/total"), Some(json!(-1))),
        (&format!("{ports}/ports"), Some(json!({}))),
        (&format!("{ports}/ports/0"), Some(json!(53))),
        (&format!("{ports}/ports/0/port"), Some(json!(0))),
        (&format!("{ports}/ports/0/port"), Some(json!(65_536))),
        (&format!("{ports}/ports/0/port"), Some(json!("53"))),
        (&format!("{ports}/ports/0/interface"), Some(json!(null))),
        (&format!("{ports}/ports/0/interface"), Some(json!(""))),
        (remote, Some(json!(443))),
        (remote, Some(json!("192.0.2.3"))),
        (remote, Some(json!("192.0.2.3:0"))),
        (remote, Some(json!("192.0.2.3:65536"))),
        (remote, Some(json!("192.0.2.300:443"))),
        (remote, Some(json!("2001:db8::1:443"))),
        (remote, Some(json!("[2001:db8::1]"))),
        (remote, Some(json!("example.com:443"))),
    ];
    let mut reports = changed(&changes);
    reports.extend(changed(&bad_custom()));
    reports.push(("header alone".to_owned(), json!({"header": full()["header"]})));
    reports.push(("no object".to_owned(), json!([full()])));
    reports
}

/// Reports that mix both sets of names, which neither schema takes.
pub(crate) fn mixed() -> Vec<(String, Value)> {
    let short = shorten(&full());
    let mixes = [
        ("", "hed"),
        ("", "met"),
        ("", "cmet"),
        ("/metrics", "ns"),
        ("/metrics", "tc"),
    ];
    let mut reports: Vec<_> = mixes
        .iter()
        .map(|(parent, name)| {
            let mut document = full();
            let mut value = short.get(name).or_else(|| short["met"].get(name)).cloned();
            document.pointer_mut(parent).unwrap()[*name] = value.take().unwrap();
            (format!("{parent}/{name}"), document)
        })
        .collect();
    let both: Map<String, Value> = [full(), short]
        .into_iter()
        .filter_map(|document| document.as_object().cloned())
        .flatten()
        .collect();
    reports.push(("everything twice".to_owned(), Value::Object(both)));
    reports
}
