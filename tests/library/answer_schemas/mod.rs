//! What the commands print with `--json` is what `edgewarden schema` says.
//!
//! Python's jsonschema judges, by the schemas as they are printed: answers of a running agent, and answers built from the
//! types that agent and command line share, with everything in them that there can be. In these tests a member that no
//! schema describes is a fault, although published schemas let later versions add some. Without PyPI these tests say
//! SKIPPED, and fail under CI.

mod built;
mod running;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::judge::{judge, python};

/// Every schema of an answer.
const NAMES: [&str; 10] = [
    "status",
    "orders",
    "top",
    "connections",
    "plan",
    "history",
    "history-verify",
    "report-show",
    "report-last",
    "report-metrics",
];

/// An answer and whose it is.
struct Sample {
    schema: &'static str,
    value: Value,
    /// Whether a member that is not described is a fault.
    closed: bool,
}

impl Sample {
    fn closed(schema: &'static str, value: Value) -> Self {
        Self {
            schema,
            value,
            closed: true,
        }
    }
}

/// The faults of each, in their order; none without PyPI, which is said.
fn judged(samples: &[Sample]) -> Option<Vec<Vec<String>>> {
    let python = python()?;
    let directory = tempfile::tempdir().unwrap();
    for name in NAMES {
        let printed = Command::new(env!("CARGO_BIN_EXE_edgewarden"))
            .args(["schema", name])
            .output()
            .unwrap();
        assert!(printed.status.success(), "{name}");
        std::fs::write(
            directory.path().join(format!("{name}.schema.json")),
            printed.stdout,
        )
        .unwrap();
    }
    let line = |sample: &Sample| {
        let Sample {
            schema,
            value,
            closed,
        } = sample;
        json!({"schema": schema, "closed": closed, "value": value}).to_string()
    };
    let lines: Vec<String> = samples.iter().map(line).collect();
    let answers = judge(python, "check_answers.py", directory.path(), &lines);
    let judged = answers.iter().map(|line| serde_json::from_str(line).unwrap());
    Some(judged.collect())
}

/// Every sample keeps to its schema.
fn keep(samples: &[Sample]) {
    let Some(judged) = judged(samples) else { return };
    for (sample, faults) in samples.iter().zip(judged) {
        assert!(
            faults.is_empty(),
            "{}: {faults:?}\n{:#}",
            sample.schema,
            sample.value
        );
    }
}

/// Where something is in an answer, as JSON pointers. What is inside a report is described elsewhere.
fn places(value: &Value, here: &str, all: &mut Vec<String>) {
    all.push(here.to_owned());
    match value {
        Value::Object(map) => {
            for (key, inner) in map.iter().filter(|_| here != "/document") {
                places(inner, &format!("{here}/{key}"), all);
            }
        }
        Value::Array(items) => {
            for (index, inner) in items.iter().enumerate() {
                places(inner, &format!("{here}/{index}"), all);
            }
        }
        _ => {}
    }
}

/// The answer without a member; nothing where there is none, or where an answer may lack it.
fn without(schema: &str, value: &Value, place: &str) -> Option<Value> {
    let (parent, key) = place.rsplit_once('/')?;
    let mut changed = value.clone();
    let members = changed.pointer_mut(parent)?.as_object_mut()?;
    members.remove(key)?;
    (!may_lack(schema, parent, key)).then_some(changed)
}

/// Orders say only what they hold; what is known of an event depends on its kind.
fn may_lack(schema: &str, parent: &str, key: &str) -> bool {
    let is_order = schema != "plan" && parent.rsplit('/').nth(1) == Some("orders");
    let of_order = ["reason", "expires", "allow", "limit", "processes"];
    let sparse = ["/block", "/limit", "/match"]
        .iter()
        .any(|part| parent.ends_with(part));
    sparse || (is_order && of_order.contains(&key)) || (parent == "/event" && key != "kind")
}

/// No schema of an answer is without samples, and the page names each.
#[test]
fn every_schema_of_an_answer_is_judged_and_on_the_page() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let of_others = [
        "order",
        "device-defender-report-long",
        "device-defender-report-short",
    ];
    let files = std::fs::read_dir(root.join("schemas")).unwrap();
    let names: BTreeSet<String> = files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .map(|file| file.strip_suffix(".schema.json").unwrap().to_owned())
        .filter(|name| !of_others.contains(&name.as_str()))
        .collect();
    assert_eq!(names, NAMES.map(str::to_owned).into());
    let page = std::fs::read_to_string(root.join("docs/answers.md")).unwrap();
    for name in NAMES {
        assert!(page.contains(&format!("`edgewarden schema {name}`")), "{name}");
    }
}

#[test]
fn answers_with_everything_in_them_keep_to_their_schemas() {
    let samples = built::answers();
    for name in NAMES.iter().filter(|name| **name != "history-verify") {
        assert!(samples.iter().any(|sample| sample.schema == *name), "{name}");
    }
    keep(&samples);
}

/// A place without the numbers of lists, and what is there: items of a list are judged alike.
fn shape(schema: &str, value: &Value, place: &str) -> String {
    let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit()) && !part.is_empty();
    let parts: Vec<&str> = place
        .split('/')
        .map(|part| if is_number(part) { "*" } else { part })
        .collect();
    let kind = match value.pointer(place) {
        Some(Value::Object(members)) => members.keys().map(String::as_str).collect::<Vec<_>>().join(" "),
        Some(Value::Array(_)) => "array".to_owned(),
        Some(Value::Null) | None => "null".to_owned(),
        Some(_) => "scalar".to_owned(),
    };
    format!("{schema} {}: {kind}", parts.join("/"))
}

/// The same answer with nonsense, with a member less and with a member more at a place.
fn changes(schema: &'static str, value: &Value, place: &str) -> Vec<(&'static str, Sample)> {
    let mut nonsense = value.clone();
    *nonsense.pointer_mut(place).unwrap() = json!([[[]]]);
    let open = |value| Sample {
        schema,
        value,
        closed: false,
    };
    let mut all = vec![("nonsense", open(nonsense))];
    all.extend(without(schema, value, place).map(|less| ("less", open(less))));
    let mut more = value.clone();
    if let Some(members) = more.pointer_mut(place).unwrap().as_object_mut()
        && place != "/document"
    {
        members.insert("undescribed".to_owned(), json!(1));
        all.push(("more", Sample::closed(schema, more)));
    }
    all
}

/// The schemas say something about every part: each change of any part is a fault.
#[test]
fn an_answer_that_is_changed_anywhere_breaks_its_schema() {
    let (mut seen, mut changed, mut what) = (BTreeSet::new(), Vec::new(), Vec::new());
    for Sample { schema, value, .. } in built::answers() {
        let mut found = Vec::new();
        places(&value, "", &mut found);
        found.retain(|place| seen.insert(shape(schema, &value, place)));
        for place in found {
            for (change, sample) in changes(schema, &value, &place) {
                what.push(format!("{schema}: {change} at {place}"));
                changed.push(sample);
            }
        }
    }
    assert!(changed.len() > 500, "{}", changed.len());
    let Some(judged) = judged(&changed) else { return };
    let passed: Vec<&String> = what
        .iter()
        .zip(&judged)
        .filter(|(_, faults)| faults.is_empty())
        .map(|(what, _)| what)
        .collect();
    assert!(
        passed.is_empty(),
        "{} of {} pass: {passed:#?}",
        passed.len(),
        judged.len()
    );
}

/// Whoever validates by a schema is not stopped by what a later version adds.
#[test]
fn more_members_are_no_fault_of_an_answer() {
    let mut samples = built::answers();
    samples.retain(|sample| sample.value.is_object());
    for sample in &mut samples {
        sample.closed = false;
        sample.value["added"] = json!({"later": true});
    }
    keep(&samples);
}
