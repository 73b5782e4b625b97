//! Nobody is left through whom an order could be taken back: the device stays closed, unless its owner has said for how long.

use std::time::{Duration, Instant};

use edgewarden_lab::lab_test;
use edgewarden_lab::nucleus::personality::Personality;
use edgewarden_lab::site::wait_until;
use edgewarden_lab::stage::StageOptions;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::guard::Guarded;
use crate::common::{LIMIT, authorities, done, isolate, options, release, reports};

/// What the owner of this laboratory has configured: long enough for a nucleus to come back meanwhile.
const AFTER: Duration = Duration::from_secs(20);
/// The same where nothing has to happen meanwhile.
const SOON: Duration = Duration::from_secs(8);

fn configured(after: Duration) -> Value {
    json!({"development": {"reportIntervalSeconds": 2, "releaseWithoutNucleusSeconds": after.as_secs()}})
}

fn time(value: &Value) -> Timestamp {
    value.as_str().unwrap().parse().unwrap()
}

/// The device stays closed for that long.
fn stays_closed_for(guarded: &Guarded, what: &str, lasts: Duration) {
    let begun = Instant::now();
    guarded.stays_closed_until(what, || begun.elapsed() >= lasts);
}

/// The component is stopped and its nucleus with it; gives the status of the agent that the guard starts.
fn without_nucleus(guarded: &mut Guarded) -> Value {
    guarded.stage.nucleus.terminate().unwrap();
    guarded.stage.nucleus.wait_exit(LIMIT).unwrap();
    guarded.wait_stand_in()
}

/// As [`without_nucleus`], where the owner has said for how long.
fn counting(guarded: &mut Guarded) -> Value {
    without_nucleus(guarded);
    let counts = |s: &Value| s["releasesAt"].is_string();
    guarded.stage.wait_status(LIMIT, "it will open", counts).unwrap()
}

/// A nucleus is there again and starts the component.
fn with_nucleus(guarded: &mut Guarded) {
    guarded.stage.nucleus.restart().unwrap();
    guarded.stays_closed_until("the component's own agent", || is_own(&guarded.stage.status()));
}

fn is_own(status: &Value) -> bool {
    status["guarded"].is_null()
        && status["cloud"]["channelWorks"] == true
        && status["enforcement"]["phase"] == "enforced"
}

/// Waits until the device has opened by itself; gives when that was seen.
fn opened(guarded: &Guarded) -> Timestamp {
    wait_until(LIMIT, "it opens by itself", || {
        !guarded.stage.has_table().unwrap()
    })
    .unwrap();
    let seen = Timestamp::now();
    guarded.stage.wait_phase(LIMIT, "released").unwrap();
    seen
}

lab_test!(
    with_nobody_left_only_the_owners_word_opens_the_device_and_a_nucleus_begins_the_time_anew,
    || {
        let mut guarded = Guarded::start_with(StageOptions {
            personality: Personality::Classic,
            ..options()
        });
        isolate(&guarded.stage);
        let status = without_nucleus(&mut guarded);
        assert_eq!(status["releasesAt"], Value::Null, "control: never");
        stays_closed_for(&guarded, "control: nobody wanted it to open", AFTER + SOON);
        let page = done(&guarded.stage, &["status"]);
        assert!(page.contains("NOT run") && !page.contains("THEMSELVES"), "{page}");

        with_nucleus(&mut guarded);
        guarded.stage.deploy(&configured(AFTER)).unwrap();
        let kept = guarded.state.join("configuration.json");
        wait_until(LIMIT, "the owner's word is kept", || {
            std::fs::read_to_string(&kept).is_ok_and(|text| text.contains("releaseWithoutNucleus"))
        })
        .unwrap();
        let first = counting(&mut guarded);
        let page = done(&guarded.stage, &["status"]);
        assert!(page.contains("END BY THEMSELVES at"), "{page}");
        with_nucleus(&mut guarded);
        assert_eq!(
            guarded.stage.status()["releasesAt"],
            Value::Null,
            "it can be told"
        );

        let second = counting(&mut guarded);
        assert!(
            time(&second["releasesAt"]) > time(&first["releasesAt"]),
            "{first} {second}"
        );
        let seen = opened(&guarded);
        let lasted = seen.duration_since(time(&second["started"]));
        assert!(
            Duration::try_from(lasted).unwrap() >= AFTER,
            "too early: {lasted:?} after the guard's agent began"
        );
        println!("opened {lasted:?} after the guard's agent began");
        let status = guarded.stage.status();
        assert_eq!(
            status["enforcement"]["releasedWithoutNucleus"]["orders"],
            json!(["shadow shadow"]),
            "{status}"
        );
        let page = done(&guarded.stage, &["status"]);
        assert!(page.contains("BY ITSELF at"), "{page}");
        let history = done(
            &guarded.stage,
            &[
                "history",
                "--json",
                "--state-dir",
                guarded.state.to_str().unwrap(),
            ],
        );
        assert!(
            history.contains("\"kind\":\"releasedWithoutNucleus\""),
            "{history}"
        );

        // The shadow still wants it, and reads what happened meanwhile.
        guarded.stage.nucleus.restart().unwrap();
        guarded
            .stage
            .wait_status(LIMIT, "the order counts again", is_own)
            .unwrap();
        reports(&guarded.stage, &json!(true));
        let said = |shadow: &Value| {
            let said = &shadow["state"]["reported"]["quarantineStatus"]["releasedWithoutNucleus"];
            said.as_str()
                .is_some_and(|said| said.contains("shadow shadow: no nucleus"))
        };
        guarded
            .stage
            .wait_shadow(LIMIT, "the cloud is told", said)
            .unwrap();
        release(&guarded.stage);
        guarded
            .stage
            .wait_shadow(LIMIT, "told and done with", |shadow| !said(shadow))
            .unwrap();
    }
);

lab_test!(
    a_nucleus_that_takes_the_guards_agent_keeps_it_waiting_and_the_operators_order_stays,
    || {
        let mut guarded = Guarded::start_with(StageOptions {
            personality: Personality::Classic,
            configuration: configured(SOON),
            ..options()
        });
        isolate(&guarded.stage);
        guarded.break_the_component();
        guarded.wait_stand_in();
        let hears = |s: &Value| s["cloud"]["channelWorks"] == true && s["releasesAt"].is_null();
        guarded.stage.wait_status(LIMIT, "it hears", hears).unwrap();
        stays_closed_for(&guarded, "a nucleus takes it", SOON * 2);
        assert!(hears(&guarded.stage.status()));
        done(&guarded.stage, &["quarantine", "--reason", "mine"]);

        // The time begins with the end of that nucleus, however long the agent has run.
        let gone = Instant::now();
        guarded.stage.nucleus.kill9().unwrap();
        let both = |s: &Value| authorities(s).len() == 2 && s["releasesAt"].is_string();
        guarded.stage.wait_status(LIMIT, "nobody takes it", both).unwrap();
        guarded.stays_closed_until("the shadow's order ends", || {
            authorities(&guarded.stage.status()) == ["operator"]
        });
        let lasted = gone.elapsed();
        assert!(lasted >= SOON, "too early: {lasted:?}");
        println!("the shadow's order has ended {lasted:?} after the nucleus");
        stays_closed_for(&guarded, "the operator is there to end his own", SOON);
        let status = guarded.stage.status();
        assert_eq!(
            (&status["releasesAt"], authorities(&status)),
            (&Value::Null, vec!["operator".to_owned()]),
            "{status}"
        );
        done(&guarded.stage, &["release"]);
        wait_until(LIMIT, "control: the operator opens it", || {
            !guarded.stage.has_table().unwrap()
        })
        .unwrap();
    }
);

lab_test!(
    an_orphan_that_nobody_succeeds_opens_where_the_owner_wants_it,
    || {
        let mut guarded = Guarded::start_with(StageOptions {
            personality: Personality::Classic,
            configuration: configured(SOON),
            ..options()
        });
        isolate(&guarded.stage);
        stays_closed_for(&guarded, "control: its nucleus is there", SOON * 2);
        let own = guarded.stage.status();
        assert_eq!(own["releasesAt"], Value::Null, "{own}");

        // The component's agent lives on, and no nucleus comes after this one.
        let gone = Timestamp::now();
        guarded.stage.nucleus.kill9().unwrap();
        let counts = |s: &Value| s["releasesAt"].is_string() && s["cloud"]["orphan"].is_string();
        let status = guarded.stage.wait_status(LIMIT, "an orphan", counts).unwrap();
        assert_eq!(
            (&status["guarded"], &status["started"]),
            (&Value::Null, &own["started"]),
            "control: the same agent, of the component"
        );
        let lasted = opened(&guarded).duration_since(gone);
        assert!(
            Duration::try_from(lasted).unwrap() >= SOON,
            "too early: {lasted:?}"
        );
        println!("opened {lasted:?} after the nucleus' end");
    }
);
