//! Answers built from the types that agent and command line share: each with every member and every word there can be, and
//! with as little as there can be. A member that a type gets must be given here, so that no schema misses it.

mod agent;
mod enforcement;
mod traffic;

use edgewarden::control::report::CustomMetricNames;
use edgewarden::control::status::{AbsentAgent, OrderList};
use edgewarden::observe::Interval;
use edgewarden::process::ProcessId;
use edgewarden::quarantine::history::{ChainHead, Event};
use edgewarden::quarantine::orders::order::Posture;
use edgewarden::quarantine::proof::state::{Phase, State};
use edgewarden::report::last::{LastReport, ReportOutcome};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use self::agent::{bare_status, metrics, preview, report, status};
use self::enforcement::{events, plan, state};
use self::traffic::{interval, sockets};
use super::Sample;

/// A value of a type that is made by reading it.
fn read<T: DeserializeOwned>(text: &str) -> T {
    serde_json::from_value(json!(text)).unwrap()
}

fn time() -> jiff::Timestamp {
    "2026-11-25T00:00:00.123456789Z".parse().unwrap()
}

fn sentence() -> Vec<String> {
    vec!["something is as it should not be".to_owned()]
}

fn id() -> ProcessId {
    ProcessId {
        pid: 7,
        start_ticks: 9,
    }
}

fn head() -> ChainHead {
    ChainHead {
        seq: 3,
        hash: read(&"0a".repeat(32)),
    }
}

/// As `edgewarden history --json` writes it.
fn record(event: &Event) -> Value {
    let ChainHead { seq, hash } = head();
    json!({"seq": seq, "at": time(), "event": event, "prev": hash, "hash": hash})
}

fn sample(schema: &'static str, answer: impl Serialize) -> Sample {
    Sample::closed(schema, serde_json::to_value(answer).unwrap())
}

/// Where no agent answers, with all that there can be.
fn absent() -> AbsentAgent {
    let State {
        orders,
        overridden,
        rolled_back,
        stopped,
        ..
    } = state(Phase::RolledBack);
    AbsentAgent {
        agent: "stopped".to_owned(),
        pid: Some(7),
        since: Some(time()),
        guard: Some(8),
        kernel: "holds what is wanted: isolate (inet edgewarden)".to_owned(),
        mode: "observe".to_owned(),
        wanted: Posture::Isolate,
        orders,
        overridden,
        rolled_back,
        stopped,
    }
}

/// All of them.
pub(crate) fn answers() -> Vec<Sample> {
    let phases = [
        Phase::Starting,
        Phase::Released,
        Phase::Provisional,
        Phase::Enforced,
        Phase::Failed,
        Phase::RolledBack,
        Phase::Observed,
    ];
    let outcomes = [
        ReportOutcome::Waiting,
        ReportOutcome::Accepted,
        ReportOutcome::Rejected,
        ReportOutcome::Unanswered,
        ReportOutcome::NotSent,
        ReportOutcome::HandedOver,
    ];
    let mut samples = vec![
        sample("status", bare_status()),
        sample(
            "status",
            AbsentAgent {
                agent: "not running".to_owned(),
                pid: None,
                since: None,
                guard: None,
                kernel: "holds no rules of Edgewarden: nothing is cut".to_owned(),
                mode: "enforce".to_owned(),
                wanted: Posture::Normal,
                orders: Vec::new(),
                overridden: None,
                rolled_back: None,
                stopped: Vec::new(),
            },
        ),
        sample("status", absent()),
        sample("orders", OrderList::from(state(Phase::Enforced))),
        sample("orders", OrderList::from(State::default())),
        sample("orders", OrderList::from(absent())),
        sample("top", interval()),
        sample("top", Interval::default()),
        sample("connections", sockets()),
        sample("plan", plan()),
        sample("report-show", preview()),
        sample("report-last", None::<LastReport>),
        sample("report-metrics", metrics()),
        sample("report-metrics", CustomMetricNames::default()),
        sample("history", json!({"line": "history:3", "fault": "is no record"})),
    ];
    samples.extend(phases.map(|phase| sample("status", status(phase))));
    samples.extend(outcomes.map(|outcome| sample("report-last", report(outcome))));
    samples.extend(events().iter().map(|event| sample("history", record(event))));
    samples
}
