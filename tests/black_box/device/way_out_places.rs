//! The way out and what it is told: other places, journals that cannot be read, disks that take nothing, and what is said of them.

use std::os::unix::fs::PermissionsExt as _;
use std::thread;
use std::time::Duration;

use edgewarden_lab::lab_test;
use edgewarden_lab::nucleus::personality::Personality;
use edgewarden_lab::stage::Stage;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::guard::Guarded;
use super::way_out::{OVERRIDE, said};
use crate::common::{LIMIT, done, isolate, options, order, ready};

fn connected_and_isolated(stage: &Stage) {
    let works = |s: &Value| s["cloud"]["channelWorks"] == true && s["enforcement"]["phase"] == "enforced";
    stage.wait_status(LIMIT, "it goes on", works).unwrap();
}

// The operator's own release, told of another state directory (or of none: the default one).
lab_test!(
    a_plain_release_with_the_wrong_state_directory_opens_nothing,
    || {
        let mut stage = ready(options());
        isolate(&stage);
        stage.agent.as_mut().unwrap().kill9().unwrap();
        let elsewhere = stage.site.directory().join("elsewhere");
        let elsewhere = elsewhere.to_str().unwrap();
        said(&stage, &["status", "--state-dir", elsewhere]);
        let (code, ..) = said(&stage, &["release", "--state-dir", elsewhere]);
        assert!(
            stage.has_table().unwrap(),
            "exit {code:?}: the cloud's isolation was opened by a plain release"
        );
    }
);

// Q-107.
lab_test!(an_uninstall_with_the_wrong_state_directory_opens_nothing, || {
    let mut stage = ready(options());
    isolate(&stage);
    stage.agent.as_mut().unwrap().kill9().unwrap();
    let elsewhere = stage.site.directory().join("elsewhere");
    let (code, ..) = said(&stage, &["uninstall", "--state-dir", elsewhere.to_str().unwrap()]);
    assert!(
        stage.has_table().unwrap(),
        "exit {code:?}: opened while an order lives"
    );
});

// A release never closes a device.
lab_test!(
    a_release_with_a_damaged_journal_does_not_isolate_a_free_device,
    || {
        let mut stage = ready(options());
        stage.agent.as_mut().unwrap().kill9().unwrap();
        std::fs::write(stage.state_directory().join("journal"), "{\"half").unwrap();
        said(&stage, &["status"]);
        assert!(!stage.has_table().unwrap(), "control: free");
        said(&stage, &["release"]);
        assert!(!stage.has_table().unwrap(), "a release isolated the device");
    }
);

// The same with a good journal whose permissions somebody changed.
lab_test!(
    a_release_with_an_untrusted_journal_does_not_isolate_a_free_device,
    || {
        let mut stage = ready(options());
        stage.agent.as_mut().unwrap().kill9().unwrap();
        let journal = stage.state_directory().join("journal");
        println!("journal there: {}", journal.exists());
        if !journal.exists() {
            std::fs::write(&journal, "").unwrap();
        }
        std::fs::set_permissions(&journal, std::fs::Permissions::from_mode(0o666)).unwrap();
        said(&stage, &["status"]);
        said(&stage, &["release"]);
        assert!(!stage.has_table().unwrap(), "a release isolated the device");
    }
);

// Q-106: what the kernel holds.
lab_test!(elements_that_somebody_added_are_not_said_to_be_wanted, || {
    let mut stage = ready(options());
    isolate(&stage);
    stage.agent.as_mut().unwrap().kill9().unwrap();
    let (_, listing, _) = stage.nft(&["list", "ruleset"]).unwrap();
    println!("{listing}");
    let kernel = |stage: &Stage| {
        let (_, output, _) = said(stage, &["status", "--json"]);
        let status: Value = serde_json::from_str(&output).unwrap();
        status["kernel"].as_str().unwrap().to_owned()
    };
    assert!(kernel(&stage).starts_with("holds what is wanted"), "control");
    stage
        .nft(&[
            "add", "table", "inet", "aa", "{", "chain", "c", "{", "type", "filter", "hook", "output",
            "priority", "-500", ";", "}", "}",
        ])
        .unwrap();
    println!("{}", kernel(&stage));
    let chains: Vec<&str> = listing
        .lines()
        .filter_map(|line| line.trim().strip_prefix("chain ")?.strip_suffix(" {"))
        .collect();
    for chain in chains.iter().take(3) {
        stage
            .nft(&["insert", "rule", "inet", "edgewarden", chain, "accept"])
            .unwrap();
    }
    let text = kernel(&stage);
    assert!(!text.starts_with("holds what is wanted"), "{text}");
    // Put back, one of what the set holds taken out.
});

// Q-106: postures whose rules count and limit are recognized.
lab_test!(a_restricted_device_is_said_to_hold_what_is_wanted, || {
    let mut stage = ready(options());
    let wish = json!({"posture": "restrict", "id": "inc-1", "reason": "r",
        "limit": {"egressBytesPerSecond": 20000}});
    stage.desire(&json!({ "quarantine": wish })).unwrap();
    let ended = stage.wait_phase(LIMIT, "enforced");
    println!("{}", stage.status());
    ended.unwrap();
    stage.agent.as_mut().unwrap().kill9().unwrap();
    let (_, output, _) = said(&stage, &["status", "--json"]);
    let status: Value = serde_json::from_str(&output).unwrap();
    let text = status["kernel"].as_str().unwrap();
    assert!(text.starts_with("holds what is wanted"), "{text}");
});

// The cloud's isolation is not opened by a release that ends the operator's order only.
lab_test!(
    a_plain_release_over_a_journal_that_cannot_be_read_opens_nothing,
    || {
        let mut stage = ready(options());
        isolate(&stage);
        stage.agent.as_mut().unwrap().kill9().unwrap();
        let journal = stage.state_directory().join("journal");
        std::fs::set_permissions(&journal, std::fs::Permissions::from_mode(0o666)).unwrap();
        let (code, ..) = said(&stage, &["release"]);
        said(&stage, &["history"]);
        assert!(
            stage.has_table().unwrap(),
            "exit {code:?}: opened by a plain release"
        );
    }
);

// Q-106: whoever looks changes nothing, the history included.
lab_test!(
    looking_without_an_agent_leaves_the_state_directory_as_it_is,
    || {
        let mut stage = ready(options());
        isolate(&stage);
        stage.agent.as_mut().unwrap().kill9().unwrap();
        let contents = |stage: &Stage| {
            let mut all: Vec<(String, Vec<u8>)> = std::fs::read_dir(stage.state_directory())
                .unwrap()
                .flatten()
                .filter(|entry| entry.path().is_file())
                .map(|entry| {
                    (
                        entry.file_name().to_string_lossy().into_owned(),
                        std::fs::read(entry.path()).unwrap(),
                    )
                })
                .collect();
            all.sort();
            all
        };
        let before = contents(&stage);
        for args in [&["status"][..], &["orders"], &["plan"], &["status"]] {
            said(&stage, args);
        }
        println!("{}", done(&stage, &["history"]));
        let after = contents(&stage);
        let changed: Vec<&String> = after
            .iter()
            .filter(|file| !before.contains(file))
            .map(|file| &file.0)
            .collect();
        assert!(changed.is_empty(), "changed by looking: {changed:?}");
    }
);

// Q-106: where there is no state directory nothing is made.
lab_test!(looking_where_nothing_is_makes_nothing, || {
    let mut stage = ready(options());
    stage.agent.as_mut().unwrap().kill9().unwrap();
    let elsewhere = stage.site.directory().join("elsewhere");
    let place = elsewhere.to_str().unwrap();
    for command in ["status", "orders", "plan"] {
        said(&stage, &[command, "--state-dir", place]);
    }
    assert!(
        !elsewhere.exists(),
        "{:?}",
        std::fs::read_dir(&elsewhere).unwrap().collect::<Vec<_>>()
    );
});

// docs/install.md: where the component is gone, `uninstall --release --reason` frees the device and removes what is left.
lab_test!(
    an_uninstall_with_a_release_frees_a_device_whose_guard_obeys,
    || {
        let mut guarded = Guarded::start(Personality::Classic);
        isolate(&guarded.stage);
        guarded.break_the_component();
        guarded.wait_stand_in();
        let (code, ..) = said(&guarded.stage, &["uninstall", "--release", "--reason", "gone"]);
        assert!(
            code == Some(0) && !guarded.stage.has_table().unwrap(),
            "exit {code:?}: nothing is released, and there is no component that could be stopped"
        );
    }
);

// Q-106: two write one history where an agent hangs and somebody looks.
lab_test!(looking_at_a_stopped_agent_does_not_look_like_tampering, || {
    let mut stage = ready(options());
    isolate(&stage);
    stage.agent.as_mut().unwrap().signal(Signal::SIGSTOP).unwrap();
    said(&stage, &["status"]);
    stage.agent.as_mut().unwrap().signal(Signal::SIGCONT).unwrap();
    connected_and_isolated(&stage);
    done(&stage, &["quarantine", "--reason", "mine"]);
    done(&stage, &["release", "--override", "--reason", "over"]);
    let (_, text, _) = said(&stage, &["history"]);
    let (code, ..) = said(&stage, &["history", "--verify"]);
    assert!(
        code == Some(0) && !text.contains("somebody"),
        "looking damaged the audit history"
    );
});

// What is said to come next must come: nobody is there who would do it.
lab_test!(
    a_release_of_one_order_of_two_promises_nothing_that_nobody_does,
    || {
        let mut stage = ready(options());
        let shadow = json!({"posture": "isolate", "id": "inc-1", "allow": [
        {"remote": "198.51.100.7", "protocol": "udp", "ports": [9000], "direction": "out"}]});
        order(&stage, &shadow);
        stage.wait_phase(LIMIT, "enforced").unwrap();
        done(&stage, &["quarantine", "--reason", "mine"]);
        stage.wait_phase(LIMIT, "enforced").unwrap();
        stage.agent.as_mut().unwrap().kill9().unwrap();
        let (_, text, _) = said(&stage, &["release"]);
        said(&stage, &["status"]);
        assert!(
            !text.contains("unless the control channel answers"),
            "nobody is there who widens or gives up: {text}"
        );
    }
);

// Q-110: while nobody enforced the device was open, and that is no part of its isolation.
lab_test!(since_when_does_not_count_the_time_without_rules, || {
    let mut stage = ready(options());
    isolate(&stage);
    stage.agent.as_mut().unwrap().kill9().unwrap();
    // As docs/install.md says.
    stage.nft(&["flush", "ruleset"]).unwrap();
    assert!(!stage.has_table().unwrap(), "control: open");
    thread::sleep(Duration::from_secs(3));
    let open_at = jiff::Timestamp::now();
    stage.agent = None;
    stage.start_agent().unwrap();
    let status = stage.wait_phase(LIMIT, "enforced").unwrap();
    let since: jiff::Timestamp = status["enforcement"]["since"].as_str().unwrap().parse().unwrap();
    assert!(
        since >= open_at,
        "isolated since {since}, and open until {open_at}"
    );
});

// Q-106: an agent that is well elsewhere hears its orders.
lab_test!(an_agent_that_is_well_elsewhere_is_not_said_to_be_deaf, || {
    let stage = ready(options());
    isolate(&stage);
    let nowhere = stage.site.directory().join("nowhere.sock");
    let (_, text, errors) = said(&stage, &["status", "--control-socket", nowhere.to_str().unwrap()]);
    assert!(!text.contains("orders are NOT heard"), "{text}{errors}");
});

// The exit code of a release that a reboot forgets.
lab_test!(a_release_that_is_not_on_disk_is_not_said_to_be_done, || {
    let mut stage = ready(options());
    isolate(&stage);
    stage.agent.as_mut().unwrap().kill9().unwrap();
    let state = stage.state_directory();
    // Whatever makes writing fail: a full disk, a file system that became read-only.
    std::fs::create_dir(state.join("journal.new")).unwrap();
    for name in ["journal.tmp", "journal~", ".journal"] {
        std::fs::create_dir(state.join(name)).unwrap();
    }
    println!(
        "{:?}",
        std::fs::read_dir(&state)
            .unwrap()
            .flatten()
            .map(|e| e.file_name())
            .collect::<Vec<_>>()
    );
    std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o777)).unwrap();
    let (code, ..) = said(&stage, &OVERRIDE);
    std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o700)).unwrap();
    // As after a boot.
    let _none = std::fs::remove_file(stage.control_socket().with_file_name("journal.late"));
    stage.agent = None;
    stage.start_agent().unwrap();
    let again = stage.wait_phase(Duration::from_secs(5), "enforced");
    assert!(
        again.is_err() || code != Some(0),
        "exit {code:?}, and isolated again"
    );
});
