//! The stand-in nucleus is what AWS's own client takes for a nucleus: `awsiotsdk` from PyPI runs check.py against it.
//!
//! Without PyPI there is nothing to check with: the test says SKIPPED, and fails under CI.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use edgewarden_lab::nucleus::read_component_env;
use edgewarden_lab::python::IPC_CLIENT;
use edgewarden_lab::site::{Running, SpawnSpec};

use crate::bench::{Bench, LIMIT};

/// What check.py checks of either nucleus.
const COMMON: [&str; 9] = [
    "a wrong token is refused",
    "publish and subscribe",
    "unsubscribe",
    "configuration",
    "state",
    "local publish and subscribe",
    "connection status",
    "errors",
    "restart",
];
/// What it checks of the classic nucleus besides.
const CLASSIC: [&str; 6] = [
    "properties of MQTT 5",
    "shadows",
    "shadow errors",
    "pause, resume and stop",
    "deployment",
    "metrics",
];
/// What it checks of lite besides.
const LITE: [&str; 1] = ["unsupported operations"];

/// None when the official client cannot be had, which is said and is no success under CI.
fn python() -> Option<&'static Path> {
    static PYTHON: OnceLock<Option<PathBuf>> = OnceLock::new();
    PYTHON
        .get_or_init(|| match IPC_CLIENT.python_or_skip() {
            Ok(python) => python,
            Err(error) => panic!("no official client: {}", edgewarden_lab::error_text(&error)),
        })
        .as_deref()
}

/// Runs check.py and hands back the bench and what was checked, in order.
fn check(python: &Path, personality: &str) -> (Bench, Vec<String>) {
    let arguments = ["--connection-status", "--configuration", "c.json"];
    let bench = Bench::start_with(personality, &arguments, |folder| {
        std::fs::write(folder.join("c.json"), "{}").unwrap();
    });
    let mut spec = SpawnSpec::new(python, bench.folder.path().join("check.log"));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stand_ins/official/check.py");
    spec.args = [script, personality].map(Into::into).to_vec();
    spec.args.push(bench.nucleus.pid().to_string().into());
    spec.args.push(bench.folder.path().join("c.json").into());
    let environment = read_component_env(&bench.root()).unwrap();
    spec.env = environment
        .into_iter()
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    let mut script = Running::start_here(spec).unwrap();
    let status = script.wait_exit(LIMIT * 4).unwrap();
    let log = std::fs::read_to_string(script.log()).unwrap();
    assert!(status.success(), "{personality}: {status}\n{log}");
    let checked = log.lines().filter_map(|line| line.strip_prefix("ok "));
    (bench, checked.map(str::to_owned).collect())
}

#[test]
fn the_official_client_takes_lite_for_a_nucleus() {
    let Some(python) = python() else { return };
    let (bench, checked) = check(python, "lite");
    assert_eq!(checked, [&COMMON[..], &LITE].concat());
    bench
        .nucleus
        .find_event(LIMIT, |event| {
            event["event"] == "state" && event["state"] == "RUNNING"
        })
        .unwrap();
}

#[test]
fn the_official_client_takes_classic_for_a_nucleus() {
    let Some(python) = python() else { return };
    let (bench, checked) = check(python, "classic");
    assert_eq!(checked, [&COMMON[..], &CLASSIC].concat());
    for state in [
        "RUNNING",
        "restarting",
        "paused",
        "resumed",
        "stopping",
        "deployed",
    ] {
        bench
            .nucleus
            .find_event(LIMIT, |event| event["state"] == state)
            .unwrap();
    }
}
