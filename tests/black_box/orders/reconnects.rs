//! What a nucleus does to its subscriptions and connections without a word, and how soon an order is obeyed all the same.

use std::time::{Duration, Instant};

use edgewarden_lab::lab_test;
use edgewarden_lab::nucleus::personality::Personality;
use edgewarden_lab::site::wait_until;
use edgewarden_lab::stage::{Stage, StageOptions};
use serde_json::{Value, json};

use crate::common::broker::broker_forgets;
use crate::common::{LIMIT, isolate, options, ready, release, reports};

/// From the nucleus' own recovery to an order that is obeyed.
const RECOVERED: Duration = Duration::from_secs(10);
/// What the agent may take to read its configuration without being told, and what a busy machine needs.
const UNTOLD: Duration = Duration::from_secs(40);

/// A nucleus of a real one's patience: seconds until it tries again.
fn patient(personality: Personality, first_milliseconds: u32) -> StageOptions {
    let nucleus = [
        "--mqtt-backoff-first-milliseconds",
        &first_milliseconds.to_string(),
    ];
    StageOptions {
        personality,
        front: true,
        nucleus: nucleus.map(str::to_owned).to_vec(),
        ..options()
    }
}

fn wait_mqtt(stage: &mut Stage, state: &'static str) {
    let told = |event: &Value| event["event"] == "mqtt" && event["state"] == state;
    stage.nucleus.wait_event(LIMIT, told).unwrap();
}

/// The link ends, an order is given that nobody hears, the link is back: obeyed soon after the nucleus is.
fn heard_after_an_outage(personality: Personality, meanwhile: fn(&mut Stage)) {
    let mut stage = ready(patient(personality, 1_000));
    isolate(&stage);
    stage.front().refuse(true).unwrap();
    stage.front().cut().unwrap();
    wait_mqtt(&mut stage, "disconnected");
    let told = |s: &Value| {
        let why = s["cloud"]["lastError"].as_str().unwrap_or_default();
        s["cloud"]["channelWorks"] == false && why.contains("no connection to the cloud since")
    };
    let status = stage
        .wait_status(Duration::from_secs(5), "said to be away", told)
        .unwrap();
    assert_eq!(
        status["enforcement"]["phase"], "enforced",
        "a link that ends opens nothing: {status}"
    );
    meanwhile(&mut stage);
    stage.desire(&json!({"quarantine": false})).unwrap();
    assert!(stage.has_table().unwrap(), "control: not heard");
    stage.front().refuse(false).unwrap();
    wait_mqtt(&mut stage, "connected");
    stage.wait_phase(RECOVERED, "released").unwrap();
    let works = |s: &Value| s["cloud"]["channelWorks"] == true;
    stage.wait_status(RECOVERED, "said to work again", works).unwrap();
    reports(&stage, &json!(false));
}

lab_test!(
    an_order_missed_by_classic_is_obeyed_when_it_is_connected_again,
    || {
        heard_after_an_outage(Personality::Classic, |_| {});
    }
);

// Without its session nothing that was published meanwhile comes to the nucleus by itself.
lab_test!(
    an_order_missed_by_classic_is_obeyed_although_its_session_was_forgotten,
    || {
        heard_after_an_outage(Personality::Classic, broker_forgets);
    }
);

lab_test!(
    an_order_missed_by_lite_is_obeyed_when_it_is_connected_again,
    || {
        heard_after_an_outage(Personality::Lite, |_| {});
    }
);

// The word of a nucleus that tells its connection is enough, wherever its sockets are.
lab_test!(a_nucleus_that_says_it_is_away_is_believed, || {
    let mut stage = ready(StageOptions {
        nucleus: vec![
            "--connection-status".into(),
            "--mqtt-backoff-first-milliseconds".into(),
            "1000".into(),
        ],
        front: true,
        ..options()
    });
    stage.front().refuse(true).unwrap();
    stage.front().cut().unwrap();
    wait_mqtt(&mut stage, "disconnected");
    let away = |s: &Value| s["cloud"]["channelWorks"] == false;
    stage
        .wait_status(Duration::from_secs(5), "said to be away", away)
        .unwrap();
    stage.desire(&json!({"quarantine": true})).unwrap();
    stage.front().refuse(false).unwrap();
    wait_mqtt(&mut stage, "connected");
    stage.wait_phase(RECOVERED, "enforced").unwrap();
});

lab_test!(
    an_order_by_deployment_is_obeyed_after_lite_forgot_who_listens_to_its_configuration,
    || {
        let mut stage = ready(options());
        stage.deploy(&json!({"quarantine": true})).unwrap();
        stage.wait_phase(LIMIT, "enforced").unwrap();
        stage.deploy(&json!({"quarantine": false})).unwrap();
        stage.wait_phase(LIMIT, "released").unwrap();
        stage.command_nucleus("restart-ggconfigd").unwrap();
        stage.deploy(&json!({"quarantine": true})).unwrap();
        stage.wait_phase(UNTOLD, "enforced").unwrap();
        // And the change after that is told again, or found the same way.
        stage.deploy(&json!({"quarantine": false})).unwrap();
        stage.wait_phase(UNTOLD, "released").unwrap();
    }
);

lab_test!(
    an_order_whose_key_was_reset_ends_although_lite_tells_nothing_of_it,
    || {
        let mut stage = ready(options());
        stage.deploy(&json!({"quarantine": true})).unwrap();
        stage.wait_phase(LIMIT, "enforced").unwrap();
        stage.command_nucleus("reset quarantine").unwrap();
        let begun = Instant::now();
        stage.wait_phase(UNTOLD, "released").unwrap();
        println!("released {:?} after the key was gone", begun.elapsed());
        assert!(!stage.has_table().unwrap());
        isolate(&stage);
        release(&stage);
    }
);

lab_test!(
    an_order_is_obeyed_soon_after_lite_forgot_who_listens_to_the_cloud,
    || {
        let mut stage = ready(patient(Personality::Lite, 1_000));
        isolate(&stage);
        stage.command_nucleus("restart-iotcored").unwrap();
        wait_mqtt(&mut stage, "connected");
        // Whether it is given before or after the agent noticed: nobody would tell it.
        stage.desire(&json!({"quarantine": false})).unwrap();
        stage.wait_phase(RECOVERED, "released").unwrap();
        // And what is given later is heard as well.
        isolate(&stage);
        release(&stage);
    }
);

/// Subscriptions that are refused for a while, although others beside them stand: each topic is tried by itself, and lite
/// refuses all of them while it is offline.
const LATE_TOPICS: &str = "refuse shadow/update/";

/// After a proof of the channel no question follows the one that proved it later than this.
const QUIET: Duration = Duration::from_secs(4);

/// Waits until the channel is proven, and no question is under way that would hear of an order by itself.
fn proven_and_quiet(stage: &Stage) {
    let works = |s: &Value| s["cloud"]["channelWorks"] == true;
    let mut proof = Value::Null;
    let mut since = Instant::now();
    wait_until(LIMIT, "proven, and nothing is asked", || {
        let status = stage.status();
        let last = &status["cloud"]["lastRoundTrip"];
        if !works(&status) || *last != proof {
            (proof, since) = (last.clone(), Instant::now());
        }
        since.elapsed() > QUIET
    })
    .unwrap();
}

/// An isolated device whose lite was connected anew after `outage`, and takes some of its subscriptions later.
fn half_subscribed(outage: fn(&mut Stage)) -> Stage {
    let mut stage = ready(patient(Personality::Lite, 1_000));
    isolate(&stage);
    stage.command_nucleus(LATE_TOPICS).unwrap();
    outage(&mut stage);
    wait_mqtt(&mut stage, "disconnected");
    wait_mqtt(&mut stage, "connected");
    proven_and_quiet(&stage);
    stage
}

lab_test!(
    an_order_is_heard_while_lite_takes_some_subscriptions_later_than_others,
    || {
        let mut stage = half_subscribed(|stage| stage.front().cut().unwrap());
        // What lite itself has subscribed anew is not given up for what is only half subscribed.
        stage.desire(&json!({"quarantine": false})).unwrap();
        stage.wait_phase(RECOVERED, "released").unwrap();
        let error = stage.status()["cloud"]["lastError"].clone();
        assert!(
            error.as_str().is_some_and(|why| why.contains("was refused")),
            "control: {error}"
        );
        stage.command_nucleus("refuse").unwrap();
        let well = |s: &Value| s["cloud"]["lastError"].is_null();
        stage
            .wait_status(LIMIT, "what stands again is not said to be refused", well)
            .unwrap();
    }
);

lab_test!(
    an_order_is_asked_for_where_its_subscription_came_after_the_others_were_proven,
    || {
        let mut stage = half_subscribed(|stage| stage.command_nucleus("restart-iotcored").unwrap());
        stage.desire(&json!({"quarantine": false})).unwrap();
        std::thread::sleep(Duration::from_secs(3));
        assert_eq!(
            stage.status()["enforcement"]["phase"],
            "enforced",
            "control: nobody tells it"
        );
        stage.command_nucleus("refuse").unwrap();
        stage.wait_phase(LIMIT, "released").unwrap();
    }
);
