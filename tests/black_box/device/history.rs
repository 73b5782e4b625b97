//! The audit history of a living agent: who, what and why, in order; and what a hand, a crash or a full disk does to it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use edgewarden_lab::lab_test;
use edgewarden_lab::site::wait_until;
use edgewarden_lab::stage::Stage;
use serde_json::{Value, json};

use crate::common::agent::restart_behind;
use crate::common::{LIMIT, done, isolate, options, random, ready, release, reports};

/// Kills in one test; each hits another moment of ordering, loading, recording or starting.
const KILLS: u64 = 20;
/// After this all of it is done.
const LATEST_KILL_MICROS: u64 = 80_000;

fn file(stage: &Stage) -> PathBuf {
    stage.state_directory().join("history")
}

fn history(stage: &Stage, args: &[&str]) -> (Option<i32>, String, String) {
    history_in(stage, &stage.state_directory(), args)
}

fn history_in(stage: &Stage, directory: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let mut all = vec!["history", "--state-dir", directory.to_str().unwrap()];
    all.extend(args);
    stage.edgewarden(&all).unwrap()
}

fn records(stage: &Stage) -> Vec<Value> {
    records_in(stage, &stage.state_directory())
}

fn records_in(stage: &Stage, directory: &Path) -> Vec<Value> {
    let (_, output, _) = history_in(stage, directory, &["--json"]);
    output
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Waits until the history has records with these members of their events, in this order, others between them or not.
fn wait_events(stage: &Stage, wanted: &[Value]) -> Vec<Value> {
    let fits = |event: &Value, wanted: &Value| {
        let members = wanted.as_object().unwrap();
        members.iter().all(|(name, value)| event[name] == *value)
    };
    let mut seen = Vec::new();
    let found = wait_until(LIMIT, "the records", || {
        seen = records(stage);
        let mut next = wanted.iter().peekable();
        for record in &seen {
            next.next_if(|wanted| fits(&record["event"], wanted));
        }
        next.peek().is_none()
    });
    assert!(found.is_ok(), "expected {wanted:#?}, found {seen:#?}");
    seen
}

fn whole(stage: &Stage) -> String {
    verified(stage, &stage.state_directory())
}

fn verified(stage: &Stage, directory: &Path) -> String {
    let (code, output, errors) = history_in(stage, directory, &["--verify"]);
    assert_eq!(code, Some(0), "{output}{errors}");
    output
}

fn refused(stage: &Stage) -> String {
    let (code, output, errors) = history(stage, &["--verify"]);
    assert_eq!((code, output.as_str()), (Some(1), ""), "{errors}");
    errors
}

lab_test!(the_history_tells_who_ordered_what_and_why, || {
    let mut stage = ready(options());
    wait_events(&stage, &[json!({"kind": "started"})]);
    let order = json!({"id": "inc-17", "posture": "isolate", "reason": "bytes out\u{202e}"});
    stage.desire(&json!({ "quarantine": order })).unwrap();
    stage.wait_phase(LIMIT, "enforced").unwrap();
    stage.nft(&["flush", "ruleset"]).unwrap();
    stage
        .wait_status(LIMIT, "put back", |s| s["enforcement"]["reasserted"] == 1)
        .unwrap();
    stage.desire(&json!({"quarantine": 7})).unwrap();
    stage
        .wait_status(LIMIT, "refused", |s| s["enforcement"]["rejected"] != json!([]))
        .unwrap();
    release(&stage);
    let seen = wait_events(
        &stage,
        &[
            json!({"kind": "started"}),
            json!({"kind": "ordered", "authority": "shadow", "order": "inc-17", "posture": "isolate",
                       "reason": "bytes out\u{202e}"}),
            json!({"kind": "planned", "posture": "isolate", "orders": ["shadow inc-17"]}),
            json!({"kind": "verified", "posture": "isolate"}),
            json!({"kind": "confirmed"}),
            json!({"kind": "reasserted"}),
            json!({"kind": "refused", "authority": "shadow"}),
            json!({"kind": "released", "authority": "shadow", "order": "inc-17", "by": "shadow"}),
            json!({"kind": "planned", "posture": "normal"}),
            json!({"kind": "verified", "posture": "normal"}),
        ],
    );
    let once = |kind: &str| {
        seen.iter()
            .filter(|record| record["event"]["kind"] == kind)
            .count()
    };
    let kinds = [
        "started",
        "ordered",
        "confirmed",
        "reasserted",
        "refused",
        "released",
    ];
    assert_eq!(kinds.map(once), [1; 6], "every change once: {seen:#?}");
    let said = whole(&stage);
    assert!(said.contains("it ends where the running agent says"), "{said}");
    let (code, page, errors) = history(&stage, &[]);
    assert_eq!(code, Some(0), "{errors}");
    assert!(
        page.contains(" UTC  #2 isolate ordered by shadow (inc-17): bytes out\\u{202e}\n"),
        "{page}"
    );
    let (_, newest, _) = history(&stage, &["--last", "1"]);
    assert!(page.ends_with(&newest) && newest.lines().count() == 1, "{newest}");

    stage.agent.as_mut().unwrap().terminate().unwrap();
    stage.agent.as_mut().unwrap().wait_exit(LIMIT).unwrap();
    wait_events(&stage, &[json!({"kind": "released"}), json!({"kind": "stopped"})]);
    assert!(whole(&stage).contains("no running agent could be asked"));
});

lab_test!(a_changed_history_is_found_and_the_place_is_named, || {
    let mut stage = ready(options());
    isolate(&stage);
    release(&stage);
    wait_events(
        &stage,
        &[
            json!({"kind": "ordered"}),
            json!({"kind": "verified", "posture": "normal"}),
        ],
    );
    let path = file(&stage);
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    whole(&stage);

    let edited = text.replacen("\"shadow\"", "\"Shadow\"", 1);
    let place = 1 + lines.iter().position(|line| line.contains("\"shadow\"")).unwrap();
    std::fs::write(&path, edited).unwrap();
    let errors = refused(&stage);
    assert!(
        errors.contains(&format!("history:{place}: was changed")),
        "{errors}"
    );
    let (code, page, errors) = history(&stage, &[]);
    assert!(
        code == Some(1) && page.contains(&format!("history:{place}: was changed")),
        "{page}{errors}"
    );

    std::fs::write(&path, [&lines[..2], &lines[3..]].concat().concat()).unwrap();
    let errors = refused(&stage);
    assert!(errors.contains("history:3: record 4, expected 3"), "{errors}");

    std::fs::write(&path, lines[..lines.len() - 1].concat()).unwrap();
    let errors = refused(&stage);
    assert!(errors.contains("records are missing at the end"), "{errors}");

    // The agent itself finds it with its next record, and goes on.
    isolate(&stage);
    wait_events(
        &stage,
        &[json!({"kind": "damaged"}), json!({"kind": "confirmed"})],
    );
    refused(&stage);
    stage.agent = None;
    std::fs::write(&path, &text).unwrap();
    whole(&stage);
    std::fs::write(&path, format!("{text}{{\"seq\":99,")).unwrap();
    assert!(whole(&stage).contains("is torn after 10 bytes"));
    stage.start_agent().unwrap();
    wait_events(
        &stage,
        &[json!({"kind": "torn", "bytes": 10}), json!({"kind": "started"})],
    );
    whole(&stage);
});

lab_test!(a_kill_at_any_moment_leaves_a_history_that_verifies, || {
    let mut random = random();
    let mut stage = ready(options());
    for round in 0..KILLS {
        let ordered = round % 2 == 0;
        stage.desire(&json!({ "quarantine": ordered })).unwrap();
        std::thread::sleep(Duration::from_micros(random.u64(..LATEST_KILL_MICROS)));
        stage.agent.as_mut().unwrap().kill9().unwrap();
        whole(&stage);
        stage.start_agent().unwrap();
        // Every third kill hits the start.
        if round % 3 == 0 {
            std::thread::sleep(Duration::from_micros(random.u64(..LATEST_KILL_MICROS)));
            stage.agent.as_mut().unwrap().kill9().unwrap();
            whole(&stage);
            stage.start_agent().unwrap();
        }
        let phase = if ordered { "enforced" } else { "released" };
        stage.wait_phase(LIMIT, phase).unwrap();
        reports(&stage, &json!(ordered));
    }
    let said = whole(&stage);
    let starts = records(&stage)
        .iter()
        .filter(|record| record["event"]["kind"] == "started")
        .count();
    println!("{starts} starts\n{said}");
    assert!(
        starts as u64 > KILLS / 2,
        "control: lives were recorded: {starts}"
    );
});

lab_test!(
    a_full_disk_does_not_stop_an_order_and_what_happened_is_recorded_later,
    || {
        let mut stage = ready(options());
        let state = stage.state_directory().display().to_string();
        restart_behind(
            &mut stage,
            &format!("mount -t tmpfs -o size=256k,mode=0700 tmpfs {state}"),
        );
        let disk = format!("/proc/{}/root{state}", stage.agent.as_ref().unwrap().pid());
        let disk = PathBuf::from(disk);
        stage.wait_phase(LIMIT, "released").unwrap();
        isolate(&stage);
        assert_eq!(
            stage.status()["enforcement"]["historyFault"],
            Value::Null,
            "control"
        );
        release(&stage);

        let filler = disk.join("filler");
        std::fs::write(&filler, vec![0; 512 * 1024]).unwrap_err();
        // What is left of the file's last page takes a few records.
        let mut rounds = 0;
        while stage.status()["enforcement"]["historyFault"].is_null() {
            assert!(rounds < 20, "the disk is full");
            isolate(&stage);
            release(&stage);
            rounds += 1;
        }
        isolate(&stage);
        let status = stage.status();
        let fault = status["enforcement"]["historyFault"].as_str().unwrap();
        assert!(
            fault.contains("history") && fault.contains("not recorded"),
            "{fault}"
        );
        let faults = status["enforcement"]["faults"].to_string();
        assert!(
            !faults.contains("history"),
            "it stands in no order's way: {faults}"
        );
        let (_, page, _) = stage.edgewarden(&["status"]).unwrap();
        assert!(page.contains(fault), "{page}");

        std::fs::remove_file(&filler).unwrap();
        release(&stage);
        stage
            .wait_status(LIMIT, "recorded again", |s| {
                s["enforcement"]["historyFault"].is_null()
            })
            .unwrap();
        verified(&stage, &disk);
        let seen = records_in(&stage, &disk);
        let count = |kind: &str| {
            seen.iter()
                .filter(|record| record["event"]["kind"] == kind)
                .count()
        };
        assert_eq!(count("ordered"), rounds + 2, "nothing is lost: {seen:#?}");
        assert_eq!((count("released"), count("torn")), (rounds + 2, 0));
    }
);

lab_test!(a_release_without_an_agent_records_no_stop_of_one, || {
    let mut stage = ready(options());
    isolate(&stage);
    stage.agent.as_mut().unwrap().kill9().unwrap();
    done(&stage, &["release", "--override", "--reason", "by hand"]);
    let kinds: Vec<Value> = records(&stage)
        .into_iter()
        .map(|record| record["event"]["kind"].clone())
        .collect();
    let by_hand = kinds.iter().position(|kind| kind == "withoutAgent");
    let after = &kinds[by_hand.expect("control: the release is in the history")..];
    assert!(
        after.contains(&json!("applied")),
        "control: all of it is: {after:?}"
    );
    assert!(
        !after.contains(&json!("stopped")),
        "no agent was there: {after:?}"
    );
    whole(&stage);
});
