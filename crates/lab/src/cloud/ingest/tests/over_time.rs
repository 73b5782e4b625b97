//! What the intake remembers from report to report, and how it answers.

use super::*;

/// One report with this id at this time, in seconds; `None` when accepted.
fn send(ingest: &mut Ingest, thing: &str, id: u64, at_seconds: u64) -> Option<&'static str> {
    let document = with(long(), "/header/report_id", json!(id)).to_string();
    match ingest.handle(thing, Format::Json, document.as_bytes(), NOW + at_seconds * 1_000) {
        Verdict::Accepted { report_id, .. } => {
            assert_eq!(report_id, id);
            None
        }
        Verdict::Rejected { report_id, code, .. } => {
            assert_eq!(report_id, Some(id), "a readable id is repeated");
            Some(code)
        }
    }
}

#[test]
fn reports_are_throttled_per_thing_and_ids_rise() {
    let mut ingest = Ingest::new(300);
    assert_eq!(send(&mut ingest, "a", 10, 0), None);
    assert_eq!(send(&mut ingest, "a", 11, 299), Some("Throttled"));
    assert_eq!(
        send(&mut ingest, "b", 10, 299),
        None,
        "another thing has its own window"
    );
    assert_eq!(
        send(&mut ingest, "a", 10, 300),
        Some("InvalidPayload"),
        "the same id again"
    );
    assert_eq!(
        send(&mut ingest, "a", 9, 300),
        Some("InvalidPayload"),
        "an older id"
    );
    assert_eq!(
        send(&mut ingest, "a", 11, 300),
        None,
        "a refused report used up neither id nor window"
    );
    assert_eq!(send(&mut ingest, "a", 12, 599), Some("Throttled"));
    assert_eq!(send(&mut ingest, "a", 12, 600), None);
}

#[test]
fn a_clock_that_steps_back_throttles_and_zero_means_no_throttle() {
    let mut ingest = Ingest::new(300);
    assert_eq!(send(&mut ingest, "a", 1, 100), None);
    assert_eq!(send(&mut ingest, "a", 2, 50), Some("Throttled"));
    let mut free = Ingest::new(0);
    assert_eq!(send(&mut free, "a", 1, 0), None);
    assert_eq!(send(&mut free, "a", 2, 0), None);
}

#[test]
fn the_number_of_things_is_bounded_and_known_things_go_on() {
    let mut ingest = Ingest::new(0);
    for number in 0..MAX_THINGS {
        assert_eq!(send(&mut ingest, &format!("t{number}"), 1, 0), None);
    }
    assert_eq!(send(&mut ingest, "one-more", 1, 0), Some("LimitExceeded"));
    assert_eq!(send(&mut ingest, "t0", 2, 0), None);
}

#[test]
fn answers_have_the_documented_shape() {
    let accepted = Verdict::Accepted {
        report_id: 7,
        values: BTreeMap::new(),
    };
    assert_eq!(accepted.topic_suffix(), "accepted");
    assert_eq!(
        accepted.answer("gw-1", NOW),
        json!({"thingName": "gw-1", "reportId": 7, "status": "ACCEPTED", "timestamp": NOW}),
    );
    let refused = invalid(Some(7), "x");
    assert_eq!(refused.topic_suffix(), "rejected");
    assert_eq!(
        refused.answer("gw-1", NOW),
        json!({
            "thingName": "gw-1", "reportId": 7, "status": "REJECTED", "timestamp": NOW,
            "statusDetails": {"ErrorCode": "InvalidPayload", "ErrorMessage": "Malformed metrics report"},
        }),
    );
    assert_eq!(invalid(None, "x").answer("gw-1", NOW).get("reportId"), None);
}
