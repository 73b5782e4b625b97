//! Isolation and the control channel: rules that cut it, a network that ends just then, and a wrong address.

use std::time::Duration;

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{INTERNET_V4, Ns};
use edgewarden_lab::stage::{Stage, StageOptions};
use serde_json::{Value, json};

use super::silence::{DETOUR, lead_to};
use crate::common::gateway::run;
use crate::common::{LIMIT, done, isolate, options, ready, release, reports};

/// Two confirmation windows of 10 s, and what the shadow service needs.
const TWO_WINDOWS: Duration = Duration::from_secs(60);

/// Loads or ends a rule in `internet` that swallows everything to and from the broker, as a failed network would.
pub(super) fn broker_unreachable(stage: &Stage, unreachable: bool) {
    let script = if unreachable {
        "add table inet outage; add chain inet outage in { type filter hook input priority 0; }; \
         add rule inet outage in iifname \"gw0\" tcp dport 8883 drop"
    } else {
        "delete table inet outage"
    };
    run(stage, Ns::Internet, "/usr/sbin/nft", &[script]);
}

lab_test!(an_isolation_that_silences_the_cloud_is_given_up, || {
    let stage = ready(StageOptions {
        configuration: json!({"isolation": {"confirmSeconds": 10}}),
        ..options()
    });
    // To the agent, a network that ends just now looks like rules that cut the channel.
    broker_unreachable(&stage, true);
    done(&stage, &["quarantine", "--reason", "too much"]);
    let status = stage.status();
    assert_eq!(status["enforcement"]["phase"], "provisional", "{status}");
    assert_eq!(status["enforcement"]["scope"], "pinned", "{status}");
    assert!(stage.has_table().unwrap());
    let wide = |s: &Value| s["enforcement"]["scope"] == "wide";
    let status = stage.wait_status(TWO_WINDOWS, "widened", wide).unwrap();
    assert_eq!(status["enforcement"]["phase"], "provisional", "{status}");
    let status = stage
        .wait_status(TWO_WINDOWS, "given up", |s| {
            s["enforcement"]["phase"] == "rolled-back"
        })
        .unwrap();
    let why = status["enforcement"]["rolledBack"]["why"]
        .as_str()
        .unwrap_or_default();
    assert!(why.contains("silent for 10 s behind the rules"), "{status}");
    assert_eq!(status["enforcement"]["wanted"], "isolate", "{status}");
    assert!(!stage.has_table().unwrap());
    let text = done(&stage, &["status"]);
    assert!(text.contains("ROLLED BACK"), "{text}");

    broker_unreachable(&stage, false);
    let told = |shadow: &Value| {
        let reported = &shadow["state"]["reported"];
        reported["quarantine"] == false
            && reported["quarantineStatus"]["state"] == "rolled-back"
            && reported["quarantineStatus"]["rolledBack"]
                .as_str()
                .is_some_and(|why| why.contains("silent"))
    };
    stage.wait_shadow(TWO_WINDOWS, "the cloud is told", told).unwrap();
    // It is tried again by itself, whatever had silenced the channel.
    let status = stage.wait_phase(TWO_WINDOWS, "enforced").unwrap();
    assert_eq!(status["enforcement"]["scope"], "pinned", "{status}");
    reports(&stage, &json!(true));
    isolate(&stage);
});

lab_test!(an_outage_does_not_open_the_device_for_long, || {
    let stage = ready(StageOptions {
        configuration: json!({"isolation": {"confirmSeconds": 10}}),
        ..options()
    });
    broker_unreachable(&stage, true);
    done(&stage, &["quarantine", "--reason", "too much"]);
    let gave_up = |s: &Value| s["enforcement"]["phase"] == "rolled-back";
    stage
        .wait_status(2 * TWO_WINDOWS, "control: given up for the silence", gave_up)
        .unwrap();
    assert!(!stage.has_table().unwrap());
    // The channel is as silent without the rules, so they had not cut it.
    let back = |s: &Value| s["enforcement"]["phase"] == "provisional";
    stage
        .wait_status(2 * TWO_WINDOWS, "the rules are back", back)
        .unwrap();
    assert!(stage.has_table().unwrap());
    broker_unreachable(&stage, false);
    stage.wait_phase(2 * TWO_WINDOWS, "enforced").unwrap();
    reports(&stage, &json!(true));
});

/// A lab whose agent was told a wrong address before the nucleus was connected, and hears the shadow.
fn wrong_endpoint(broker: Option<String>) -> Stage {
    let options = StageOptions {
        configuration: json!({"isolation": {"confirmSeconds": 20, "dataEndpoint": "192.0.2.99"}}),
        online: false,
        ..options()
    };
    let broker = broker.unwrap_or_else(|| options.broker.clone());
    let mut stage = Stage::start(StageOptions { broker, ..options }).unwrap();
    stage.start_agent().unwrap();
    let looked =
        |s: &Value| s["lifelines"]["addresses"].as_u64() > Some(0) && s["cloud"]["lastError"].is_string();
    stage
        .wait_status(LIMIT, "addresses were looked up", looked)
        .unwrap();
    stage.go_online().unwrap();
    stage
}

fn hears(stage: &Stage) {
    let works = |s: &Value| s["cloud"]["channelWorks"] == true;
    stage.wait_status(LIMIT, "the channel works", works).unwrap();
}

lab_test!(
    a_wrong_endpoint_is_made_up_for_by_the_nucleus_own_connection,
    || {
        let stage = wrong_endpoint(None);
        hears(&stage);
        stage.desire(&json!({"quarantine": true})).unwrap();
        let status = stage.wait_phase(LIMIT, "enforced").unwrap();
        assert_eq!(status["enforcement"]["scope"], "pinned", "{status}");
        assert!(stage.site.tcp_connects(Ns::Gateway, INTERNET_V4, 8883).unwrap());
        reports(&stage, &json!(true));
        release(&stage);
    }
);

lab_test!(a_wrong_endpoint_is_made_up_for_by_wider_lifelines, || {
    let stage = wrong_endpoint(Some(DETOUR.to_string()));
    let _way = lead_to(&stage, INTERNET_V4);
    hears(&stage);
    stage.desire(&json!({"quarantine": true})).unwrap();
    let status = stage.wait_phase(LIMIT, "provisional").unwrap();
    assert_eq!(status["enforcement"]["scope"], "pinned", "control: {status}");
    assert!(
        !stage.site.tcp_connects(Ns::Gateway, INTERNET_V4, 8883).unwrap(),
        "control: the rules cut the channel"
    );
    let wide = |s: &Value| s["enforcement"]["scope"] == "wide";
    stage.wait_status(TWO_WINDOWS, "widened", wide).unwrap();
    let status = stage.wait_phase(TWO_WINDOWS, "enforced").unwrap();
    assert_eq!(status["enforcement"]["scope"], "wide", "{status}");
    assert!(stage.site.tcp_connects(Ns::Gateway, INTERNET_V4, 8883).unwrap());
    assert!(done(&stage, &["status"]).contains("WIDE"));
    reports(&stage, &json!(true));
    release(&stage);
});
