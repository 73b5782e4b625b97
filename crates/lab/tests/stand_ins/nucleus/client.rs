//! The stand-in nucleus and the real client, together.

use edgewarden_lab::nucleus::read_component_env;
use greengrass_ipc::{Client, ClientOptions, ComponentState, ConnectionState, Qos, SubscriptionEvent};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::bench::{ACCEPTED, ANSWERS, Bench, GET, LIMIT, UPDATE};

pub fn run<T>(body: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async { tokio::time::timeout(LIMIT * 2, body).await.expect("in time") })
}

pub fn options(bench: &Bench) -> ClientOptions {
    let environment = read_component_env(&bench.root()).unwrap();
    ClientOptions::from_lookup(|name| environment.get(name).cloned()).unwrap()
}

async fn payload(subscription: &mut greengrass_ipc::Subscription<greengrass_ipc::IotCoreMessage>) -> Vec<u8> {
    match subscription.next().await.expect("still subscribed") {
        SubscriptionEvent::Message(message) => message.payload.to_vec(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_client_works_with_both_personalities() {
    for personality in ["lite", "classic"] {
        let mut bench = Bench::start(personality, &[]);
        let cloud = bench.cloud("$aws/#");
        run(async {
            let client = Client::start(options(&bench));
            let mut answers = client
                .subscribe_to_iot_core(ANSWERS, Qos::AtLeastOnce)
                .await
                .unwrap();
            client
                .publish_to_iot_core(GET, Qos::AtMostOnce, b"")
                .await
                .unwrap();
            assert_eq!(cloud.next().0, GET);
            cloud.publish(ACCEPTED, b"document");
            assert_eq!(payload(&mut answers).await, b"document");
            cloud.next();
            let largest = vec![b'x'; client.max_iot_core_payload(UPDATE)];
            client
                .publish_to_iot_core(UPDATE, Qos::AtLeastOnce, &largest)
                .await
                .unwrap();
            assert_eq!(
                cloud.next().1.len(),
                largest.len(),
                "the largest payload the client allows"
            );
            client.update_state(ComponentState::Running).await.unwrap();
            let interval = client.get_configuration(None, &["interval"]).await.unwrap();
            assert!(matches!(
                &interval["interval"],
                Value::String(_) | Value::Number(_)
            ));
            assert!(
                client
                    .get_configuration(None, &["none"])
                    .await
                    .unwrap_err()
                    .is_not_found()
            );
            let denied = client.publish_to_iot_core("other", Qos::AtMostOnce, b"").await;
            assert!(denied.unwrap_err().is_unauthorized());
            for operation in ["GetSecretValue", "NoSuchThing"] {
                assert!(
                    client
                        .request_json(operation, json!({}))
                        .await
                        .unwrap_err()
                        .is_unsupported(),
                    "{operation}"
                );
            }
        });
        bench
            .nucleus
            .find_event(LIMIT, |event| event["state"] == "RUNNING")
            .unwrap();
        bench.lose_broker();
    }
}

#[test]
fn a_deployment_reaches_the_client() {
    let mut bench = Bench::start_with("classic", &["--configuration", "c.json"], |folder| {
        std::fs::write(folder.join("c.json"), "{}").unwrap();
    });
    let file = bench.folder.path().join("c.json");
    run(async {
        let client = Client::start(options(&bench));
        let mut updates = client.subscribe_to_configuration_update(None, &[]).await.unwrap();
        std::fs::write(&file, r#"{"a": 1}"#).unwrap();
        bench.nucleus.signal(Signal::SIGHUP).unwrap();
        let update = updates.next().await.unwrap();
        assert!(matches!(update, SubscriptionEvent::Message(update) if update.key_path == ["a"]));
    });
}

#[test]
fn a_component_gets_back_in_by_name_when_its_token_is_forgotten() {
    let own = std::env::current_exe().unwrap();
    let played = edgewarden_lab::test_name!(played_component);
    let script = format!("exec {} --exact {played} --nocapture", own.display());
    let mut bench = Bench::start_with(
        "lite",
        &["--launch", "--set-env", "EDGEWARDEN_PLAYED=1"],
        |folder| {
            std::fs::write(folder.join("artifacts/component.sh"), script).unwrap();
        },
    );
    let pid = bench
        .nucleus
        .find_event(LIMIT, |event| event["state"] == "started")
        .unwrap()["pid"]
        .clone();
    let connected =
        |event: &Value| event["event"] == "client" && event["state"] == "connected" && event["pid"] == pid;
    bench.nucleus.find_event(LIMIT, connected).unwrap();
    bench.nucleus.signal(Signal::SIGUSR1).unwrap();
    bench
        .nucleus
        .wait_event(LIMIT, |event| event["event"] == "restarted")
        .unwrap();
    bench.nucleus.wait_event(LIMIT, connected).unwrap();
}

#[test]
fn played_component() {
    if std::env::var_os("EDGEWARDEN_PLAYED").is_none() {
        return;
    }
    let mut options = ClientOptions::from_lookup(|name| std::env::var(name).ok()).unwrap();
    options.component_name = Some("com.example.C".to_owned());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let client = Client::start(options);
        let mut state = client.connection();
        // Until the nucleus stops it.
        loop {
            state
                .wait_for(|state| matches!(state, ConnectionState::Connecting { .. }))
                .await
                .unwrap();
            state.changed().await.unwrap();
        }
    });
}
