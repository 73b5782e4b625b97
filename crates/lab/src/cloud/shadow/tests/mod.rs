//! The reference's vectors (docs/reference/shadow.md#vectors) and the rules around them, as tables.

mod refusals;

use serde_json::{Value, json};

use super::*;

const NOW: u64 = 1_700_000_000;
const PREFIX: &str = "$aws/things/gw-1/shadow";

/// A service and the messages it published last.
#[derive(Default)]
struct Bench {
    shadows: Shadows,
    now: u64,
    answers: Vec<(String, Value)>,
}

impl Bench {
    fn new() -> Self {
        Self {
            now: NOW,
            ..Self::default()
        }
    }

    /// A bench whose shadow holds `desired` and `reported`; `null` leaves a section away.
    fn holding(desired: &Value, reported: &Value) -> Self {
        let mut bench = Self::new();
        bench.update(&json!({"state": {"desired": desired, "reported": reported}}));
        assert!(
            bench.answer("update/accepted").is_some(),
            "control: the start is accepted: {:?}",
            bench.answers
        );
        bench
    }

    fn raw(&mut self, topic: &str, payload: &[u8]) -> &mut Self {
        self.answers = self
            .shadows
            .handle(topic, payload, self.now)
            .into_iter()
            .map(|answer| {
                (
                    answer.topic,
                    serde_json::from_slice(&answer.payload).expect("answers are JSON"),
                )
            })
            .collect();
        self
    }

    fn update(&mut self, request: &Value) -> &mut Self {
        self.raw(&format!("{PREFIX}/update"), request.to_string().as_bytes())
    }

    fn get(&mut self) -> &mut Self {
        self.raw(&format!("{PREFIX}/get"), b"")
    }

    fn delete(&mut self) -> &mut Self {
        self.raw(&format!("{PREFIX}/delete"), b"")
    }

    fn answer(&self, suffix: &str) -> Option<&Value> {
        let topic = format!("{PREFIX}/{suffix}");
        self.answers
            .iter()
            .find(|(seen, _)| *seen == topic)
            .map(|(_, document)| document)
    }

    fn delta(&self) -> Value {
        self.answer("update/delta")
            .map_or(Value::Null, |delta| delta["state"].clone())
    }

    fn version(&self) -> Option<u64> {
        self.shadows
            .view(&ShadowId::classic("gw-1"))
            .map(|view| view.version)
    }

    /// Code of the only answer, which must be a refusal.
    fn refused(&self, operation: &str) -> u64 {
        assert_eq!(
            self.answers.len(),
            1,
            "a refusal is the only answer: {:?}",
            self.answers
        );
        let document = self.answer(&format!("{operation}/rejected")).expect("a refusal");
        document["code"].as_u64().expect("a code")
    }
}

#[test]
fn vectors_1_to_5_and_10_deltas_follow_from_the_sections() {
    let vectors = [
        (
            1,
            json!(null),
            json!(null),
            json!({"desired": {"quarantine": true}}),
            json!({"quarantine": true}),
        ),
        (
            2,
            json!({"quarantine": true}),
            json!(null),
            json!({"reported": {"quarantine": true}}),
            Value::Null,
        ),
        (
            3,
            json!({"quarantine": true}),
            json!({"quarantine": true}),
            json!({"desired": {"quarantine": false}}),
            json!({"quarantine": false}),
        ),
        (
            4,
            json!({"quarantine": true}),
            json!({"quarantine": true}),
            json!({"desired": {"quarantine": null}}),
            Value::Null,
        ),
        (
            5,
            json!({"debug": "off", "quarantine": true}),
            json!(null),
            json!({"reported": {"quarantine": true}}),
            json!({"debug": "off"}),
        ),
        (
            10,
            json!({"a": {"r": 1, "g": 2}}),
            json!({"a": {"r": 1, "g": 0}}),
            json!({}),
            json!({"a": {"g": 2}}),
        ),
    ];
    for (number, desired, reported, state, delta) in vectors {
        let mut bench = if desired.is_null() {
            Bench::new()
        } else {
            Bench::holding(&desired, &reported)
        };
        let before = bench.version().unwrap_or(0);
        bench.update(&json!({"state": state}));
        assert_eq!(bench.delta(), delta, "vector {number}");
        assert_eq!(bench.version(), Some(before + 1), "vector {number}");
        assert!(
            bench.answer("update/documents").is_some(),
            "vector {number}: documents are always sent"
        );
    }
}

#[test]
fn the_life_of_a_quarantine_counts_versions_1_to_4() {
    let mut bench = Bench::new();
    for (version, state) in [
        (1, json!({"desired": {"quarantine": true}})),
        (2, json!({"reported": {"quarantine": true}})),
        (3, json!({"desired": {"quarantine": false}})),
        (4, json!({"desired": {"quarantine": null}})),
    ] {
        bench.update(&json!({"state": state}));
        assert_eq!(bench.version(), Some(version));
        assert_eq!(
            bench.answer("update/accepted").expect("accepted")["version"],
            json!(version)
        );
    }
}

#[test]
fn limits_are_reached_without_refusal() {
    let six_deep = json!({"1": {"2": {"3": {"4": {"5": {"6": 1}}}}}});
    let overhead = json!({"desired": {"a": ""}}).to_string().len();
    let fits = "x".repeat(MAX_STATE_BYTES - overhead);
    for request in [
        json!({"state": {"desired": six_deep}}),
        json!({"state": {}, "clientToken": "t".repeat(64)}),
        json!({"state": {"desired": {"a": fits}}}),
        json!({"state": {}, "version": 0}),
        json!({"state": {}}),
    ] {
        let mut bench = Bench::new();
        bench.update(&request);
        assert!(bench.answer("update/accepted").is_some(), "{:?}", bench.answers);
    }
}

#[test]
fn vector_11_the_version_continues_after_a_deletion_for_48_hours() {
    for (pause, version) in [
        (1, 4),
        (VERSION_MEMORY_SECONDS, 4),
        (VERSION_MEMORY_SECONDS + 1, 1),
    ] {
        let mut bench = Bench::new();
        for count in 0..3 {
            bench.update(&json!({"state": {"reported": {"count": count}}}));
        }
        bench.delete();
        assert_eq!(
            bench.answer("delete/accepted"),
            Some(&json!({"version": 3, "timestamp": NOW}))
        );
        assert_eq!(bench.get().refused("get"), 404);
        bench.now += pause;
        bench.update(&json!({"state": {"desired": {"quarantine": true}}}));
        assert_eq!(bench.version(), Some(version), "{pause} s after the deletion");
        let view = bench.shadows.view(&ShadowId::classic("gw-1")).expect("recreated");
        assert_eq!(view.reported, json!({}), "the deleted content does not come back");
    }
}

#[test]
fn merge_is_deep_null_deletes_arrays_are_values_and_other_sections_are_dropped() {
    let table = [
        (
            json!({"a": {"b": 1}}),
            json!({"a": {"c": 2}}),
            json!({"a": {"b": 1, "c": 2}}),
        ),
        (
            json!({"a": {"b": 1}, "d": 1}),
            json!({"a": {"b": null}}),
            json!({"d": 1}),
        ),
        (json!({"a": {"b": 1}}), json!({"a": 5}), json!({"a": 5})),
        (json!({"a": 5}), json!({"a": {"b": 1}}), json!({"a": {"b": 1}})),
        (json!({"a": [1, 2]}), json!({"a": [3]}), json!({"a": [3]})),
        (json!({"a": 1}), json!({"b": {}}), json!({"a": 1})),
        (json!({"a": 1}), json!(null), json!({})),
        (json!({"a": 1}), json!({"never": null}), json!({"a": 1})),
    ];
    for (before, patch, after) in table {
        let mut bench = Bench::holding(&before, &json!({"kept": 1}));
        bench.update(&json!({"state": {"desired": patch, "other": {"x": 1}}, "ignored": 1}));
        let view = bench.shadows.view(&ShadowId::classic("gw-1")).expect("a shadow");
        assert_eq!(view.desired, after, "{before} + {patch}");
        assert_eq!(view.reported, json!({"kept": 1}));
        let shape = bench.get().answer("get/accepted").expect("accepted").clone();
        assert_eq!(
            shape["metadata"].get("desired").is_some(),
            after != json!({}),
            "{before} + {patch}"
        );
    }
}

#[test]
fn documents_have_the_documented_shape() {
    let mut bench = Bench::holding(&json!({"debug": "off"}), &json!({"debug": "off"}));
    bench.now = NOW + 5;
    bench.update(&json!({"state": {"desired": {"quarantine": true}}, "clientToken": "t", "version": 1}));
    let (old, new) = (json!({"timestamp": NOW}), json!({"timestamp": NOW + 5}));
    assert_eq!(
        bench.answer("update/accepted"),
        Some(&json!({
            "state": {"desired": {"quarantine": true}}, "metadata": {"desired": {"quarantine": new}},
            "version": 2, "timestamp": NOW + 5, "clientToken": "t",
        })),
    );
    assert_eq!(
        bench.answer("update/delta"),
        Some(&json!({
            "state": {"quarantine": true}, "metadata": {"quarantine": new},
            "version": 2, "timestamp": NOW + 5, "clientToken": "t",
        })),
    );
    let before = json!({
        "state": {"desired": {"debug": "off"}, "reported": {"debug": "off"}},
        "metadata": {"desired": {"debug": old}, "reported": {"debug": old}},
        "version": 1,
    });
    let metadata = json!({"desired": {"debug": old, "quarantine": new}, "reported": {"debug": old}});
    let after = json!({
        "state": {"desired": {"debug": "off", "quarantine": true}, "reported": {"debug": "off"}},
        "metadata": metadata,
        "version": 2,
    });
    assert_eq!(
        bench.answer("update/documents"),
        Some(&json!({"previous": before, "current": after, "timestamp": NOW + 5, "clientToken": "t"})),
    );
    bench.raw(&format!("{PREFIX}/get"), b"{\"clientToken\":\"g\"}");
    assert_eq!(
        bench.answer("get/accepted"),
        Some(&json!({
            "state": {
                "desired": {"debug": "off", "quarantine": true}, "reported": {"debug": "off"},
                "delta": {"quarantine": true},
            },
            "metadata": metadata, "version": 2, "timestamp": NOW + 5, "clientToken": "g",
        })),
    );
}

#[test]
fn a_delta_repeats_while_the_sections_differ_and_arrays_differ_whole() {
    let mut bench = Bench::holding(
        &json!({"list": [1, 2], "same": 1}),
        &json!({"list": [1], "same": 1}),
    );
    assert_eq!(bench.delta(), json!({"list": [1, 2]}));
    bench.update(&json!({"state": {"reported": {"unrelated": 1}}}));
    assert_eq!(bench.delta(), json!({"list": [1, 2]}));
    bench.update(&json!({"state": {"reported": {"list": [1, 2]}}}));
    assert_eq!(bench.delta(), Value::Null);
}

#[test]
fn a_rejection_repeats_the_token_when_it_could_be_read() {
    let mut bench = Bench::new();
    bench.raw(&format!("{PREFIX}/get"), b"{\"clientToken\":\"g\"}");
    assert_eq!(
        bench.answer("get/rejected"),
        Some(&json!({
            "code": 404, "message": "No shadow exists with name: 'gw-1'", "timestamp": NOW, "clientToken": "g",
        })),
    );
    bench.raw(&format!("{PREFIX}/get"), b"{");
    assert_eq!(bench.refused("get"), 400);
    assert!(
        bench
            .answer("get/rejected")
            .expect("refused")
            .get("clientToken")
            .is_none()
    );
}

#[test]
fn named_and_classic_shadows_of_all_things_are_apart() {
    let mut shadows = Shadows::default();
    for (topic, value) in [
        ("$aws/things/a/shadow/update", 1),
        ("$aws/things/a/shadow/name/n/update", 2),
        ("$aws/things/b/shadow/update", 3),
    ] {
        let request = json!({"state": {"desired": {"value": value}}}).to_string();
        let answers = shadows.handle(topic, request.as_bytes(), NOW);
        assert_eq!(answers[0].topic, format!("{topic}/accepted"));
    }
    let named = ShadowId {
        thing: "a".to_owned(),
        name: Some("n".to_owned()),
    };
    for (id, value) in [
        (ShadowId::classic("a"), 1),
        (named, 2),
        (ShadowId::classic("b"), 3),
    ] {
        let view = shadows.view(&id).expect("a shadow");
        assert_eq!((view.version, view.desired), (1, json!({"value": value})));
    }
}

#[test]
fn other_topics_get_no_answer_and_bad_names_a_refusal() {
    let long_topic = format!("$aws/things/{}/shadow/get", "t".repeat(250));
    for topic in [
        "$aws/things/gw/shadow/get/accepted",
        "$aws/things/gw/shadow/name/n",
        "$aws/things/gw/shadow/n/get",
        "$aws/things/gw/shadow/name/n/get/more",
        "$aws/things/gw/shadow/list",
        "$aws/things/gw/jobs/get",
        "$aws/things/gw",
        "dt/gw/shadow/get",
        "",
        &long_topic,
    ] {
        assert_eq!(Shadows::default().handle(topic, b"", NOW), [], "{topic}");
    }
    let long_name = "n".repeat(65);
    let long_thing = "t".repeat(129);
    for prefix in [
        "$aws/things/g w/shadow".to_owned(),
        "$aws/things//shadow".to_owned(),
        format!("$aws/things/{long_thing}/shadow"),
        format!("$aws/things/gw/shadow/name/{long_name}"),
    ] {
        let answers = Shadows::default().handle(&format!("{prefix}/get"), b"", NOW);
        assert_eq!(answers.len(), 1, "{prefix}");
        assert_eq!(answers[0].topic, format!("{prefix}/get/rejected"));
        let document: Value = serde_json::from_slice(&answers[0].payload).expect("JSON");
        assert_eq!(document["code"], json!(400), "{prefix}");
    }
}

#[test]
fn the_number_of_shadows_is_bounded_and_forgotten_deletions_make_room() {
    let mut shadows = Shadows::default();
    let request = json!({"state": {"reported": {"a": 1}}}).to_string();
    let mut update = |thing: &str, now: u64| {
        let answers = shadows.handle(
            &format!("$aws/things/{thing}/shadow/update"),
            request.as_bytes(),
            now,
        );
        let accepted = answers[0].topic.ends_with("/accepted");
        if thing == "t0" {
            shadows.handle("$aws/things/t0/shadow/delete", b"", now);
        }
        accepted
    };
    for number in 0..MAX_SHADOWS {
        assert!(update(&format!("t{number}"), NOW));
    }
    assert!(!update("one-more", NOW), "full");
    assert!(update("t1", NOW), "what exists still works");
    assert!(
        update("one-more", NOW + VERSION_MEMORY_SECONDS + 1),
        "the deletion of t0 is forgotten"
    );
}
