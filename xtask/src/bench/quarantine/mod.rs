//! `cargo xtask bench quarantine`: how fast orders become rules, how fast isolation comes back, what holding it costs.
//!
//! In: nothing; it builds what it measures and enters a lab of its own. Out: the report. "Received" is when the lab's
//! nucleus hands the shadow's message to the agent, "in the kernel" when the kernel's notification of the commit is
//! heard in the gateway, "reported" when the nucleus takes the update that repeats the wish; one clock for all.
//!
//! ```text
//! lab       stage, orders, times        orders   delta to kernel and to report     delays  percentiles
//! watch     the kernel's notifications  holding  restart, tampering, idling
//! recorder  the texts for `nft -f`      many     100,000 remotes
//! ```

mod delays;
mod holding;
mod lab;
mod many;
mod orders;
mod recorder;
mod watch;

use std::path::Path;
use std::time::Duration;

use clap::ValueEnum;
use edgewarden_lab::site::{IN_LAB, enter_or_reexec};

use super::error::BenchError;
use super::machine;
use super::report::Report;
use crate::packages::PACKAGES;
use crate::{setup, workspace};
use lab::Lab;

/// Arguments of the bench.
#[derive(clap::Args)]
pub struct Arguments {
    /// Longest wait for a quiet machine before the measurement
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    wait_quiet: u64,
    /// Orders of the shadow, alternating isolate, restrict, release
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u16).range(3..=3_000))]
    orders: u16,
    /// Restarts, and changes of the rules by another
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    runs: u16,
    /// Only these parts; all when none is named
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
}

/// What can be measured by itself.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Delta to kernel and to report
    Orders,
    /// Restart and tampering
    Back,
    /// Isolated and idle
    Idle,
    /// A hundred thousand remotes
    Many,
}

/// Measures; the process is replaced by itself in a lab of its own.
///
/// # Errors
/// When something cannot be built, started or understood.
pub fn run(arguments: &Arguments) -> Result<Report, BenchError> {
    if std::env::var_os(IN_LAB).is_none() {
        setup::ensure(PACKAGES)
            .map_err(|failure| lab::content("the packages", &edgewarden_lab::error_text(&failure)))?;
        let mut command = workspace::cargo(&["build", "--release", "--locked"]);
        machine::prepare(command.args(["--package", "edgewarden", "--package", "edgewarden-lab"]))?;
    }
    enter_or_reexec(std::env::args_os().skip(1))?;
    let mut report = Report::new("quarantine");
    machine::wait_until_quiet(Duration::from_secs(arguments.wait_quiet))?;
    let agent = lab::program("edgewarden");
    machine::describe(
        &mut report,
        &[("edgewarden", &agent), ("nft", Path::new(lab::NFT))],
    );
    machine::conditions(&mut report, "load_before")?;
    let mut lab = Lab::start()?;
    let wanted = |part| arguments.only.is_empty() || arguments.only.contains(&part);
    if wanted(Part::Orders) {
        eprintln!("bench: {} orders", arguments.orders);
        orders::measure(&mut lab, arguments.orders.into(), &mut report)?;
    }
    if wanted(Part::Back) {
        eprintln!(
            "bench: {} restarts and {} changes",
            arguments.runs, arguments.runs
        );
        holding::measure_ways_back(&mut lab, arguments.runs.into(), &mut report)?;
    }
    if wanted(Part::Idle) {
        eprintln!("bench: isolated and idle");
        holding::measure_idle(&mut lab, &mut report)?;
    }
    if wanted(Part::Many) {
        eprintln!("bench: 100,000 remotes");
        many::measure(&mut lab, &mut report)?;
    }
    machine::conditions(&mut report, "load_after")?;
    Ok(report)
}
