//! Profiles as CreateSecurityProfile takes them, and every type of value judged by every operator it has.

use serde_json::{Value, json};

use super::super::metric::{Metric, MetricValue};
use super::*;

/// A profile with one behaviour.
fn document(metric: &str, operator: &str, value: &Value) -> Value {
    json!({"securityProfileName": "P", "behaviors": [{
        "name": "B", "metric": metric, "criteria": {"comparisonOperator": operator, "value": value},
    }]})
}

fn read(document: &Value) -> Result<SecurityProfile, ProfileError> {
    SecurityProfile::read(document.to_string().as_bytes())
}

/// Whether this value raises an alarm.
fn alarms(metric: &str, operator: &str, value: &Value, reported: MetricValue) -> bool {
    let mut detect = Detect::new(read(&document(metric, operator, value)).unwrap());
    let values = BTreeMap::from([(metric.parse().unwrap(), reported)]);
    let violations = detect.evaluate("gw", &values, 1);
    if let [violation] = violations.as_slice() {
        let criteria = &violation.message()["behavior"]["criteria"];
        assert_eq!(criteria["comparisonOperator"], *operator);
        assert_eq!(criteria["value"], *value, "the message repeats the profile");
    }
    !violations.is_empty()
}

fn addresses(texts: &[&str]) -> MetricValue {
    MetricValue::Addresses(texts.iter().map(|text| text.parse().unwrap()).collect())
}

fn strings(texts: &[&str]) -> MetricValue {
    MetricValue::Strings(texts.iter().map(|text| (*text).to_owned()).collect())
}

#[test]
fn custom_numbers_are_compared_as_numbers() {
    let threshold = json!({"number": 7.5});
    for (operator, expected) in [
        ("less-than", [false, true, true]),
        ("less-than-equals", [false, false, true]),
        ("greater-than", [true, true, false]),
        ("greater-than-equals", [true, false, false]),
    ] {
        for (number, expected) in [-1.0, 7.5, 7.6].into_iter().zip(expected) {
            let alarm = alarms("cpu", operator, &threshold, MetricValue::Number(number));
            assert_eq!(alarm, expected, "{number} {operator} 7.5");
        }
    }
}

#[test]
fn lists_are_normal_when_all_or_none_of_them_is_in_the_set() {
    let cidrs = json!({"cidrs": ["192.0.2.0/24", "2001:db8::/32"]});
    let cases: [(&str, &str, Value, [MetricValue; 4]); 5] = [
        (
            "remotes",
            "cidr-set",
            cidrs.clone(),
            [
                addresses(&[]),
                addresses(&["192.0.2.9", "2001:db8::1"]),
                addresses(&["192.0.2.9", "198.51.100.1"]),
                addresses(&["198.51.100.1"]),
            ],
        ),
        (
            "aws:destination-ip-addresses",
            "cidr-set",
            cidrs,
            [
                addresses(&[]),
                addresses(&["192.0.2.9"]),
                addresses(&["192.0.2.9", "198.51.100.1"]),
                addresses(&["198.51.100.1"]),
            ],
        ),
        (
            "aws:listening-tcp-ports",
            "port-set",
            json!({"ports": [22, 8883]}),
            [vec![], vec![22], vec![22, 23], vec![23]].map(MetricValue::Ports),
        ),
        (
            "sizes",
            "set",
            json!({"numbers": [1.0, 2.5]}),
            [vec![], vec![1.0, 2.5], vec![1.0, 3.0], vec![3.0]].map(MetricValue::Numbers),
        ),
        (
            "names",
            "set",
            json!({"strings": ["sshd", "curl"]}),
            [
                strings(&[]),
                strings(&["curl"]),
                strings(&["curl", "nc"]),
                strings(&["nc"]),
            ],
        ),
    ];
    for (metric, set, value, lists) in cases {
        let expected = [(false, false), (false, true), (true, true), (true, false)];
        for (list, (within, without)) in lists.into_iter().zip(expected) {
            let judged = (
                alarms(metric, &format!("in-{set}"), &value, list.clone()),
                alarms(metric, &format!("not-in-{set}"), &value, list.clone()),
            );
            assert_eq!(judged, (within, without), "{metric} {list:?}");
        }
    }
}

#[test]
fn a_value_of_another_type_is_no_data_point() {
    let text = strings(&["x"]);
    assert!(!alarms("cpu", "less-than", &json!({"number": 0.0}), text.clone()));
    assert!(!alarms("cpu", "in-set", &json!({"numbers": []}), text.clone()));
    assert!(
        alarms("cpu", "in-set", &json!({"strings": []}), text),
        "control: nothing is in an empty set"
    );
}

#[test]
fn the_documented_profile_is_read_and_what_it_leaves_out_is_one_data_point() {
    let profile = read(&json!({"securityProfileName": "EdgeTraffic", "behaviors": [
        {"name": "BytesOut", "metric": "aws:all-bytes-out", "suppressAlerts": true, "criteria": {
            "comparisonOperator": "less-than", "value": {"count": 35_000}, "durationSeconds": 300,
            "consecutiveDatapointsToAlarm": 2, "consecutiveDatapointsToClear": 3}},
        {"name": "Dest", "metric": "aws:destination-ip-addresses", "criteria": {
            "comparisonOperator": "in-cidr-set", "value": {"cidrs": ["10.0.0.0/8"]}}},
    ]}))
    .unwrap();
    let [bytes, destinations] = profile.behaviors.as_slice() else {
        panic!("two behaviours")
    };
    assert_eq!(bytes.criterion, Criterion::Count(Operator::LessThan, 35_000));
    assert_eq!((bytes.consecutive_to_alarm, bytes.consecutive_to_clear), (2, 3));
    assert!(bytes.suppress_alerts && bytes.duration_seconds == Some(300));
    assert_eq!(destinations.metric, Metric::DestinationIpAddresses);
    assert_eq!(
        (destinations.consecutive_to_alarm, destinations.duration_seconds),
        (1, None)
    );
}

#[test]
fn profiles_that_cannot_be_judged_are_refused() {
    for (metric, operator, value) in [
        ("aws:all-bytes-out", "in-port-set", json!({"ports": [1]})),
        ("aws:all-bytes-out", "less-than", json!({"number": 1})),
        ("aws:listening-tcp-ports", "less-than", json!({"count": 1})),
        ("aws:listening-tcp-ports", "in-cidr-set", json!({"cidrs": []})),
        (
            "aws:destination-ip-addresses",
            "in-port-set",
            json!({"ports": []}),
        ),
        ("cpu", "less-than", json!({"count": 1})),
        ("cpu", "in-port-set", json!({"ports": [1]})),
        ("cpu", "in-cidr-set", json!({"strings": ["a"]})),
        ("cpu", "in-set", json!({"cidrs": []})),
        ("cpu", "equals", json!({"number": 1})),
    ] {
        let refused = read(&document(metric, operator, &value));
        assert!(
            matches!(refused, Err(ProfileError::Criteria { .. })),
            "{metric} {operator} {value}"
        );
    }
    let good = document("cpu", "less-than", &json!({"number": 1}));
    assert!(read(&good).is_ok(), "control");
    let change = |pointer: &str, value: Value| {
        let mut changed = good.clone();
        *changed.pointer_mut(pointer).unwrap() = value;
        read(&changed)
    };
    let metric = change("/behaviors/0/metric", json!("aws:cpu"));
    assert!(matches!(metric, Err(ProfileError::Metric { .. })));
    let criteria = |points: u32, seconds: u32| {
        json!({"comparisonOperator": "less-than", "value": {"number": 1},
               "consecutiveDatapointsToAlarm": points, "durationSeconds": seconds})
    };
    for (points, seconds) in [(0, 300), (11, 300), (1, 301)] {
        let refused = change("/behaviors/0/criteria", criteria(points, seconds));
        assert!(matches!(refused, Err(ProfileError::Range { .. })));
    }
    let many = change("/behaviors", vec![good["behaviors"][0].clone(); 101].into());
    assert!(matches!(many, Err(ProfileError::Behaviors)));
    let unknown = change("/behaviors/0/criteria", json!({"mlDetectionConfig": {}}));
    assert!(matches!(unknown, Err(ProfileError::Document(_))));
}
