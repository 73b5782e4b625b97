//! `cargo xtask bench way-out`: how long the operator waits for `status` and for `release`, whatever became of the agent.
//!
//! In: nothing; it builds what it measures and enters a lab of its own. Out: wall time of the whole commands, from the start of
//! the program to its end, at a device that the shadow isolates, with an agent that is well (the control), dead, stopped or
//! hanging. A command that does not do what it should ends the bench: its time would say nothing.

mod states;

use std::time::{Duration, Instant};

use edgewarden_lab::stage::preload::{HANGING_RUNTIME, Hang};
use edgewarden_lab::stage::{PATIENCE, Stage, StageOptions};
use serde_json::{Value, json};
use xtask::packages::PACKAGES;
use xtask::{setup, workspace};

use crate::Bench;
use crate::error::{BenchError, content};
use crate::figure::{Aim, Figure};
use crate::machine;
use crate::report::Report;
use states::{ALL, State};

/// Within which the operator is obeyed or answered, in milliseconds.
const LIMIT_MS: f64 = 2_000.0;

/// The bench, as it is asked for.
#[derive(clap::Args)]
pub(crate) struct WayOut {
    /// Isolations in each state, each with one `status` and one `release`
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    runs: u16,
    /// Only these states, by a part of their names
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

impl Bench for WayOut {
    const NAME: &'static str = "way-out";
    const IN_NAMESPACES: bool = true;

    fn prepare(&self) -> Result<(), BenchError> {
        setup::ensure(PACKAGES)?;
        machine::build(&["--package", "edgewarden", "--package", "edgewarden-lab"])
    }

    fn measure(&self, report: &mut Report) -> Result<(), BenchError> {
        machine::describe(report, &[("edgewarden", &machine::release("edgewarden"))]);
        let is_wanted = |state: &&State| {
            self.only.is_empty() || self.only.iter().any(|part| state.name.contains(part.as_str()))
        };
        for state in ALL.iter().filter(is_wanted) {
            eprintln!("bench: agent {}", state.name);
            let (status, release) = times(state, self.runs)?;
            add(&format!("status, agent {}", state.name), status, report);
            add(&format!("release, agent {}", state.name), release, report);
        }
        Ok(())
    }
}

/// Wall times of `status` and of `release`, in milliseconds, on a stage of its own.
fn times(state: &State, runs: u16) -> Result<(Vec<f64>, Vec<f64>), BenchError> {
    let mut stage = Stage::start(StageOptions {
        lab: Some(machine::release("edgewarden-lab")),
        ..StageOptions::new(
            machine::release("edgewarden"),
            workspace::root().join("recipe.yaml"),
        )
    })?;
    let hang = Hang::prepare(&stage, HANGING_RUNTIME)?;
    let (mut status, mut release) = (Vec::new(), Vec::new());
    for run in 0..runs {
        isolated(&mut stage, &hang, run)?;
        (state.begin)(&mut stage, &hang)?;
        status.push(command(&stage, &["status"], state.status)?);
        let words = ["release", "--override", "--reason", "bench"];
        release.push(command(&stage, &words, 0)?);
        if stage.has_table()? {
            return Err(content("the kernel", "isolated after a release"));
        }
        state.end(&hang)?;
    }
    Ok((status, release))
}

/// An agent that is new and well, with an order that was never ended.
fn isolated(stage: &mut Stage, hang: &Hang, run: u16) -> Result<(), BenchError> {
    let [preload, switch] = hang.environment();
    stage.agent = None;
    stage.start_agent_as(std::path::Path::new("env"), &[&preload, &switch])?;
    stage.wait_status(PATIENCE, "connected", |status| {
        status["cloud"]["channelWorks"] == true
    })?;
    let order = json!({"id": format!("run-{run}"), "posture": "isolate"});
    stage.desire(&json!({ "quarantine": order }))?;
    let stands = |status: &Value| status["enforcement"]["phase"] == "enforced";
    stage.wait_status(PATIENCE, "isolated", stands)?;
    Ok(())
}

/// Runs the command line to its end.
fn command(stage: &Stage, words: &[&str], expected: i32) -> Result<f64, BenchError> {
    let begun = Instant::now();
    let (code, output, errors) = stage.edgewarden(words)?;
    let took = begun.elapsed();
    if code == Some(expected) {
        return Ok(millis(took));
    }
    let told = format!("exit code {code:?}, expected {expected}: {output}{errors}");
    Err(content(format!("edgewarden {}", words.join(" ")), told))
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

fn add(case: &str, mut times: Vec<f64>, report: &mut Report) {
    times.sort_by(f64::total_cmp);
    for (metric, hundredth) in [("p50", 50), ("p99", 99), ("longest", 100)] {
        report.add(rank(case, metric, &times, hundredth));
    }
}

/// The smallest time that so many of hundred do not exceed.
fn rank(case: &str, metric: &'static str, times: &[f64], hundredth: usize) -> Figure {
    let place = (times.len() * hundredth).div_ceil(100).saturating_sub(1);
    let time = times.get(place).copied().unwrap_or_default();
    let figure = Figure::new(case, metric, time, "ms");
    if hundredth == 100 {
        return figure.against("the aim", LIMIT_MS, Some(Aim::AtMost(1.0)));
    }
    figure
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_times_that_were_measured() {
        let times: Vec<f64> = (1..=20).map(f64::from).collect();
        let at = |hundredth| rank("a case", "a rank", &times, hundredth).value.to_string();
        assert_eq!([at(50), at(99), at(100)], ["10", "20", "20"]);
        assert_eq!(rank("a case", "p50", &[7.0], 50).value.to_string(), "7");
    }
}
