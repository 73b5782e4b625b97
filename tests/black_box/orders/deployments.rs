//! Orders by deployment, as nuclei merge them: what stays, what is replaced, and what a reader sees in between.

use std::time::{Duration, Instant};

use edgewarden_lab::lab_test;
use edgewarden_lab::nucleus::personality::Personality;
use edgewarden_lab::site::{ATTACKER_V4, Ns, wait_until};
use edgewarden_lab::stage::{Stage, StageOptions};
use serde_json::{Value, json};

use crate::common::{LIMIT, authorities, done, options, ready, reports};

/// A port of the internet that an order may allow.
const ALLOWED: u16 = 4455;
/// Between two steps of a change of configuration: long enough that the agent reads in between, every time.
const STEP: &str = "400";

fn on(personality: Personality, nucleus: &[&str]) -> StageOptions {
    StageOptions {
        personality,
        nucleus: nucleus.iter().copied().map(str::to_owned).collect(),
        ..options()
    }
}

fn allowing(id: &str) -> Value {
    let allow =
        json!({"remote": ATTACKER_V4.to_string(), "protocol": "tcp", "ports": [ALLOWED], "direction": "out"});
    json!({"id": id, "posture": "isolate", "allow": [allow]})
}

/// Waits until the deployment's order `id` is proven.
fn wait_order(stage: &Stage, id: &str) -> Value {
    let proven =
        |s: &Value| s["enforcement"]["phase"] == "enforced" && s["enforcement"]["orders"][0]["id"] == id;
    stage.wait_status(LIMIT, &format!("order {id}"), proven).unwrap()
}

fn wait_released(stage: &Stage) {
    let free = |s: &Value| s["enforcement"]["phase"] == "released" && authorities(s).is_empty();
    stage.wait_status(LIMIT, "released", free).unwrap();
    assert!(!stage.has_table().unwrap());
    reports(stage, &json!(false));
}

/// Deploys and waits until the nucleus has done it.
fn deploy(stage: &mut Stage, configuration: &Value, state: &str) {
    stage.deploy(configuration).unwrap();
    let done = |event: &Value| event["event"] == "configuration" && event["state"].is_string();
    let event = stage.nucleus.wait_event(LIMIT, done).unwrap();
    assert_eq!(event["state"], state, "{configuration}: {event}");
}

fn reaches(stage: &Stage) -> bool {
    stage
        .site
        .tcp_connects(Ns::Gateway, ATTACKER_V4, ALLOWED)
        .unwrap()
}

/// One order in a list ends what the list before allowed; the same as objects are merged, and that is shown.
fn replaced_and_merged(personality: Personality) {
    let mut stage = ready(on(personality, &[]));
    let _server = stage.site.echo_server(Ns::Internet, ALLOWED).unwrap();
    assert!(reaches(&stage), "control: flows before");
    deploy(&mut stage, &json!({"quarantine": [allowing("a")]}), "deployed");
    wait_order(&stage, "a");
    assert!(reaches(&stage), "control: order a allows it");
    let line = format!("this device may reach {ATTACKER_V4}/32 on tcp {ALLOWED}");
    let page = done(&stage, &["orders"]);
    assert!(page.contains(&line), "{page}");

    let next = json!({"id": "b", "posture": "isolate"});
    let file = stage.site.directory().join("order.json");
    std::fs::write(&file, next.to_string()).unwrap();
    let printed = done(
        &stage,
        &["deployment", "--order", file.to_str().unwrap(), "--local"],
    );
    let printed: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(
        printed["io.edgewarden.Agent"]["MERGE"],
        json!({"quarantine": [next]})
    );
    deploy(&mut stage, &json!({"quarantine": [next]}), "deployed");
    wait_order(&stage, "b");
    assert!(!reaches(&stage), "nothing of order a is left");
    let page = done(&stage, &["orders"]);
    assert!(page.contains("(b)") && !page.contains("may reach"), "{page}");

    // A deployment of something else leaves the order as it is.
    deploy(
        &mut stage,
        &json!({"shadow": {"refreshSeconds": 700}}),
        "deployed",
    );
    wait_order(&stage, "b");
    deploy(&mut stage, &json!({"quarantine": []}), "deployed");
    wait_released(&stage);

    // As objects, each key by itself.
    let object = json!({"RESET": ["/quarantine"], "MERGE": {"quarantine": allowing("a")}});
    deploy(&mut stage, &object, "deployed");
    wait_order(&stage, "a");
    deploy(&mut stage, &json!({"quarantine": next}), "deployed");
    wait_order(&stage, "b");
    assert!(reaches(&stage), "the nucleus kept what order a allowed");
    let page = done(&stage, &["orders"]);
    assert!(page.contains("(b)") && page.contains(&line), "{page}");
    let log = stage.agent_output();
    assert!(log.contains("isolate (b), with 1 allowance"), "{log}");
    // Lite makes no value of an object: only what resets the key ends this order there.
    let outcome = if personality.is_lite() {
        "rejected"
    } else {
        "deployed"
    };
    deploy(&mut stage, &json!({"quarantine": false}), outcome);
    let printed = done(&stage, &["deployment", "--release", "--local"]);
    let printed: Value = serde_json::from_str(&printed).unwrap();
    deploy(&mut stage, &printed["io.edgewarden.Agent"], "deployed");
    wait_released(&stage);
}

lab_test!(an_order_in_a_list_leaves_nothing_of_the_one_before, || {
    replaced_and_merged(Personality::Classic);
});

lab_test!(
    an_order_in_a_list_leaves_nothing_of_the_one_before_on_lite,
    || {
        replaced_and_merged(Personality::Lite);
    }
);

/// Waits until the agent has taken so many configurations.
fn wait_taken(stage: &Stage, count: usize) {
    wait_until(LIMIT, "the configuration is taken", || {
        stage.agent_output().matches("new configuration").count() >= count
    })
    .unwrap();
}

lab_test!(
    a_deployment_without_the_key_ends_no_order_and_a_reset_does,
    || {
        let mut stage = ready(on(Personality::Classic, &[]));
        wait_taken(&stage, 1);
        deploy(&mut stage, &json!({"quarantine": true}), "deployed");
        wait_order(&stage, "deployment");
        wait_taken(&stage, 2);
        deploy(
            &mut stage,
            &json!({"shadow": {"refreshSeconds": 800}}),
            "deployed",
        );
        wait_taken(&stage, 3);
        assert_eq!(authorities(&stage.status()), ["deployment"]);
        assert!(stage.has_table().unwrap());
        let reset = json!({"RESET": ["/quarantine"], "MERGE": {}});
        deploy(&mut stage, &reset, "deployed");
        wait_released(&stage);
    }
);

lab_test!(a_list_of_two_orders_is_refused_and_the_state_stays, || {
    let mut stage = ready(on(Personality::Classic, &[]));
    deploy(&mut stage, &json!({"quarantine": [allowing("a")]}), "deployed");
    wait_order(&stage, "a");
    let two = json!([{"id": "b", "posture": "isolate"}, {"id": "c", "posture": "total"}]);
    deploy(&mut stage, &json!({"quarantine": two}), "deployed");
    let named = |s: &Value| {
        let faults = s["enforcement"]["rejected"][0]["faults"].to_string();
        faults.contains("has 2 orders, expected at most one") && faults.contains("quarantine[1].posture")
    };
    let status = stage
        .wait_status(LIMIT, "refused with both faults", named)
        .unwrap();
    assert_eq!(status["enforcement"]["orders"][0]["id"], "a", "{status}");
    assert!(stage.has_table().unwrap());
});

lab_test!(a_change_of_the_orders_type_never_opens_the_device, || {
    let mut stage = ready(on(Personality::Classic, &["--configuration-step-millis", STEP]));
    let _server = stage.site.echo_server(Ns::Internet, ALLOWED).unwrap();
    assert!(reaches(&stage), "control: flows before");
    let object = |id: &str| json!({"id": id, "posture": "isolate", "reason": "leak"});
    let mut number = 0;
    deploy(&mut stage, &json!({"quarantine": true}), "deployed");
    wait_order(&stage, "deployment");
    assert!(!reaches(&stage));
    for form in [
        "object", "true", "list", "object", "list", "string", "list", "true",
    ] {
        number += 1;
        let id = format!("{form}-{number}");
        let (written, wanted) = match form {
            "object" => (object(&id), id),
            "list" => (json!([object(&id)]), id),
            "string" => (json!("true"), "deployment".into()),
            _ => (json!(true), "deployment".into()),
        };
        deploy(&mut stage, &json!({ "quarantine": written }), "deployed");
        let since = Instant::now();
        let mut id = Value::Null;
        while id != wanted.as_str() {
            assert!(!reaches(&stage), "open on the way to {form}");
            assert!(since.elapsed() < LIMIT, "{form}: {}", stage.status());
            let status = stage.status();
            id = status["enforcement"]["orders"][0]["id"].clone();
            std::thread::sleep(Duration::from_millis(50));
        }
        stage.wait_phase(LIMIT, "enforced").unwrap();
    }
    let state = stage.state_directory();
    let page = done(
        &stage,
        &["history", "--json", "--state-dir", state.to_str().unwrap()],
    );
    let count = |what: &str| page.lines().filter(|line| line.contains(what)).count();
    assert_eq!(count("\"released\""), 0, "{page}");
    assert_eq!(count("\"refused\""), 0, "half an order is no refused one: {page}");
    assert_eq!(stage.status()["enforcement"]["rejected"], json!([]));
    deploy(&mut stage, &json!({"quarantine": false}), "deployed");
    wait_released(&stage);
});
