//! The published schema of an order and our reader say the same of every order.
//!
//! Python's jsonschema judges by the schema that `edgewarden schema order` prints, `order_document` by itself; what they
//! are given is made here. Where they may differ is listed. Without PyPI these tests say SKIPPED, and fail under CI.

mod documents;

use std::process::Command;

use edgewarden::quarantine::orders::document::read;
use edgewarden::quarantine::orders::order::Authority;
use serde_json::{Value, json};

use crate::judge::{judge, python};

/// The schema's word for each, in their order; none without PyPI, which is said.
fn by_schema(documents: &[Value]) -> Option<Vec<bool>> {
    let python = python()?;
    let printed = Command::new(env!("CARGO_BIN_EXE_edgewarden"))
        .args(["schema", "order"])
        .output()
        .unwrap();
    assert!(printed.status.success());
    let directory = tempfile::tempdir().unwrap();
    let schema = directory.path().join("order.schema.json");
    std::fs::write(&schema, printed.stdout).unwrap();
    let lines: Vec<String> = documents.iter().map(Value::to_string).collect();
    let judged = judge(python, "check_orders.py", &schema, &lines).into_iter();
    Some(judged.map(|line| line.parse().unwrap()).collect())
}

/// Whether a block is spelled in a way that only the reader knows.
fn is_loose(order: &Value) -> bool {
    order["block"]["remotes"][0]
        .as_str()
        .is_some_and(documents::is_loose)
}

fn by_reader(document: &Value) -> bool {
    let now = "2026-11-24T12:00:00Z".parse().unwrap();
    read(Some(document), Authority::Operator, now).is_ok()
}

/// Both say the same, and of each kind there are many.
fn agree(documents: &[Value], at_least: usize) {
    let Some(judged) = by_schema(documents) else {
        return;
    };
    let mut counts = [0, 0];
    for (document, schema) in documents.iter().zip(judged) {
        let reader = by_reader(document);
        let known = !schema && is_loose(document);
        assert!(
            schema == reader || known,
            "schema {schema}, reader {reader}: {document}"
        );
        counts[usize::from(reader)] += 1;
    }
    assert!(counts.iter().all(|count| *count >= at_least), "{counts:?}");
}

#[test]
fn schema_and_reader_agree_on_every_change_of_an_order() {
    agree(&documents::changed(), 300);
}

#[test]
fn schema_and_reader_agree_on_addresses() {
    let orders = documents::networks().into_iter();
    let orders: Vec<Value> = orders
        .map(|text| json!({"posture": "restrict", "block": {"remotes": [text]}}))
        .collect();
    agree(&orders, 500);
}

#[test]
fn schema_and_reader_agree_on_times() {
    let orders = documents::times().into_iter();
    let orders: Vec<Value> = orders
        .map(|text| json!({"posture": "isolate", "expires": text}))
        .collect();
    agree(&orders, 100);
}

#[test]
fn schema_and_reader_agree_on_the_length_of_lists() {
    agree(&documents::long(), 4);
}

/// Where they differ, and the schema is the stricter one.
#[test]
fn what_the_reader_takes_besides_the_schema_is_known() {
    let times = documents::TIMES.map(|text| json!({"posture": "isolate", "expires": text}));
    let blocks = documents::BLOCKS.map(|text| json!({"posture": "restrict", "block": {"remotes": [text]}}));
    let orders: Vec<Value> = times.into_iter().chain(blocks).collect();
    let Some(judged) = by_schema(&orders) else { return };
    for (order, schema) in orders.iter().zip(judged) {
        assert!(!schema && by_reader(order), "{order}");
    }
    let now = "2026-11-24T12:00:00Z".parse().unwrap();
    assert!(read(Some(&json!("true")), Authority::Deployment, now).is_ok());
}

/// Where they differ, and the reader is the stricter one: no pattern tells when a minute has 61 seconds.
#[test]
fn a_leap_second_where_none_may_be_is_refused_by_the_reader() {
    for text in ["2099-01-01T12:59:60Z", "2098-12-31T23:59:60+01:00"] {
        let order = json!({"posture": "isolate", "expires": text});
        assert!(!by_reader(&order), "{text}");
    }
}

/// Where they differ, and the reader is the stricter one.
#[test]
fn only_the_operator_may_block_very_many_remotes() {
    let now = "2026-11-24T12:00:00Z".parse().unwrap();
    let order = documents::blocking(1025);
    assert!(by_reader(&order));
    assert!(read(Some(&order), Authority::Shadow, now).is_err());
    assert!(read(Some(&documents::blocking(1024)), Authority::Shadow, now).is_ok());
}
