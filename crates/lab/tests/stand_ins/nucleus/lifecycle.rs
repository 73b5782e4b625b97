//! What may be asked of a component: restart, stop, pause, resume; and its metrics.

use std::path::Path;

use serde_json::{Value, json};

use crate::bench::{Bench, LIMIT, RECIPE, code, eventually};

fn target() -> Value {
    json!({ "componentName": "com.example.C" })
}

fn launched(personality: &str) -> Bench {
    Bench::start_with(personality, &["--launch"], |folder| {
        std::fs::write(folder.join("artifacts/component.sh"), "exec sleep 1000").unwrap();
    })
}

/// The pid of a start after that of `earlier`, which is the first when there was none.
fn pid_after(bench: &Bench, earlier: &[u64]) -> u64 {
    let new = |event: &Value| {
        event["state"] == "started" && event["pid"].as_u64().is_some_and(|pid| !earlier.contains(&pid))
    };
    bench.nucleus.find_event(LIMIT, new).unwrap()["pid"]
        .as_u64()
        .unwrap()
}

/// The kernel's letter for what the process does.
fn process_state(pid: u64) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

#[test]
fn a_restart_is_another_process_and_no_failure() {
    for personality in ["lite", "classic"] {
        let bench = launched(personality);
        let mut ipc = bench.ipc();
        let mut pids = vec![pid_after(&bench, &[])];
        // More often than a failing component would be started.
        for _ in 0..4 {
            assert_eq!(
                ipc.call("RestartComponent", &target()),
                Ok(json!({ "restartStatus": "SUCCEEDED" }))
            );
            pids.push(pid_after(&bench, &pids));
            let [.., old, _] = pids[..] else { unreachable!() };
            assert!(
                !Path::new(&format!("/proc/{old}")).exists(),
                "the old one ended first"
            );
        }
    }
}

#[test]
fn a_stopped_component_rests_until_a_restart() {
    let mut bench = launched("classic");
    let mut ipc = bench.ipc();
    let pid = pid_after(&bench, &[]);
    assert_eq!(
        ipc.call("StopComponent", &target()),
        Ok(json!({ "stopStatus": "SUCCEEDED" }))
    );
    bench
        .nucleus
        .wait_event(LIMIT, |event| event["state"] == "exited" && event["pid"] == pid)
        .unwrap();
    assert_eq!(
        code(ipc.call("PauseComponent", &target())),
        "InvalidArgumentsError",
        "it does not run"
    );
    ipc.call("RestartComponent", &target()).unwrap();
    pid_after(&bench, &[pid]);
}

#[test]
fn a_paused_component_does_nothing_and_still_ends() {
    let mut bench = launched("classic");
    let mut ipc = bench.ipc();
    let pid = pid_after(&bench, &[]);
    assert_eq!(
        code(ipc.call("ResumeComponent", &target())),
        "InvalidArgumentsError",
        "it is not paused"
    );
    assert_eq!(ipc.call("PauseComponent", &target()), Ok(json!({})));
    bench
        .nucleus
        .wait_event(LIMIT, |event| event["state"] == "paused")
        .unwrap();
    eventually("it is stopped", || process_state(pid) == Some('T'));
    assert_eq!(ipc.call("ResumeComponent", &target()), Ok(json!({})));
    eventually("it sleeps again", || process_state(pid) == Some('S'));
    ipc.call("PauseComponent", &target()).unwrap();
    bench.nucleus.terminate().unwrap();
    assert!(bench.nucleus.wait_exit(LIMIT).unwrap().success());
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn only_granted_and_known_components_are_touched() {
    for (personality, operations) in [
        ("lite", &["RestartComponent"][..]),
        (
            "classic",
            &[
                "RestartComponent",
                "StopComponent",
                "PauseComponent",
                "ResumeComponent",
            ][..],
        ),
    ] {
        let bench = Bench::start(personality, &[]);
        let mut ipc = bench.ipc();
        for operation in operations {
            let mut ask = |name: &str| code(ipc.call(operation, &json!({ "componentName": name })));
            assert_eq!(ask("com.example.Secret"), "UnauthorizedError");
            assert_eq!(ask("com.example.Other"), "ResourceNotFoundError");
            assert_eq!(
                code(ipc.call(operation, &json!({}))),
                "InvalidArgumentsError",
                "{personality} {operation}"
            );
        }
    }
}

#[test]
fn metrics_are_for_components_of_aws() {
    let metric = |name: &str, unit: &str, value: f64| json!({ "metrics": [{ "name": name, "unit": unit, "value": value }] });
    let good = metric("Packets", "COUNT_PER_SECOND", 1.5);
    let denied = Bench::start("classic", &[])
        .ipc()
        .call("PutComponentMetric", &good);
    assert_eq!(code(denied), "UnauthorizedError");
    let bench = Bench::start_with("classic", &[], |folder| {
        let recipe = RECIPE.replace("ComponentName: com.example.C", "ComponentName: aws.greengrass.C");
        std::fs::write(folder.join("recipe.yaml"), recipe).unwrap();
    });
    let mut ipc = bench.ipc();
    assert_eq!(ipc.call("PutComponentMetric", &good), Ok(json!({})));
    let told = bench
        .nucleus
        .find_event(LIMIT, |event| event["event"] == "metrics")
        .unwrap();
    assert_eq!(told["metrics"], good["metrics"]);
    for bad in [
        metric("Packets", "PARSEC", 1.0),
        metric("", "COUNT", 1.0),
        metric(&"x".repeat(33), "COUNT", 1.0),
        metric("Packets", "COUNT", -1.0),
        json!({ "metrics": [] }),
    ] {
        assert_eq!(
            code(ipc.call("PutComponentMetric", &bad)),
            "InvalidArgumentsError",
            "{bad}"
        );
    }
}
