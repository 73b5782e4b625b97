//! Traffic over outages and replaced interfaces: told once, or dropped, never invented.

use edgewarden_lab::lab_test;
use edgewarden_lab::stage::Stage;
use serde_json::{Value, json};

use super::{FLOOD, QUICK, bytes_in, flood, next_accepted, report_json, reporting, stage_with};
use crate::common::LIMIT;
use crate::common::broker::{broker_down, broker_up};
use crate::common::gateway::ip;

fn outage(offline: &str, check: impl Fn(u64, u64)) {
    let mut stage = reporting(stage_with(&json!({"offline": offline}), 2, &QUICK));
    next_accepted(&mut stage);
    let id = next_accepted(&mut stage)["reportId"].as_u64();
    broker_down(&mut stage);
    // 64 MiB through an interface that only appears now, over three intervals nobody hears of.
    flood(&stage);
    let last = |stage: &Stage| report_json(stage, &["last"])["reportId"].as_u64();
    stage
        .wait_status(LIMIT, "three reports went nowhere", |_| {
            last(&stage) >= id.map(|id| id + 6)
        })
        .unwrap();
    broker_up(&mut stage);
    let after = next_accepted(&mut stage);
    check(bytes_in(&after), bytes_in(&next_accepted(&mut stage)));
    assert!(after["reportId"].as_u64() > id);
}

lab_test!(
    an_outage_of_three_intervals_is_told_in_the_next_report_once,
    || outage("fold", |next, later| {
        assert!(
            (FLOOD / 2..FLOOD * 2).contains(&next),
            "the outage's traffic is told: {next}"
        );
        assert!(later < FLOOD / 4, "and only once: {later}");
    },)
);

lab_test!(with_drop_an_outage_does_not_look_like_a_burst, || outage(
    "drop",
    |next, later| {
        assert!(next < FLOOD / 4 && later < FLOOD / 4, "{next}, {later}");
    },
));

lab_test!(a_replaced_interface_neither_hides_nor_invents_traffic, || {
    let mut stage = reporting(stage_with(&json!({}), 2, &QUICK));
    flood(&stage);
    let told = |event: &Value| bytes_in(event) > FLOOD / 2;
    stage.cloud.as_mut().unwrap().wait_event(LIMIT, told).unwrap();
    next_accepted(&mut stage);
    ip(&stage, "link delete flood0");
    let quiet = next_accepted(&mut stage);
    assert!(
        bytes_in(&quiet) < FLOOD / 4,
        "a removed interface sends nothing: {quiet}"
    );
    flood(&stage);
    stage.cloud.as_mut().unwrap().wait_event(LIMIT, told).unwrap();
    let quiet = next_accepted(&mut stage);
    assert!(bytes_in(&quiet) < FLOOD / 4, "told once: {}", bytes_in(&quiet));
});
