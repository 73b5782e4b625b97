//! `cargo xtask bench chaos`: minutes of random faults of all kinds while orders go on, on the real agent.
//!
//! In: how long. Out: seconds, when all was well afterwards: the last order in force and told, nobody left stopped, no
//! thread and no descriptor leaked, no long turn. The run itself is a test (`tests/black_box/device/chaos.rs`), which the
//! test suite runs for some seconds; one that fails prints its choices, and nothing is measured then.

use std::time::Instant;

use xtask::packages::PACKAGES;
use xtask::{run, setup, workspace};

use crate::Bench;
use crate::error::BenchError;
use crate::figure::Figure;
use crate::report::Report;

/// The run, as `cargo test` is asked for it.
const TEST: [&str; 7] = [
    "test",
    "--locked",
    "--test",
    "black_box",
    "device::chaos",
    "--",
    "--nocapture",
];
/// How long it lasts.
const SECONDS: &str = "EDGEWARDEN_CHAOS_SECONDS";

/// The bench, as it is asked for.
#[derive(clap::Args)]
pub(crate) struct Chaos {
    /// Minutes of faults
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    minutes: u64,
}

impl Bench for Chaos {
    const NAME: &'static str = "chaos";
    const IN_NAMESPACES: bool = false;

    fn prepare(&self) -> Result<(), BenchError> {
        setup::ensure(PACKAGES)?;
        Ok(run::run_aside(workspace::cargo(&TEST[..5]).arg("--no-run"))?)
    }

    fn measure(&self, report: &mut Report) -> Result<(), BenchError> {
        let seconds = self.minutes * 60;
        let began = Instant::now();
        let mut test = workspace::cargo(&TEST);
        run::run_aside(test.env(SECONDS, seconds.to_string()).env("CI", "true"))?;
        let case = format!("{} minutes of random faults", self.minutes);
        report.add(Figure::new(case, "run", began.elapsed().as_secs_f64(), "s"));
        Ok(())
    }
}
