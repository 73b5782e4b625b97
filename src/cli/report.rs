//! `edgewarden report`: what would be sent, what was sent, and which custom metrics there are.

use std::path::Path;

use clap::Subcommand;

use super::{Failure, out, out_json, safe};
use crate::control::client::{ask, ask_json};
use crate::control::protocol::Ask;
use crate::control::question::{GetLastReport, ListMetrics, PreviewReport, SendReport};
use crate::control::report::{CustomMetricNames, ReportPreview};
use crate::report::custom::aws_cli;
use crate::report::last::{LastReport, ReportOutcome};

#[derive(Debug, clap::Args)]
#[command(disable_help_subcommand = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: ReportCommand,
}

#[derive(Debug, Subcommand)]
enum ReportCommand {
    /// Show the report that would be sent now; nothing is sent or changed.
    Show(OutputForm),
    /// Say what was sent last and what the service answered.
    Last(OutputForm),
    /// Send a report now instead of at its time, if the service would take one (300 seconds after the last).
    Send {
        /// Only show it, as `show` does.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        output: OutputForm,
    },
    /// List the custom metrics that the running configuration yields.
    Metrics {
        /// Print commands that create them in the account.
        #[arg(long, conflicts_with = "json")]
        aws_cli: bool,
        #[command(flatten)]
        output: OutputForm,
    },
}

#[derive(Debug, clap::Args)]
struct OutputForm {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments, socket: &Path) -> Result<(), Failure> {
    match &arguments.command {
        ReportCommand::Show(output)
        | ReportCommand::Send {
            dry_run: true,
            output,
        } => answered(socket, PreviewReport {}, output, show),
        ReportCommand::Last(output) => answered(socket, GetLastReport {}, output, last),
        ReportCommand::Send { output, .. } => answered(socket, SendReport {}, output, sent),
        ReportCommand::Metrics { aws_cli, output } => {
            answered(socket, ListMetrics {}, output, |names| metrics(names, *aws_cli))
        }
    }
}

/// Asks, and prints the answer as JSON or as `page` has it.
fn answered<Q: Ask>(
    socket: &Path,
    question: Q,
    output: &OutputForm,
    page: impl FnOnce(&Q::Answer) -> Result<(), Failure>,
) -> Result<(), Failure> {
    if output.json {
        return out_json(&ask_json(socket, question)?);
    }
    page(&ask(socket, question)?)
}

fn last(newest: &Option<LastReport>) -> Result<(), Failure> {
    match newest {
        Some(report) => out(&outcome(report)),
        None => out("no report was sent yet\n"),
    }
}

fn sent(newest: &Option<LastReport>) -> Result<(), Failure> {
    match newest {
        Some(report) if report.outcome == ReportOutcome::Waiting => out(&format!(
            "report {} was sent, {} bytes; `edgewarden report last` tells the answer\n",
            report.report_id, report.bytes
        )),
        Some(report) => out(&outcome(report)),
        None => out("no report was sent; `edgewarden status` tells why\n"),
    }
}

/// The document on standard output, everything about it on the other: the document can be piped.
fn show(shown: &ReportPreview) -> Result<(), Failure> {
    let document = format!("{:#}", shown.document);
    let mut lines = String::new();
    for line in document.lines() {
        lines.push_str(&safe::safe(line));
        lines.push('\n');
    }
    out(&lines)?;
    let state = if shown.enabled {
        format!("next report at {:.0}", shown.next)
    } else {
        "reports are switched off".to_owned()
    };
    let topic = safe::safe(&shown.topic);
    eprintln!(
        "{} bytes of {} as {} on {topic}; {state}",
        shown.bytes, shown.limit, shown.format
    );
    left_out(&shown.left_out);
    Ok(())
}

fn left_out(reasons: &[String]) {
    for reason in reasons {
        eprintln!("left out: {}", safe::safe(reason));
    }
}

fn outcome(report: &LastReport) -> String {
    let outcome = match report.outcome {
        ReportOutcome::Waiting => "no answer yet",
        ReportOutcome::Accepted => "accepted",
        ReportOutcome::Rejected => "REJECTED",
        ReportOutcome::Unanswered => "not answered",
        ReportOutcome::NotSent => "NOT SENT",
        ReportOutcome::HandedOver => "handed over; nobody answers on this topic",
    };
    let answered = report.answered.map_or(String::new(), |at| format!(" at {at:.0}"));
    let error = report.error.as_ref().map_or(String::new(), |error| {
        format!("Error        {}\n", safe::safe(error))
    });
    format!(
        "Report       {}, {} bytes\nSent         {:.0} on {}\nOutcome      {outcome}{answered}\n{error}",
        report.report_id,
        report.bytes,
        report.sent,
        safe::safe(&report.topic)
    )
}

fn metrics(metrics: &CustomMetricNames, commands: bool) -> Result<(), Failure> {
    let line = |(name, metric_type): &(String, String)| {
        if commands {
            aws_cli::create(name, metric_type) + "\n"
        } else {
            format!("{metric_type:<16}{name}\n")
        }
    };
    out(&metrics.metrics.iter().map(line).collect::<String>())?;
    left_out(&metrics.faults);
    if metrics.metrics.is_empty() {
        eprintln!("no custom metrics are configured (reporting.customMetrics)");
    }
    Ok(())
}
