//! Values of configured metrics.

use serde_json::json;

use super::*;
use crate::document::fault::Fault;
use crate::observe::Counters;
use crate::report::custom::settings;

fn out(bytes: u64) -> Counters {
    Counters::traffic(true, bytes, 1)
}

fn traffic() -> TrafficTotals {
    let process = |name: &str, exe: &str| (name.to_owned(), Some(exe.to_owned()));
    TrafficTotals {
        interfaces: [
            ("eth0".to_owned(), Some(out(100))),
            ("eth1".to_owned(), Some(out(50))),
            ("wlan0".to_owned(), None),
        ]
        .into(),
        processes: [
            (process("curl", "/usr/bin/curl"), out(70)),
            (process("curl", "/tmp/curl"), out(10)),
            (process("sshd", "/usr/sbin/sshd"), out(90)),
            (process("idle", "/usr/bin/idle"), out(0)),
        ]
        .into(),
        remotes: [
            (("eth0".to_owned(), "203.0.113.9".parse().unwrap()), 10),
            (("eth1".to_owned(), "203.0.113.9".parse().unwrap()), 30),
            (("eth0".to_owned(), "2001:db8::1".parse().unwrap()), 20),
        ]
        .into(),
        captured: out(300),
        unattributed: out(100),
        lost_frames: Some(3),
    }
}

fn collect_from(
    value: &serde_json::Value,
    traffic: &TrafficTotals,
    posture: Option<Posture>,
) -> CollectedMetrics {
    let mut faults: Vec<Fault> = Vec::new();
    let settings = settings::read(value, "", &mut faults);
    assert!(faults.is_empty(), "{faults:?}");
    collect(&settings, &MetricInputs { traffic, posture })
}

fn values(collected: &CollectedMetrics) -> serde_json::Value {
    let entries = collected.metrics.iter();
    entries
        .map(|metric| (metric.name.clone(), serde_json::to_value(metric).unwrap()))
        .collect()
}

#[test]
fn every_configured_metric_has_its_value() {
    let settings = json!([
        {"name": "each", "what": "interface.bytesOut", "interfaces": ["eth*"]},
        {"name": "sum", "what": "interface.bytesOut", "interfaces": ["eth*"], "sum": true},
        {"name": "top", "what": "process.bytesOut", "top": 2},
        {"name": "of", "what": "process.bytesOut", "processes": ["curl", "/usr/*", "wget"]},
        {"name": "all", "what": "remote.addresses"},
        {"name": "eth1", "what": "remote.addresses", "interfaces": ["eth1"]},
        {"name": "lost", "what": "health.lostFrames"},
        {"name": "share", "what": "health.unattributedPercent"},
        {"name": "state", "what": "health.enforcement"}
    ]);
    let collected = collect_from(&settings, &traffic(), Some(Posture::Isolate));
    assert_eq!(
        values(&collected),
        json!({
            "each:eth0": [{"number": 100}], "each:eth1": [{"number": 50}], "sum": [{"number": 150}],
            "top": [{"number_list": [90, 80]}], "top:names": [{"string_list": ["sshd", "curl"]}],
            "of:curl": [{"number": 80}], "of:_2fusr_2f_2a": [{"number": 160}], "of:wget": [{"number": 0}],
            "all": [{"ip_list": ["203.0.113.9", "2001:db8::1"]}], "eth1": [{"ip_list": ["203.0.113.9"]}],
            "lost": [{"number": 3}], "share": [{"number": 33.3}], "state": [{"number": 2}]
        })
    );
    assert_eq!(collected.missing, [""; 0]);
}

#[test]
fn what_is_not_known_is_left_out_and_told() {
    let settings = json!([
        {"name": "each", "what": "interface.bytesOut"},
        {"name": "sum", "what": "interface.bytesOut", "sum": true},
        {"name": "none", "what": "interface.bytesOut", "interfaces": ["usb*"]},
        {"name": "lost", "what": "health.lostFrames"},
        {"name": "share", "what": "health.unattributedPercent"},
        {"name": "state", "what": "health.enforcement"}
    ]);
    let unknown = TrafficTotals {
        lost_frames: None,
        captured: Counters::default(),
        ..traffic()
    };
    let collected = collect_from(&settings, &unknown, None);
    assert_eq!(
        values(&collected),
        json!({"each:eth0": [{"number": 100}], "each:eth1": [{"number": 50}]})
    );
    let missing = collected.missing.join("\n");
    for name in ["each: wlan0", "sum", "none", "lost", "share", "state"] {
        assert!(missing.contains(&format!("{name}: ")), "{name} in {missing}");
    }
}

#[test]
fn intervals_add_up_and_stay_unknown_where_a_part_is_unknown() {
    let mut sum = traffic();
    let mut later = traffic();
    later.interfaces.insert("eth1".into(), None);
    later.interfaces.insert("usb0".into(), Some(out(7)));
    later.lost_frames = None;
    sum.add(&later);
    assert_eq!(sum.interfaces["eth0"].unwrap().bytes_out, 200);
    assert_eq!(sum.interfaces["eth1"], None);
    assert_eq!(sum.interfaces["usb0"].unwrap().bytes_out, 7);
    assert_eq!((sum.lost_frames, sum.captured.bytes_out), (None, 600));
    let mut many = TrafficTotals::default();
    for number in 0..20_000_u32 {
        let address = IpAddr::from(number.to_be_bytes());
        let one = TrafficTotals {
            remotes: [(("eth0".to_owned(), address), 1)].into(),
            ..TrafficTotals::default()
        };
        many.add(&one);
    }
    assert_eq!(many.remotes.len(), 16_384, "bounded");
}
