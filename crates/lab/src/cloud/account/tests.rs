//! One message in, everything that follows out: the loop from report to shadow without MQTT.

use super::super::detect::Operator;
use super::*;

const NOW: u64 = 1_790_000_000_000;
const REPORTS: &str = "$aws/things/gw-1/defender/metrics/json";

fn account(lambda: Option<Flavour>) -> Account {
    Account::new(AccountSettings {
        min_interval_seconds: 0,
        lambda,
        reject_reports: false,
        profile: SecurityProfile::default(),
    })
}

fn report(id: u64, bytes_out: u64) -> Vec<u8> {
    json!({
        "header": {"report_id": id, "version": "1.0"},
        "metrics": {"network_stats": {"bytes_out": bytes_out, "bytes_in": 1}},
    })
    .to_string()
    .into_bytes()
}

fn names(effects: &Effects) -> Vec<String> {
    let name = |event: &Value| {
        let detail = event.get("outcome").or(event.get("type")).or(event.get("action"));
        let parts = [Some(&event["event"]), detail];
        parts
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect::<Vec<_>>()
            .join(" ")
    };
    effects.events.iter().map(name).collect()
}

fn topics(effects: &Effects) -> Vec<&str> {
    effects
        .answers
        .iter()
        .map(|answer| answer.topic.as_str())
        .collect()
}

fn quarantined(account: &Account) -> Option<Value> {
    account
        .shadows
        .view(&ShadowId::classic("gw-1"))?
        .desired
        .get("quarantine")
        .cloned()
}

#[test]
fn a_normal_report_is_accepted_and_nothing_follows() {
    let mut account = account(Some(Flavour::Correct));
    let effects = account.handle(REPORTS, &report(1, 34_999), NOW);
    assert_eq!(topics(&effects), [format!("{REPORTS}/accepted")]);
    assert_eq!(names(&effects), ["report accepted"]);
    let event = &effects.events[0];
    assert_eq!(
        (&event["reportId"], &event["bytesOut"], &event["bytesIn"]),
        (&json!(1), &json!(34_999), &json!(1))
    );
    assert_eq!(event["report"]["header"]["report_id"], json!(1));
    assert_eq!(quarantined(&account), None);
}

#[test]
fn an_alarm_leads_to_desired_quarantine_and_its_end_to_nothing() {
    let mut account = account(Some(Flavour::Correct));
    let effects = account.handle(REPORTS, &report(1, 35_000), NOW);
    assert_eq!(
        names(&effects),
        [
            "report accepted",
            "alarm in-alarm",
            "lambda add-to-group",
            "lambda remove-from-group",
            "lambda update-shadow",
            "shadow",
        ],
    );
    let prefix = "$aws/things/gw-1/shadow/update";
    assert_eq!(
        topics(&effects),
        [
            format!("{REPORTS}/accepted"),
            format!("{prefix}/accepted"),
            format!("{prefix}/delta"),
            format!("{prefix}/documents"),
        ],
    );
    assert_eq!(quarantined(&account), Some(json!(true)));

    let release = json!({"state": {"desired": {"quarantine": false}}}).to_string();
    account.handle(prefix, release.as_bytes(), NOW + 1);
    assert_eq!(quarantined(&account), Some(json!(false)), "control: released");
    let effects = account.handle(REPORTS, &report(2, 10), NOW + 2);
    assert_eq!(
        names(&effects),
        ["report accepted", "alarm alarm-cleared", "lambda none"]
    );
    assert_eq!(
        quarantined(&account),
        Some(json!(false)),
        "a cleared alarm does not quarantine again"
    );
}

#[test]
fn the_workshops_lambda_quarantines_again_when_the_alarm_clears() {
    let mut account = account(Some(Flavour::Workshop));
    account.handle(REPORTS, &report(1, 35_000), NOW);
    let release = json!({"state": {"desired": {"quarantine": false}}}).to_string();
    account.handle("$aws/things/gw-1/shadow/update", release.as_bytes(), NOW + 1);
    account.handle(REPORTS, &report(2, 10), NOW + 2);
    assert_eq!(quarantined(&account), Some(json!(true)));
}

#[test]
fn without_a_lambda_alarms_are_only_told() {
    let mut account = account(None);
    let effects = account.handle(REPORTS, &report(1, 35_000), NOW);
    assert_eq!(names(&effects), ["report accepted", "alarm in-alarm"]);
    assert_eq!(quarantined(&account), None);
}

#[test]
fn the_lab_pages_operator_alarms_on_a_quiet_device() {
    let mut account = Account::new(AccountSettings {
        min_interval_seconds: 0,
        lambda: None,
        reject_reports: false,
        profile: SecurityProfile::outbound_bytes(Operator::GreaterThan, 35_000),
    });
    assert_eq!(
        names(&account.handle(REPORTS, &report(1, 10), NOW)),
        ["report accepted", "alarm in-alarm"]
    );
}

#[test]
fn a_refused_report_is_told_with_its_error_and_never_judged() {
    let mut account = account(Some(Flavour::Correct));
    let effects = account.handle(REPORTS, b"{\"header\":{\"report_id\":4}}", NOW);
    assert_eq!(topics(&effects), [format!("{REPORTS}/rejected")]);
    assert_eq!(names(&effects), ["report rejected"]);
    let event = &effects.events[0];
    assert_eq!(
        (&event["reportId"], &event["error"]["code"]),
        (&json!(4), &json!("InvalidPayload"))
    );

    account.reject_reports = true;
    let effects = account.handle(REPORTS, &report(5, 99_999), NOW);
    assert_eq!(names(&effects), ["report rejected"], "no alarm");
    let answer: Value = serde_json::from_slice(&effects.answers[0].payload).unwrap_or_default();
    assert_eq!(
        (&answer["reportId"], &answer["status"]),
        (&json!(5), &json!("REJECTED"))
    );
    account.reject_reports = false;
    let effects = account.handle(REPORTS, &report(5, 1), NOW);
    assert_eq!(
        names(&effects),
        ["report accepted"],
        "the refused report left no trace"
    );
}

#[test]
fn a_report_in_cbor_is_answered_in_cbor_on_its_own_topic() {
    let mut account = account(None);
    let topic = "$aws/things/gw-1/defender/metrics/cbor";
    let good: Value = serde_json::from_slice(&report(1, 5)).unwrap_or_default();
    let bytes = Format::Cbor.encode(&good);
    let accepted = account.handle(topic, &bytes, NOW);
    assert_eq!(topics(&accepted), [format!("{topic}/accepted")]);
    let event = &accepted.events[0];
    assert_eq!(
        (&event["format"], &event["bytes"]),
        (&json!("cbor"), &json!(bytes.len()))
    );
    assert_eq!(event["report"], good);
    let answer = Format::Cbor
        .decode(&accepted.answers[0].payload)
        .unwrap_or_default();
    assert_eq!(
        (&answer["reportId"], &answer["status"]),
        (&json!(1), &json!("ACCEPTED"))
    );

    let refused = account.handle(topic, &report(2, 5), NOW);
    assert_eq!(topics(&refused), [format!("{topic}/rejected")], "JSON is no CBOR");
    let answer = Format::Cbor
        .decode(&refused.answers[0].payload)
        .unwrap_or_default();
    assert_eq!(
        answer,
        json!({
            "thingName": "gw-1", "status": "REJECTED", "timestamp": NOW,
            "statusDetails": {"ErrorCode": "InvalidPayload", "ErrorMessage": "Malformed metrics report"},
        }),
    );
}

#[test]
fn custom_metrics_raise_alarms_and_suppressed_ones_reach_nobody() {
    for (suppress, expected) in [
        (
            false,
            &["report accepted", "alarm in-alarm", "lambda add-to-group"][..],
        ),
        (true, &["report accepted", "alarm in-alarm"][..]),
    ] {
        let profile = json!({"securityProfileName": "P", "behaviors": [{
            "name": "B", "metric": "eth0_bytes", "suppressAlerts": suppress,
            "criteria": {"comparisonOperator": "less-than", "value": {"number": 10}},
        }]});
        let mut account = Account::new(AccountSettings {
            min_interval_seconds: 0,
            lambda: Some(Flavour::Correct),
            reject_reports: false,
            profile: SecurityProfile::read(profile.to_string().as_bytes()).expect("a profile"),
        });
        let report = json!({
            "header": {"report_id": 1, "version": "1.0"}, "custom_metrics": {"eth0_bytes": [{"number": 11}]},
        });
        let effects = account.handle(REPORTS, report.to_string().as_bytes(), NOW);
        assert_eq!(names(&effects)[..expected.len()], *expected);
        assert_eq!(effects.events.len() > 2, !suppress);
        let alarm = &effects.events[1];
        assert_eq!(
            (&alarm["metric"], &alarm["value"]),
            (&json!("eth0_bytes"), &json!(11.0))
        );
        assert_eq!(alarm["message"]["metricValue"], json!({"number": 11.0}));
    }
}

#[test]
fn shadow_requests_are_told_when_they_change_something_or_are_refused() {
    let mut account = account(None);
    let named = "$aws/things/gw-1/shadow/name/n";
    let update = json!({"state": {"reported": {"a": 1}}}).to_string();
    let effects = account.handle(&format!("{named}/update"), update.as_bytes(), NOW);
    assert_eq!(
        effects.events,
        [
            json!({"event": "shadow", "thing": "gw-1", "shadow": "n", "version": 1, "desired": {}, "reported": {"a": 1}})
        ],
    );
    assert_eq!(
        names(&account.handle(&format!("{named}/get"), b"", NOW)),
        Vec::<String>::new()
    );
    assert_eq!(
        names(&account.handle(&format!("{named}/update"), b"{", NOW)),
        ["shadow-rejected"]
    );
    assert_eq!(
        names(&account.handle(&format!("{named}/delete"), b"", NOW)),
        ["shadow-deleted"]
    );
    let effects = account.handle(&format!("{named}/get"), b"", NOW);
    assert_eq!(effects.events[0]["answer"]["code"], json!(404));
    for topic in [
        "dt/x",
        "$aws/things/gw-1/defender/metrics/json/accepted",
        "$aws/things/gw-1/defender/metrics/cbor/rejected",
        "$aws/things/gw-1/defender/metrics/JSON",
        "$aws/things/a/b/defender/metrics/json",
    ] {
        let effects = account.handle(topic, b"{}", NOW);
        assert!(effects.answers.is_empty() && effects.events.is_empty(), "{topic}");
    }
}
