//! The command line: what was typed, then what it means. One file a command.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage (clap), 3 no agent answers.

#![expect(clippy::print_stderr, reason = "a command line talks to people")]

mod absent_page;
mod cells;
mod connections;
mod deployment;
mod done;
mod environment;
mod guard;
mod headline;
mod history;
mod install;
mod order_file;
mod orders;
mod place;
mod plan;
mod plan_page;
mod quarantine;
mod release;
mod report;
mod restore;
mod run;
mod safe;
mod schema;
mod screen;
mod status;
mod text;
mod thaw;
mod top;
mod traffic;
mod traffic_page;
mod uninstall;
mod without_agent;

#[cfg(test)]
mod status_pages_tests;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use jiff::Timestamp;
use serde::Serialize;

use crate::control::ask_error::AskError;
use crate::control::protocol::DEFAULT_SOCKET;
use crate::control::status::Status;

/// Exit code when nobody answers.
const NO_AGENT: u8 = 3;

/// Security for AWS IoT Greengrass v2 gateways: traffic reports, local detection, quarantine that holds.
#[derive(Debug, Parser)]
#[command(name = "edgewarden", version, disable_help_subcommand = true)]
pub struct Arguments {
    /// Socket of the agent.
    #[arg(long, global = true, default_value = DEFAULT_SOCKET, value_name = "PATH")]
    control_socket: PathBuf,
    #[command(subcommand)]
    command: CliCommand,
}

#[derive(Debug, Subcommand)]
enum CliCommand {
    /// Run the agent. The recipe does this; exits on SIGTERM and leaves the kernel's rules as they are.
    Run(run::Arguments),
    /// Say what is going on: enforcement, control channel, reports, traffic.
    ///
    /// Among what is blocked (out) are the agent's own canaries, which prove that nothing leaves: at each load of rules, and each
    /// minute, one packet of IPv4 and one of IPv6 in isolation, and one to a blocked remote in a restriction.
    Status(status::Arguments),
    /// Show the traffic of the running interval by process, interface, remote or peer; q ends.
    Top(top::Arguments),
    /// List the open sockets with their processes.
    Connections(connections::Arguments),
    /// List the live orders, and those that were refused.
    Orders(orders::Arguments),
    /// Show the audit history: who ordered what and why, what was done; --verify checks that nobody changed it.
    History(history::Arguments),
    /// Show and send Device Defender reports, and list custom metrics.
    Report(report::Arguments),
    /// Say what is done now, or would be with an order; changes nothing.
    Plan(plan::Arguments),
    /// Isolate this device now, as its operator, or give another order.
    Quarantine(quarantine::Arguments),
    /// End the operator's order; with --override every order.
    Release(release::Arguments),
    /// Print what a deployment has to say to give or to end an order; needs no agent.
    Deployment(deployment::Arguments),
    /// Have isolation restored before the network at boot, where systemd runs. The recipe's install step does this.
    Install(install::Arguments),
    /// Make the kernel hold what was ordered, without agent, cloud and network. The installed unit does this at boot.
    Restore(restore::Arguments),
    /// Stand by: where nobody has run the agent for some seconds although one should be there, run it in place of the
    /// component. `run` and the installed unit start this.
    Guard(guard::Arguments),
    /// Print the JSON Schema of an order, or of what a command prints with --json.
    Schema(schema::Arguments),
    /// Remove everything Edgewarden left on this device: rules, frozen processes, the unit, state.
    Uninstall(uninstall::Arguments),
}

/// What went wrong, and the exit code.
struct Failure {
    text: String,
    code: u8,
}

impl Failure {
    fn new(error: &dyn std::error::Error) -> Self {
        Self {
            text: crate::error_text(error),
            code: 1,
        }
    }
}

/// Writes to standard output; that nobody reads any more is no failure.
fn out(text: &str) -> Result<(), Failure> {
    match screen::write(text) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::new(&error)),
        _ => Ok(()),
    }
}

/// Writes one line of JSON that is fit for a terminal.
fn out_json(value: &impl Serialize) -> Result<(), Failure> {
    out(&safe::json(value).map_err(|error| Failure::new(&error))?)
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self { text, code: 1 }
    }
}

impl From<AskError> for Failure {
    fn from(error: AskError) -> Self {
        let code = if error.is_nobody() { NO_AGENT } else { 1 };
        Self {
            code,
            ..Self::new(&error)
        }
    }
}

/// The whole program.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let socket = arguments.control_socket;
    let outcome = match arguments.command {
        CliCommand::Run(arguments) => run::run(arguments, socket),
        CliCommand::Status(arguments) => status::run(&arguments, &socket),
        CliCommand::Top(arguments) => top::run(&arguments, &socket),
        CliCommand::Connections(arguments) => connections::run(arguments, &socket),
        CliCommand::Orders(arguments) => orders::run(&arguments, &socket),
        CliCommand::History(arguments) => history::run(&arguments, &socket),
        CliCommand::Report(arguments) => report::run(&arguments, &socket),
        CliCommand::Plan(arguments) => plan::run(&arguments, &socket),
        CliCommand::Quarantine(arguments) => quarantine::run(arguments, &socket),
        CliCommand::Release(arguments) => release::run(&arguments, &socket),
        CliCommand::Deployment(arguments) => deployment::run(&arguments),
        CliCommand::Install(arguments) => install::run(&arguments),
        CliCommand::Restore(arguments) => restore::run(&arguments, &socket),
        CliCommand::Guard(arguments) => guard::run(&arguments, &socket),
        CliCommand::Schema(arguments) => schema::run(&arguments),
        CliCommand::Uninstall(arguments) => uninstall::run(&arguments, &socket),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("edgewarden: {}", safe::safe(&failure.text));
            ExitCode::from(failure.code)
        }
    }
}

/// The page of `edgewarden status`, for whoever checks what it says of a state.
pub fn status_page(status: &Status, now: Timestamp) -> String {
    text::status(status, now)
}

/// `docs/cli.md`: the help of every command.
pub fn markdown() -> String {
    use clap::CommandFactory as _;
    let mut program = Arguments::command().term_width(100);
    program.build();
    let mut text = String::from(
        "# Command line\n\n<!-- Written from src/cli by a test (tests/docs.rs); edit there. -->\n\n\
         Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no agent answers.\n",
    );
    let mut add = |name: &str, command: &mut clap::Command| {
        text.push_str(&format!(
            "\n## {name}\n\n```text\n{}```\n",
            command.render_long_help()
        ));
    };
    add("edgewarden", &mut program.clone());
    for command in program.get_subcommands_mut() {
        let name = format!("edgewarden {}", command.get_name());
        add(&name, &mut command.clone());
        for below in command.get_subcommands_mut() {
            add(&format!("{name} {}", below.get_name()), &mut below.clone());
        }
    }
    text
}
