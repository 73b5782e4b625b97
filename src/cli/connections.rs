//! `edgewarden connections`: the open sockets and who holds them.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use super::cells::{bytes, columns, end_of, padded, start_of};
use super::{Failure, out, out_json, safe, screen};
use crate::control::client::{ask, ask_json};
use crate::control::protocol::MAX_FILTER;
use crate::control::question::ListSockets;
use crate::control::sockets::{ListedSocket, RemoteFilter, SocketFilter, SocketList, SocketState, Transport};

/// Least width of the last column: name and pid.
const HOLDER: usize = 24;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Only sockets that wait for others: listening TCP, unconnected UDP.
    #[arg(long)]
    listening: bool,
    /// Only sockets of this pid, or of processes whose name, path or workload contains this.
    #[arg(long, value_name = "PID|TEXT", value_parser = filter)]
    process: Option<String>,
    /// Only sockets with this other end: an address, a network, or an address with a port.
    #[arg(long, value_name = "ADDRESS")]
    remote: Option<RemoteFilter>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn filter(text: &str) -> Result<String, String> {
    if (1..=MAX_FILTER).contains(&text.chars().count()) {
        Ok(text.to_owned())
    } else {
        Err(format!("expected 1 to {MAX_FILTER} characters"))
    }
}

pub(super) fn run(arguments: Arguments, socket: &Path) -> Result<(), Failure> {
    let query = SocketFilter {
        listening: arguments.listening,
        process: arguments.process,
        remote: arguments.remote,
    };
    let question = ListSockets { query };
    if arguments.json {
        return out_json(&ask_json(socket, question)?);
    }
    out(&table(&ask(socket, question)?, screen::size().0))
}

/// The table, its first columns as wide as they must be, the holder cut to what is left.
fn table(list: &SocketList, width: usize) -> String {
    let head = ["", "state", "local", "remote", "if", "in", "out"].map(str::to_owned);
    let mut rows = vec![(head, "process".to_owned())];
    rows.extend(list.connections.iter().map(|one| (cells(one), holder(one))));
    let mut widths = [0; 7];
    for (cells, _) in &rows {
        for (width, cell) in widths.iter_mut().zip(cells) {
            *width = columns(cell).max(*width);
        }
    }
    let used: usize = widths.iter().map(|width| width + 1).sum();
    let holders = width.saturating_sub(used).max(HOLDER);
    let mut text = String::new();
    for (cells, holder) in &rows {
        let mut line = String::new();
        for (cell, width) in cells.iter().zip(widths) {
            line.push_str(&padded(cell, width));
            line.push(' ');
        }
        line.push_str(&end_of(holder, holders));
        let _ = writeln!(text, "{}", start_of(line.trim_end(), width));
    }
    let shown = list.connections.len() as u64;
    let _ = write!(text, "{} open, {} as wanted", list.open, list.matching);
    if shown < list.matching {
        let _ = write!(
            text,
            ", {shown} shown: narrow them down with --process, --remote, --listening"
        );
    }
    if !list.every_process_seen {
        text.push_str("; not every process was looked into in time, so some names are missing");
    }
    text.push('\n');
    text
}

fn cells(one: &ListedSocket) -> [String; 7] {
    let (bytes_in, bytes_out) = one.traffic.map_or(("-".to_owned(), "-".to_owned()), |traffic| {
        // Several sockets with one remote end are counted together.
        let shared = if traffic.sockets > 1 {
            format!(" /{}", traffic.sockets)
        } else {
            String::new()
        };
        (
            format!("{}{shared}", bytes(traffic.bytes_in)),
            format!("{}{shared}", bytes(traffic.bytes_out)),
        )
    });
    [
        match one.protocol {
            Transport::Tcp => "tcp".to_owned(),
            Transport::Udp => "udp".to_owned(),
        },
        state(one.state).to_owned(),
        end(one.local),
        one.remote.map_or("-".to_owned(), end),
        safe::safe(one.interface.as_deref().unwrap_or("*")).into_owned(),
        bytes_in,
        bytes_out,
    ]
}

fn end(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(end) => end.to_string(),
        // Without the scope, which the interface says.
        SocketAddr::V6(end) => format!("[{}]:{}", end.ip(), end.port()),
    }
}

const fn state(state: SocketState) -> &'static str {
    match state {
        SocketState::Listening => "listening",
        SocketState::Unconnected => "unconnected",
        SocketState::Established => "established",
        SocketState::Connected => "connected",
        SocketState::SynSent => "syn-sent",
        SocketState::SynReceived => "syn-received",
        SocketState::CloseWait => "close-wait",
        SocketState::Closing => "closing",
        SocketState::TimeWait => "time-wait",
        SocketState::Closed => "closed",
    }
}

fn holder(one: &ListedSocket) -> String {
    let Some(process) = &one.process else {
        return "-".to_owned();
    };
    let workload = process
        .workload
        .as_ref()
        .map_or(String::new(), |name| format!("{name} "));
    let program = process.exe.as_ref().unwrap_or(&process.name);
    let text = format!("{workload}{program} ({})", process.identity.pid);
    safe::safe(&text).into_owned()
}

#[cfg(test)]
#[path = "connections_tests.rs"]
mod tests;
