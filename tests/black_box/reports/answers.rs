//! What the service says, does not say, or says to somebody else; and numbers that rise whatever happens.

use edgewarden_lab::lab_test;
use edgewarden_lab::stage::Stage;
use serde_json::{Value, json};

use super::{
    FLOOD, QUICK, RARELY, accept, alone, answer, became, bytes_in, count, count_above, flood, report,
    report_json, reporting, send, stage_with,
};
use crate::common::LIMIT;

lab_test!(refused_reports_are_told_and_never_sent_again, || {
    let reporting = json!({"customMetrics": [{"what": "health.enforcement"}]});
    let options = stage_with(
        &reporting,
        2,
        &["--min-interval-seconds", "1", "--reject-reports"],
    );
    let mut stage = Stage::start(options).unwrap();
    stage.start_agent().unwrap();
    count_above(&stage, "rejected", 3);
    let status = stage.status();
    assert_eq!(status["reports"]["accepted"], 0, "{status}");
    let error = status["reports"]["lastError"].as_str().unwrap();
    assert!(error.contains("InvalidPayload"), "{error}");
    let events = stage.cloud.as_ref().unwrap().events();
    let sent: Vec<&Value> = events.iter().filter(|it| it["event"] == "report").collect();
    let mut ids: Vec<u64> = sent.iter().filter_map(|it| it["reportId"].as_u64()).collect();
    assert!(ids.is_sorted() && ids.len() >= 4);
    ids.dedup();
    assert_eq!(ids.len(), sent.len(), "no report twice");
    assert!(
        !sent[0]["report"]["custom_metrics"].is_null(),
        "control: they are configured"
    );
    let second = &sent[1]["report"];
    assert!(
        second["custom_metrics"].is_null(),
        "what was refused is suspected: {second}"
    );
});

lab_test!(throttled_reports_wait_for_their_slot_and_lose_nothing, || {
    let mut stage = reporting(stage_with(&json!({}), 2, &["--min-interval-seconds", "5"]));
    let rejected = count_above(&stage, "rejected", 0);
    flood(&stage);
    count_above(&stage, "rejected", rejected);
    let told = |event: &Value| bytes_in(event) > FLOOD / 2 && event["outcome"] == "accepted";
    stage.cloud.as_mut().unwrap().wait_event(LIMIT, told).unwrap();
    let error = |event: &Value| event["error"]["code"] == "Throttled";
    stage.cloud.as_ref().unwrap().find_event(LIMIT, error).unwrap();
});

lab_test!(answers_count_once_and_only_for_our_reports, || {
    let stage = alone(&json!({}), 15);
    let id = send(&stage);
    assert_eq!(report_json(&stage, &["last"])["outcome"], "waiting");
    let (code, _, errors) = report(&stage, &["send"]);
    assert_eq!(code, Some(1));
    assert!(
        errors.contains("would throttle") && errors.contains(" s, at "),
        "{errors}"
    );
    let reject = |id: u64| answer(&stage, "json", "rejected", &json!({"reportId": id}));
    accept(&stage, id + 77);
    accept(&stage, id - 77);
    reject(id + 1);
    accept(&stage, id);
    let last = became(&stage, "accepted");
    assert_eq!(last["reportId"], id, "somebody else's answers changed nothing");
    accept(&stage, id);
    reject(id);
    // What is said to the next report comes after both, on the same way.
    let next = |stage: &Stage| report_json(stage, &["last"])["reportId"].as_u64();
    stage
        .wait_status(LIMIT, "the next report", |_| next(&stage) > Some(id))
        .unwrap();
    accept(&stage, next(&stage).unwrap());
    became(&stage, "accepted");
    let status = stage.status();
    assert_eq!(status["reports"]["accepted"], 2, "{status}");
    assert_eq!(status["reports"]["rejected"], 0, "{status}");
});

lab_test!(a_lost_answer_is_told_and_a_late_one_still_counts, || {
    let mut stage = reporting(stage_with(&json!({}), 4, &QUICK));
    stage.cloud = None;
    let unanswered = count(&stage, "unanswered");
    count_above(&stage, "unanswered", unanswered);
    let accepted = count(&stage, "accepted");
    let last = report_json(&stage, &["last"])["reportId"].as_u64().unwrap();
    accept(&stage, last);
    count_above(&stage, "accepted", accepted);
});

lab_test!(report_ids_rise_over_quick_restarts_and_a_clock_set_back, || {
    let mut stage = alone(&json!({}), RARELY);
    let mut last = send(&stage);
    // As after a clock that was an hour ahead: the newest report came from the future.
    stage.agent = None;
    let file = stage.state_directory().join("last-report.json");
    let mut kept: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(kept["reportId"], last, "kept before it was sent");
    kept["reportId"] = json!(last + 3_600);
    kept["sent"] = json!("2099-01-01T00:00:00Z");
    std::fs::write(&file, kept.to_string()).unwrap();
    last += 3_600;
    for _ in 0..3 {
        stage.start_agent().unwrap();
        stage
            .wait_status(LIMIT, "the reporter runs", |_| {
                report(&stage, &["show"]).0 == Some(0)
            })
            .unwrap();
        let shown = report_json(&stage, &["show"]);
        assert_eq!(shown["document"]["header"]["report_id"], last + 1, "{shown}");
        let (code, _, errors) = report(&stage, &["send"]);
        if code == Some(0) {
            last = report_json(&stage, &["last"])["reportId"].as_u64().unwrap();
        } else {
            assert!(errors.contains("would throttle"), "{errors}");
        }
        stage.agent = None;
    }
    assert!(
        std::fs::read_to_string(&file)
            .unwrap()
            .contains(&format!("\"reportId\":{last}"))
    );
});
