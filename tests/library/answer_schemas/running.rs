//! Answers of a running agent, and of a device on which none runs.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{INTERNET_V4, Ns, lab_program, wait_until};
use edgewarden_lab::stage::{Stage, StageOptions};
use serde_json::{Value, json};

use super::{Sample, keep};

/// For everything that should happen within a few seconds, on a machine that does much else.
const LIMIT: Duration = Duration::from_secs(30);

/// What a command prints: a JSON value a line.
fn printed(stage: &Stage, args: &[&str]) -> Vec<Value> {
    let (_, output, errors) = stage.edgewarden(args).unwrap();
    assert_ne!(output, "", "{args:?}: {errors}");
    output
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Every command that prints JSON, with its schema.
fn every_answer(stage: &Stage, order: &str, samples: &mut Vec<Sample>) {
    let commands: [(&'static str, &[&str]); 12] = [
        ("status", &["status"]),
        ("orders", &["orders"]),
        ("top", &["top"]),
        ("connections", &["connections"]),
        ("plan", &["plan"]),
        ("plan", &["plan", "--order", order]),
        ("report-show", &["report", "show"]),
        ("report-show", &["report", "send", "--dry-run"]),
        ("report-last", &["report", "last"]),
        ("report-metrics", &["report", "metrics"]),
        ("history", &["history", "--state-dir"]),
        ("history-verify", &["history", "--verify", "--state-dir"]),
    ];
    let state = stage.state_directory();
    for (schema, args) in commands {
        let mut args = args.to_vec();
        if args.ends_with(&["--state-dir"]) {
            args.push(state.to_str().unwrap());
        }
        args.push("--json");
        let values = printed(stage, &args).into_iter();
        samples.extend(values.map(|value| Sample::closed(schema, value)));
    }
}

/// What the socket answers to a line.
fn said(stage: &Stage, line: &str) -> Value {
    let mut stream = UnixStream::connect(stage.control_socket()).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    writeln!(stream, "{line}").unwrap();
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).unwrap();
    serde_json::from_str(&answer).unwrap()
}

// Command lines from before protocols had numbers read an answer that has one member and no other.
lab_test!(each_protocol_is_answered_in_its_form, || {
    let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/recipe.yaml");
    let mut stage = Stage::start(StageOptions::new(env!("CARGO_BIN_EXE_edgewarden"), recipe)).unwrap();
    stage.start_agent().unwrap();
    stage.wait_phase(LIMIT, "released").unwrap();
    let members = |answer: &Value| -> Vec<String> { answer.as_object().unwrap().keys().cloned().collect() };
    for command in ["status", "top", "connections", "plan"] {
        let early = said(&stage, &json!({"command": command}).to_string());
        assert_eq!(members(&early), ["ok"], "{early}");
        let numbered = said(&stage, &json!({"protocol": 1, "command": command}).to_string());
        assert_eq!(members(&numbered), ["ok", "protocol"], "{numbered}");
        assert_eq!(members(&early["ok"]), members(&numbered["ok"]));
    }
    let early = said(&stage, r#"{"command":"teleport"}"#);
    assert_eq!(members(&early), ["error"], "{early}");
    let other = said(&stage, r#"{"protocol":99,"command":"teleport"}"#);
    assert_eq!(other["protocol"], 1, "{other}");
    let problem = other["error"].as_str().unwrap();
    assert!(
        problem.contains("protocol 1") && problem.contains("protocol 99"),
        "{problem}"
    );
});

lab_test!(what_a_running_agent_answers_keeps_to_the_schemas, || {
    let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/recipe.yaml");
    let mut stage = Stage::start(StageOptions::new(env!("CARGO_BIN_EXE_edgewarden"), recipe)).unwrap();
    let mut samples = Vec::new();
    let absent = printed(&stage, &["status", "--json"]);
    assert_eq!(absent[0]["agent"], "not running");
    samples.extend(absent.into_iter().map(|value| Sample::closed("status", value)));

    stage.start_agent().unwrap();
    stage
        .wait_status(LIMIT, "control: connected, a report is accepted", |s| {
            s["cloud"]["channelWorks"] == true && s["reports"]["accepted"].as_u64() > Some(0)
        })
        .unwrap();
    let order = json!({
        "id": "inc-1", "posture": "isolate", "reason": "test", "expires": "2999-01-01T00:00:00Z",
        "allow": [{"remote": "192.0.2.7", "protocol": "tcp", "ports": [22], "direction": "in"}],
        "block": {"remotes": ["203.0.113.0/24"], "ports": [{"protocol": "udp", "port": 19}]},
        "limit": {"egressBytesPerSecond": 200_000, "quotaBytes": 50_000_000, "quotaPeriodSeconds": 3600},
        "processes": [{"match": {"exe": "*/nobody-*"}, "action": "freeze"}],
    });
    let path = stage.site.directory().join("order.json");
    std::fs::write(&path, order.to_string()).unwrap();
    let path = path.to_str().unwrap();
    every_answer(&stage, path, &mut samples);

    // Something to count, cut and refuse.
    let remote = format!("{INTERNET_V4}:9000");
    let args = ["sensor", "--every-millis", "20", "--remote", &remote, "--udp"];
    let log = stage.site.directory().join("sensor.log");
    let _sensor = stage
        .site
        .spawn(Ns::Gateway, lab_program().unwrap(), &args, &[], log)
        .unwrap();
    stage.desire(&json!({"quarantine": 7})).unwrap();
    let (code, _, errors) = stage.edgewarden(&["quarantine", "--order", path]).unwrap();
    assert_eq!(code, Some(0), "{errors}");
    stage
        .wait_status(LIMIT, "enforced, something cut and refused", |s| {
            let enforcement = &s["enforcement"];
            enforcement["phase"] == "enforced"
                && enforcement["blocked"]["reasons"] != json!([])
                && enforcement["rejected"] != json!([])
        })
        .unwrap();
    wait_until(LIMIT, "a process has traffic", || {
        printed(&stage, &["top", "--json"])[0]["processes"] != json!([])
    })
    .unwrap();
    every_answer(&stage, path, &mut samples);

    let (code, _, errors) = stage
        .edgewarden(&["release", "--override", "--reason", "test"])
        .unwrap();
    assert_eq!(code, Some(0), "{errors}");
    stage.wait_phase(LIMIT, "released").unwrap();
    every_answer(&stage, path, &mut samples);
    keep(&samples);
});
