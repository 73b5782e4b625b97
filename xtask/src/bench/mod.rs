//! `cargo xtask bench`: measures, never judges by time: no test depends on a number here.
//!
//! In: the name of a bench. Out: a table, or with `--json` one object a line (see [`figure`]). Each bench is a folder
//! with one `run`; these are for all of them:
//!
//! ```text
//! figure    one number, its comparison, its aim        usage     CPU and memory of a process, from outside
//! report    table and JSON lines                       program   a program measured between two points
//! machine   load, builds                               error     why nothing could be measured
//! ```

mod device_report;
mod error;
mod figure;
mod ipc;
mod machine;
mod program;
mod quarantine;
mod report;
mod traffic;
mod usage;

use clap::{Args, Subcommand};

use crate::failure::Failure;

/// Arguments of `cargo xtask bench`.
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    bench: Bench,
    /// One JSON object a line instead of a table
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Bench {
    /// Calls through the IPC: our client, the official Python one and the community crate, on the same lab nucleus
    Ipc(ipc::Arguments),
    /// Capture and accounting: CPU per packet, losses, attribution, idling; against the bare reader, nethogs, bandwhich
    Traffic(traffic::Arguments),
    /// One Device Defender report with up to 50,000 connections; against the bare dump and AWS's Python agent
    Report(device_report::Arguments),
    /// From an order to rules in the kernel, proven and reported; restart, tampering, idling, 100,000 remotes; against nft
    Quarantine(quarantine::Arguments),
}

/// Measures and prints.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let report = match &arguments.bench {
        Bench::Ipc(of_bench) => ipc::run(of_bench),
        Bench::Traffic(of_bench) => traffic::run(of_bench),
        Bench::Report(of_bench) => device_report::run(of_bench),
        Bench::Quarantine(of_bench) => quarantine::run(of_bench),
    };
    let report = report.map_err(|source| Failure::Bench {
        source: Box::new(source),
    })?;
    report.print(arguments.json);
    Ok(())
}
