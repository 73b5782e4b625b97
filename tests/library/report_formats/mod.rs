//! What a report looks like on the wire, judged by code that is not ours.
//!
//! The schemas in `schemas/` are written from the specification; Python's jsonschema checks them, its cbor2 reads the
//! CBOR. Without PyPI these tests say SKIPPED, and fail under CI.

mod aws_agent;
mod checker;
mod documents;
mod ours;

use checker::{Sample, by_intake, by_schema};
use edgewarden_lab::cloud::ingest::Format;
use serde_json::Value;

use crate::judge::python;

/// The document in both encodings.
fn encoded(name: &str, names: &'static str, document: &Value) -> [Sample; 2] {
    Format::ALL.map(|format| Sample {
        name: format!("{names} {} {name}", format.name()),
        format,
        names,
        bytes: format.encode(document),
    })
}

/// Every document in both encodings and under both sets of names.
fn samples(documents: &[(String, Value)]) -> Vec<Sample> {
    let both = |(name, document): &(String, Value)| {
        let short = documents::shorten(document);
        let long = encoded(name, "long", document);
        long.into_iter().chain(encoded(name, "short", &short))
    };
    documents.iter().flat_map(both).collect()
}

#[test]
fn what_the_specification_allows_is_taken_by_schema_and_intake() {
    let Some(python) = python() else { return };
    let documents = documents::good();
    let samples = samples(&documents);
    let expected = documents.iter().flat_map(|(_, document)| [document; 4]);
    for ((sample, judged), document) in samples.iter().zip(by_schema(python, &samples)).zip(expected) {
        assert_eq!(judged.as_ref(), Ok(document), "schema: {}", sample.name);
        assert_eq!(by_intake(sample), Ok(()), "intake: {}", sample.name);
    }
}

#[test]
fn what_it_forbids_is_refused_by_schema_and_intake() {
    let Some(python) = python() else { return };
    let samples = samples(&documents::bad());
    assert!(samples.len() > 200);
    for (sample, judged) in samples.iter().zip(by_schema(python, &samples)) {
        assert!(judged.is_err(), "schema: {}", sample.name);
        assert!(by_intake(sample).is_err(), "intake: {}", sample.name);
    }
}

#[test]
fn mixed_names_are_refused_under_either_schema() {
    let Some(python) = python() else { return };
    let of = |names| {
        documents::mixed()
            .into_iter()
            .flat_map(move |(name, document)| encoded(&name, names, &document))
    };
    let samples: Vec<Sample> = of("long").chain(of("short")).collect();
    for (sample, judged) in samples.iter().zip(by_schema(python, &samples)) {
        assert!(judged.is_err(), "schema: {}", sample.name);
        assert!(by_intake(sample).is_err(), "intake: {}", sample.name);
    }
}

#[test]
fn bytes_that_are_no_document_are_refused() {
    let Some(python) = python() else { return };
    let broken = |format: Format| {
        let whole = format.encode(&documents::full());
        let mut longer = whole.clone();
        longer.push(0);
        [whole[..whole.len() - 1].to_vec(), longer, Vec::new(), vec![0xff]]
    };
    let samples: Vec<Sample> = Format::ALL
        .into_iter()
        .flat_map(|format| {
            broken(format).map(|bytes| Sample {
                name: format!("{} {bytes:02x?}", format.name()),
                format,
                names: "long",
                bytes,
            })
        })
        .collect();
    for (sample, judged) in samples.iter().zip(by_schema(python, &samples)) {
        assert!(judged.is_err(), "schema: {}", sample.name);
        assert!(by_intake(sample).is_err(), "intake: {}", sample.name);
    }
}
