//! Requests the service refuses (vectors 6 to 9 and their like).

use serde_json::{Value, json};

use super::*;

/// Sends each request to a shadow that exists; each must be refused with its code and change nothing.
fn assert_refused(table: impl IntoIterator<Item = (&'static str, String, u64)>) {
    for (what, payload, code) in table {
        let mut bench = Bench::holding(&json!({"quarantine": true}), &json!(null));
        let before = bench.shadows.view(&ShadowId::classic("gw-1"));
        bench.raw(&format!("{PREFIX}/update"), payload.as_bytes());
        assert_eq!(bench.refused("update"), code, "{what}");
        assert_eq!(bench.shadows.view(&ShadowId::classic("gw-1")), before, "{what}");
    }
}

fn desired(value: &Value) -> String {
    json!({"state": {"desired": value}}).to_string()
}

#[test]
fn vectors_6_to_8_and_their_like_are_refused_and_change_nothing() {
    let token = |token: Value| json!({"state": {}, "clientToken": token}).to_string();
    let version = |version: Value| json!({"state": {}, "version": version}).to_string();
    assert_refused([
        ("vector 6, stale version", version(json!(0)), 409),
        ("future version", version(json!(2)), 409),
        ("negative version", version(json!(-1)), 400),
        ("version a string", version(json!("1")), 400),
        (
            "vector 7, null in an array",
            desired(&json!({"a": [1, null]})),
            400,
        ),
        (
            "null deep in an array",
            desired(&json!({"o": {"a": [{"x": null}]}})),
            400,
        ),
        ("vector 8, token of 65 bytes", token(json!("t".repeat(65))), 400),
        (
            "token of 66 bytes in 33 characters",
            token(json!("é".repeat(33))),
            400,
        ),
        ("token that is a number", token(json!(7)), 400),
    ]);
}

#[test]
fn malformed_and_oversized_requests_are_refused_and_change_nothing() {
    let state = |state: Value| json!({"state": state}).to_string();
    assert_refused([
        ("no state", json!({"desired": {}}).to_string(), 400),
        ("state null", state(json!(null)), 400),
        ("state a list", state(json!([])), 400),
        ("desired a boolean", state(json!({"desired": true})), 400),
        ("reported a list", state(json!({"reported": []})), 400),
        (
            "seven levels",
            desired(&json!({"1": {"2": {"3": {"4": {"5": {"6": {"7": 1}}}}}}})),
            400,
        ),
        ("not JSON", "{\"state\":".to_owned(), 400),
        (
            "nesting beyond the parser",
            format!("{}{}", "[".repeat(500), "]".repeat(500)),
            400,
        ),
        ("not an object", "[]".to_owned(), 400),
        ("empty", String::new(), 400),
        (
            "state over 8 KB",
            desired(&json!({"a": "x".repeat(8 * 1024)})),
            413,
        ),
        ("200 KB", desired(&json!({"a": "x".repeat(200 * 1024)})), 413),
    ]);
    let mut bench = Bench::new();
    assert_eq!(
        bench
            .raw(&format!("{PREFIX}/update"), b"\xff\xfe")
            .refused("update"),
        415
    );
}

#[test]
fn vector_9_what_does_not_exist_is_not_found() {
    let mut bench = Bench::new();
    assert_eq!(bench.get().refused("get"), 404);
    assert_eq!(bench.delete().refused("delete"), 404);
}
