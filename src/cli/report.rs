//! `edgewarden report`: what would be sent, what was sent, and which custom metrics there are.

use std::path::Path;

use clap::Subcommand;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Failure, out, safe};
use crate::control::client::ask;
use crate::control::protocol::Request;
use crate::control::report::{CustomMetricNames, ReportPreview, ReportQuestion};
use crate::report::custom::aws_cli;
use crate::report::last::{LastReport, ReportOutcome};

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
    CustomMetricNames {
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
        } => (ReportQuestion::Show, output),
        Command::Last(output) => (ReportQuestion::Last, output),
        Command::Send { output, .. } => (ReportQuestion::Send, output),
        Command::CustomMetricNames { output, .. } => (ReportQuestion::Metrics, output),
    };
    let answer = ask(socket, &Request::Report { question })?;
    if output.json {
        return out(&safe::json(&answer).map_err(|error| Failure::new(&error))?);
    }
    match (&arguments.command, question) {
        (_, ReportQuestion::Show) => show(&read(answer)?),
        (_, ReportQuestion::Last) => match read::<Option<LastReport>>(answer)? {
            Some(report) => out(&last(&report)),
            None => out("no report was sent yet\n"),
        },
        (_, ReportQuestion::Send) => match read::<Option<LastReport>>(answer)? {
            Some(report) if report.outcome == ReportOutcome::Waiting => out(&format!(
                "report {} was sent, {} bytes; `edgewarden report last` tells the answer\n",
                report.report_id, report.bytes
            )),
            Some(report) => out(&last(&report)),
            None => out("no report was sent; `edgewarden status` tells why\n"),
        },
        (command, ReportQuestion::Metrics) => {
            let commands = matches!(command, Command::CustomMetricNames { aws_cli: true, .. });
            metrics(&read(answer)?, commands)
        }
    }
}

fn read<T: DeserializeOwned>(answer: Value) -> Result<T, Failure> {
    serde_json::from_value(answer).map_err(|error| Failure::unreadable(&error))
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

fn last(report: &LastReport) -> String {
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
