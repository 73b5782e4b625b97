//! Answers to reports of ours that do not come here, and updates of others that carry a token of ours.

use std::thread::sleep;
use std::time::Duration;

use edgewarden_lab::lab_test;
use edgewarden_lab::stage::{Stage, StageOptions, THING};
use serde_json::{Value, json};

use super::subscriptions::isolated_where_nothing_comes_through;
use crate::common::{LIMIT, isolate, options, ready, reports};

/// One way between the nucleus and the broker.
const WAY: Duration = Duration::from_millis(500);
/// From somebody else's writing over our report to our saying it again, and what a busy machine needs.
const PUT_RIGHT: Duration = Duration::from_secs(45);

fn says(quarantine: bool) -> impl Fn(&Value) -> bool {
    move |shadow| shadow["state"]["reported"]["quarantine"] == quarantine
}

lab_test!(
    false_that_is_heard_is_obeyed_although_the_acceptance_of_the_report_behind_it_is_lost,
    || {
        let mut stage = ready(StageOptions {
            front: true,
            ..options()
        });
        isolated_where_nothing_comes_through(&mut stage);
        stage.front().delay(WAY).unwrap();
        stage.desire(&json!({"quarantine": false})).unwrap();
        // It has come, and the answer to the report behind it has not.
        sleep(WAY * 2);
        let accepted = format!("$aws/things/{THING}/shadow/update/accepted");
        stage.front().lose(&accepted).unwrap();
        stage.wait_phase(LIMIT, "released").unwrap();
        assert_eq!(stage.front().told("lost").len(), 1, "control");
        reports(&stage, &json!(false));
    }
);

/// Tokens of the device's questions that were answered.
fn questions(stage: &Stage) -> Vec<String> {
    let events = stage.nucleus.events();
    let answers = events.iter().filter(|event| {
        let topic = event["topic"].as_str();
        event["event"] == "message" && topic.is_some_and(|topic| topic.ends_with("/shadow/get/accepted"))
    });
    let tokens = answers.filter_map(|event| {
        let payload: Value = match &event["payload"] {
            Value::String(text) => serde_json::from_str(text).ok()?,
            other => other.clone(),
        };
        payload["clientToken"].as_str().map(str::to_owned)
    });
    tokens.filter(|token| token.starts_with("ew-")).collect()
}

lab_test!(
    what_others_write_with_the_token_of_a_question_of_ours_is_put_right,
    || {
        let stage = ready(StageOptions {
            nucleus: vec!["--tell-messages".into()],
            ..options()
        });
        isolate(&stage);
        stage.wait_shadow(LIMIT, "it is reported", says(true)).unwrap();
        let questions = questions(&stage);
        for token in [Some("another"), questions.first().map(String::as_str)] {
            let token = token.expect("a question that was answered");
            let reported = json!({"quarantine": false, "quarantineStatus": {"state": "released"}});
            let written = json!({"clientToken": token, "state": {"reported": reported}});
            let topic = format!("$aws/things/{THING}/shadow/update");
            stage.publish(&topic, &written.to_string()).unwrap();
            stage
                .wait_shadow(LIMIT, "control: it is written over", says(false))
                .unwrap();
            let put_right = stage.wait_shadow(PUT_RIGHT, "it is put right", says(true));
            assert!(put_right.is_ok(), "{token}");
        }
    }
);
