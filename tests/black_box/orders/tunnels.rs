//! Lifelines that are reached through a tunnel: its own packets are those of a stranger, until the owner allows them.

use edgewarden_lab::lab_test;
use edgewarden_lab::site::{GATEWAY_WAN_V4, INTERNET_V4, Ns};
use edgewarden_lab::stage::{Stage, StageOptions};
use serde_json::{Value, json};

use crate::common::gateway::{ip, run};
use crate::common::{connected_and_released, done, isolate, options, release};

/// The broker at the tunnel's other end.
const BEHIND: &str = "192.168.77.1";

/// A device whose broker is behind a VXLAN to the internet, connected and released.
fn through_a_tunnel(allow: &Value) -> Stage {
    let options = StageOptions {
        configuration: json!({"isolation": {"dataEndpoint": BEHIND, "allow": allow}}),
        broker: format!("{BEHIND}:8883"),
        online: false,
        ..options()
    };
    let mut stage = Stage::start(options).unwrap();
    ip(
        &stage,
        &format!(
            "link add vpn0 type vxlan id 7 remote {INTERNET_V4} local {GATEWAY_WAN_V4} dstport 4790
             addr add 192.168.77.2/24 dev vpn0
             link set vpn0 up"
        ),
    );
    for command in [
        format!("link add vpn0 type vxlan id 7 remote {GATEWAY_WAN_V4} local {INTERNET_V4} dstport 4790"),
        format!("addr add {BEHIND}/24 dev vpn0"),
        "link set vpn0 up".to_owned(),
    ] {
        run(
            &stage,
            Ns::Internet,
            "ip",
            &command.split(' ').collect::<Vec<_>>(),
        );
    }
    stage.go_online().unwrap();
    stage.start_agent().unwrap();
    connected_and_released(&stage);
    stage
}

lab_test!(
    a_tunnel_that_lifelines_lead_through_is_told_with_what_helps,
    || {
        let stage = through_a_tunnel(&json!([]));
        let told = format!(
            "lifelines lead through the tunnel vpn0 (vxlan to {INTERNET_V4}, UDP port 4790), whose own packets isolation cuts: allow"
        );
        assert!(
            !done(&stage, &["status"]).contains("tunnel"),
            "control: nothing is cut"
        );
        let answer = done(&stage, &["quarantine", "--reason", "r"]);
        assert!(answer.contains(&told), "{answer}");
        let plan = done(&stage, &["plan"]);
        assert!(plan.contains(&told), "{plan}");
        let uncovered = stage.status()["enforcement"]["uncovered"].to_string();
        assert!(uncovered.contains(&told), "{uncovered}");
    }
);

lab_test!(what_is_told_of_a_tunnel_helps, || {
    let allowance = |direction| json!({"remote": format!("{INTERNET_V4}/32"), "protocol": "udp", "ports": [4790], "direction": direction});
    let stage = through_a_tunnel(&json!([allowance("out"), allowance("in")]));
    isolate(&stage);
    let status = stage.status();
    assert_eq!(status["enforcement"]["scope"], "pinned", "{status}");
    let uncovered = status["enforcement"]["uncovered"].to_string();
    assert!(!uncovered.contains("tunnel"), "{uncovered}");
    release(&stage);
});
