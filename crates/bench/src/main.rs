//! `cargo xtask bench`: measures, never judges by time: no test depends on a number here.
//!
//! In: the name of a bench. Out: a table, or with `--json` one object a line (see [`figure`]). Each bench is a folder
//! with one [`Bench`]; these are for all of them:
//!
//! ```text
//! figure    one number, its comparison, its aim        usage     CPU and memory of a process, from outside
//! report    table and JSON lines                       program   a program measured between two points
//! machine   load, release builds                       error     why nothing could be measured
//! ```
//!
//! Packages and other people's programs are installed by `xtask`, where they are listed.

mod chaos;
mod device_report;
mod error;
mod figure;
mod hearing;
mod ipc;
mod load;
mod machine;
mod model;
mod program;
mod quarantine;
mod report;
mod stall;
mod traffic;
mod usage;
mod way_out;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use edgewarden_lab::error_text;
use edgewarden_lab::site::{IN_LAB, enter_or_reexec};

use error::BenchError;
use report::Report;

#[derive(Parser)]
#[command(
    name = "bench",
    bin_name = "cargo xtask bench",
    about = "Measure; needs a quiet machine, changes nothing",
    disable_help_subcommand = true
)]
struct Arguments {
    #[command(subcommand)]
    name: Name,
    /// One JSON object a line instead of a table
    #[arg(long, global = true)]
    json: bool,
    /// Longest wait for a quiet machine before the measurement
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 0)]
    wait_quiet: u64,
}

#[derive(Subcommand)]
enum Name {
    /// Calls through the IPC: our client, the official Python one and the community crate, on the same lab nucleus
    Ipc(ipc::Ipc),
    /// Capture and accounting: CPU per packet, losses, attribution, idling; against the bare reader, nethogs, bandwhich
    Traffic(traffic::Traffic),
    /// One Device Defender report with up to 50,000 connections; against the bare dump and AWS's Python agent
    Report(device_report::DeviceReport),
    /// From an order to rules in the kernel, proven and reported; restart, tampering, idling, 100,000 remotes; against nft
    Quarantine(quarantine::Quarantine),
    /// How long the thread that decides does not turn: broken logs, hanging disks, hostile files, floods
    Stall(stall::Stall),
    /// Floods, foreign descriptors, processes, interfaces and transactions: order to kernel, status, the agent's CPU
    Load(load::LoadBench),
    /// Minutes of random faults of all kinds while orders go on; afterwards all must be well
    Chaos(chaos::Chaos),
    /// How soon an order is obeyed after a start, a crash, a rebuilt session, a reconnect, at round trips of 5 to 1,200 ms
    Hearing(hearing::Hearing),
    /// How long the operator waits for status and release with an agent that is well, dead, stopped or hanging
    WayOut(way_out::WayOut),
    /// The enforcer on a fake machine: random orders, failures and restarts against the reference model
    Model(model::Model),
}

/// What is done the same way for each bench.
trait Bench {
    /// Its name in the report.
    const NAME: &'static str;
    /// Whether it measures in network namespaces of its own; the process is then replaced by itself inside of them.
    const IN_NAMESPACES: bool;

    /// Builds and fetches what it measures, where there is a network to get it from.
    fn prepare(&self) -> Result<(), BenchError>;

    /// Measures.
    fn measure(&self, report: &mut Report) -> Result<(), BenchError>;
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let quiet = Duration::from_secs(arguments.wait_quiet);
    let report = match &arguments.name {
        Name::Ipc(bench) => run(bench, quiet),
        Name::Traffic(bench) => run(bench, quiet),
        Name::Report(bench) => run(bench, quiet),
        Name::Quarantine(bench) => run(bench, quiet),
        Name::Stall(bench) => run(bench, quiet),
        Name::Load(bench) => run(bench, quiet),
        Name::Chaos(bench) => run(bench, quiet),
        Name::Hearing(bench) => run(bench, quiet),
        Name::WayOut(bench) => run(bench, quiet),
        Name::Model(bench) => run(bench, quiet),
    };
    match report {
        Ok(report) => {
            report.print(arguments.json);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("\nxtask: the bench could not measure: {}", error_text(&error));
            ExitCode::FAILURE
        }
    }
}

/// Prepares, waits for a quiet machine for `quiet` at most, and measures.
fn run<B: Bench>(bench: &B, quiet: Duration) -> Result<Report, BenchError> {
    if std::env::var_os(IN_LAB).is_none() {
        bench.prepare()?;
    }
    if B::IN_NAMESPACES {
        enter_or_reexec(std::env::args_os().skip(1))?;
    }
    machine::wait_until_quiet(quiet)?;
    let mut report = Report::new(B::NAME);
    machine::conditions(&mut report, "load_before")?;
    bench.measure(&mut report)?;
    machine::conditions(&mut report, "load_after")?;
    Ok(report)
}
