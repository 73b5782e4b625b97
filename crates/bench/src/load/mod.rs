//! `cargo xtask bench load`: what work that others cause costs the agent, and whether orders wait for it.
//!
//! In: nothing; it builds what it measures and enters a lab of its own. Out: for each kind of work, while it lasts: from the
//! shadow's word to rules in the kernel, how long `edgewarden status` takes, and how much of a core the agent uses. The
//! programs that make the work share the machine, so on two cores the times say more than a device's would.
//!
//! ```text
//! loads    the kinds of work
//! ```

mod loads;

use std::time::Duration;

use serde_json::json;
use xtask::packages::PACKAGES;
use xtask::setup;

use crate::Bench;
use crate::error::{BenchError, content};
use crate::figure::{Aim, Figure};
use crate::machine;
use crate::quarantine::delays::{Delays, now};
use crate::quarantine::lab::{Lab, PATIENCE};
use crate::report::Report;
use crate::usage::Usage;
use loads::{LOADS, Load};

/// Milliseconds, p99: from the order to the kernel, and of a status.
const KERNEL_MS: f64 = 150.0;
const STATUS_MS: f64 = 250.0;
/// Percent of one core.
const CORE: f64 = 50.0;
/// Between two orders: the agent asks the shadow once a second at most.
const REST: Duration = Duration::from_millis(300);

/// The bench, as it is asked for.
#[derive(clap::Args)]
pub(crate) struct LoadBench {
    /// Orders under each kind of work, half of them releases
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u16).range(2..=2_000))]
    orders: u16,
    /// Only these kinds, by a part of their names
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

impl Bench for LoadBench {
    const NAME: &'static str = "load";
    const IN_NAMESPACES: bool = true;

    fn prepare(&self) -> Result<(), BenchError> {
        setup::ensure(PACKAGES)?;
        machine::build(&["--package", "edgewarden", "--package", "edgewarden-lab"])
    }

    fn measure(&self, report: &mut Report) -> Result<(), BenchError> {
        machine::describe(report, &[("edgewarden", &machine::release("edgewarden"))]);
        let is_wanted = |load: &&Load| {
            self.only.is_empty() || self.only.iter().any(|part| load.name.contains(part.as_str()))
        };
        for load in LOADS.iter().filter(is_wanted) {
            eprintln!("bench: {}", load.name);
            // The other kinds are worth their numbers all the same.
            if let Err(error) = measure(load, self.orders, report) {
                let text = edgewarden_lab::error_text(&error);
                let first = text.lines().next().unwrap_or_default();
                report.fact("not measured", format!("{}: {first}", load.name));
            }
        }
        Ok(())
    }
}

/// One kind, on a stage of its own.
fn measure(load: &Load, orders: u16, report: &mut Report) -> Result<(), BenchError> {
    let mut lab = Lab::start()?;
    lab.start_agent()?;
    let _work = load.begin(&lab)?;
    let (mut kernel, mut status) = (Delays::default(), Delays::default());
    let (begun, before) = (now(), Usage::of(lab.agent()?)?);
    for number in 0..orders {
        let isolate = number % 2 == 0;
        let since = lab.desire(&json!(isolate))?;
        let seen = lab.watch.first(since, PATIENCE, |seen| {
            if isolate {
                seen.loads()
            } else {
                seen.removed || seen.lost
            }
        })?;
        kernel.push(seen.at.saturating_sub(since));
        let asked = now();
        let (code, _, errors) = lab.stage.edgewarden(&["status", "--json"])?;
        if code != Some(0) {
            return Err(content("edgewarden status", errors));
        }
        status.push(now() - asked);
        std::thread::sleep(REST);
    }
    let used = Usage::of(lab.agent()?)?.cpu_since(&before);
    let share = 100.0 * used.as_secs_f64() / (now() - begun).as_secs_f64();
    let name = load.name;
    report.add(Figure::new(
        name,
        "order to kernel p50",
        kernel.percentile(50),
        "ms",
    ));
    let slowest = Figure::new(name, "order to kernel p99", kernel.percentile(99), "ms");
    report.add(slowest.against("the aim", KERNEL_MS, Some(Aim::AtMost(1.0))));
    let slowest = Figure::new(name, "status p99", status.percentile(99), "ms");
    report.add(slowest.against("the aim", STATUS_MS, Some(Aim::AtMost(1.0))));
    let core = Figure::new(name, "agent", share, "% of a core");
    report.add(core.against("the aim", CORE, Some(Aim::AtMost(1.0))));
    let memory = Usage::of(lab.agent()?)?.peak_rss;
    report.add(Figure::new(
        name,
        "agent's most memory",
        crate::usage::megabytes(memory),
        "MB",
    ));
    Ok(())
}
