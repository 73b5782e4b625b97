//! Bad input and missing surroundings: one clear message, the state is kept, nothing is half applied, the agent lives.

use std::path::Path;

use edgewarden_lab::lab_test;
use edgewarden_lab::nucleus::personality::Personality;
use edgewarden_lab::site::wait_until;
use edgewarden_lab::stage::{Stage, StageOptions, THING};
use serde_json::{Value, json};

use crate::common::agent::{joined, restart, said_once};
use crate::common::{LIMIT, done, isolate, options, ready, release, reports};

/// Waits until the status shows a refused order whose faults hold `text`.
fn wait_refused(stage: &Stage, text: &str) -> Value {
    stage
        .wait_status(LIMIT, &format!("refused: {text}"), |s| {
            joined(&s["enforcement"]["rejected"][0]["faults"]).contains(text)
        })
        .unwrap()
}

/// Nothing has changed since the phase was `phase`, here and in the kernel and in the shadow.
fn unchanged(stage: &Stage, phase: &str) {
    let isolated = phase == "enforced";
    assert_eq!(stage.status()["enforcement"]["phase"], phase);
    assert_eq!(stage.has_table().unwrap(), isolated);
    reports(stage, &json!(isolated));
}

lab_test!(a_wish_of_another_type_is_refused_and_the_state_stays, || {
    let mut stage = ready(options());
    for phase in ["released", "enforced"] {
        if phase == "enforced" {
            isolate(&stage);
        }
        for (value, shown) in [
            (json!("yes"), "\"yes\""),
            (json!(7), "7"),
            (json!([true]), "[true]"),
        ] {
            stage.desire(&json!({ "quarantine": value })).unwrap();
            let text = format!("quarantine: is {shown}, expected true, false or an order object");
            let refused =
                |shadow: &Value| shadow["state"]["reported"]["quarantineStatus"]["rejected"] == json!([text]);
            stage
                .wait_shadow(LIMIT, "the refusal in the shadow", refused)
                .unwrap();
            let status = stage.status();
            let fault = &status["enforcement"]["rejected"][0]["faults"][0];
            assert_eq!(fault["path"], "quarantine", "{status}");
            unchanged(&stage, phase);
        }
    }
    for shown in ["\"yes\"", "7", "[true]"] {
        let log = stage.agent_output();
        let text = format!("is {shown}, expected true, false or an order object");
        assert_eq!(log.matches(&text).count(), 2, "once a state: {text} in\n{log}");
    }
    release(&stage);
    assert_eq!(
        stage.status()["enforcement"]["rejected"],
        json!([]),
        "forgotten once replaced"
    );
    assert!(stage.agent.as_mut().unwrap().is_running());
});

lab_test!(every_fault_of_an_order_is_named_at_once, || {
    let mut stage = ready(options());
    let order = json!({
        "id": 7, "posture": "isolate", "expires": "tomorrow", "limit": 5,
        "allow": [{"remote": "nowhere", "protocol": "tcp", "ports": [0], "direction": "in"}]
    });
    stage.desire(&json!({ "quarantine": order })).unwrap();
    let status = wait_refused(&stage, "quarantine.id");
    let faults = joined(&status["enforcement"]["rejected"][0]["faults"]);
    for path in ["id", "expires", "limit", "allow[0].remote", "allow[0].ports[0]"] {
        assert!(
            faults.contains(&format!("\"quarantine.{path}\"")),
            "{path} in {faults}"
        );
    }
    let shadow = stage
        .wait_shadow(LIMIT, "the refusal in the shadow", |shadow| {
            shadow["state"]["reported"]["quarantineStatus"]["rejected"].is_array()
        })
        .unwrap();
    let told = joined(&shadow["state"]["reported"]["quarantineStatus"]["rejected"]);
    assert!(told.contains("quarantine."), "{told}");
    unchanged(&stage, "released");
    said_once(&mut stage, "the order is refused and changes nothing");

    stage
        .desire(&json!({"quarantine": null}))
        .and_then(|()| stage.desire(&json!({"quarantine": {"posture": "isolate", "id": "good"}})))
        .unwrap();
    stage.wait_phase(LIMIT, "enforced").unwrap();
});

lab_test!(a_delta_that_cannot_be_read_changes_nothing, || {
    let mut stage = ready(StageOptions {
        personality: Personality::Classic,
        ..options()
    });
    let delta = format!("$aws/things/{THING}/shadow/update/delta");
    let huge = json!({"version": 9999, "state": {"quarantine": "x".repeat(200_000)}}).to_string();
    for phase in ["released", "enforced"] {
        if phase == "enforced" {
            isolate(&stage);
        }
        stage.publish(&delta, "{\"state\": {\"quarantine\": ").unwrap();
        wait_refused(&stage, "update/delta: no valid JSON");
        unchanged(&stage, phase);
        stage.publish(&delta, &huge).unwrap();
        let size = format!("update/delta: {} bytes, expected at most 65536", huge.len());
        wait_refused(&stage, &size);
        unchanged(&stage, phase);
    }
    let log = stage.agent_output();
    assert_eq!(log.matches("no valid JSON").count(), 2, "once a state in\n{log}");
    release(&stage);
    assert!(stage.agent.as_mut().unwrap().is_running());
});

lab_test!(a_key_that_stands_twice_is_refused_by_its_name, || {
    let stage = ready(StageOptions {
        personality: Personality::Classic,
        ..options()
    });
    let file = stage.site.directory().join("order.json");
    let ordered = |processes: &str| {
        let text = format!(r#"{{"posture": "isolate", "reason": "r", {processes}}}"#);
        std::fs::write(&file, text).unwrap();
        let words = ["quarantine", "--order", file.to_str().unwrap()];
        stage.edgewarden(&words).unwrap()
    };
    let rule = r#""processes": [{"match": {"exe": "/opt/zq-twice"}, "action": "kill"}]"#;
    let (code, _, errors) = ordered(rule);
    assert_eq!(code, Some(0), "control: {errors}");
    done(&stage, &["release"]);
    let (code, _, errors) = ordered(&format!(r#"{rule}, "processes": []"#));
    assert!(code != Some(0), "which of the two is meant?");
    assert!(
        errors.contains("processes") && errors.contains("twice"),
        "{errors}"
    );
    unchanged(&stage, "released");

    isolate(&stage);
    let delta = format!("$aws/things/{THING}/shadow/update/delta");
    let text = r#"{"version": 9999, "state": {"quarantine": true, "quarantine": false}}"#;
    stage.publish(&delta, text).unwrap();
    // What holds the order may not look as if it were not there.
    let text = r#"{"version": 10000, "state": {"quarantine": true}, "state": {"quarantine": false}}"#;
    stage.publish(&delta, text).unwrap();
    let said = || stage.agent_output().contains("`state` is given twice");
    wait_until(LIMIT, "it is refused by its name", said).unwrap();
    unchanged(&stage, "enforced");
});

lab_test!(a_rejected_report_is_told_and_orders_go_on, || {
    let stage = ready(options());
    stage
        .wait_status(LIMIT, "control: a report is accepted", |s| {
            s["reports"]["accepted"].as_u64() > Some(0)
        })
        .unwrap();
    assert_eq!(stage.status()["reports"]["lastError"], Value::Null);
    drop(stage);

    let mut refusing = options();
    refusing.cloud.push("--reject-reports".into());
    let mut stage = ready(refusing);
    let status = stage
        .wait_status(LIMIT, "two reports are rejected", |s| {
            s["reports"]["rejected"].as_u64() >= Some(2)
        })
        .unwrap();
    let error = status["reports"]["lastError"].as_str().unwrap_or_default();
    assert!(error.contains("was rejected: InvalidPayload, "), "{status}");
    assert_eq!(status["reports"]["accepted"], 0, "{status}");
    assert!(stage.agent_output().contains("was rejected: InvalidPayload"));
    isolate(&stage);
    release(&stage);
    assert!(stage.agent.as_mut().unwrap().is_running());
});

lab_test!(
    a_faulty_configuration_is_refused_whole_and_the_last_good_one_stays,
    || {
        let mut stage = ready(options());
        let mode = |wanted: &'static str| move |s: &Value| s["mode"] == wanted;
        stage.deploy(&json!({"mode": "observe"})).unwrap();
        stage.wait_status(LIMIT, "mode observe", mode("observe")).unwrap();

        let faulty = json!({"mode": "enforce", "reporting": {"intervalSeconds": 60}, "nonsense": {"x": 1},
                            "isolation": {"processes": [{"match": {}, "action": "kill"}]}});
        stage.deploy(&faulty).unwrap();
        let named = |s: &Value| {
            s["configuration"]["faults"]
                .as_array()
                .is_some_and(|f| f.len() >= 3)
        };
        for round in ["while it runs", "after a restart"] {
            let status = stage.wait_status(LIMIT, round, named).unwrap();
            let faults = joined(&status["configuration"]["faults"]);
            for path in [
                "reporting.intervalSeconds",
                "nonsense",
                "isolation.processes[0].match",
            ] {
                assert!(faults.contains(path), "{path}, {round}: {faults}");
            }
            assert!(
                faults.contains("expected a whole number from 300 to 86400"),
                "{faults}"
            );
            assert_eq!(status["mode"], "observe", "{round}: {status}");
            if round == "while it runs" {
                said_once(
                    &mut stage,
                    "the configuration is refused, the last good one stays",
                );
                restart(&mut stage);
            }
        }

        stage
            .deploy(&json!({"RESET": [""], "MERGE": {"mode": "enforce", "development": {"reportIntervalSeconds": 2}}}))
            .unwrap();
        let status = stage.wait_status(LIMIT, "mode enforce", mode("enforce")).unwrap();
        assert_eq!(status["configuration"]["faults"], json!([]), "{status}");
        isolate(&stage);
    }
);

lab_test!(the_shipped_agent_refuses_the_laboratory_interval, || {
    let mut stage = Stage::start(options()).unwrap();
    let shipped = ["-u", "EDGEWARDEN_DEVELOPMENT"];
    stage.start_agent_as(Path::new("env"), &shipped).unwrap();
    let named =
        |s: &Value| joined(&s["configuration"]["faults"]).contains("EDGEWARDEN_DEVELOPMENT=1 is not set");
    let status = stage.wait_status(LIMIT, "the fault", named).unwrap();
    assert_eq!(
        status["configuration"]["faults"][0]["path"], "development.reportIntervalSeconds",
        "{status}"
    );
    assert_eq!(status["configuration"]["source"], "defaults", "{status}");
    isolate(&stage);
    said_once(&mut stage, "the configuration is refused");

    restart(&mut stage);
    let taken = |s: &Value| s["configuration"]["source"] == "nucleus";
    let status = stage
        .wait_status(LIMIT, "control: taken in a laboratory", taken)
        .unwrap();
    assert_eq!(status["configuration"]["faults"], json!([]), "{status}");
});
