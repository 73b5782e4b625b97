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

pub(crate) mod delays;
mod holding;
pub(crate) mod lab;
mod many;
mod orders;
mod recorder;
mod watch;

use std::path::Path;

use clap::ValueEnum;
use xtask::packages::PACKAGES;
use xtask::setup;

use crate::Bench;
use crate::error::BenchError;
use crate::machine;
use crate::report::Report;
use lab::Lab;

/// The bench, as it is asked for.
#[derive(clap::Args)]
pub(crate) struct Quarantine {
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

impl Quarantine {
    fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }
}

impl Bench for Quarantine {
    const NAME: &'static str = "quarantine";
    const IN_NAMESPACES: bool = true;

    fn prepare(&self) -> Result<(), BenchError> {
        setup::ensure(PACKAGES)?;
        machine::build(&["--package", "edgewarden", "--package", "edgewarden-lab"])
    }

    fn measure(&self, report: &mut Report) -> Result<(), BenchError> {
        let agent = machine::release("edgewarden");
        machine::describe(report, &[("edgewarden", &agent), ("nft", Path::new(lab::NFT))]);
        let mut lab = Lab::start()?;
        if self.wants(Part::Orders) {
            eprintln!("bench: {} orders", self.orders);
            orders::measure(&mut lab, self.orders.into(), report)?;
        }
        if self.wants(Part::Back) {
            eprintln!("bench: {0} restarts and {0} changes", self.runs);
            holding::measure_ways_back(&mut lab, self.runs.into(), report)?;
        }
        if self.wants(Part::Idle) {
            eprintln!("bench: isolated and idle");
            holding::measure_idle(&mut lab, report)?;
        }
        if self.wants(Part::Many) {
            eprintln!("bench: 100,000 remotes");
            many::measure(&mut lab, report)?;
        }
        Ok(())
    }
}
