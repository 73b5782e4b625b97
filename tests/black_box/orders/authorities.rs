//! Who may isolate and release: operator, deployment, detector; and the two modes in which an order cuts nothing.

use std::path::Path;

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{ATTACKER_V4, Ns, Running, lab_program, wait_until};
use edgewarden_lab::stage::paths::{ATTACKER_PORT, Paths};
use edgewarden_lab::stage::{Stage, StageOptions, copy_program};
use serde_json::{Value, json};

use crate::common::programs::wait_state;
use crate::common::{LIMIT, authorities, done, isolate, options, ready, release, reports};

fn phase(stage: &Stage) -> Value {
    stage.status()["enforcement"]["phase"].clone()
}

fn wait_authorities(stage: &Stage, wanted: &[&str]) -> Value {
    let what = format!("orders of {wanted:?}");
    stage
        .wait_status(LIMIT, &what, |s| authorities(s) == wanted)
        .unwrap()
}

lab_test!(the_operator_isolates_releases_and_sets_an_end, || {
    let stage = ready(options());
    let (code, ..) = stage.edgewarden(&["quarantine"]).unwrap();
    assert_eq!(code, Some(2), "a reason is asked for");
    let output = done(&stage, &["quarantine", "--reason", "strange beeps"]);
    assert!(output.contains("strange beeps"), "{output}");
    assert!(stage.has_table().unwrap(), "isolated when the command returns");
    reports(&stage, &json!(true));
    let status = stage.wait_phase(LIMIT, "enforced").unwrap();
    assert_eq!(
        status["enforcement"]["orders"][0]["reason"], "strange beeps",
        "{status}"
    );
    assert_eq!(
        stage.shadow()["state"]["desired"],
        Value::Null,
        "desired is not ours to write"
    );

    done(&stage, &["release"]);
    assert!(!stage.has_table().unwrap(), "released when the command returns");
    reports(&stage, &json!(false));

    done(
        &stage,
        &[
            "quarantine",
            "--reason",
            "for two seconds",
            "--expires-seconds",
            "2",
        ],
    );
    assert!(stage.has_table().unwrap());
    stage.wait_phase(LIMIT, "released").unwrap();
    assert!(!stage.has_table().unwrap());
    assert!(stage.agent_output().contains("the order has expired"));
    reports(&stage, &json!(false));
});

lab_test!(an_authority_ends_only_its_own_order, || {
    let stage = ready(options());
    isolate(&stage);
    done(&stage, &["quarantine", "--reason", "me too"]);
    wait_authorities(&stage, &["shadow", "operator"]);
    // The rules are the same; the plan is another and is confirmed anew.
    stage.wait_phase(LIMIT, "enforced").unwrap();
    done(&stage, &["release"]);
    assert_eq!(authorities(&stage.status()), ["shadow"]);
    assert!(stage.has_table().unwrap());
    done(&stage, &["quarantine", "--reason", "me too"]);
    stage.desire(&json!({"quarantine": false})).unwrap();
    wait_authorities(&stage, &["operator"]);
    assert!(stage.has_table().unwrap());
    reports(&stage, &json!(true));
    done(&stage, &["release"]);
    reports(&stage, &json!(false));
});

lab_test!(the_override_ends_the_clouds_order_and_the_cloud_sees_it, || {
    let mut stage = ready(options());
    isolate(&stage);
    let (code, ..) = stage.edgewarden(&["release", "--override"]).unwrap();
    assert_eq!(code, Some(2), "a reason is asked for");
    assert_eq!(phase(&stage), "enforced");
    done(
        &stage,
        &["release", "--override", "--reason", "patient on the line"],
    );
    assert!(!stage.has_table().unwrap());
    let visible = |shadow: &Value| {
        let state = &shadow["state"];
        state["desired"]["quarantine"] == true
            && state["reported"]["quarantine"] == false
            && state["reported"]["quarantineStatus"]["overridden"] == "patient on the line"
    };
    stage
        .wait_shadow(LIMIT, "the delta and the reason", visible)
        .unwrap();

    // The same wish, heard again after a restart, is still the one that was ended.
    stage.agent.as_mut().unwrap().kill9().unwrap();
    stage.start_agent().unwrap();
    let heard = |s: &Value| s["cloud"]["channelWorks"] == true && s["enforcement"]["phase"] == "released";
    let status = stage.wait_status(LIMIT, "asked the shadow again", heard).unwrap();
    assert_eq!(
        status["enforcement"]["overridden"]["reason"],
        "patient on the line"
    );
    assert!(!stage.has_table().unwrap());

    stage
        .desire(&json!({"quarantine": {"posture": "isolate", "id": "inc-2"}}))
        .unwrap();
    let status = stage.wait_phase(LIMIT, "enforced").unwrap();
    assert_eq!(status["enforcement"]["overridden"], Value::Null, "{status}");
    release(&stage);
});

lab_test!(after_an_override_the_operator_may_isolate_again, || {
    let stage = ready(options());
    for round in ["first", "again"] {
        done(&stage, &["quarantine", "--reason", "leak"]);
        assert!(stage.has_table().unwrap(), "{round}");
        done(&stage, &["release", "--override", "--reason", "leak found"]);
        assert!(!stage.has_table().unwrap(), "{round}");
    }
});

lab_test!(a_deployment_isolates_and_releases, || {
    let mut stage = ready(options());
    for value in [json!(true), json!("true")] {
        stage.deploy(&json!({"quarantine": value})).unwrap();
        wait_authorities(&stage, &["deployment"]);
        stage.wait_phase(LIMIT, "enforced").unwrap();
        assert!(stage.has_table().unwrap());
        reports(&stage, &json!(true));
        stage.deploy(&json!({"quarantine": false})).unwrap();
        wait_authorities(&stage, &[]);
        stage.wait_phase(LIMIT, "released").unwrap();
        assert!(!stage.has_table().unwrap());
        reports(&stage, &json!(false));
    }
    stage.deploy(&json!({"quarantine": "perhaps"})).unwrap();
    let refused = |s: &Value| s["enforcement"]["rejected"][0]["authority"] == "deployment";
    let status = stage.wait_status(LIMIT, "refused", refused).unwrap();
    assert_eq!(status["enforcement"]["phase"], "released", "{status}");
});

/// Sends far more than the behaviour allows.
fn rogue(stage: &Stage, program: &Path) -> Running {
    let remote = format!("{ATTACKER_V4}:{ATTACKER_PORT}");
    let args = ["rogue", "--remote", &remote, "--forever", "--every-millis", "50"];
    let log = stage.site.directory().join("rogue.log");
    stage.site.spawn(Ns::Gateway, program, &args, &[], log).unwrap()
}

lab_test!(the_detector_isolates_without_the_cloud, || {
    let behavior = json!({"name": "BytesOut", "metric": "aws:all-bytes-out", "criteria":
            {"comparisonOperator": "less-than", "value": {"count": 100_000}}});
    let detect = |quarantine: bool| {
        json!({"detect": {"behaviors": [behavior], "quarantine": quarantine},
                   "development": {"reportIntervalSeconds": 2}})
    };
    let mut cloud = options().cloud;
    cloud.push("--no-lambda".into());
    let mut stage = ready(StageOptions {
        configuration: detect(false),
        cloud,
        ..options()
    });
    let _paths = Paths::open(&stage.site).unwrap();
    let alarm = |s: &Value| s["detector"]["alarms"] == json!(["BytesOut"]);
    let first = rogue(&stage, &lab_program().unwrap());
    let status = stage.wait_status(LIMIT, "control: an alarm", alarm).unwrap();
    assert_eq!(
        status["enforcement"]["orders"],
        json!([]),
        "an alarm alone isolates nobody"
    );
    drop(first);
    let calm = |s: &Value| s["detector"]["alarms"] == json!([]);
    stage.wait_status(LIMIT, "control: calm", calm).unwrap();

    stage.deploy(&detect(true)).unwrap();
    wait_until(LIMIT, "the new configuration", || {
        stage.agent_output().matches("new configuration").count() >= 2
    })
    .unwrap();
    let _second = rogue(&stage, &lab_program().unwrap());
    let status = wait_authorities(&stage, &["detector"]);
    let reason = status["enforcement"]["orders"][0]["reason"]
        .as_str()
        .unwrap_or_default();
    assert!(reason.starts_with("BytesOut"), "{status}");
    stage.wait_phase(LIMIT, "enforced").unwrap();
    reports(&stage, &json!(true));
    assert!(
        !stage
            .site
            .tcp_connects(Ns::Gateway, ATTACKER_V4, ATTACKER_PORT)
            .unwrap()
    );
    assert_eq!(
        stage.shadow()["state"]["desired"],
        Value::Null,
        "the cloud ordered nothing"
    );

    // A quiet device proves nothing: the alarm clears, the isolation stays.
    stage.wait_status(LIMIT, "the alarm clears", calm).unwrap();
    assert!(stage.has_table().unwrap());
    done(&stage, &["release", "--override", "--reason", "rogue removed"]);
    assert!(!stage.has_table().unwrap());
});

lab_test!(mode_observe_cuts_nothing_and_says_so, || {
    let stage = ready(StageOptions {
        configuration: json!({"mode": "observe"}),
        ..options()
    });
    stage.desire(&json!({"quarantine": true})).unwrap();
    let status = stage.wait_phase(LIMIT, "observed").unwrap();
    assert_eq!(status["mode"], "observe", "{status}");
    assert_eq!(status["enforcement"]["wanted"], "isolate", "{status}");
    let (_, rules, _) = stage.nft(&["list", "ruleset"]).unwrap();
    assert!(
        rules.contains("counter name") && !rules.contains("drop"),
        "{rules}"
    );
    let _paths = Paths::open(&stage.site).unwrap();
    assert!(Paths::look(&stage.site).unwrap().cut.is_empty());
    let counted = |status: &Value| {
        let would_block = &status["enforcement"]["wouldBlock"];
        ["out", "in", "forward"]
            .iter()
            .all(|way| would_block[way]["packets"].as_u64() > Some(0))
    };
    stage
        .wait_status(LIMIT, "what would have been cut is counted", counted)
        .unwrap();
    let told = |shadow: &Value| {
        let reported = &shadow["state"]["reported"];
        reported["quarantine"] == false && reported["quarantineStatus"]["state"] == "observed"
    };
    stage.wait_shadow(LIMIT, "the shadow says so", told).unwrap();
    let text = done(&stage, &["status"]);
    assert!(
        text.contains("observe only: isolate is wanted, nothing is cut"),
        "{text}"
    );
});

lab_test!(uninstall_leaves_nothing, || {
    let mut stage = ready(options());
    let program = stage.site.directory().join("bin/rogue");
    copy_program(&lab_program().unwrap(), &program).unwrap();
    let _paths = Paths::open(&stage.site).unwrap();
    let rogue = rogue(&stage, &program);
    let order = json!({"posture": "isolate", "processes":
            [{"match": {"exe": program.to_str().unwrap()}, "action": "freeze"}]});
    stage.desire(&json!({ "quarantine": order })).unwrap();
    stage.wait_phase(LIMIT, "enforced").unwrap();
    let is_shown = |s: &Value| s["enforcement"]["stopped"][0]["pid"] == rogue.pid();
    stage.wait_status(LIMIT, "it is shown", is_shown).unwrap();
    wait_state(&rogue, "T");

    let state = stage.state_directory();
    let uninstall = ["uninstall", "--state-dir", state.to_str().unwrap()];
    let (code, _, errors) = stage.edgewarden(&uninstall).unwrap();
    assert_eq!(code, Some(1), "control: not while an order lives");
    assert!(errors.contains("orders live (shadow shadow)"), "{errors}");
    assert!(stage.has_table().unwrap());
    let uninstall = [&uninstall[..], &["--release", "--reason", "gone", "--purge"]].concat();
    let (code, _, errors) = stage.edgewarden(&uninstall).unwrap();
    assert_eq!(code, Some(1), "control: not while the agent runs");
    assert!(errors.contains("the agent is running: stop it first"), "{errors}");
    assert!(stage.has_table().unwrap());

    stage.agent.as_mut().unwrap().kill9().unwrap();
    // What a kill in the middle of a write leaves behind.
    std::fs::write(state.join("journal.new"), "half").unwrap();
    done(&stage, &uninstall);
    assert!(!stage.has_table().unwrap());
    wait_state(&rogue, "SR");
    assert!(!state.exists(), "files and directory");
    assert!(!stage.control_socket().exists());
    done(&stage, &uninstall);
});

/// Everything that the nucleus gives to a component and that says who and where it is.
const FROM_NUCLEUS: [&str; 3] = [
    "AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT",
    "SVCUID",
    "AWS_IOT_THING_NAME",
];

/// A stage whose agent was started again without nucleus, thing name or IPC, with the configuration that was last good.
fn detector_alone(quarantine: bool) -> Stage {
    let behavior = json!({"name": "BytesOut", "metric": "aws:all-bytes-out", "criteria":
        {"comparisonOperator": "less-than", "value": {"count": 100_000}}});
    let mut stage = ready(StageOptions {
        configuration: json!({
            "detect": {"behaviors": [behavior], "quarantine": quarantine},
            "development": {"reportIntervalSeconds": 2},
        }),
        ..options()
    });
    let from = |wanted: &'static str| move |s: &Value| s["configuration"]["source"] == wanted;
    stage
        .wait_status(LIMIT, "control: a configuration of the nucleus", from("nucleus"))
        .unwrap();
    stage.agent = None;
    let without = FROM_NUCLEUS.map(|name| ["-u", name]).concat();
    stage.start_agent_as(Path::new("env"), &without).unwrap();
    let status = stage
        .wait_status(LIMIT, "the last good configuration", from("disk"))
        .unwrap();
    let ipc = status["cloud"]["ipc"].as_str().unwrap_or_default();
    assert!(ipc.contains(FROM_NUCLEUS[0]), "control: no nucleus: {status}");
    assert_eq!(status["thing"], Value::Null, "control: no thing: {status}");
    assert_eq!(status["detector"]["alarms"], json!([]), "control: calm: {status}");
    stage.wait_phase(LIMIT, "released").unwrap();
    stage
}

lab_test!(a_device_without_nucleus_detects_and_isolates_itself, || {
    let stage = detector_alone(true);
    let _paths = Paths::open(&stage.site).unwrap();
    let reached = || stage.site.tcp_connects(Ns::Gateway, ATTACKER_V4, ATTACKER_PORT);
    assert!(reached().unwrap(), "control: everything flows before");
    let _rogue = rogue(&stage, &lab_program().unwrap());
    let status = wait_authorities(&stage, &["detector"]);
    let reason = status["enforcement"]["orders"][0]["reason"].as_str();
    assert!(reason.unwrap_or_default().starts_with("BytesOut"), "{status}");
    let isolated = |s: &Value| s["enforcement"]["posture"] == "isolate";
    let status = stage
        .wait_status(LIMIT, "the device isolates itself", isolated)
        .unwrap();
    assert!(!reached().unwrap(), "{status}");
    assert_eq!(status["reports"]["sent"], 0, "no report was needed: {status}");
    assert_eq!(status["thing"], Value::Null, "and no thing: {status}");
});

lab_test!(
    a_device_without_nucleus_shows_its_alarm_and_isolates_nobody_unasked,
    || {
        let stage = detector_alone(false);
        let _paths = Paths::open(&stage.site).unwrap();
        let rogue = rogue(&stage, &lab_program().unwrap());
        let in_alarm = |s: &Value| s["detector"]["alarms"] == json!(["BytesOut"]);
        let status = stage.wait_status(LIMIT, "an alarm", in_alarm).unwrap();
        assert_eq!(status["enforcement"]["orders"], json!([]), "{status}");
        let page = done(&stage, &["status"]);
        let alarm = |line: &str| line.starts_with("Alarm") && line.ends_with("BytesOut");
        assert!(page.lines().any(alarm), "{page}");
        drop(rogue);
        let calm = |s: &Value| s["detector"]["alarms"] == json!([]);
        stage.wait_status(LIMIT, "calm again", calm).unwrap();
    }
);
