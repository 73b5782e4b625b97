//! Alarms begin and end as the behaviour says, and only then.

use super::super::behavior::{ComparisonOperator, Criteria, Threshold};
use super::*;
use crate::observe::interval::InterfaceTraffic;

fn behavior(operator: ComparisonOperator, count: u64, to_alarm: u32, to_clear: u32) -> Behavior {
    Behavior {
        name: "OutboundBytesBehavior".to_owned(),
        metric: Metric::AllBytesOut,
        criteria: Criteria {
            comparison_operator: operator,
            value: Threshold { count },
            duration_seconds: None,
            consecutive_datapoints_to_alarm: to_alarm,
            consecutive_datapoints_to_clear: to_clear,
        },
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn bytes_out(value: u64) -> MetricValues {
    MetricValues {
        bytes_out: Some(value),
        ..MetricValues::default()
    }
}

/// What happens at each of the values, 300 s apart.
fn kinds(behavior: Behavior, values: &[Option<u64>]) -> Vec<Option<AlarmKind>> {
    let mut detector = Detector::new(vec![behavior]);
    let mut second = 0;
    values
        .iter()
        .map(|value| {
            second += 300;
            let metrics = MetricValues {
                bytes_out: *value,
                ..MetricValues::default()
            };
            let alarms = detector.evaluate(&metrics, at(second));
            assert!(alarms.len() <= 1);
            alarms.first().map(|alarm| alarm.kind)
        })
        .collect()
}

const BEGIN: Option<AlarmKind> = Some(AlarmKind::InAlarm);
const END: Option<AlarmKind> = Some(AlarmKind::Cleared);

#[test]
fn a_behavior_says_what_is_normal() {
    use ComparisonOperator::{GreaterThan, GreaterThanEquals, LessThan, LessThanEquals};
    for (operator, at_threshold, above, below) in [
        (LessThan, BEGIN, BEGIN, None),
        (LessThanEquals, None, BEGIN, None),
        (GreaterThan, BEGIN, None, BEGIN),
        (GreaterThanEquals, None, None, BEGIN),
    ] {
        for (value, expected) in [(35_000, at_threshold), (35_001, above), (34_999, below)] {
            assert_eq!(
                kinds(behavior(operator, 35_000, 1, 1), &[Some(value)]),
                [expected],
                "{operator:?} {value}"
            );
        }
    }
}

#[test]
fn alarms_begin_and_end_once_after_enough_values_in_a_row() {
    let (high, low) = (Some(40_000), Some(10));
    let values = [high, low, high, high, high, low, high, low, low, low, None, high];
    let expected = [
        None, None, None, BEGIN, None, None, None, None, None, END, None, None,
    ];
    assert_eq!(
        kinds(behavior(ComparisonOperator::LessThan, 35_000, 2, 3), &values),
        expected
    );
}

#[test]
fn a_missing_value_neither_raises_nor_clears() {
    let values = [Some(40_000), None, None, Some(1)];
    let expected = [BEGIN, None, None, END];
    assert_eq!(
        kinds(behavior(ComparisonOperator::LessThan, 35_000, 1, 1), &values),
        expected
    );
}

#[test]
fn a_duration_sums_the_reports_within_it() {
    let mut rule = behavior(ComparisonOperator::LessThan, 35_000, 1, 1);
    rule.criteria.duration_seconds = Some(300);
    let mut detector = Detector::new(vec![rule]);
    assert_eq!(detector.evaluate(&bytes_out(20_000), at(1_000)), []);
    let alarms = detector.evaluate(&bytes_out(20_000), at(1_100));
    assert_eq!((alarms[0].kind, alarms[0].value), (AlarmKind::InAlarm, 40_000));
    assert_eq!(detector.in_alarm().collect::<Vec<_>>(), ["OutboundBytesBehavior"]);
    let alarms = detector.evaluate(&bytes_out(1), at(1_300));
    assert_eq!((alarms[0].kind, alarms[0].value), (AlarmKind::Cleared, 20_001));
    let alarms = detector.evaluate(&bytes_out(50_000), at(100));
    assert_eq!(
        alarms[0].value, 50_000,
        "a clock that stepped back does not add values from the future"
    );
}

#[test]
fn every_metric_is_read_from_the_interval() {
    let sockets = SocketSnapshot {
        established_total: 7,
        ..SocketSnapshot::default()
    };
    let counted = |kernel| InterfaceTraffic {
        name: "eth0".to_owned(),
        kernel,
        captured: Counters::default(),
        forwarded: Counters::default(),
    };
    let half = Counters {
        bytes_in: 1,
        bytes_out: 2,
        packets_in: 3,
        packets_out: 4,
    };
    let of = |interfaces: Vec<InterfaceTraffic>, sockets| {
        let interval = Interval {
            interfaces,
            ..Interval::default()
        };
        MetricValues::of(&interval, sockets)
    };
    let metrics = of(
        vec![counted(Some(half)), counted(None), counted(Some(half))],
        Some(&sockets),
    );
    assert_eq!(metrics.get(Metric::AllBytesIn), Some(2));
    assert_eq!(metrics.get(Metric::AllBytesOut), Some(4));
    assert_eq!(metrics.get(Metric::AllPacketsIn), Some(6));
    assert_eq!(metrics.get(Metric::AllPacketsOut), Some(8));
    assert_eq!(metrics.get(Metric::NumEstablishedTcpConnections), Some(7));
    assert_eq!(metrics.get(Metric::NumListeningTcpPorts), Some(0));
    assert_eq!(metrics.get(Metric::NumListeningUdpPorts), Some(0));
    assert_eq!(of(vec![counted(None)], None), MetricValues::default());
    let most = Counters {
        bytes_out: u64::MAX,
        ..half
    };
    let metrics = of(vec![counted(Some(most)), counted(Some(half))], None);
    assert_eq!(metrics.get(Metric::AllBytesOut), Some(u64::MAX));
}
