//! The way out: a release or a removal that is said to be done is done, and stays so.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::thread;
use std::time::Duration;

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{ATTACKER_V4, Ns, wait_until};
use edgewarden_lab::stage::Stage;
use edgewarden_lab::stage::filter_hook::{BEFORE, FilterHook};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::guard::lives;
use super::way_out::{OVERRIDE, said};
use crate::common::agent::{restart, restart_as};
use crate::common::{LIMIT, connected_and_released, done, isolate, options, order, ready};

/// The stage's command line, with the stage's places.
pub(super) fn command(stage: &Stage, args: &[&str]) -> Command {
    let mut command = Command::new(stage.artifact());
    command
        .arg("--control-socket")
        .arg(stage.control_socket())
        .args(args)
        .arg("--state-dir")
        .arg(stage.state_directory());
    command
}

/// Whatever makes a write fail: a full disk, a file system that became read-only.
pub(super) fn unwritable(stage: &Stage, name: &str) {
    let in_the_way = stage.state_directory().join(name);
    std::fs::create_dir(&in_the_way).unwrap();
    std::fs::write(in_the_way.join("x"), "").unwrap();
}

// Q-104, false "done": the nft that a killed agent has started goes on without it.
lab_test!(
    a_load_that_outlives_its_killed_agent_does_not_close_the_device_again,
    || {
        let mut stage = ready(options());
        let hook = FilterHook::start(&mut stage).unwrap();
        connected_and_released(&stage);
        hook.begin(BEFORE, "echo >> \"$folder/begun\"; sleep 5").unwrap();
        stage.desire(&json!({"quarantine": true})).unwrap();
        wait_until(LIMIT, "a load is under way", || hook.written("begun").is_some()).unwrap();
        stage.agent.as_mut().unwrap().signal(Signal::SIGSTOP).unwrap();
        let (code, ..) = said(&stage, &OVERRIDE);
        assert!(!stage.has_table().unwrap(), "control: open");
        let closed = wait_until(Duration::from_secs(7), "closed again", || {
            stage.has_table().unwrap()
        });
        said(&stage, &["status"]);
        assert!(
            closed.is_err() || code != Some(0),
            "exit {code:?}, and closed again by nobody's order"
        );
    }
);

// Q-104, Q-108: what a restart forgets is not done, whoever carried it out.
lab_test!(
    an_answered_release_that_is_not_on_disk_is_not_said_to_be_done,
    || {
        let mut stage = ready(options());
        isolate(&stage);
        unwritable(&stage, "journal.new");
        let (code, ..) = said(&stage, &OVERRIDE);
        stage.agent.as_mut().unwrap().kill9().unwrap();
        restart(&mut stage);
        let again = stage.wait_phase(Duration::from_secs(5), "enforced");
        assert!(
            again.is_err() || code != Some(0),
            "exit {code:?}, and isolated again"
        );
    }
);

// Q-108: the same with an order.
lab_test!(an_order_that_is_not_on_disk_is_not_said_to_be_done, || {
    let mut stage = ready(options());
    unwritable(&stage, "journal.new");
    let (code, ..) = said(&stage, &["quarantine", "--reason", "mine"]);
    stage.agent.as_mut().unwrap().kill9().unwrap();
    stage.nft(&["flush", "ruleset"]).unwrap();
    restart(&mut stage);
    let heard = |s: &Value| s["cloud"]["channelWorks"] == true;
    stage.wait_status(LIMIT, "it is back", heard).unwrap();
    assert!(
        stage.has_table().unwrap() || code != Some(0),
        "exit {code:?}, and a boot has forgotten it"
    );
});

// Q-104: "is in the history", and what is not on disk is a failure.
lab_test!(
    a_release_without_an_agent_that_is_not_in_the_history_says_so,
    || {
        let mut stage = ready(options());
        isolate(&stage);
        stage.agent.as_mut().unwrap().kill9().unwrap();
        let history = stage.state_directory().join("history");
        let kept = stage.site.directory().join("history.kept");
        std::fs::rename(&history, &kept).unwrap();
        unwritable(&stage, "history");
        let (code, text, errors) = said(&stage, &OVERRIDE);
        std::fs::remove_dir_all(&history).unwrap();
        std::fs::rename(&kept, &history).unwrap();
        let (_, records, _) = said(&stage, &["history"]);
        assert!(
            records.contains("by hand")
                || code != Some(0)
                || text.contains("history")
                || errors.contains("history"),
            "exit {code:?}: no record, and no word of that"
        );
    }
);

// Q-104, Q-108: the agent puts its rules back at once.
lab_test!(an_override_at_the_wrong_places_is_not_said_to_be_done, || {
    let stage = ready(options());
    isolate(&stage);
    let directory = stage.site.directory();
    let (elsewhere, nowhere) = (directory.join("elsewhere"), directory.join("nowhere.sock"));
    let mut args = OVERRIDE.to_vec();
    args.extend([
        "--state-dir",
        elsewhere.to_str().unwrap(),
        "--control-socket",
        nowhere.to_str().unwrap(),
    ]);
    let (code, ..) = said(&stage, &args);
    let lifted = |s: &Value| s["enforcement"]["reasserted"].as_u64() >= Some(1);
    let back = stage.wait_status(Duration::from_secs(8), "put back", lifted);
    println!("{:?}", back.is_ok());
    assert!(
        !stage.has_table().unwrap() || code != Some(0),
        "exit {code:?}, and the device is closed"
    );
});

// Q-108: the kernel keeps what the ended order wanted.
lab_test!(
    a_release_that_leaves_the_device_as_closed_as_before_is_not_said_to_be_done,
    || {
        let mut stage = ready(options());
        let wish = json!({"posture": "restrict", "id": "inc-1", "reason": "r",
        "limit": {"egressBytesPerSecond": 1_000_000}});
        order(&stage, &wish);
        stage.wait_phase(LIMIT, "enforced").unwrap();
        let passes = |stage: &Stage| {
            let address = ATTACKER_V4;
            stage
                .site
                .udp_reaches(Ns::Gateway, Ns::Internet, address, 5001)
                .unwrap()
        };
        assert!(passes(&stage), "control: the cloud's order lets it through");
        done(&stage, &["quarantine", "--reason", "mine"]);
        assert!(!passes(&stage), "control: the operator's does not");
        stage.agent.as_mut().unwrap().kill9().unwrap();
        let (code, ..) = said(&stage, &["release"]);
        said(&stage, &["status"]);
        assert!(
            passes(&stage) || code != Some(0),
            "exit {code:?}, and the operator's isolation is still in the kernel"
        );
    }
);

// Q-104, false "done": an agent that has no lock (a disk that hung at its start, a directory that others could write to).
lab_test!(a_stopped_agent_without_the_lock_does_not_undo_a_release, || {
    let mut stage = ready(options());
    let state = stage.state_directory();
    let script = format!("chmod 0777 {}; exec \"$@\"", state.display());
    restart_as(&mut stage, "sh", &["-c", &script, "sh"]);
    let hears = |s: &Value| s["cloud"]["channelWorks"] == true;
    stage.wait_status(LIMIT, "control: it hears", hears).unwrap();
    stage.desire(&json!({"quarantine": true})).unwrap();
    let closed = |s: &Value| s["enforcement"]["posture"] == "isolate";
    stage.wait_status(LIMIT, "isolated", closed).unwrap();
    // As its status says that it should be done.
    std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o700)).unwrap();
    stage.agent.as_mut().unwrap().signal(Signal::SIGSTOP).unwrap();
    said(&stage, &["status"]);
    let (code, text, errors) = said(&stage, &OVERRIDE);
    let pid = stage.agent.as_ref().unwrap().pid();
    println!("lives: {}", lives(pid));
    stage.agent.as_mut().unwrap().signal(Signal::SIGCONT).unwrap();
    let back = wait_until(Duration::from_secs(6), "closed again", || {
        stage.has_table().unwrap()
    });
    assert!(
        back.is_err() || code != Some(0),
        "exit {code:?}, {text}{errors}: and closed again"
    );
    assert!(
        !text.contains("no agent runs"),
        "one does, and its silence was heard: {text}"
    );
});

// Q-104, false "done": in a panic people remove lock files.
lab_test!(
    a_stopped_agent_whose_lock_file_was_removed_does_not_undo_a_release,
    || {
        let mut stage = ready(options());
        isolate(&stage);
        stage.agent.as_mut().unwrap().signal(Signal::SIGSTOP).unwrap();
        std::fs::remove_file(stage.state_directory().join("lock")).unwrap();
        let (code, text, errors) = said(&stage, &OVERRIDE);
        println!("lives: {}", lives(stage.agent.as_ref().unwrap().pid()));
        stage.agent.as_mut().unwrap().signal(Signal::SIGCONT).unwrap();
        let back = wait_until(Duration::from_secs(6), "closed again", || {
            stage.has_table().unwrap()
        });
        said(&stage, &["history", "--verify"]);
        assert!(
            back.is_err() || code != Some(0),
            "exit {code:?}, {text}{errors}: and closed again"
        );
    }
);

// An uninstall that is done leaves no agent that obeys the cloud, without the program that ends an order.
lab_test!(
    an_uninstall_beside_a_well_agent_without_the_lock_is_refused,
    || {
        let mut stage = ready(options());
        std::fs::remove_file(stage.state_directory().join("lock")).unwrap();
        let (code, text, _) = said(&stage, &["uninstall"]);
        assert!(stage.agent.as_mut().unwrap().is_running());
        stage.desire(&json!({"quarantine": true})).unwrap();
        let closed = wait_until(LIMIT, "closed", || stage.has_table().unwrap());
        println!("closed: {closed:?}, state: {}", stage.state_directory().exists());
        assert_ne!(code, Some(0), "{text}: and the agent goes on");
    }
);

// Held: whoever kills the command in the middle leaves a device that the next one opens.
lab_test!(a_release_that_is_killed_at_any_moment_leaves_the_way_out, || {
    let mut stage = ready(options());
    for turn in 0..12_u64 {
        let wish = json!({"id": format!("inc-{turn}"), "posture": "isolate"});
        stage.desire(&json!({"quarantine": wish})).unwrap();
        stage.wait_phase(LIMIT, "enforced").unwrap();
        stage.agent.as_mut().unwrap().kill9().unwrap();
        let mut release = command(&stage, &OVERRIDE);
        let mut running = stage
            .site
            .run_in(Ns::Gateway, || release.spawn())
            .unwrap()
            .unwrap();
        thread::sleep(Duration::from_millis(turn * 5));
        let _gone = running.kill();
        let _gone = running.wait();
        let between = stage.has_table().unwrap();
        let (code, text, errors) = said(&stage, &OVERRIDE);
        assert!(
            code == Some(0) && !stage.has_table().unwrap(),
            "turn {turn}, closed between: {between}: {text}{errors}"
        );
        let (verified, ..) = said(&stage, &["history", "--verify"]);
        assert_eq!(verified, Some(0));
        stage.agent = None;
        stage.start_agent().unwrap();
        let heard = |s: &Value| s["cloud"]["channelWorks"] == true;
        let status = stage.wait_status(LIMIT, "connected", heard).unwrap();
        assert_eq!(
            status["enforcement"]["phase"], "released",
            "turn {turn}: {status}"
        );
    }
});

// A wrong --state-dir takes nothing from an agent that is well.
lab_test!(
    an_uninstall_with_the_wrong_state_directory_leaves_a_well_agent_alone,
    || {
        let stage = ready(options());
        let elsewhere = stage.site.directory().join("elsewhere");
        let (code, text, _) = said(&stage, &["uninstall", "--state-dir", elsewhere.to_str().unwrap()]);
        let socket = stage.control_socket();
        println!("socket: {}", socket.exists());
        assert!(
            code != Some(0) && socket.exists(),
            "exit {code:?}: {text}, and the agent goes on without its socket"
        );
    }
);

// Q-104, false "done": the operator's shell is in another network namespace, as where sshd has one for management.
lab_test!(
    a_release_from_another_network_namespace_is_not_said_to_be_done,
    || {
        let mut stage = ready(options());
        isolate(&stage);
        stage.agent.as_mut().unwrap().signal(Signal::SIGSTOP).unwrap();
        let told = |args: &[&str]| {
            let mut command = command(&stage, args);
            let output = stage.site.run_in(Ns::Lan, || command.output()).unwrap().unwrap();
            println!("{args:?}: {output:?}");
            (
                output.status.code(),
                String::from_utf8_lossy(&output.stdout).into_owned(),
            )
        };
        let (_, page) = told(&["status"]);
        let (code, text) = told(&OVERRIDE);
        assert!(
            !stage.has_table().unwrap() || code != Some(0),
            "exit {code:?}, {text}: and the gateway is as closed as before"
        );
        assert!(!page.contains("nothing is cut"), "{page}");
    }
);

// Held: what a deployment ordered stays ended, as what the shadow did.
lab_test!(
    a_deployments_order_stays_ended_after_a_release_without_an_agent,
    || {
        let mut stage = ready(options());
        let wish = json!({"posture": "isolate", "id": "dep-1", "reason": "r"});
        stage.deploy(&json!({ "quarantine": wish })).unwrap();
        stage.wait_phase(LIMIT, "enforced").unwrap();
        stage.agent.as_mut().unwrap().kill9().unwrap();
        done(&stage, &OVERRIDE);
        stage.agent = None;
        stage.start_agent().unwrap();
        let heard =
            |s: &Value| s["cloud"]["channelWorks"] == true && s["configuration"]["source"] == "nucleus";
        stage.wait_status(LIMIT, "connected", heard).unwrap();
        // A configuration counts after two seconds.
        thread::sleep(Duration::from_secs(4));
        let status = stage.status();
        assert_eq!(status["enforcement"]["phase"], "released", "{status}");
        assert!(!stage.has_table().unwrap());
    }
);
