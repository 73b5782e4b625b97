//! The two judges of a report: the schema with cbor2 and jsonschema in Python, and the strict intake of the lab.
//!
//! In: [`Sample`]s. Out: what each judge says. The judges share no code with Edgewarden.

use std::path::Path;

use base64::Engine as _;
use edgewarden_lab::cloud::ingest::{Format, Ingest, Verdict};
use serde_json::{Value, json};

use crate::judge::judge;

/// Bytes to be judged.
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) format: Format,
    /// `long` or `short`.
    pub(crate) names: &'static str,
    pub(crate) bytes: Vec<u8>,
}

/// What a judge says: the document with long names, or the fault.
pub(crate) type Judgement = Result<Value, String>;

/// The schema's word for each sample, in their order.
pub(crate) fn by_schema(python: &Path, samples: &[Sample]) -> Vec<Judgement> {
    let schemas = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
    let lines: Vec<String> = samples.iter().map(line).collect();
    let answers = judge(python, "check_reports.py", &schemas, &lines);
    let judged = answers.iter().zip(samples);
    judged.map(|(line, sample)| judgement(line, sample)).collect()
}

fn line(sample: &Sample) -> String {
    let line = json!({
        "name": sample.name,
        "encoding": sample.format.name(),
        "names": sample.names,
        "base64": base64::engine::general_purpose::STANDARD.encode(&sample.bytes),
    });
    line.to_string()
}

fn judgement(line: &str, sample: &Sample) -> Judgement {
    let mut answer: Value = serde_json::from_str(line).unwrap();
    assert_eq!(answer["name"], *sample.name);
    match answer["fault"].as_str() {
        Some(fault) => Err(fault.to_owned()),
        None => Ok(answer["document"].take()),
    }
}

/// The lab's word: nothing, or the fault.
pub(crate) fn by_intake(sample: &Sample) -> Result<(), String> {
    match Ingest::new(300).handle("gw-1", sample.format, &sample.bytes, 1_790_000_000_000) {
        Verdict::Accepted { .. } => Ok(()),
        Verdict::Rejected { detail, .. } => Err(detail),
    }
}
