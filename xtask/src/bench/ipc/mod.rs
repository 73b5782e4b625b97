//! `cargo xtask bench ipc`.

use super::error::BenchError;
use super::machine;
use super::report::Report;

/// Arguments of the bench.
#[derive(clap::Args)]
pub struct Arguments {
    /// Longest wait for a quiet machine before the measurement
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    wait_quiet: u64,
}

/// Measures.
pub fn run(arguments: &Arguments) -> Result<Report, BenchError> {
    let mut report = Report::new("ipc");
    machine::wait_until_quiet(std::time::Duration::from_secs(arguments.wait_quiet))?;
    machine::conditions(&mut report, "load_before")?;
    Ok(report)
}
