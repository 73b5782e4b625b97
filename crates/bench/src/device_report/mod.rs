//! `cargo xtask bench report`: what one Device Defender report costs with many connections.
//!
//! In: nothing; it builds what it measures and enters a namespace of its own. Out: the report, in which CPU time, peak
//! memory and bytes stand for each number of connections and each subject, one after another on the same table:
//!
//! ```text
//! dump        examples/sock_diag_floor.rs   the kernel's answers counted, nothing else
//! edgewarden  examples/report_once.rs       collected, built, fitted and encoded; for the classic path and for lite's
//! aws-python  tests/python/aws_agent.py     AWS's own agent, loaded and idle before; lists cut to 50 entries
//! ```
//!
//! Deliberately absent: sending, and the agent around the report.

mod subjects;
mod table;

use crate::Bench;
use crate::error::BenchError;
use crate::figure::{Aim, Figure};
use crate::machine;
use crate::report::Report;
use subjects::{Cost, Subjects};
use table::Table;

/// Connections of the measurements.
const SIZES: [u32; 4] = [100, 1_000, 10_000, 50_000];
/// From here the aims hold: below, starting to ask costs more than the answers.
const AIMS_FROM: u32 = 10_000;
/// CPU time of a report, in dumps.
const CPU_AIM: f64 = 1.5;
/// Peak memory of a report, in MB.
const MEMORY_AIM: f64 = 30.0;
/// Largest table that AWS's agent is given unless asked for: beyond it needs minutes.
const PYTHON_UP_TO: u32 = 10_000;
/// Largest payload of the classic path and of lite's, in bytes.
const LIMITS: [(&str, usize); 2] = [("edgewarden", 128 * 1024), ("edgewarden lite", 7_290)];

/// The bench, as it is asked for.
#[derive(clap::Args)]
pub(crate) struct DeviceReport {
    /// Runs of each subject; the median counts
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    runs: u16,
    /// AWS's agent with 50,000 connections too: a minute and a half
    #[arg(long)]
    all_python: bool,
    /// Not AWS's agent
    #[arg(long, conflicts_with = "all_python")]
    no_python: bool,
}

impl Bench for DeviceReport {
    const NAME: &'static str = "report";
    const IN_NAMESPACES: bool = true;

    fn prepare(&self) -> Result<(), BenchError> {
        let examples = ["--example", "report_once", "--example", "sock_diag_floor"];
        machine::build(&[&["--package", "edgewarden"], examples.as_slice()].concat())?;
        Subjects::new(!self.no_python).map(drop)
    }

    fn measure(&self, report: &mut Report) -> Result<(), BenchError> {
        let subjects = Subjects::new(!self.no_python)?;
        SIZES.into_iter().try_for_each(|size| {
            let with_python = size <= PYTHON_UP_TO || self.all_python;
            measure(&subjects, size, self.runs.into(), with_python, report)
        })
    }
}

/// All subjects on one table. They take turns, so that a busy moment of the machine meets them all.
fn measure(
    subjects: &Subjects,
    size: u32,
    runs: usize,
    with_python: bool,
    report: &mut Report,
) -> Result<(), BenchError> {
    eprintln!("bench: {size} connections");
    let _table = Table::hold(size)?;
    let mut dumps = Vec::new();
    let mut ours = LIMITS.map(|_| Vec::new());
    for _ in 0..runs {
        dumps.push(subjects.dump(size)?);
        for ((_, limit), costs) in LIMITS.iter().zip(&mut ours) {
            costs.push(subjects.edgewarden(size, *limit)?);
        }
    }
    let dump = median(dumps);
    add(report, &format!("{size} dump"), dump, None);
    for ((name, _), costs) in LIMITS.into_iter().zip(ours) {
        let aim = (size >= AIMS_FROM).then_some((CPU_AIM, MEMORY_AIM));
        add(
            report,
            &format!("{size} {name}"),
            median(costs),
            Some((dump, aim)),
        );
    }
    if with_python && let Some(cost) = subjects.aws_python(size)? {
        add(report, &format!("{size} aws-python"), cost, Some((dump, None)));
    }
    Ok(())
}

/// The one with the median CPU time.
fn median(mut costs: Vec<Cost>) -> Cost {
    costs.sort_by(|one, other| one.cpu_ms.total_cmp(&other.cpu_ms));
    costs.get(costs.len() / 2).copied().unwrap_or_default()
}

/// A subject's row; against the dump's, with its aims for CPU and memory.
fn add(report: &mut Report, case: &str, cost: Cost, against: Option<(Cost, Option<(f64, f64)>)>) {
    let cpu = Figure::new(case, "cpu", cost.cpu_ms, "ms");
    let peak = Figure::new(case, "peak_rss", cost.peak_mb, "MB");
    let aims = against.and_then(|(_, aims)| aims);
    report.add(match against {
        Some((dump, _)) => cpu.against("the dump", dump.cpu_ms, aims.map(|(cpu, _)| Aim::AtMost(cpu))),
        None => cpu,
    });
    report.add(match aims {
        Some((_, most)) => peak.against("what it may be", most, Some(Aim::AtMost(1.0))),
        None => peak,
    });
    if let Some(bytes) = cost.bytes {
        report.add(Figure::new(case, "size", bytes, "bytes"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(cpu_ms: f64) -> Cost {
        Cost {
            cpu_ms,
            ..Cost::default()
        }
    }

    #[test]
    fn the_median_is_the_one_in_the_middle() {
        assert_eq!(median([9.0, 1.0, 2.0].map(cost).into()).cpu_ms, 2.0);
        assert_eq!(median(Vec::new()).cpu_ms, 0.0);
    }

    #[test]
    fn a_row_says_how_far_its_aims_are() {
        let mut report = Report::new("report");
        add(&mut report, "10 dump", cost(2.0), None);
        let ours = Cost {
            cpu_ms: 4.0,
            peak_mb: 15.0,
            bytes: Some(700.0),
        };
        add(
            &mut report,
            "10 edgewarden",
            ours,
            Some((cost(2.0), Some((1.5, 30.0)))),
        );
        let table = report.table();
        assert!(
            table.contains("2.00 times the dump   aim <= 1.5: MISSED by 33 %"),
            "{table}"
        );
        assert!(
            table.contains("0.50 times what it may be   aim <= 1: reached"),
            "{table}"
        );
    }
}
