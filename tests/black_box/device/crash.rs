//! Restarts and other hands: whatever dies, the kernel keeps what is ordered. Kills at random moments: `holds`.

use edgewarden_lab::lab_test;
use edgewarden_lab::nucleus::personality::Personality;
use edgewarden_lab::site::wait_until;
use edgewarden_lab::stage::Stage;
use serde_json::Value;

use crate::common::agent::second_beside_the_first;
use crate::common::broker::{broker_down, broker_up};
use crate::common::{LIMIT, isolate, isolated_as_shipped, options, ready, release};

/// What one `nft -j list ruleset` says of our chains: none (false), or all three, closed (true).
///
/// A table without a chain filters nothing, so it counts as none. nft 1.0.6 shows one now and then while a transaction
/// that begins with `add table` and `delete table` is being committed, also without any agent.
fn isolated(listing: &Value) -> Result<bool, String> {
    let items = listing["nftables"].as_array().ok_or("no listing")?;
    let ours = |kind: &str| {
        let of_kind = items.iter().filter_map(|item| item.get(kind));
        let ours: Vec<Value> = of_kind
            .filter(|item| item["table"] == "edgewarden")
            .cloned()
            .collect();
        ours
    };
    if ours("chain").is_empty() && ours("rule").is_empty() {
        return Ok(false);
    }
    let mut closed: Vec<_> = ours("chain")
        .iter()
        .filter(|chain| chain["policy"] == "drop")
        .filter_map(|chain| chain["hook"].as_str().map(str::to_owned))
        .collect();
    closed.sort();
    let has_rules = ours("rule").len() >= 3;
    // The lab's gateway has no bridge, so there is no table for one.
    if closed == ["egress", "forward", "input", "output"] && has_rules {
        Ok(true)
    } else {
        Err(format!("half a table: {listing}"))
    }
}

fn kernel(stage: &Stage) -> bool {
    let (_, output, _) = stage.nft(&["-j", "list", "ruleset"]).unwrap();
    isolated(&serde_json::from_str(&output).unwrap()).unwrap()
}

lab_test!(isolation_is_restored_before_the_cloud_is_there, || {
    let mut stage = ready(options());
    isolate(&stage);
    stage.agent.as_mut().unwrap().kill9().unwrap();
    assert!(kernel(&stage), "the rules outlive the agent");
    broker_down(&mut stage);
    stage.cloud = None;

    stage.start_agent().unwrap();
    let status = stage.wait_phase(LIMIT, "enforced").unwrap();
    assert_eq!(status["cloud"]["channelWorks"], false, "{status}");
    assert!(kernel(&stage));

    // As after a reboot: nothing in the kernel, the journal alone knows.
    stage.agent.as_mut().unwrap().kill9().unwrap();
    stage.nft(&["flush", "ruleset"]).unwrap();
    assert!(!kernel(&stage), "control: flushed");
    let earlier = stage.agent_output().len();
    stage.start_agent().unwrap();
    let contact = "connected to the Greengrass nucleus";
    wait_until(LIMIT, contact, || {
        stage.agent_output()[earlier..].contains(contact)
    })
    .unwrap();
    let status = stage.wait_phase(LIMIT, "enforced").unwrap();
    assert_eq!(status["cloud"]["lastRoundTrip"], Value::Null, "{status}");
    assert!(kernel(&stage));
    let life = stage.agent_output()[earlier..].to_owned();
    assert!(!life.contains("phase=Released"), "never open in between:\n{life}");
    let enforced = life.find("phase=Enforced");
    assert!(
        enforced.is_some() && enforced < life.find(contact),
        "enforced first:\n{life}"
    );
});

fn last_round_trip(status: &Value) -> Value {
    status["cloud"]["lastRoundTrip"].clone()
}

fn wait_new_round_trip(stage: &Stage, before: &Value) {
    let again = |s: &Value| {
        let trip = last_round_trip(s);
        s["cloud"]["channelWorks"] == true && trip.is_string() && trip != *before
    };
    let status = stage.wait_status(LIMIT, "the channel works anew", again).unwrap();
    assert_eq!(status["enforcement"]["phase"], "enforced", "{status}");
    assert!(kernel(stage));
}

fn a_new_nucleus_and_a_new_broker(personality: Personality) {
    let mut stage = isolated_as_shipped(personality);
    let before = last_round_trip(&stage.status());
    // The whole nucleus, and the component with it.
    stage.nucleus.terminate().unwrap();
    stage.nucleus.wait_exit(LIMIT).unwrap();
    assert!(kernel(&stage));
    stage.nucleus.restart().unwrap();
    wait_new_round_trip(&stage, &before);

    let before = last_round_trip(&stage.status());
    broker_down(&mut stage);
    assert!(kernel(&stage));
    broker_up(&mut stage);
    release(&stage);
    assert_ne!(last_round_trip(&stage.status()), before);
}

lab_test!(
    a_new_nucleus_and_a_new_broker_do_not_open_the_device_on_lite,
    || a_new_nucleus_and_a_new_broker(Personality::Lite)
);

lab_test!(
    a_new_nucleus_and_a_new_broker_do_not_open_the_device_on_classic,
    || a_new_nucleus_and_a_new_broker(Personality::Classic)
);

lab_test!(
    an_ipc_daemon_that_forgot_its_tokens_does_not_open_the_device,
    || {
        let mut stage = isolated_as_shipped(Personality::Lite);
        let (started, before) = (
            stage.status()["started"].clone(),
            last_round_trip(&stage.status()),
        );
        stage.nucleus.signal(nix::sys::signal::Signal::SIGUSR1).unwrap();
        stage
            .nucleus
            .wait_event(LIMIT, |event| event["event"] == "restarted")
            .unwrap();
        wait_new_round_trip(&stage, &before);
        assert_eq!(
            stage.status()["started"],
            started,
            "control: the agent itself lived on"
        );
        release(&stage);
    }
);

lab_test!(an_orderly_stop_leaves_the_rules, || {
    let mut stage = ready(options());
    isolate(&stage);
    let agent = stage.agent.as_mut().unwrap();
    agent.terminate().unwrap();
    assert!(agent.wait_exit(LIMIT).unwrap().success());
    assert!(kernel(&stage));
    stage.start_agent().unwrap();
    stage.wait_phase(LIMIT, "enforced").unwrap();
    release(&stage);
});

lab_test!(a_second_agent_waits_until_the_first_one_ends, || {
    let mut stage = ready(options());
    isolate(&stage);
    let (mut first, started) = second_beside_the_first(&mut stage);
    assert!(first.is_running());
    assert_eq!(stage.status()["started"], started, "the first one answers");
    release(&stage);
    isolate(&stage);
    assert_eq!(stage.status()["started"], started, "the first one obeys");

    first.kill9().unwrap();
    let taken_over = |s: &Value| s["started"].is_string() && s["started"] != started;
    stage
        .wait_status(LIMIT, "the second takes over", taken_over)
        .unwrap();
    stage.wait_phase(LIMIT, "enforced").unwrap();
    assert!(kernel(&stage));
    release(&stage);
});
