//! A deployment of configuration asks the component first: deferral, validation, what silence means.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::bench::{Bench, Ipc, LIMIT, code};

/// A nucleus whose configuration file may be changed, and a client.
fn bench(personality: &str, more: &[&str]) -> Bench {
    let arguments: Vec<_> = ["--configuration", "c.json"]
        .iter()
        .chain(more)
        .copied()
        .collect();
    Bench::start_with(personality, &arguments, |folder| {
        std::fs::write(folder.join("c.json"), "{}").unwrap();
    })
}

fn deploy(bench: &mut Bench, document: &Value) {
    std::fs::write(bench.folder.path().join("c.json"), document.to_string()).unwrap();
    bench.nucleus.signal(Signal::SIGHUP).unwrap();
}

fn outcome(bench: &mut Bench) -> Value {
    bench
        .nucleus
        .wait_event(LIMIT, |event| event["event"] == "configuration")
        .unwrap()
}

/// The id of the deployment that asks for a verdict, and the configuration it proposes.
fn asked_to_validate(ipc: &mut Ipc) -> (String, Value) {
    let (_, event) = ipc.event("ValidateConfigurationUpdateEvents");
    let event = &event["validateConfigurationUpdateEvent"];
    let id = event["deploymentId"].as_str().unwrap().to_owned();
    (id, event["configuration"].clone())
}

fn report(ipc: &mut Ipc, id: &str, status: &str) -> Result<Value, Value> {
    let report = json!({ "status": status, "deploymentId": id, "message": "because" });
    ipc.call(
        "SendConfigurationValidityReport",
        &json!({ "configurationValidityReport": report }),
    )
}

#[test]
fn a_validator_decides_whether_a_configuration_comes_into_force() {
    let mut bench = bench("classic", &[]);
    let (mut validator, mut ipc) = (bench.ipc(), bench.ipc());
    validator
        .call("SubscribeToValidateConfigurationUpdates", &json!({}))
        .unwrap();
    for (status, state, interval) in [("REJECTED", "rejected", 300.0), ("ACCEPTED", "deployed", 5.0)] {
        deploy(&mut bench, &json!({ "interval": 5 }));
        let (id, proposed) = asked_to_validate(&mut validator);
        assert_eq!(proposed["interval"], 5);
        assert_eq!(
            ipc.get(&["interval"]).unwrap()["value"]["interval"],
            300.0,
            "not before the verdict"
        );
        assert_eq!(
            code(report(&mut ipc, "another", "ACCEPTED")),
            "InvalidArgumentsError",
            "nobody asked for that"
        );
        report(&mut ipc, &id, status).unwrap();
        assert_eq!(outcome(&mut bench)["state"], state);
        assert_eq!(ipc.get(&["interval"]).unwrap()["value"]["interval"], interval);
        assert_eq!(
            code(report(&mut ipc, &id, status)),
            "InvalidArgumentsError",
            "one report a question"
        );
    }
    // Nothing changes, so nobody is asked.
    deploy(&mut bench, &json!({ "interval": 5 }));
    assert_eq!(outcome(&mut bench)["state"], "deployed");
}

#[test]
fn a_silent_validator_stops_a_deployment() {
    let mut bench = bench("classic", &["--answer-limit-seconds", "1"]);
    let mut validator = bench.ipc();
    validator
        .call("SubscribeToValidateConfigurationUpdates", &json!({}))
        .unwrap();
    deploy(&mut bench, &json!({ "interval": 5 }));
    let (id, _) = asked_to_validate(&mut validator);
    assert_eq!(outcome(&mut bench)["state"], "rejected");
    assert_eq!(
        code(report(&mut validator, &id, "ACCEPTED")),
        "InvalidArgumentsError",
        "too late"
    );
}

#[test]
fn an_update_waits_while_the_component_defers_it() {
    let mut bench = bench("classic", &[]);
    let (mut component, mut ipc) = (bench.ipc(), bench.ipc());
    let defer = |ipc: &mut Ipc, id: &str, milliseconds: u64| {
        let request = json!({ "deploymentId": id, "recheckAfterMs": milliseconds });
        ipc.call("DeferComponentUpdate", &request)
    };
    assert_eq!(
        code(defer(&mut ipc, "deployment-1", 0)),
        "InvalidArgumentsError",
        "not subscribed"
    );
    component.call("SubscribeToComponentUpdates", &json!({})).unwrap();
    assert_eq!(
        code(defer(&mut ipc, "deployment-1", 0)),
        "ServiceError",
        "nobody asked"
    );
    deploy(&mut bench, &json!({ "interval": 5 }));
    let asked = |component: &mut Ipc| {
        let (_, event) = component.event("ComponentUpdatePolicyEvents");
        assert_eq!(event["preUpdateEvent"]["isGgcRestarting"], false);
        event["preUpdateEvent"]["deploymentId"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let id = asked(&mut component);
    defer(&mut ipc, &id, 50).unwrap();
    assert_eq!(outcome(&mut bench)["state"], "deferred");
    assert_eq!(asked(&mut component), id, "asked again");
    assert_eq!(ipc.get(&["interval"]).unwrap()["value"]["interval"], 300.0);
    defer(&mut ipc, &id, 0).unwrap();
    let (_, event) = component.event("ComponentUpdatePolicyEvents");
    assert_eq!(event["postUpdateEvent"], json!({ "deploymentId": id }));
    assert_eq!(ipc.get(&["interval"]).unwrap()["value"]["interval"], 5.0);
}

#[test]
fn silence_is_consent_to_an_update() {
    let mut bench = bench("classic", &["--answer-limit-seconds", "1"]);
    let mut component = bench.ipc();
    component.call("SubscribeToComponentUpdates", &json!({})).unwrap();
    deploy(&mut bench, &json!({ "interval": 5 }));
    assert_eq!(outcome(&mut bench)["state"], "deployed");
}
