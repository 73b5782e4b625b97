//! The project's own commands, and what the benches share with them.
//!
//! In: a verb. Out: the exit code and what the verb prints; a failure is printed as the chain of what went wrong.
//! Each verb is one file. Public is what `crates/bench` uses too: where the workspace is, how programs are run and
//! installed. Deliberately absent: anything the shipped program needs; the benches themselves.

mod acceptance;
mod attack;
mod bench;
pub mod cross;
mod demo;
mod deny;
pub mod failure;
mod kernels;
mod package;
pub mod packages;
pub mod run;
pub mod setup;
mod test;
mod tidy;
pub mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "Edgewarden's own commands",
    disable_help_subcommand = true
)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Replay the whole story in network namespaces: observe, report, quarantine, release
    Demo,
    /// Check everything: format, lints, documentation, dependencies, tidiness, tests
    Test,
    /// Install the programs that the demo and the tests need
    Setup,
    /// Measure; needs a quiet machine, changes nothing
    Bench(bench::Arguments),
    /// Show the agent on a real classic nucleus, scenario by scenario; not part of CI
    Acceptance(acceptance::Arguments),
    /// Attack a device that is isolated or restricted, and say what of it arrives
    Attack(attack::Arguments),
    /// Boot kernels of distributions in emulated machines, and run the tests in each; not part of CI
    Kernels(kernels::Arguments),
    /// Build the component for every processor into artifacts/
    Package(package::Arguments),
}

/// Does what the command line says.
pub fn main() -> ExitCode {
    let outcome = match Arguments::parse().verb {
        Verb::Demo => demo::run(),
        Verb::Test => test::run(),
        Verb::Setup => setup::run(),
        Verb::Bench(arguments) => bench::run(&arguments),
        Verb::Acceptance(arguments) => acceptance::run(&arguments),
        Verb::Attack(arguments) => attack::run(&arguments),
        Verb::Kernels(arguments) => kernels::run(&arguments),
        Verb::Package(arguments) => package::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("\nxtask: {}", edgewarden_lab::error_text(&failure));
            ExitCode::FAILURE
        }
    }
}
