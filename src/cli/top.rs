//! `edgewarden top`: who talks to whom.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::{Failure, text};
use crate::control::client::ask;
use crate::control::protocol::Request;
use crate::host::clock;

/// From one refresh to the next.
const REFRESH: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// What the rows are.
    #[arg(long, value_enum, default_value = "process")]
    by: By,
    /// Rows shown.
    #[arg(long, default_value_t = 20, value_name = "ROWS")]
    rows: usize,
    /// Print once and exit.
    #[arg(long)]
    once: bool,
    /// Print the whole interval as JSON, once.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum By {
    Process,
    Interface,
    Remote,
}

pub(super) fn run(arguments: &Arguments, socket: &Path) -> Result<(), Failure> {
    loop {
        let interval = ask(socket, &Request::Top)?;
        if arguments.json {
            println!("{interval}");
            return Ok(());
        }
        if !arguments.once {
            // Clear the screen and go home (ECMA-48).
            print!("\x1b[2J\x1b[H");
        }
        print!("{}", table(&interval, arguments));
        if arguments.once {
            return Ok(());
        }
        clock::pause(REFRESH);
    }
}

fn table(interval: &Value, arguments: &Arguments) -> String {
    let mut rows = match arguments.by {
        By::Process => process_rows(interval),
        By::Interface => interface_rows(interval),
        By::Remote => remote_rows(interval),
    };
    rows.sort_by_key(|(_, counters)| {
        std::cmp::Reverse(number(counters, "bytesOut") + number(counters, "bytesIn"))
    });
    let mut out = format!("since {}\n", interval["started"].as_str().unwrap_or("?"));
    out.push_str(&format!(
        "{:<44} {:>10} {:>10} {:>9} {:>9}\n",
        "", "out", "in", "pkts out", "pkts in"
    ));
    for (name, counters) in rows.iter().take(arguments.rows) {
        out.push_str(&format!(
            "{:<44} {:>10} {:>10} {:>9} {:>9}\n",
            name.chars().take(44).collect::<String>(),
            text::bytes(number(counters, "bytesOut")),
            text::bytes(number(counters, "bytesIn")),
            number(counters, "packetsOut"),
            number(counters, "packetsIn"),
        ));
    }
    out
}

fn number(counters: &Value, key: &str) -> u64 {
    counters[key].as_u64().unwrap_or_default()
}

fn items<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

fn process_rows(interval: &Value) -> Vec<(String, &Value)> {
    let mut rows: Vec<_> = items(interval, "processes")
        .map(|process| {
            let name = process["exe"]
                .as_str()
                .or(process["name"].as_str())
                .unwrap_or("?");
            (
                format!("{name} ({})", process["identity"]["pid"]),
                &process["counters"],
            )
        })
        .collect();
    for (name, key) in [
        ("(forwarded)", "forwarded"),
        ("(unattributed)", "unattributed"),
        ("(other)", "other"),
    ] {
        rows.push((name.to_owned(), &interval[key]));
    }
    rows
}

fn interface_rows(interval: &Value) -> Vec<(String, &Value)> {
    items(interval, "interfaces")
        .map(|interface| {
            let counters = if interface["kernel"].is_null() {
                &interface["captured"]
            } else {
                &interface["kernel"]
            };
            (interface["name"].as_str().unwrap_or("?").to_owned(), counters)
        })
        .collect()
}

fn remote_rows(interval: &Value) -> Vec<(String, &Value)> {
    items(interval, "processes")
        .flat_map(|process| {
            let name = process["name"].as_str().unwrap_or("?");
            items(process, "remotes").map(move |remote| {
                let address = remote["address"].as_str().unwrap_or("?");
                let protocol = remote["protocol"].as_str().unwrap_or("?");
                (
                    format!("{name} {protocol} {address} {}", remote["port"]),
                    &remote["counters"],
                )
            })
        })
        .collect()
}
