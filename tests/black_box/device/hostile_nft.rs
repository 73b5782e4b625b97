//! A packet filter that is edited behind us, does not answer, is busy; and no program between it and us.

use std::os::unix::fs::PermissionsExt as _;

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{ATTACKER_V4, Ns, wait_until};
use edgewarden_lab::stage::Stage;
use edgewarden_lab::stage::filter_hook::{AFTER, EDIT_AFTER_LOAD, FAILS, FilterHook, HANGS};
use serde_json::{Value, json};

use crate::common::agent::{joined, restart_as};
use crate::common::{LIMIT, connected_and_released, done, isolate, options, ready, release, reports};

/// Whether a datagram of the gateway's arrives at a host of the attacker's.
fn leaves(stage: &Stage) -> bool {
    stage
        .site
        .udp_reaches(Ns::Gateway, Ns::Internet, ATTACKER_V4, 4444)
        .unwrap()
}

lab_test!(an_edit_between_load_and_listing_is_not_taken_for_ours, || {
    let mut stage = ready(options());
    let hook = FilterHook::start(&mut stage).unwrap();
    connected_and_released(&stage);
    assert!(leaves(&stage), "control: it arrives before");
    isolate(&stage);
    assert!(!leaves(&stage), "control: without an edit nothing leaves");
    release(&stage);

    // After every load.
    hook.begin(AFTER, EDIT_AFTER_LOAD).unwrap();
    stage.desire(&json!({"quarantine": true})).unwrap();
    let told = |s: &Value| joined(&s["enforcement"]["faults"]).contains("somebody changes our tables");
    let status = stage.wait_status(LIMIT, "the edits are told", told).unwrap();
    assert!(hook.written("edits").is_some(), "control: rules were edited");
    assert_eq!(status["enforcement"]["phase"], "failed", "{status}");
    assert_eq!(status["enforcement"]["posture"], Value::Null, "{status}");
    reports(&stage, &json!(false));

    // The next load is left alone.
    hook.end(AFTER).unwrap();
    stage.wait_phase(LIMIT, "enforced").unwrap();
    reports(&stage, &json!(true));
    assert!(!leaves(&stage), "and nothing leaves");
    release(&stage);
});

lab_test!(one_edit_between_load_and_listing_is_undone, || {
    let mut stage = ready(options());
    let hook = FilterHook::start(&mut stage).unwrap();
    connected_and_released(&stage);
    hook.begin("once", "").unwrap();
    hook.begin(AFTER, EDIT_AFTER_LOAD).unwrap();
    isolate(&stage);
    assert_eq!(hook.written("edits").as_deref(), Some("edited\n"), "control");
    assert!(!leaves(&stage));
    let status = stage.status();
    assert!(
        status["enforcement"]["reasserted"].as_u64() >= Some(1),
        "{status}"
    );
    release(&stage);
});

lab_test!(a_load_of_nothing_is_nobodys_edit, || {
    let mut stage = ready(options());
    let hook = FilterHook::start(&mut stage).unwrap();
    connected_and_released(&stage);
    isolate(&stage);
    // Released while the rules are gone and cannot be put back: then there is nothing to be loaded, and nothing to be removed.
    hook.begin(FAILS, "").unwrap();
    stage.nft(&["flush", "ruleset"]).unwrap();
    let told = |s: &Value| joined(&s["enforcement"]["faults"]).contains("cannot be asked");
    stage.wait_status(LIMIT, "the fault", told).unwrap();
    let before = stage.status()["enforcement"]["reasserted"].clone();
    stage.desire(&json!({"quarantine": false})).unwrap();
    let wanted = |s: &Value| s["enforcement"]["wanted"] == "normal";
    stage.wait_status(LIMIT, "the release has come", wanted).unwrap();
    hook.end(FAILS).unwrap();
    let status = stage.wait_phase(LIMIT, "released").unwrap();
    let log = stage.agent_output();
    assert!(!log.contains("while they were loaded"), "{log}");
    assert_eq!(status["enforcement"]["reasserted"], before, "{status}");
});

lab_test!(a_packet_filter_that_takes_no_questions_proves_nothing, || {
    let mut stage = ready(options());
    let hook = FilterHook::start(&mut stage).unwrap();
    connected_and_released(&stage);
    isolate(&stage);
    hook.begin(FAILS, "").unwrap();
    // Isolated, and nobody can list the rules: what holds is not known as soon as somebody changes anything.
    stage.nft(&["add", "table", "inet", "other"]).unwrap();
    let told = |s: &Value| joined(&s["enforcement"]["faults"]).contains("cannot be asked");
    let status = stage.wait_status(LIMIT, "the fault", told).unwrap();
    assert_eq!(status["enforcement"]["phase"], "failed", "{status}");
    assert_eq!(status["enforcement"]["posture"], Value::Null, "{status}");
    assert!(stage.has_table().unwrap(), "and the rules stay");
    hook.end(FAILS).unwrap();
    stage.wait_phase(LIMIT, "enforced").unwrap();
    release(&stage);

    // Free: an order could not be carried out, and that is told before there is one.
    hook.begin(FAILS, "").unwrap();
    stage.nft(&["delete", "table", "inet", "other"]).unwrap();
    let status = stage.wait_status(LIMIT, "the fault", told).unwrap();
    assert_eq!(status["enforcement"]["phase"], "failed", "{status}");
    assert_eq!(status["enforcement"]["posture"], Value::Null, "{status}");
    let page = done(&stage, &["status"]);
    assert!(
        page.contains("FAILED: normal is wanted, what the kernel holds is not known"),
        "{page}"
    );
    stage.desire(&json!({"quarantine": true})).unwrap();
    let wanted = |s: &Value| s["enforcement"]["wanted"] == "isolate" && s["enforcement"]["phase"] == "failed";
    stage.wait_status(LIMIT, "isolation is wanted", wanted).unwrap();
    hook.end(FAILS).unwrap();
    stage.wait_phase(LIMIT, "enforced").unwrap();
    release(&stage);
});

lab_test!(a_packet_filter_that_hangs_is_told_and_the_agent_goes_on, || {
    let mut stage = ready(options());
    let hook = FilterHook::start(&mut stage).unwrap();
    connected_and_released(&stage);
    hook.begin(HANGS, "").unwrap();
    stage.desire(&json!({"quarantine": true})).unwrap();
    let silent = |s: &Value| {
        let obstacles = s["enforcement"]["obstacles"].as_array().unwrap();
        let is_told = |one: &&Value| one["kind"] == "enforcerSilent" || one["kind"] == "filterSilent";
        obstacles.iter().any(|one| is_told(&one))
    };
    let status = stage
        .wait_status(LIMIT, "the packet filter does not answer", silent)
        .unwrap();
    assert_eq!(status["enforcement"]["phase"], "failed", "{status}");
    assert_eq!(status["enforcement"]["posture"], Value::Null, "{status}");
    assert_eq!(
        status["cloud"]["channelWorks"], true,
        "everything else goes on: {status}"
    );
    hook.end(HANGS).unwrap();
    stage.wait_phase(LIMIT, "enforced").unwrap();
    release(&stage);
});

lab_test!(no_program_of_the_working_directory_is_run, || {
    let mut stage = ready(options());
    let folder = stage.state_directory();
    let (foreign, ran) = (folder.join("nft"), folder.join("ran"));
    std::fs::write(
        &foreign,
        format!(
            "#!/bin/sh\necho ran > {}\nexec /usr/sbin/nft \"$@\"\n",
            ran.display()
        ),
    )
    .unwrap();
    std::fs::set_permissions(&foreign, std::fs::Permissions::from_mode(0o755)).unwrap();
    for path in [
        "PATH=:/usr/sbin:/usr/bin:/sbin:/bin",
        "PATH=.:/usr/sbin:/usr/bin:/sbin:/bin",
    ] {
        restart_as(&mut stage, "env", &[path]);
        connected_and_released(&stage);
        isolate(&stage);
        release(&stage);
        assert!(
            !ran.exists(),
            "{path}: the program of the working directory was run"
        );
    }
});

lab_test!(
    a_busy_packet_filter_of_others_does_not_keep_an_order_from_being_proven,
    || {
        let stage = ready(options());
        let (stop, busy) = (
            stage.site.directory().join("stop"),
            "control: others change the packet filter",
        );
        let text = format!(
            "while [ ! -e {} ]; do /usr/sbin/nft add table inet other; /usr/sbin/nft delete table inet other; done",
            stop.display()
        );
        let log = stage.site.directory().join("busy.log");
        let mut others = stage
            .site
            .spawn(Ns::Gateway, "/bin/sh", &["-c", &text], &[], log)
            .unwrap();
        let seen = || stage.nft(&["list", "tables"]).unwrap().1.contains("other");
        wait_until(LIMIT, busy, seen).unwrap();
        for _ in 0..5 {
            isolate(&stage);
            release(&stage);
        }
        // Other hosts are blocked, one after the other: only elements of sets change.
        for last in 1..=8 {
            let remotes: Vec<String> = (1..=last).map(|host| format!("203.0.113.{host}")).collect();
            let order = json!({"posture": "restrict", "block": {"remotes": remotes}});
            stage.desire(&json!({"quarantine": order})).unwrap();
            let held = |s: &Value| {
                let blocked = s["enforcement"]["orders"][0]["block"]["remotes"].as_array();
                blocked.is_some_and(|blocked| blocked.len() == last)
                    && s["enforcement"]["phase"] == "enforced"
            };
            stage.wait_status(LIMIT, "blocked", held).unwrap();
        }
        release(&stage);
        assert_eq!(
            stage.status()["enforcement"]["reasserted"],
            0,
            "nobody touched ours: {}",
            stage.agent_output()
        );
        assert!(others.is_running(), "{busy}");
        std::fs::write(stop, "").unwrap();
        others.wait_exit(LIMIT).unwrap();
        let log = stage.agent_output();
        assert!(!log.contains("somebody changes our tables"), "{log}");
    }
);
