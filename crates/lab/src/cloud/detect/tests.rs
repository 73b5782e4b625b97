//! Operators, counting of data points, and the message.

use super::*;

fn profile(operator: Operator, to_alarm: u32, to_clear: u32) -> SecurityProfile {
    let mut profile = SecurityProfile::outbound_bytes(operator, 100);
    profile.behaviors[0].consecutive_to_alarm = to_alarm;
    profile.behaviors[0].consecutive_to_clear = to_clear;
    profile
}

fn bytes_out(value: u64) -> BTreeMap<Metric, MetricValue> {
    BTreeMap::from([(Metric::AllBytesOut, MetricValue::Count(value))])
}

/// One letter per data point: `A` alarm, `C` cleared, `-` nothing.
fn trace(profile: SecurityProfile, values: &[u64]) -> String {
    let mut detect = Detect::new(profile);
    let step = |value: &u64| match detect.evaluate("gw", &bytes_out(*value), 1).as_slice() {
        [] => '-',
        [
            Violation {
                kind: ViolationType::InAlarm,
                ..
            },
        ] => 'A',
        [
            Violation {
                kind: ViolationType::AlarmCleared,
                ..
            },
        ] => 'C',
        _ => '?',
    };
    values.iter().map(step).collect()
}

#[test]
fn a_behaviour_says_what_is_normal() {
    let table = [
        (Operator::LessThan, [false, true, true]),
        (Operator::LessThanEquals, [false, false, true]),
        (Operator::GreaterThan, [true, true, false]),
        (Operator::GreaterThanEquals, [true, false, false]),
    ];
    for (operator, alarms) in table {
        for (value, alarm) in [99, 100, 101].into_iter().zip(alarms) {
            let expected = if alarm { "A" } else { "-" };
            assert_eq!(
                trace(profile(operator, 1, 1), &[value]),
                expected,
                "{value} {operator} 100"
            );
        }
        assert_eq!(operator.name().parse(), Ok(operator));
    }
    assert!("in-port-set".parse::<Operator>().is_err());
}

#[test]
fn alarms_need_their_data_points_in_a_row() {
    for (to_alarm, to_clear, values, expected) in [
        (1, 1, [200, 200, 50, 50, 200, 50], "A-C-AC"),
        (2, 1, [200, 50, 200, 200, 50, 50], "---AC-"),
        (1, 3, [200, 50, 50, 200, 50, 50], "A-----"),
        (1, 2, [200, 50, 200, 50, 50, 50], "A---C-"),
        (3, 1, [200, 200, 200, 200, 50, 200], "--A-C-"),
    ] {
        assert_eq!(
            trace(profile(Operator::LessThan, to_alarm, to_clear), &values),
            expected
        );
    }
}

#[test]
fn things_and_metrics_are_judged_apart_and_an_absent_metric_is_no_data_point() {
    let mut profile = profile(Operator::LessThan, 2, 1);
    let mut connections = profile.behaviors[0].clone();
    connections.metric = Metric::NumEstablishedTcpConnections;
    profile.behaviors.push(connections);
    let mut detect = Detect::new(profile);
    assert_eq!(detect.evaluate("a", &bytes_out(200), 1), []);
    assert_eq!(
        detect.evaluate("b", &bytes_out(200), 1),
        [],
        "the other thing's data point does not count"
    );
    assert_eq!(detect.evaluate("a", &BTreeMap::new(), 1), []);
    let violations = detect.evaluate("a", &bytes_out(200), 1);
    assert_eq!(violations.len(), 1, "the absent metric did not interrupt the row");
    assert_eq!(violations[0].behavior.metric, Metric::AllBytesOut);
}

#[test]
fn the_message_has_the_shape_of_the_real_sample() {
    let mut detect = Detect::new(SecurityProfile::default());
    let now = 1_573_786_800_000;
    let raised = detect.evaluate("dev-IZWB", &bytes_out(61_234), now);
    let id = raised[0].id.clone();
    assert!(
        id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{id}"
    );
    assert_eq!(
        raised[0].message(),
        json!({
            "violationEventTime": now,
            "thingName": "dev-IZWB",
            "behavior": {
                "name": "OutboundBytesBehavior",
                "metric": "aws:all-bytes-out",
                "criteria": {
                    "comparisonOperator": "less-than", "value": {"count": 35_000}, "durationSeconds": 300,
                    "consecutiveDatapointsToAlarm": 1, "consecutiveDatapointsToClear": 1,
                },
            },
            "violationEventType": "in-alarm",
            "metricValue": {"count": 61_234},
            "violationId": id,
            "securityProfileName": "OutboundBytesSecProfile",
        }),
    );
    let cleared = detect.evaluate("dev-IZWB", &bytes_out(1), now + 1);
    assert_eq!(
        (cleared[0].kind, &cleared[0].id),
        (ViolationType::AlarmCleared, &id)
    );
    let again = detect.evaluate("dev-IZWB", &bytes_out(61_234), now + 2);
    assert_ne!(again[0].id, id, "a new alarm has a new id");
}

#[test]
fn the_number_of_things_is_bounded_and_known_things_go_on() {
    let mut detect = Detect::new(SecurityProfile::default());
    for number in 0..MAX_STATES {
        detect.evaluate(&format!("t{number}"), &bytes_out(1), 1);
    }
    assert_eq!(detect.evaluate("one-more", &bytes_out(99_999), 1), []);
    assert_eq!(detect.evaluate("t0", &bytes_out(99_999), 1).len(), 1);
}
