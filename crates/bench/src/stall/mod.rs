//! `cargo xtask bench stall`: how long the thread that decides does not turn, whatever is done to it.
//!
//! In: nothing; it builds what it measures and enters a lab of its own. Out: for each case how late turns came that were due
//! every five milliseconds, while the shadow isolates and releases the device all the time; and the longest turn with whose
//! it was. The agent tells both itself (`EDGEWARDEN_TURNS`): from outside nobody sees a turn.
//!
//! ```text
//! cases     what is done to the agent, one after the other
//! lateness  what the agent told of its turns
//! ```

mod cases;
mod lateness;

use std::time::{Duration, Instant};

use edgewarden_lab::stage::{PATIENCE, Stage, StageOptions, Turns};
use serde_json::{Value, json};
use xtask::packages::PACKAGES;
use xtask::{setup, workspace};

use crate::Bench;
use crate::error::BenchError;
use crate::figure::{Aim, Figure};
use crate::machine;
use crate::report::Report;
use cases::{CASES, Case};
use lateness::Lateness;

/// Share of turns that may come more than five milliseconds late, in percent.
const LATE: f64 = 1.0;
/// The latest turn, in milliseconds.
const LATEST_MS: f64 = 50.0;

/// The bench, as it is asked for.
#[derive(clap::Args)]
pub(crate) struct Stall {
    /// How long each case is measured
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(3..=600))]
    seconds: u64,
    /// Only these cases, by a part of their names
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

impl Bench for Stall {
    const NAME: &'static str = "stall";
    const IN_NAMESPACES: bool = true;

    fn prepare(&self) -> Result<(), BenchError> {
        setup::ensure(PACKAGES)?;
        machine::build(&["--package", "edgewarden", "--package", "edgewarden-lab"])
    }

    fn measure(&self, report: &mut Report) -> Result<(), BenchError> {
        machine::describe(report, &[("edgewarden", &machine::release("edgewarden"))]);
        let is_wanted = |case: &&Case| {
            self.only.is_empty() || self.only.iter().any(|part| case.name.contains(part.as_str()))
        };
        for case in CASES.iter().filter(is_wanted) {
            eprintln!("bench: {}", case.name);
            match measure(case, Duration::from_secs(self.seconds)) {
                Ok(lateness) => lateness.add(case.name, report),
                // The other cases are worth their numbers all the same.
                Err(error) => report.fact("not measured", format!("{}: {}", case.name, first_line(&error))),
            }
        }
        Ok(())
    }
}

/// Without the log that a lab adds.
fn first_line(error: &BenchError) -> String {
    let text = edgewarden_lab::error_text(error);
    text.lines().next().unwrap_or_default().to_owned()
}

/// One case on a stage of its own.
fn measure(case: &Case, time: Duration) -> Result<Lateness, BenchError> {
    let mut stage = Stage::start(StageOptions {
        lab: Some(machine::release("edgewarden-lab")),
        turns: Turns::Told,
        ..StageOptions::new(
            machine::release("edgewarden"),
            workspace::root().join("recipe.yaml"),
        )
    })?;
    let _under_way = (case.begin)(&mut stage)?;
    let begun = Instant::now();
    let before = Lateness::read(&stage.turns_file())?;
    while begun.elapsed() < time {
        for wanted in [true, false] {
            stage.desire(&json!({ "quarantine": wanted }))?;
            let of_shadow = |order: &Value| order["authority"] == "shadow";
            let obeyed = |status: &Value| {
                let orders = status["enforcement"]["orders"].as_array();
                orders.is_some_and(|orders| orders.iter().any(of_shadow) == wanted)
            };
            stage.wait_status(PATIENCE, "the shadow is obeyed", obeyed)?;
        }
    }
    Ok(Lateness::read(&stage.turns_file())?.since(&before))
}

impl Lateness {
    fn add(&self, case: &str, report: &mut Report) {
        report.add(Figure::new(case, "turns", self.probes, "turns"));
        let late = Figure::new(case, "late_by_5_ms", self.late_percent(), "%");
        report.add(late.against("p99 below 5 ms", LATE, Some(Aim::AtMost(1.0))));
        let latest = Figure::new(case, "latest", self.latest_ms, "ms");
        report.add(latest.against("the aim", LATEST_MS, Some(Aim::AtMost(1.0))));
        report.add(Figure::new(case, "longest_turn", self.longest_turn_ms, "ms"));
        if let Some(holder) = &self.longest_holder {
            eprintln!("bench: the longest turn was {holder}");
        }
    }
}
