//! `cargo xtask bench hearing`: how soon an order is obeyed after everything that may leave an agent deaf, on slow ways.
//!
//! In: nothing; it builds what it measures and enters a lab of its own: the classic nucleus, whose subscriptions die without a
//! word, behind a relay that makes the round trip. Out: for each case and round trip the middle and the longest time until the
//! order was carried out, and how many were within two round trips and a second.

mod cases;

use std::time::Duration;

use edgewarden_lab::nucleus::personality::Personality;
use edgewarden_lab::stage::{Stage, StageOptions};
use serde_json::{Value, json};
use xtask::packages::PACKAGES;
use xtask::{setup, workspace};

use crate::Bench;
use crate::error::{BenchError, content};
use crate::figure::Figure;
use crate::machine;
use crate::report::Report;
use cases::{CASES, Case};

/// An order that takes longer is as good as unheard; the refresh would find it after ten minutes.
const DEAF: Duration = Duration::from_secs(90);

/// The bench, as it is asked for.
#[derive(clap::Args)]
pub(crate) struct Hearing {
    /// Orders for each case and round trip
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    runs: u16,
    /// Round trips to the broker, in milliseconds
    #[arg(long, value_delimiter = ',', default_values_t = [5, 100, 300, 1_200])]
    round_trips: Vec<u64>,
    /// Only these cases, by a part of their names
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

impl Bench for Hearing {
    const NAME: &'static str = "hearing";
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
        for millis in &self.round_trips {
            let round_trip = Duration::from_millis(*millis);
            let mut stage = stage(round_trip)?;
            for case in CASES.iter().filter(is_wanted) {
                eprintln!("bench: {} at {millis} ms", case.name);
                let times = times(&mut stage, case, self.runs)?;
                add(
                    &format!("{} at {millis} ms", case.name),
                    &times,
                    round_trip,
                    report,
                );
            }
        }
        Ok(())
    }
}

/// A running agent behind a way of this round trip.
fn stage(round_trip: Duration) -> Result<Stage, BenchError> {
    let mut stage = Stage::start(StageOptions {
        personality: Personality::Classic,
        front: true,
        configuration: json!({}),
        lab: Some(machine::release("edgewarden-lab")),
        ..StageOptions::new(
            machine::release("edgewarden"),
            workspace::root().join("recipe.yaml"),
        )
    })?;
    let delayed = stage.front().delay(round_trip / 2);
    delayed.map_err(|error| content("the relay", edgewarden_lab::error_text(&error)))?;
    stage.start_agent()?;
    stage.wait_status(DEAF, "connected and released", |status| {
        status["enforcement"]["phase"] == "released" && status["cloud"]["channelWorks"] == true
    })?;
    Ok(stage)
}

/// How long each order took; none: unheard.
fn times(stage: &mut Stage, case: &Case, runs: u16) -> Result<Vec<Option<Duration>>, BenchError> {
    let mut times = Vec::new();
    for run in 0..runs {
        let quarantine = is_free(&stage.status());
        let begun = (case.disturb)(stage, quarantine, run)?;
        let wanted = |status: &Value| is_obeyed(status, quarantine);
        let heard = stage.wait_status(DEAF, "the order is obeyed", wanted);
        times.push(heard.is_ok().then(|| begun.elapsed()));
        // The next disturbance finds an agent that hears, whatever became of this one.
        stage.wait_status(DEAF, "settled", |status| {
            is_obeyed(status, quarantine) && status["cloud"]["channelWorks"] == true
        })?;
    }
    Ok(times)
}

fn is_free(status: &Value) -> bool {
    status["enforcement"]["phase"] == "released"
}

fn is_obeyed(status: &Value, quarantine: bool) -> bool {
    let phase = &status["enforcement"]["phase"];
    if quarantine {
        *phase == "enforced"
    } else {
        *phase == "released"
    }
}

fn add(case: &str, times: &[Option<Duration>], round_trip: Duration, report: &mut Report) {
    let limit = round_trip * 2 + Duration::from_secs(1);
    let mut heard: Vec<Duration> = times.iter().flatten().copied().collect();
    heard.sort();
    let in_time = heard.iter().filter(|time| **time <= limit).count();
    if let (Some(middle), Some(longest)) = (heard.get(heard.len() / 2), heard.last()) {
        report.add(Figure::new(case, "p50", middle.as_secs_f64(), "s"));
        report.add(Figure::new(case, "longest", longest.as_secs_f64(), "s"));
    }
    let count = |number: usize| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
    report.add(Figure::new(case, "limit", limit.as_secs_f64(), "s"));
    report.add(Figure::new(case, "in_time", count(in_time), "orders"));
    report.add(Figure::new(case, "orders", count(times.len()), "orders"));
    report.add(Figure::new(
        case,
        "unheard",
        count(times.len() - heard.len()),
        "orders",
    ));
}
