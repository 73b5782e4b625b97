//! A disk that does not answer: orders are carried out all the same, that is told, and what was late is on disk later.

use std::time::{Duration, Instant};

use edgewarden_lab::lab_test;
use edgewarden_lab::site::wait_until;
use edgewarden_lab::stage::Stage;
use edgewarden_lab::stage::preload::{HANGING_SYNC, Hang};
use serde_json::{Value, json};

use crate::common::agent::{restart, restart_as};
use crate::common::{
    LIMIT, connected_and_released, done, done_for_the_moment, isolate, options, ready, release,
};

/// The stage with its agent on such a disk.
fn on_a_disk_that_hangs(stage: &mut Stage) -> Hang {
    let disk = Hang::start(stage, HANGING_SYNC).unwrap();
    connected_and_released(stage);
    disk
}

fn told(status: &Value, kind: &str) -> bool {
    let obstacles = status["enforcement"]["obstacles"].as_array().unwrap();
    obstacles.iter().any(|obstacle| obstacle["kind"] == kind)
}

lab_test!(a_disk_that_does_not_answer_holds_no_order_up, || {
    let mut stage = ready(options());
    let disk = on_a_disk_that_hangs(&mut stage);
    isolate(&stage);
    release(&stage);
    assert!(
        !told(&stage.status(), "journalNotWritten"),
        "control: a disk that answers"
    );

    disk.begin().unwrap();
    let began = Instant::now();
    stage.desire(&json!({"quarantine": true})).unwrap();
    let isolated = |s: &Value| s["enforcement"]["posture"] == "isolate";
    stage
        .wait_status(LIMIT, "isolated without the disk", isolated)
        .unwrap();
    assert!(stage.has_table().unwrap());
    let took = began.elapsed();
    assert!(took.as_secs() < 15, "{took:?}: the order waited for the disk");
    let status = stage.status();
    assert!(told(&status, "journalNotWritten"), "{status}");
    let page = done(&stage, &["status"]);
    assert!(page.contains("would not survive a restart"), "{page}");
    assert!(page.contains("make room on, or remount"), "the next step: {page}");

    disk.end().unwrap();
    let kept = |s: &Value| !told(s, "journalNotWritten") && s["enforcement"]["phase"] == "enforced";
    stage
        .wait_status(LIMIT, "what was late is on disk", kept)
        .unwrap();
    stage.agent.as_mut().unwrap().kill9().unwrap();
    stage.nft(&["flush", "ruleset"]).unwrap();
    restart(&mut stage);
    stage.wait_status(LIMIT, "the order survived", isolated).unwrap();
    release(&stage);
});

lab_test!(
    an_order_that_was_late_on_disk_does_not_come_back_after_its_release,
    || {
        let mut stage = ready(options());
        let disk = on_a_disk_that_hangs(&mut stage);
        disk.begin().unwrap();
        stage.desire(&json!({"quarantine": true})).unwrap();
        let posture = |wanted: &'static str| move |s: &Value| s["enforcement"]["posture"] == wanted;
        stage
            .wait_status(LIMIT, "isolated without the disk", posture("isolate"))
            .unwrap();
        stage.desire(&json!({"quarantine": false})).unwrap();
        stage
            .wait_status(LIMIT, "released without the disk", posture("normal"))
            .unwrap();
        assert!(
            told(&stage.status(), "journalNotWritten"),
            "control: the order is still on its way"
        );

        disk.end().unwrap();
        let settled = |s: &Value| !told(s, "journalNotWritten") && s["enforcement"]["phase"] == "released";
        stage
            .wait_status(LIMIT, "the release is on disk", settled)
            .unwrap();
        stage.agent.as_mut().unwrap().kill9().unwrap();
        restart(&mut stage);
        connected_and_released(&stage);
        assert!(!stage.has_table().unwrap());
    }
);

lab_test!(a_disk_that_does_not_answer_keeps_no_rule_away, || {
    let mut stage = ready(options());
    let disk = on_a_disk_that_hangs(&mut stage);
    isolate(&stage);
    disk.begin().unwrap();
    // Whatever happens from now on waits for the history and the journal.
    for _ in 0..4 {
        stage.nft(&["flush", "ruleset"]).unwrap();
        let gone = Instant::now();
        wait_until(LIMIT, "the table is back", || stage.has_table().unwrap()).unwrap();
        let took = gone.elapsed();
        assert!(
            took < Duration::from_secs(1),
            "{took:?}: the rules waited for the disk"
        );
        let counted = |s: &Value| s["enforcement"]["phase"] == "enforced";
        stage.wait_status(LIMIT, "proven", counted).unwrap();
    }
    let behind = |s: &Value| {
        s["enforcement"]["historyFault"]
            .as_str()
            .is_some_and(|why| why.contains("recorded later"))
    };
    stage.wait_status(LIMIT, "the history is behind", behind).unwrap();
    disk.end().unwrap();
    let recorded = |s: &Value| s["enforcement"]["historyFault"].is_null();
    stage
        .wait_status(LIMIT, "the history is on disk", recorded)
        .unwrap();
    release(&stage);
});

lab_test!(an_agent_that_ends_waits_a_while_for_what_is_late_on_disk, || {
    let mut stage = ready(options());
    let disk = on_a_disk_that_hangs(&mut stage);
    let orders: [(&str, &[&str]); 2] = [("isolate", &[]), ("normal", &["release"])];
    for (posture, then) in orders {
        disk.begin().unwrap();
        // Of the operator, whom nobody asks again.
        done_for_the_moment(&stage, &["quarantine", "--reason", posture]);
        let late = |s: &Value| s["enforcement"]["posture"] == "isolate" && told(s, "journalNotWritten");
        stage
            .wait_status(LIMIT, "in force, and not on disk", late)
            .unwrap();
        // What was late before must not be the last word.
        if !then.is_empty() {
            done_for_the_moment(&stage, then);
        }
        let agent = stage.agent.as_mut().unwrap();
        agent.terminate().unwrap();
        // As long as a flash card goes on to tidy up.
        std::thread::sleep(Duration::from_millis(1_500));
        disk.end().unwrap();
        agent.wait_exit(LIMIT).unwrap();
        let [preload, switch] = disk.environment();
        restart_as(&mut stage, "env", &[&preload, &switch]);
        let survived =
            |s: &Value| s["enforcement"]["posture"] == posture && s["cloud"]["channelWorks"] == true;
        stage.wait_status(LIMIT, "as it was", survived).unwrap();
        assert_eq!(stage.has_table().unwrap(), posture == "isolate");
    }
});
