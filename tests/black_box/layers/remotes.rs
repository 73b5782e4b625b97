//! Blocked remotes that end by themselves, and what a delivery leaves as it is.

use std::time::Duration;

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{ATTACKER_V4, Ns, wait_until};
use edgewarden_lab::stage::Stage;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{cut, free};
use crate::common::gateway::ip;
use crate::common::{LIMIT, options, order};

fn reaches(stage: &Stage) -> bool {
    stage.site.tcp_connects(Ns::Gateway, ATTACKER_V4, 4444).unwrap()
}

fn soon(seconds: u64) -> Timestamp {
    Timestamp::now() + Duration::from_secs(seconds)
}

fn restriction(id: &str, remotes: &Value) -> Value {
    json!({"id": id, "posture": "restrict", "block": {"remotes": remotes}})
}

/// Blocked until the time and free soon after it.
fn ends_at(stage: &Stage, expires: Timestamp) {
    assert!(!reaches(stage) && Timestamp::now() < expires, "blocked before");
    wait_until(LIMIT, "free again", || reaches(stage)).unwrap();
    let late = Timestamp::now().duration_since(expires);
    assert!(!late.is_negative(), "not before its time: {late}");
    assert!(late.as_secs() < 5, "soon after it: {late}");
}

lab_test!(a_blocked_remote_ends_by_itself, || {
    let mut stage = free(options());
    let _server = stage.site.echo_server(Ns::Internet, 4444).unwrap();
    assert!(reaches(&stage), "control");
    let expires = soon(8);
    order(
        &stage,
        &restriction("e-1", &json!([{"remote": "203.0.113.1", "expires": expires}])),
    );
    ends_at(&stage, expires);
    stage.wait_phase(LIMIT, "enforced").unwrap();
    // Longer for the host than for the block around it; the agent is gone meanwhile.
    let (first, expires) = (soon(6), soon(10));
    let remotes = json!([
        {"remote": "203.0.113.0/24", "expires": first},
        {"remote": "203.0.113.1", "expires": expires},
    ]);
    order(&stage, &restriction("e-2", &remotes));
    stage.agent.as_mut().unwrap().kill9().unwrap();
    ends_at(&stage, expires);
    stage.start_agent().unwrap();
    let status = stage.wait_phase(LIMIT, "enforced").unwrap();
    assert_eq!(status["enforcement"]["reasserted"], 0, "{status}");
});

/// Handles of tables and rules: a rule that is loaded again has another.
fn handles(stage: &Stage) -> Vec<String> {
    let (_, listing, _) = stage.nft(&["-a", "-s", "list", "ruleset"]).unwrap();
    let lines = listing.lines().filter(|line| line.contains("# handle"));
    lines.map(str::to_owned).collect()
}

/// A port more and a remote fewer: no table, no other rule is made anew.
fn one_port_is_some_rules(stage: &Stage, before: &[String]) {
    let mut ports = restriction("d-1", &json!(["203.0.113.2"]));
    ports["block"]["ports"] = json!([{"protocol": "tcp", "port": 4444}]);
    order(stage, &ports);
    assert!(!reaches(stage));
    let after = handles(stage);
    assert!(
        before.iter().all(|line| after.contains(line)),
        "{before:#?}\n{after:#?}"
    );
    let more = after.iter().filter(|line| !before.contains(line));
    assert!(
        more.clone().any(|line| line.contains("tcp dport 4444")),
        "{after:#?}"
    );
    assert!(
        more.clone()
            .all(|line| line.contains("4444") || line.contains("_port")),
        "{after:#?}"
    );
    assert!(cut(&stage.status(), "out", "port") > 0);
}

lab_test!(a_delivery_changes_no_more_than_it_must, || {
    let mut stage = free(options());
    let _server = stage.site.echo_server(Ns::Internet, 4444).unwrap();
    assert!(reaches(&stage), "control");
    let first = restriction("d-1", &json!(["203.0.113.2"]));
    order(&stage, &first);
    assert!(reaches(&stage), "another is not blocked");
    let before = handles(&stage);
    assert!(before.len() > 10, "control: there are rules");
    stage.desire(&json!({ "quarantine": first })).unwrap();
    let second = restriction("d-1", &json!(["203.0.113.1", "203.0.113.2"]));
    order(&stage, &second);
    assert!(!reaches(&stage));
    assert_eq!(handles(&stage), before, "elements alone");
    let status = stage.status();
    let counted = cut(&status, "out", "remote");
    assert!(counted > 0, "{status}");
    one_port_is_some_rules(&stage, &before);
    let mut without = second;
    // A shadow keeps what is only left out.
    without["block"]["ports"] = json!([]);
    order(&stage, &without);
    assert!(!reaches(&stage));
    assert_eq!(
        handles(&stage),
        before,
        "the port's rules are gone, the others were never touched"
    );
    assert!(cut(&stage.status(), "out", "remote") >= counted);
    // Another interface is another ruleset: what was counted stays, over a restart too.
    ip(&stage, "link add x0 type veth peer name x2");
    wait_until(LIMIT, "loaded again", || handles(&stage) != before).unwrap();
    assert!(cut(&stage.status(), "out", "remote") >= counted);
    stage.agent.as_mut().unwrap().kill9().unwrap();
    stage.start_agent().unwrap();
    let status = stage.wait_phase(LIMIT, "enforced").unwrap();
    assert!(cut(&status, "out", "remote") >= counted, "{status}");
    assert!(!reaches(&stage));
});
