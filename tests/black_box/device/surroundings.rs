//! Missing surroundings: no packet filter, no nft, no capability, no nucleus, no broker, no state: said once, and nothing is claimed.

use std::path::PathBuf;

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{ATTACKER_V4, Ns};
use edgewarden_lab::stage::filter_hook::{FAILS, FilterHook};
use edgewarden_lab::stage::{Stage, StageOptions};
use serde_json::{Value, json};

use crate::common::agent::{joined, restart, restart_as, restart_behind, said_once};
use crate::common::broker::{broker_down, broker_up};
use crate::common::pids::PidsGroup;
use crate::common::{LIMIT, connected_and_released, done, isolate, options, ready, release, reports};

const SOCKET: &str = "AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT";

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

/// Starts the agent again where no nft can be run.
fn restart_without_nft(stage: &mut Stage) {
    let empty = stage.site.directory().join("empty");
    std::fs::write(&empty, "").unwrap();
    let programs = every_nft();
    assert!(!programs.is_empty(), "control: nft is installed");
    let hide = |program: &PathBuf| format!("mount --bind {} {}", empty.display(), program.display());
    let mounts: Vec<String> = programs.iter().map(hide).collect();
    restart_behind(stage, &mounts.join(" && "));
}

lab_test!(
    without_a_packet_filter_nothing_is_claimed_and_with_it_the_order_is_carried_out,
    || {
        let mut stage = ready(options());
        let hook = FilterHook::prepare(&stage).unwrap();
        hook.begin(FAILS, "").unwrap();
        restart_with(&mut stage, &hook);
        stage.wait_phase(LIMIT, "failed").unwrap();
        stage.desire(&json!({"quarantine": true})).unwrap();
        let wanted = |s: &Value| s["enforcement"]["wanted"] == "isolate";
        let status = stage.wait_status(LIMIT, "isolation is wanted", wanted).unwrap();
        assert_eq!(status["enforcement"]["phase"], "failed", "{status}");
        assert_eq!(
            status["enforcement"]["posture"],
            Value::Null,
            "not known: {status}"
        );
        let faults = joined(&status["enforcement"]["faults"]);
        assert!(faults.contains("the packet filter cannot be asked"), "{status}");
        let told = |shadow: &Value| {
            let reported = &shadow["state"]["reported"];
            reported["quarantine"] == false
                && reported["quarantineStatus"]["wanted"] == "isolate"
                && joined(&reported["quarantineStatus"]["faults"]).contains("cannot be asked")
        };
        stage.wait_shadow(LIMIT, "the fault in the shadow", told).unwrap();
        assert!(!stage.has_table().unwrap());
        said_once(&mut stage, "enforcement: the packet filter cannot be asked");

        hook.end(FAILS).unwrap();
        stage.wait_phase(LIMIT, "enforced").unwrap();
        reports(&stage, &json!(true));
        assert!(stage.has_table().unwrap());
    }
);

fn restart_with(stage: &mut Stage, hook: &FilterHook) {
    let [preload, place] = hook.environment();
    restart_as(stage, "env", &[&preload, &place]);
}

lab_test!(
    a_release_that_cannot_be_carried_out_is_not_reported_as_done,
    || {
        let mut stage = ready(options());
        isolate(&stage);
        let hook = FilterHook::prepare(&stage).unwrap();
        hook.begin(FAILS, "").unwrap();
        restart_with(&mut stage, &hook);
        stage.wait_phase(LIMIT, "failed").unwrap();
        stage.desire(&json!({"quarantine": false})).unwrap();
        let told = |shadow: &Value| {
            let status = &shadow["state"]["reported"]["quarantineStatus"];
            status["wanted"] == "normal" && status["state"] == "failed"
        };
        let shadow = stage
            .wait_shadow(LIMIT, "the failure in the shadow", told)
            .unwrap();
        assert_eq!(
            shadow["state"]["reported"]["quarantine"], true,
            "still isolated: {shadow}"
        );
        assert_eq!(
            shadow["state"]["delta"]["quarantine"], false,
            "the cloud sees it: {shadow}"
        );
        assert!(stage.has_table().unwrap(), "nobody could take the rules away");

        hook.end(FAILS).unwrap();
        stage.wait_phase(LIMIT, "released").unwrap();
        reports(&stage, &json!(false));
        assert!(!stage.has_table().unwrap());
    }
);

/// Whether a datagram of the gateway's arrives at a host of the attacker's.
fn leaves(stage: &Stage) -> bool {
    stage
        .site
        .udp_reaches(Ns::Gateway, Ns::Internet, ATTACKER_V4, 4444)
        .unwrap()
}

lab_test!(without_nft_orders_are_carried_out_proven_and_put_back, || {
    let mut stage = ready(options());
    restart_without_nft(&mut stage);
    connected_and_released(&stage);
    assert!(leaves(&stage), "control: it arrives before");
    isolate(&stage);
    assert!(!leaves(&stage));
    stage.nft(&["delete", "table", "inet", "edgewarden"]).unwrap();
    let again = |s: &Value| {
        s["enforcement"]["reasserted"].as_u64() >= Some(1) && s["enforcement"]["phase"] == "enforced"
    };
    stage.wait_status(LIMIT, "put back", again).unwrap();
    assert!(!leaves(&stage));
    let order = json!({"posture": "restrict", "block": {"remotes": ["203.0.113.9"]}, "limit": {"egressBytesPerSecond": 20000}});
    stage.desire(&json!({ "quarantine": order })).unwrap();
    let held =
        |s: &Value| s["enforcement"]["posture"] == "restrict" && s["enforcement"]["phase"] == "enforced";
    stage.wait_status(LIMIT, "restricted", held).unwrap();
    assert!(leaves(&stage), "other hosts are reached again");
    // The next one finds it so, and removes it in the end.
    stage.agent.as_mut().unwrap().kill9().unwrap();
    restart_without_nft(&mut stage);
    stage.wait_status(LIMIT, "restricted again", held).unwrap();
    release(&stage);
    assert!(!stage.has_table().unwrap());
});

lab_test!(without_the_capability_it_is_named, || {
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
    // What cannot be watched says so where an operator looks, and is tried again soon at first.
    let told = |s: &Value| {
        s["tasks"].as_array().is_some_and(|tasks| {
            tasks.iter().any(|task| {
                let why = task["why"].as_str().unwrap_or_default();
                let refused = why.contains("found by the timer only") && why.contains("not permitted");
                task["name"] == "packet-filter-watch" && refused && task["restarts"].as_u64() >= Some(3)
            })
        })
    };
    stage
        .wait_status(LIMIT, "the watch says why it cannot", told)
        .unwrap();

    restart(&mut stage);
    stage.wait_phase(LIMIT, "enforced").unwrap();
    reports(&stage, &json!(true));
});

lab_test!(
    an_agent_that_starts_before_the_broker_obeys_once_it_is_there,
    || {
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
    }
);

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
    done(stage, &["quarantine", "--reason", "no nucleus"]);
    assert!(stage.has_table().unwrap());
    done(stage, &["release"]);
    assert!(!stage.has_table().unwrap());
    assert!(stage.agent.as_mut().unwrap().is_running());
}

lab_test!(a_missing_nucleus_is_named_and_the_operator_still_rules, || {
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

lab_test!(an_unwritable_state_directory_does_not_stop_an_order, || {
    let mut stage = ready(options());
    isolate(&stage);
    assert_eq!(stage.status()["enforcement"]["faults"], json!([]), "control");
    release(&stage);

    let state = stage.state_directory().display().to_string();
    restart_behind(
        &mut stage,
        &format!("mount --bind {state} {state} && mount -o remount,bind,ro {state}"),
    );
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

lab_test!(
    a_damaged_journal_of_an_isolated_device_isolates_until_somebody_speaks,
    || {
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
    }
);

lab_test!(
    without_room_for_a_process_or_thread_orders_are_carried_out,
    || {
        let mut stage = ready(options());
        isolate(&stage);
        release(&stage);
        // Those who only rest have ended.
        std::thread::sleep(std::time::Duration::from_secs(4));
        let group = PidsGroup::make(&stage);
        group.take(stage.agent.as_ref().unwrap().pid());
        group.allow(0);
        for wish in [
            json!(true),
            json!({"posture": "restrict", "block": {"remotes": ["203.0.113.9"]}}),
        ] {
            stage.desire(&json!({ "quarantine": wish })).unwrap();
            let posture = if wish == json!(true) {
                "isolate"
            } else {
                "restrict"
            };
            let held =
                |s: &Value| s["enforcement"]["posture"] == posture && s["enforcement"]["phase"] == "enforced";
            stage.wait_status(LIMIT, posture, held).unwrap();
            assert!(stage.has_table().unwrap());
        }
        stage.nft(&["flush", "ruleset"]).unwrap();
        let again = |s: &Value| {
            s["enforcement"]["reasserted"].as_u64() >= Some(1) && s["enforcement"]["phase"] == "enforced"
        };
        stage.wait_status(LIMIT, "put back", again).unwrap();
        println!("{} were refused", group.refused());
        stage.desire(&json!({"quarantine": false})).unwrap();
        stage.wait_phase(LIMIT, "released").unwrap();
        assert!(!stage.has_table().unwrap());
        stage.agent.as_mut().unwrap().kill9().unwrap();
    }
);
