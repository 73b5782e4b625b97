//! `cargo xtask bench traffic`: what counting a packet costs, what is lost, whose bytes are told right, what idling costs.
//!
//! In: nothing; it builds what it measures and enters namespaces of its own. Out: the report. The floor, the agent,
//! nethogs and bandwhich get the same work one after another, never the host's traffic.
//!
//! ```text
//! subject  the programs compared    load   datagrams and TCP at several paces     share  whose bytes were told right
//! agent    what `top --json` says   site   namespaces, links, the kernel's count  idle   cost of doing nothing
//! ```

mod agent;
mod idle;
mod load;
mod share;
mod site;
mod subject;

use std::process::Command;

use edgewarden_lab::site::{IN_LAB, enter_or_reexec};

use super::error::BenchError;
use super::machine;
use super::report::Report;
use crate::workspace;
use site::Bench;
use subject::Programs;

/// Arguments of the bench.
#[derive(clap::Args)]
pub struct Arguments {
    /// Longest wait for a quiet machine before the measurement
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    wait_quiet: u64,
    /// Only the programs of this project: no nethogs, no bandwhich
    #[arg(long)]
    no_peers: bool,
}

/// Measures; the process is replaced by itself in namespaces of its own.
pub fn run(arguments: &Arguments) -> Result<Report, BenchError> {
    let programs = Programs::new();
    if std::env::var_os(IN_LAB).is_none() {
        build()?;
        if !arguments.no_peers {
            programs.install_peers()?;
        }
    }
    enter_or_reexec(std::env::args_os().skip(1))?;
    let mut report = Report::new("traffic");
    machine::wait_until_quiet(std::time::Duration::from_secs(arguments.wait_quiet))?;
    machine::conditions(&mut report, "load_before")?;
    let bench = Bench::new(programs)?;
    let subjects = subject::all(!arguments.no_peers);
    load::measure(&bench, subjects, &mut report)?;
    share::measure(&bench, &mut report)?;
    idle::measure(&bench, subjects, &mut report)?;
    machine::conditions(&mut report, "load_after")?;
    Ok(report)
}

fn build() -> Result<(), BenchError> {
    let builds: [&[&str]; 2] = [
        &["--package", "edgewarden", "--package", "edgewarden-lab"],
        &["--package", "packet-ring", "--example", "floor"],
    ];
    for packages in builds {
        let mut command: Command = workspace::cargo(&["build", "--release", "--locked"]);
        machine::prepare(command.args(packages))?;
    }
    Ok(())
}
