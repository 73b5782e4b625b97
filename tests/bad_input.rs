//! Bad input and missing surroundings: one clear message, the state is kept, nothing is half applied, the agent lives.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and it damages what the agent needs"
)]

#[path = "common/broker.rs"]
mod broker;
mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use broker::{broker_down, broker_up};
use common::{LIMIT, isolate, options, ready, release, reports};
use edgewarden_lab::nucleus::personality::Personality;
use edgewarden_lab::site::in_lab;
use edgewarden_lab::stage::{Stage, StageOptions, THING};
use serde_json::{Value, json};

const SOCKET: &str = "AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT";

/// The agent lives, and its log has exactly one line with `text`.
fn said_once(stage: &mut Stage, text: &str) {
    let log = stage.agent_output();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains(text)).collect();
    assert_eq!(lines.len(), 1, "{text:?} in the log:\n{lines:#?}\nof\n{log}");
    assert!(stage.agent.as_mut().unwrap().is_running());
}

/// Every text of a list in the status, joined.
fn joined(list: &Value) -> String {
    list.as_array()
        .map(|items| items.iter().map(Value::to_string).collect::<Vec<_>>().join("\n"))
        .unwrap_or_default()
}

/// Waits until the status shows a refused order whose faults hold `text`.
fn wait_refused(stage: &Stage, text: &str) -> Value {
    let refused = |s: &Value| joined(&s["enforcement"]["rejected"][0]["faults"]).contains(text);
    stage.wait_status(LIMIT, text, refused).unwrap()
}

/// Nothing has changed since the phase was `phase`, here and in the kernel and in the shadow.
fn unchanged(stage: &Stage, phase: &str) {
    let isolated = phase == "enforced";
    assert_eq!(stage.status()["enforcement"]["phase"], phase);
    assert_eq!(stage.has_table().unwrap(), isolated);
    reports(stage, &json!(isolated));
}

/// Starts the agent through `program`, in place of the running one.
fn restart_as(stage: &mut Stage, program: &str, args: &[&str]) {
    stage.agent = None;
    stage.start_agent_as(Path::new(program), args).unwrap();
}

fn restart(stage: &mut Stage) {
    stage.agent = None;
    stage.start_agent().unwrap();
}

#[test]
fn a_wish_of_another_type_is_refused_and_the_state_stays() {
    in_lab("a_wish_of_another_type_is_refused_and_the_state_stays", || {
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
                let refused = |shadow: &Value| {
                    shadow["state"]["reported"]["quarantineStatus"]["rejected"] == json!([text])
                };
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
}

#[test]
fn every_fault_of_an_order_is_named_at_once() {
    in_lab("every_fault_of_an_order_is_named_at_once", || {
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
}

#[test]
fn a_delta_that_cannot_be_read_changes_nothing() {
    in_lab("a_delta_that_cannot_be_read_changes_nothing", || {
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
}

#[test]
fn a_rejected_report_is_told_and_orders_go_on() {
    in_lab("a_rejected_report_is_told_and_orders_go_on", || {
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
}

/// Every nft that the agent could find.
fn every_nft() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let known = ["/usr/sbin", "/sbin", "/usr/bin", "/usr/local/sbin"].map(PathBuf::from);
    let mut found: Vec<PathBuf> = std::env::split_paths(&path)
        .chain(known)
        .filter_map(|folder| folder.join("nft").canonicalize().ok())
        .collect();
    found.sort();
    found.dedup();
    found
}

#[test]
fn without_nft_nothing_is_claimed() {
    in_lab("without_nft_nothing_is_claimed", || {
        let mut stage = ready(options());
        isolate(&stage);
        release(&stage);
        let empty = stage.site.directory().join("empty");
        std::fs::write(&empty, "").unwrap();
        let programs = every_nft();
        assert!(!programs.is_empty(), "control: nft is installed");
        let mut script = String::new();
        for program in &programs {
            script += &format!("mount --bind {} {} && ", empty.display(), program.display());
        }
        script += "exec \"$@\"";
        let wrapper = ["--mount", "--propagation", "private", "sh", "-c", &script, "sh"];
        restart_as(&mut stage, "unshare", &wrapper);
        stage.wait_phase(LIMIT, "failed").unwrap();
        stage.desire(&json!({"quarantine": true})).unwrap();
        let status = stage
            .wait_status(LIMIT, "isolation is wanted", |s| {
                s["enforcement"]["wanted"] == "isolate"
            })
            .unwrap();
        assert_eq!(status["enforcement"]["phase"], "failed", "{status}");
        assert_eq!(status["enforcement"]["posture"], "normal", "{status}");
        let faults = joined(&status["enforcement"]["faults"]);
        assert!(faults.contains("nft was not found"), "{status}");
        stage
            .wait_shadow(LIMIT, "the fault in the shadow", |shadow| {
                let reported = &shadow["state"]["reported"];
                reported["quarantine"] == false
                    && reported["quarantineStatus"]["wanted"] == "isolate"
                    && joined(&reported["quarantineStatus"]["faults"]).contains("nft was not found")
            })
            .unwrap();
        assert!(!stage.has_table().unwrap());
        said_once(&mut stage, "enforcement: nft was not found");

        let mounts = format!("--mount=/proc/{}/ns/mnt", stage.agent.as_ref().unwrap().pid());
        for program in &programs {
            let back = Command::new("nsenter")
                .arg(&mounts)
                .arg("umount")
                .arg(program)
                .status();
            assert!(back.unwrap().success());
        }
        stage.wait_phase(LIMIT, "enforced").unwrap();
        reports(&stage, &json!(true));
        assert!(stage.has_table().unwrap());
    });
}

#[test]
fn without_the_capability_it_is_named() {
    in_lab("without_the_capability_it_is_named", || {
        let mut stage = ready(options());
        let wrapper = ["--bounding-set", "-net_admin", "--inh-caps", "-net_admin"];
        restart_as(&mut stage, "setpriv", &wrapper);
        stage.desire(&json!({"quarantine": true})).unwrap();
        let status = stage
            .wait_status(LIMIT, "isolation is wanted", |s| {
                s["enforcement"]["wanted"] == "isolate"
            })
            .unwrap();
        assert_eq!(status["enforcement"]["phase"], "failed", "{status}");
        let faults = joined(&status["enforcement"]["faults"]);
        assert!(faults.contains("CAP_NET_ADMIN is missing"), "{status}");
        reports(&stage, &json!(false));
        assert!(!stage.has_table().unwrap());
        said_once(&mut stage, "CAP_NET_ADMIN is missing");

        restart(&mut stage);
        stage.wait_phase(LIMIT, "enforced").unwrap();
        reports(&stage, &json!(true));
    });
}

#[test]
fn an_agent_older_than_the_broker_obeys_later() {
    in_lab("an_agent_older_than_the_broker_obeys_later", || {
        let mut stage = Stage::start(StageOptions {
            online: false,
            ..options()
        })
        .unwrap();
        stage.start_agent().unwrap();
        let status = stage
            .wait_status(LIMIT, "the channel's fault", |s| {
                s["cloud"]["lastError"].is_string()
            })
            .unwrap();
        assert_eq!(status["cloud"]["channelWorks"], false, "{status}");
        assert_eq!(status["enforcement"]["phase"], "released", "{status}");
        assert_eq!(status["cloud"]["ipc"], "connected", "{status}");

        stage.go_online().unwrap();
        stage
            .wait_status(LIMIT, "the channel works", |s| s["cloud"]["channelWorks"] == true)
            .unwrap();
        isolate(&stage);
        said_once(&mut stage, "the control channel does not work");
    });
}

/// Without a nucleus the agent still observes, and still obeys its operator.
fn without_a_nucleus(stage: &mut Stage, problem: &str) {
    let status = stage
        .wait_status(LIMIT, problem, |s| {
            s["cloud"]["ipc"]
                .as_str()
                .is_some_and(|ipc| ipc.contains(problem))
        })
        .unwrap();
    assert_eq!(status["enforcement"]["phase"], "released", "{status}");
    let done = stage
        .edgewarden(&["quarantine", "--reason", "no nucleus"])
        .unwrap();
    assert_eq!(done.0, Some(0), "{done:?}");
    assert!(stage.has_table().unwrap());
    let done = stage.edgewarden(&["release"]).unwrap();
    assert_eq!(done.0, Some(0), "{done:?}");
    assert!(!stage.has_table().unwrap());
    assert!(stage.agent.as_mut().unwrap().is_running());
}

#[test]
fn a_missing_nucleus_is_named_and_the_operator_still_rules() {
    in_lab("a_missing_nucleus_is_named_and_the_operator_still_rules", || {
        let mut stage = ready(options());
        restart_as(&mut stage, "env", &[&format!("{SOCKET}=/nonexistent/ipc.socket")]);
        without_a_nucleus(&mut stage, "/nonexistent/ipc.socket");

        restart_as(&mut stage, "env", &["-u", SOCKET, "-u", "SVCUID"]);
        without_a_nucleus(&mut stage, SOCKET);
        said_once(
            &mut stage,
            "the nucleus cannot be reached, only local functions work",
        );
    });
}

#[test]
fn a_faulty_configuration_is_refused_whole() {
    in_lab("a_faulty_configuration_is_refused_whole", || {
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

        stage.deploy(&json!({"mode": "enforce"})).unwrap();
        let status = stage.wait_status(LIMIT, "mode enforce", mode("enforce")).unwrap();
        assert_eq!(status["configuration"]["faults"], json!([]), "{status}");
        isolate(&stage);
    });
}

#[test]
fn the_shipped_agent_refuses_the_laboratory_interval() {
    in_lab("the_shipped_agent_refuses_the_laboratory_interval", || {
        let mut stage = Stage::start(options()).unwrap();
        let shipped = ["-u", "EDGEWARDEN_DEVELOPMENT"];
        stage.start_agent_as(Path::new("env"), &shipped).unwrap();
        let named =
            |s: &Value| joined(&s["configuration"]["faults"]).contains("EDGEWARDEN_DEVELOPMENT=1 is not set");
        let status = stage.wait_status(LIMIT, "the fault", named).unwrap();
        let path = &status["configuration"]["faults"][0]["path"];
        assert_eq!(path, "development.reportIntervalSeconds", "{status}");
        assert_eq!(status["configuration"]["source"], "defaults", "{status}");
        isolate(&stage);
        said_once(&mut stage, "the configuration is refused");

        restart(&mut stage);
        let taken = |s: &Value| s["configuration"]["source"] == "nucleus";
        let status = stage.wait_status(LIMIT, "control: taken", taken).unwrap();
        assert_eq!(status["configuration"]["faults"], json!([]), "{status}");
    });
}

#[test]
fn an_unwritable_state_directory_does_not_stop_an_order() {
    in_lab("an_unwritable_state_directory_does_not_stop_an_order", || {
        let mut stage = ready(options());
        isolate(&stage);
        assert_eq!(stage.status()["enforcement"]["faults"], json!([]), "control");
        release(&stage);

        let state = stage.state_directory().display().to_string();
        let script =
            format!("mount --bind {state} {state} && mount -o remount,bind,ro {state} && exec \"$@\"");
        let wrapper = ["--mount", "--propagation", "private", "sh", "-c", &script, "sh"];
        restart_as(&mut stage, "unshare", &wrapper);
        isolate(&stage);
        let status = stage.status();
        let faults = joined(&status["enforcement"]["faults"]);
        assert!(
            faults.contains("what is ordered would not survive a restart"),
            "{status}"
        );
        assert!(
            faults.contains(&format!("{state}/journal")),
            "it names the file: {status}"
        );
        said_once(&mut stage, "enforcement: could not write");

        restart(&mut stage);
        stage
            .wait_status(LIMIT, "enforced without a fault", |s| {
                s["enforcement"]["phase"] == "enforced" && s["enforcement"]["faults"] == json!([])
            })
            .unwrap();
    });
}

#[test]
fn a_damaged_journal_isolates_until_somebody_speaks() {
    in_lab("a_damaged_journal_isolates_until_somebody_speaks", || {
        let mut stage = ready(options());
        isolate(&stage);
        stage.agent.as_mut().unwrap().kill9().unwrap();
        broker_down(&mut stage);
        let journal = stage.state_directory().join("journal");
        let mut bytes = std::fs::read(&journal).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&journal, &bytes).unwrap();
        // Only what is left of the journal can say now that an order was live.
        stage.nft(&["flush", "ruleset"]).unwrap();
        assert!(!stage.has_table().unwrap());

        restart(&mut stage);
        let status = stage
            .wait_status(LIMIT, "isolated again", |s| {
                s["enforcement"]["posture"] == "isolate"
            })
            .unwrap();
        let order = &status["enforcement"]["orders"][0];
        assert_eq!(order["authority"], "recovery", "{status}");
        let reason = order["reason"].as_str().unwrap_or_default();
        assert!(
            reason.contains("the journal is damaged: its checksum"),
            "{status}"
        );
        assert!(stage.has_table().unwrap());
        let kept = std::fs::read(stage.state_directory().join("journal.damaged")).unwrap();
        assert_eq!(kept, bytes, "the damaged journal is kept as it was");
        said_once(&mut stage, "the journal is damaged");

        broker_up(&mut stage);
        release(&stage);
        assert_eq!(stage.status()["enforcement"]["orders"], json!([]));
    });
}
