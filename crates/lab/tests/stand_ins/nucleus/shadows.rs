//! Shadows of the classic nucleus: documents, local topics, listing, policies.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::bench::{Bench, Ipc, code};

const THING: &str = "gateway-01";

fn encoded(document: &Value) -> String {
    STANDARD.encode(document.to_string())
}

fn decoded(payload: &Value) -> Value {
    serde_json::from_slice(&STANDARD.decode(payload.as_str().unwrap()).unwrap()).unwrap()
}

fn update(ipc: &mut Ipc, name: &str, document: &Value) -> Result<Value, Value> {
    let request = json!({ "thingName": THING, "shadowName": name, "payload": encoded(document) });
    ipc.call("UpdateThingShadow", &request)
}

/// The next local message: its topic's end behind the shadow's prefix, its document.
fn local(ipc: &mut Ipc) -> (String, Value) {
    let (_, event) = ipc.event("SubscriptionResponseMessage");
    let message = &event["binaryMessage"];
    let topic = message["context"]["topic"].as_str().unwrap();
    let (_, end) = topic.split_once("/name/mode/").unwrap();
    (end.to_owned(), decoded(&message["message"]))
}

#[test]
fn a_shadow_is_changed_read_and_removed_and_the_local_topics_tell() {
    let bench = Bench::start("classic", &[]);
    let (mut listener, mut ipc) = (bench.ipc(), bench.ipc());
    let filter = json!({ "topic": "$aws/things/gateway-01/shadow/name/mode/#" });
    listener.call("SubscribeToTopic", &filter).unwrap();
    let target = json!({ "thingName": THING, "shadowName": "mode" });
    assert_eq!(code(ipc.call("GetThingShadow", &target)), "ResourceNotFoundError");
    assert_eq!(local(&mut listener).1["code"], 404);
    let desired = json!({ "state": { "desired": { "on": true } }, "clientToken": "t" });
    let accepted = decoded(&update(&mut ipc, "mode", &desired).unwrap()["payload"]);
    assert_eq!(
        (&accepted["version"], &accepted["clientToken"]),
        (&json!(1), &json!("t"))
    );
    let (topic, delta) = local(&mut listener);
    assert_eq!(
        (&*topic, &delta["state"]),
        ("update/delta", &json!({ "on": true }))
    );
    assert_eq!(local(&mut listener).0, "update/documents");
    assert_eq!(local(&mut listener), ("update/accepted".to_owned(), accepted));
    let document = ipc.call("GetThingShadow", &target).unwrap();
    let document = decoded(&document["payload"]);
    assert_eq!(document["state"]["delta"], json!({ "on": true }));
    assert_eq!(local(&mut listener), ("get/accepted".to_owned(), document));
    assert_eq!(
        ipc.call("DeleteThingShadow", &target),
        Ok(json!({ "payload": "" }))
    );
    assert_eq!(local(&mut listener).0, "delete/accepted");
    assert_eq!(
        code(ipc.call("DeleteThingShadow", &target)),
        "ResourceNotFoundError"
    );
}

#[test]
fn refusals_say_why() {
    let bench = Bench::start("classic", &[]);
    let mut ipc = bench.ipc();
    let reported = json!({ "state": { "reported": { "a": 1 } }, "version": 5 });
    assert_eq!(code(update(&mut ipc, "mode", &reported)), "ConflictError");
    assert_eq!(
        code(update(&mut ipc, "mode", &json!("no object"))),
        "InvalidArgumentsError"
    );
    assert_eq!(code(update(&mut ipc, "a/b", &reported)), "InvalidArgumentsError");
    let foreign = json!({ "thingName": "other" });
    assert_eq!(code(ipc.call("GetThingShadow", &foreign)), "UnauthorizedError");
    assert_eq!(
        code(ipc.call("ListNamedShadowsForThing", &foreign)),
        "UnauthorizedError"
    );
    let bare = json!({ "thingName": THING });
    assert_eq!(
        code(ipc.call("UpdateThingShadow", &bare)),
        "InvalidArgumentsError",
        "no payload"
    );
}

#[test]
fn named_shadows_are_listed_page_by_page() {
    let bench = Bench::start("classic", &[]);
    let mut ipc = bench.ipc();
    let state = json!({ "state": { "reported": { "a": 1 } } });
    // The classic shadow has no name to list.
    for name in ["c", "a", "b", ""] {
        update(&mut ipc, name, &state).unwrap();
    }
    let mut list = |more: Value| {
        let mut request = json!({ "thingName": THING });
        request
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        ipc.call("ListNamedShadowsForThing", &request)
    };
    let first = list(json!({ "pageSize": 2 })).unwrap();
    assert_eq!(first["results"], json!(["a", "b"]));
    assert!(
        first["timestamp"].is_f64(),
        "Smithy's timestamps are floating point numbers"
    );
    let rest = list(json!({ "pageSize": 2, "nextToken": first["nextToken"] })).unwrap();
    assert_eq!(
        (&rest["results"], &rest["nextToken"]),
        (&json!(["c"]), &Value::Null)
    );
    assert_eq!(
        code(list(json!({ "nextToken": "nonsense" }))),
        "InvalidArgumentsError"
    );
    for size in [0, 101] {
        assert_eq!(code(list(json!({ "pageSize": size }))), "InvalidArgumentsError");
    }
}
