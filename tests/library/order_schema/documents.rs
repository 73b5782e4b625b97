//! Orders for the judges, right and wrong. Pure; the same in every run.

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

/// Times that the reader takes and the schema does not.
pub(crate) const TIMES: [&str; 3] = [
    "2026-11-25 00:00:00Z",
    "2026-11-25t00:00:00z",
    "2028-02-29T00:00:00Z",
];

/// Blocks that the reader takes and the schema does not.
pub(crate) const BLOCKS: [&str; 4] = [
    "192.0.002.0/24",
    "192.0.2.0/08",
    "1:2:3:4::5:6:7:8/64",
    "2001:db8::/032",
];

/// Whether a text is spelled as one of [`BLOCKS`]: zeros before a number of an address or a length, or a `::` that
/// stands for nothing; the reader takes these with a length only.
pub(crate) fn is_loose(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else {
        return false;
    };
    let v4 = address.rsplit(':').next().filter(|tail| tail.contains('.'));
    let numbers = v4.into_iter().flat_map(|tail| tail.split('.')).chain([length]);
    let zeros = numbers
        .filter(|number| number.len() > 1)
        .any(|number| number.starts_with('0'));
    let groups = address.split(':').filter(|group| !group.is_empty()).count() + usize::from(v4.is_some());
    zeros || (address.contains("::") && groups == 8)
}

/// An order that says everything.
fn full() -> Value {
    json!({
        "id": "inc-17", "posture": "restrict", "reason": "bytes out", "expires": "2026-11-25T00:00:00Z",
        "allow": [{"remote": "198.51.100.7/32", "protocol": "tcp", "ports": [22, 443], "direction": "in"}],
        "block": {
            "remotes": ["203.0.113.0/24", {"remote": "2001:db8::7", "expires": "2026-11-25T00:00:00Z"}],
            "ports": [{"protocol": "udp", "port": 19}],
        },
        "limit": {"egressBytesPerSecond": 20000, "quotaBytes": 50_000_000, "quotaPeriodSeconds": 86400},
        "processes": [{"match": {"exe": "/usr/bin/rogue", "name": "rogue"}, "action": "kill"}],
    })
}

/// Orders that say little.
fn small() -> Vec<Value> {
    vec![
        json!({"posture": "normal"}),
        json!({"posture": "isolate"}),
        json!({"posture": "restrict"}),
        json!({"posture": "restrict", "block": {}}),
        json!({"posture": "restrict", "block": {"remotes": [], "ports": []}, "processes": []}),
        json!({"posture": "restrict", "block": {"remotes": ["192.0.2.1"]}}),
        json!({"posture": "restrict", "block": {"ports": [{"protocol": "tcp", "port": 1}]}}),
        json!({"posture": "restrict", "limit": {"egressBytesPerSecond": 1500}}),
        json!({"posture": "restrict", "limit": {"quotaBytes": 1, "quotaPeriodSeconds": 60}}),
        json!({"posture": "restrict", "limit": null}),
        json!({"posture": "restrict", "limit": {}}),
        json!({"posture": "isolate", "limit": {"quotaPeriodSeconds": 60}}),
        json!({"posture": "restrict", "processes": [{"match": {"name": "abc"}, "action": "freeze"}]}),
        json!({"posture": "restrict", "processes": [{"match": {"exe": "*", "name": "*a*b?c/"}, "action": "freeze"}]}),
        json!({"posture": "restrict", "processes": [{"match": {"exe": "*/ab", "name": "*"}, "action": "freeze"}]}),
    ]
}

/// Texts and numbers that take any value's place.
const TEXTS: [&str; 32] = [
    "",
    "a",
    "ab",
    "abc",
    "*",
    "***a",
    "*a*b*c",
    "/a/b",
    "normal",
    "restrict",
    "isolate",
    "Isolate",
    "tcp",
    "udp",
    "icmp",
    "in",
    "out",
    "freeze",
    "kill",
    "true",
    "22",
    "192.0.2.1",
    "192.0.2.0/24",
    "2001:db8::/32",
    "2026-11-25T00:00:00Z",
    "\u{7f}bc",
    "a\nbc",
    "abc\n",
    "\u{9f}abc",
    "\u{a0}abc",
    "ö漢字",
    "\u{1f4a9}",
];
const NUMBERS: [&str; 18] = [
    "0",
    "-1",
    "1",
    "59",
    "60",
    "1499",
    "1500",
    "65535",
    "65536",
    "22.0",
    "22.5",
    "1e3",
    "1e400",
    "31622400",
    "31622401",
    "1125899906842624",
    "1125899906842625",
    "18446744073709551616",
];

/// Values that take any value's place.
fn palette() -> Vec<Value> {
    // A number that is none to serde is none to anybody.
    let numbers = NUMBERS.iter().filter_map(|text| serde_json::from_str(text).ok());
    let lengths = [64, 65, 256, 257, 512, 513];
    let long = lengths
        .into_iter()
        .flat_map(|length| ["x", "漢"].map(|one| json!(one.repeat(length))));
    let others = [
        json!(null),
        json!(true),
        json!(false),
        json!([]),
        json!({}),
        json!([1]),
        json!([null]),
        json!(["abc"]),
        json!({"a": 1}),
        json!([{}]),
        json!([22]),
        json!([0]),
        json!([22, 22]),
    ];
    TEXTS
        .iter()
        .map(|text| json!(text))
        .chain(numbers)
        .chain(long)
        .chain(others)
        .collect()
}

/// Where something is in a document.
fn places(value: &Value, here: &str, all: &mut Vec<String>) {
    all.push(here.to_owned());
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                places(inner, &format!("{here}/{key}"), all);
            }
        }
        Value::Array(items) => {
            for (index, inner) in items.iter().enumerate() {
                places(inner, &format!("{here}/{index}"), all);
            }
        }
        _ => {}
    }
}

/// The same without what is there.
fn without(document: &Value, place: &str) -> Option<Value> {
    let (parent, key) = place.rsplit_once('/')?;
    let mut changed = document.clone();
    match changed.pointer_mut(parent)? {
        Value::Object(map) => drop(map.remove(key)?),
        Value::Array(items) => drop(items.remove(key.parse().ok()?)),
        _ => return None,
    }
    Some(changed)
}

/// Every order with every value at every place, without every value, and with a key too many at every place.
pub(crate) fn changed() -> Vec<Value> {
    let palette = palette();
    let mut all = Vec::new();
    for document in small().into_iter().chain([full()]) {
        let mut found = Vec::new();
        places(&document, "", &mut found);
        for place in found {
            all.extend(palette.iter().map(|value| {
                let mut changed = document.clone();
                if let Some(slot) = changed.pointer_mut(&place) {
                    *slot = value.clone();
                }
                changed
            }));
            all.extend(without(&document, &place));
            let mut more = document.clone();
            if let Some(Value::Object(map)) = more.pointer_mut(&place) {
                map.insert("extra".to_owned(), json!(1));
                all.push(more);
            }
        }
        for key in ["components", "evidence", "limit", "id", "Posture"] {
            let mut more = document.clone();
            more[key] = json!({});
            all.push(more);
        }
        all.push(document);
    }
    all
}

/// As many as wanted of a strategy, the same in every run.
fn some<T: std::fmt::Debug>(strategy: impl Strategy<Value = T>, count: usize) -> Vec<T> {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let new = |_| strategy.new_tree(&mut runner).unwrap().current();
    (0..count).map(new).collect()
}

/// Addresses and blocks, nearly so, and not at all.
pub(crate) fn networks() -> Vec<String> {
    let group = prop_oneof![8 => "[0-9a-fA-F]{1,4}", 1 => "[0-9a-f]{5}", 3 => Just(String::new())];
    let v4 = prop::collection::vec(
        prop_oneof![6 => "[0-9]{1,2}", 3 => "[12][0-9]{2}", 1 => "0[0-9]{1,2}"],
        3..=5,
    )
    .prop_map(|parts| parts.join("."));
    let v4 = prop_oneof![6 => v4, 6 => any::<std::net::Ipv4Addr>().prop_map(|address| address.to_string())];
    let v6 = (
        prop::collection::vec(group, 2..=9),
        prop_oneof![5 => Just(None), 1 => v4.clone().prop_map(Some)],
    )
        .prop_map(|(mut groups, tail)| {
            groups.extend(tail);
            groups.join(":")
        });
    let v6 = prop_oneof![8 => v6, 4 => any::<std::net::Ipv6Addr>().prop_map(|address| address.to_string())];
    let length = prop_oneof![
        4 => Just(String::new()),
        4 => (0..=130_u8).prop_map(|length| format!("/{length}")),
        1 => "/[0-9]{0,4}",
        1 => "/[+-]?[0-9a]{1,2}",
    ];
    let around = prop_oneof![20 => Just(String::new()), 1 => "[ \n%/:.x]"];
    let text = (around.clone(), prop_oneof![v4, v6], length, around)
        .prop_map(|(before, address, length, after)| format!("{before}{address}{length}{after}"));
    let known = [
        "::",
        "::/0",
        "::1",
        ":::",
        "1::2::3",
        "1:2:3:4:5:6:7::",
        "::1:2:3:4:5:6:7",
        "1:2:3:4:5:6:7::8",
        "::ffff:1.2.3.4",
        "::ffff:1.2.3.4/96",
        "::ffff:1.2.3.4/95",
        "1:2:3:4:5:6:1.2.3.4",
        "1:2:3:4:5::1.2.3.4",
        "1:2:3:4:5:6::1.2.3.4",
        "1:2:3:4:5:6:7:1.2.3.4",
        "::1.2.3.4:5",
        "1.2.3.4::",
        "fe80::1%eth0",
        "0.0.0.0/0",
        "192.0.2.1/33",
        "localhost",
    ];
    known
        .into_iter()
        .map(str::to_owned)
        .chain(some(text, 8_000))
        .collect()
}

/// Times as the schema writes them, right and wrong.
pub(crate) fn times() -> Vec<String> {
    let number = |width: usize, most: u32| (0..=most).prop_map(move |number| format!("{number:0width$}"));
    let zone = prop_oneof![
        3 => Just("Z".to_owned()),
        1 => Just(String::new()),
        2 => "[+-]([01][0-9]|2[0-3]):[0-5][0-9]",
        1 => prop_oneof!["[xy]", "[+-][0-9]:00", "[+-]2[4-9]:00", "[+-]00:[6-9][0-9]"],
    ];
    let fraction = prop_oneof![4 => Just(String::new()), 2 => "\\.[0-9]{1,9}", 1 => "[.,][0-9]{10,11}", 1 => Just(".".to_owned())];
    let date = ("[0-9]{4}", number(2, 13), number(2, 32));
    let time = (number(2, 24), number(2, 60), number(2, 61));
    let text = (date, time, fraction, zone).prop_map(
        |((year, month, day), (hour, minute, second), fraction, zone)| {
            format!("{year}-{month}-{day}T{hour}:{minute}:{second}{fraction}{zone}")
        },
    );
    // 29 February is left to [`TIMES`]: what year has one is no matter for a pattern, nor when a minute has 61 seconds.
    let text = text.prop_filter("no leap day, no leap second", |text| {
        &text[4..10] != "-02-29" && &text[17..19] != "60"
    });
    let known = [
        "2026-11-25T00:00:00Z\n",
        " 2026-11-25T00:00:00Z",
        "2026-11-25",
        "00:00:00Z",
        "now",
        "2026-11-25T24:00:00Z",
        "2026-11-25T00:00Z",
        "2026-11-25T00:00:00+0100",
        "2026-11-25T00:00:00.5+01",
        "2026-11-25T00:00:00+24:00",
        "2026-11-25T00:00:00,5Z",
        "20261125T000000Z",
        "9999-12-31T23:59:59Z",
        "9999-12-31T23:59:59.9999999999-23:59",
        "2098-12-31T23:59:60Z",
    ];
    known
        .into_iter()
        .map(str::to_owned)
        .chain(some(text, 4_000))
        .collect()
}

/// An order that blocks so many remotes.
pub(crate) fn blocking(count: u32) -> Value {
    let remote = |n: u32| json!(std::net::Ipv4Addr::from(0x0A00_0000 + n).to_string());
    json!({"posture": "restrict", "block": {"remotes": (0..count).map(remote).collect::<Vec<_>>()}})
}

/// Lists as long as they may be, and longer by one.
pub(crate) fn long() -> Vec<Value> {
    let allowance = json!({"remote": "192.0.2.1", "protocol": "tcp", "ports": [22], "direction": "in"});
    let rule = json!({"match": {"name": "abc"}, "action": "freeze"});
    let port = json!({"protocol": "tcp", "port": 1});
    let orders = |more: usize| {
        let mut ports = allowance.clone();
        ports["ports"] = json!(vec![22; 64 + more]);
        [
            json!({"posture": "isolate", "allow": vec![&allowance; 64 + more]}),
            json!({"posture": "isolate", "allow": [ports]}),
            json!({"posture": "isolate", "processes": vec![&rule; 64 + more]}),
            json!({"posture": "isolate", "block": {"ports": vec![&port; 1024 + more]}}),
            blocking(131_072 + u32::try_from(more).unwrap()),
        ]
    };
    orders(0).into_iter().chain(orders(1)).collect()
}
