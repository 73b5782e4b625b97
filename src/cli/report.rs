//! `edgewarden report`: what would be sent, what was sent, and which custom metrics there are.

use std::path::Path;

use clap::Subcommand;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Failure;
use crate::agent::reporter::desk::{Metrics, Question, Shown};
use crate::control::client::ask;
use crate::control::protocol::Request;
use crate::report::custom::aws_cli;
use crate::report::last::{LastOutcome, LastReport};

#[derive(Debug, clap::Args)]
#[command(disable_help_subcommand = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the report that would be sent now; nothing is sent or changed.
    Show(Output),
    /// Say what was sent last and what the service answered.
    Last(Output),
    /// Send a report now instead of at its time, if the service would take one (300 seconds after the last).
    Send {
        /// Only show it, as `show` does.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        output: Output,
    },
    /// List the custom metrics that the running configuration yields.
    Metrics {
        /// Print commands that create them in the account.
        #[arg(long, conflicts_with = "json")]
        aws_cli: bool,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, clap::Args)]
struct Output {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments, socket: &Path) -> Result<(), Failure> {
    let (question, output) = match &arguments.command {
        Command::Show(output)
        | Command::Send {
            dry_run: true,
            output,
        } => (Question::Show, output),
        Command::Last(output) => (Question::Last, output),
        Command::Send { output, .. } => (Question::Send, output),
        Command::Metrics { output, .. } => (Question::Metrics, output),
    };
    let answer = ask(socket, &Request::Report { question })?;
    if output.json {
        println!("{answer}");
        return Ok(());
    }
    match (&arguments.command, question) {
        (_, Question::Show) => show(&read(answer)?),
        (_, Question::Last) => match read::<Option<LastReport>>(answer)? {
            Some(report) => print!("{}", last(&report)),
            None => println!("no report was sent yet"),
        },
        (_, Question::Send) => match read::<Option<LastReport>>(answer)? {
            Some(report) if report.outcome == LastOutcome::Waiting => println!(
                "report {} was sent, {} bytes; `edgewarden report last` tells the answer",
                report.report_id, report.bytes
            ),
            Some(report) => print!("{}", last(&report)),
            None => println!("no report was sent; `edgewarden status` tells why"),
        },
        (Command::Metrics { aws_cli, .. }, Question::Metrics) => metrics(&read(answer)?, *aws_cli),
        (_, Question::Metrics) => {}
    }
    Ok(())
}

fn read<T: DeserializeOwned>(answer: Value) -> Result<T, Failure> {
    serde_json::from_value(answer).map_err(|error| Failure::new(&error))
}

/// The document on standard output, everything about it on the other: the document can be piped.
fn show(shown: &Shown) {
    println!("{:#}", shown.document);
    let state = if shown.enabled {
        format!("next report at {:.0}", shown.next)
    } else {
        "reports are switched off".to_owned()
    };
    eprintln!(
        "{} bytes of {} as {} on {}; {state}",
        shown.bytes, shown.limit, shown.format, shown.topic
    );
    for reason in &shown.left_out {
        eprintln!("left out: {reason}");
    }
}

fn last(report: &LastReport) -> String {
    let outcome = match report.outcome {
        LastOutcome::Waiting => "no answer yet",
        LastOutcome::Accepted => "accepted",
        LastOutcome::Rejected => "REJECTED",
        LastOutcome::Unanswered => "not answered",
        LastOutcome::NotSent => "NOT SENT",
        LastOutcome::HandedOver => "handed over; nobody answers on this topic",
    };
    let answered = report.answered.map_or(String::new(), |at| format!(" at {at:.0}"));
    let error = report
        .error
        .as_ref()
        .map_or(String::new(), |error| format!("Error        {error}\n"));
    format!(
        "Report       {}, {} bytes\nSent         {:.0} on {}\nOutcome      {outcome}{answered}\n{error}",
        report.report_id, report.bytes, report.sent, report.topic
    )
}

fn metrics(metrics: &Metrics, aws_cli: bool) {
    for (name, metric_type) in &metrics.metrics {
        if aws_cli {
            println!("{}", aws_cli::create(name, metric_type));
        } else {
            println!("{metric_type:<16}{name}");
        }
    }
    for fault in &metrics.faults {
        eprintln!("left out: {fault}");
    }
    if metrics.metrics.is_empty() {
        eprintln!("no custom metrics are configured (reporting.customMetrics)");
    }
}
