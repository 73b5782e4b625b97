//! Configuration: reading, updating, being told.

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::bench::{Bench, LIMIT, code};

#[test]
fn configuration_is_read_as_each_nucleus_gives_it() {
    let file = |folder: &std::path::Path| {
        std::fs::write(
            folder.join("c.json"),
            r#"{"typed": 5, "nested": {"added": ["x"], "on": null}}"#,
        )
        .unwrap();
    };
    let endpoint = [
        "--configuration",
        "c.json",
        "--data-endpoint",
        "iot.example.com",
        "--endpoint-late-millis",
        "0",
    ];
    for (personality, interval, typed, own) in [
        ("lite", json!("300"), json!(5), "aws.greengrass.NucleusLite"),
        ("classic", json!(300.0), json!(5.0), "aws.greengrass.Nucleus"),
    ] {
        let bench = Bench::start_with(personality, &endpoint, file);
        let mut ipc = bench.ipc();
        let leaf = ipc.get(&["interval"]).unwrap();
        assert_eq!(
            leaf,
            json!({ "componentName": "com.example.C", "value": { "interval": interval } })
        );
        assert_eq!(
            ipc.get(&["nested"]).unwrap()["value"],
            json!({ "added": ["x"] }),
            "maps come bare"
        );
        assert_eq!(
            ipc.get(&["nested", "added"]).unwrap()["value"],
            json!({ "added": ["x"] }),
            "lists are leaves"
        );
        assert_eq!(
            ipc.get(&["typed"]).unwrap()["value"],
            json!({ "typed": typed }),
            "JSON keeps its types, and numbers are doubles on classic"
        );
        assert_eq!(ipc.get(&[]).unwrap()["value"]["typed"], typed);
        let missing = ipc.get(&["none"]).unwrap_err();
        assert_eq!(
            (&missing["_errorCode"], &missing["_message"]),
            (&json!("ResourceNotFoundError"), &json!("Key not found."))
        );
        let of_nucleus = json!({ "componentName": own, "keyPath": ["iotDataEndpoint"] });
        let value = ipc.call("GetConfiguration", &of_nucleus).unwrap();
        assert_eq!(value["value"], json!({ "iotDataEndpoint": "iot.example.com" }));
        let null = ipc.call(
            "GetConfiguration",
            &json!({ "keyPath": ["interval"], "componentName": null }),
        );
        assert_eq!(null.is_err(), personality == "lite", "an explicit null");
    }
}

#[test]
fn configuration_updates_are_merged_guarded_and_announced() {
    let bench = Bench::start("lite", &[]);
    let (mut watcher, mut ipc) = (bench.ipc(), bench.ipc());
    watcher
        .call(
            "SubscribeToConfigurationUpdate",
            &json!({ "keyPath": ["nested"] }),
        )
        .unwrap();
    let update = |path: &[&str], value: Value, timestamp: Value| json!({ "keyPath": path, "valueToMerge": value, "timestamp": timestamp });
    ipc.call(
        "UpdateConfiguration",
        &update(&["other"], json!({ "x": 1 }), json!(1.0)),
    )
    .unwrap();
    ipc.call(
        "UpdateConfiguration",
        &update(&["nested"], json!({ "deep": { "a": 1 } }), json!(2.5)),
    )
    .unwrap();
    let event: Value = serde_json::from_slice(&watcher.read().unwrap().payload).unwrap();
    let expected = json!({ "componentName": "com.example.C", "keyPath": ["nested", "deep", "a"] });
    assert_eq!(
        event["configurationUpdateEvent"], expected,
        "the change elsewhere was not announced"
    );
    assert_eq!(
        ipc.get(&["nested"]).unwrap()["value"],
        json!({ "on": "true", "deep": { "a": 1 } })
    );
    let guarded = update(&["accessControl"], json!({}), json!(3.0));
    assert_eq!(
        code(ipc.call("UpdateConfiguration", &guarded)),
        "InvalidArgumentsError"
    );
    let guarded = update(&[], json!({ "accessControl": {} }), json!(3.0));
    assert_eq!(
        code(ipc.call("UpdateConfiguration", &guarded)),
        "InvalidArgumentsError"
    );
    let integer = update(&["nested"], json!({}), json!(4));
    assert_eq!(
        code(ipc.call("UpdateConfiguration", &integer)),
        "InvalidArgumentsError"
    );
    let old = update(&["nested"], json!({ "deep": 0 }), json!(1.0));
    ipc.call("UpdateConfiguration", &old).unwrap();
    assert_eq!(
        ipc.get(&["nested", "deep"]).unwrap()["value"],
        json!({ "a": 1 }),
        "accepted and ignored"
    );

    let classic = Bench::start("classic", &[]);
    let mut ipc = classic.ipc();
    ipc.call("UpdateConfiguration", &update(&["a"], json!(1), json!(9)))
        .unwrap();
    assert_eq!(
        code(ipc.call("UpdateConfiguration", &old)),
        "FailedUpdateConditionCheckError"
    );
}

#[test]
fn a_hang_up_signal_deploys_configuration() {
    let mut bench = Bench::start_with("classic", &["--configuration", "c.json"], |folder| {
        std::fs::write(folder.join("c.json"), "{}").unwrap();
    });
    let mut ipc = bench.ipc();
    ipc.call("SubscribeToConfigurationUpdate", &json!({ "keyPath": [] }))
        .unwrap();
    let file = bench.folder.path().join("c.json");
    std::fs::write(&file, r#"{"quarantine": true}"#).unwrap();
    bench.nucleus.signal(Signal::SIGHUP).unwrap();
    for _twice_for_a_new_key in 0..2 {
        let event: Value = serde_json::from_slice(&ipc.read().unwrap().payload).unwrap();
        assert_eq!(
            event["configurationUpdateEvent"]["keyPath"],
            json!(["quarantine"])
        );
    }
    assert_eq!(
        ipc.get(&["quarantine"]).unwrap()["value"],
        json!({ "quarantine": true })
    );
    std::fs::write(&file, "not json").unwrap();
    bench.nucleus.signal(Signal::SIGHUP).unwrap();
    bench
        .nucleus
        .wait_event(LIMIT, |event| {
            event["event"] == "configuration" && event["error"].is_string()
        })
        .unwrap();
    assert!(ipc.get(&["quarantine"]).is_ok(), "a bad file changes nothing");
}
