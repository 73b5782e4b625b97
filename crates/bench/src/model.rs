//! `cargo xtask bench model`: how long the enforcer on a fake machine takes for many random sequences of orders and failures.
//!
//! In: how many. Out: seconds, and sequences a second. The run itself is a test (`tests/library/model_run`), which the test
//! suite runs in small; a sequence that fails is printed by it, and nothing is measured then.

use std::time::Instant;

use xtask::{run, workspace};

use crate::Bench;
use crate::error::BenchError;
use crate::figure::{Aim, Figure};
use crate::report::Report;

/// The run, as `cargo test` is asked for it.
const TEST: [&str; 6] = [
    "test",
    "--release",
    "--locked",
    "--test",
    "library",
    "model_run::random",
];
/// How many sequences it makes.
const SEQUENCES: &str = "EDGEWARDEN_SEQUENCES";
/// A hundred thousand should take two minutes at most.
const AIM_PER_SECOND: f64 = 100_000.0 / 120.0;

/// The bench, as it is asked for.
#[derive(clap::Args)]
pub(crate) struct Model {
    /// Random sequences of orders, failures, restarts, clock steps and channel losses
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
    sequences: u32,
}

impl Bench for Model {
    const NAME: &'static str = "model";
    const IN_NAMESPACES: bool = false;

    fn prepare(&self) -> Result<(), BenchError> {
        Ok(run::run_aside(workspace::cargo(&TEST).arg("--no-run"))?)
    }

    fn measure(&self, report: &mut Report) -> Result<(), BenchError> {
        let began = Instant::now();
        run::run_aside(workspace::cargo(&TEST).env(SEQUENCES, self.sequences.to_string()))?;
        let seconds = began.elapsed().as_secs_f64();
        let case = format!("{} sequences", self.sequences);
        report.add(Figure::new(case.clone(), "run", seconds, "s"));
        let rate = Figure::new(case, "rate", f64::from(self.sequences) / seconds, "1/s");
        report.add(rate.against("aim", AIM_PER_SECOND, Some(Aim::AtLeast(1.0))));
        Ok(())
    }
}
