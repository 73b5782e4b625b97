//! The traffic page's data: the agent's interval as read from its answer, and rows made of it. Pure.
//!
//! In: the answer to `top`. Out: [`Row`]s whose texts are fit for a terminal, with a key that stays the same from look
//! to look.

use std::collections::HashMap;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::safe::safe;
use crate::process::ProcessId;
use crate::process::Workload;

/// What the rows are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum By {
    /// Processes of this device.
    Process,
    /// Interfaces, as the kernel counts them where it tells.
    Interface,
    /// Remote endpoints, with who talks to them.
    Remote,
    /// Devices behind this one, for which it routes.
    Peer,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Sum {
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) packets_in: u64,
    pub(super) packets_out: u64,
}

impl Sum {
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes_in.saturating_add(self.bytes_out)
    }

    pub(super) const fn packets(&self) -> u64 {
        self.packets_in.saturating_add(self.packets_out)
    }

    /// What came since `earlier`; a count that fell (traffic that got its owner, a link that was reset) is no growth.
    pub(super) const fn since(&self, earlier: &Self) -> Self {
        Self {
            bytes_in: self.bytes_in.saturating_sub(earlier.bytes_in),
            bytes_out: self.bytes_out.saturating_sub(earlier.bytes_out),
            packets_in: self.packets_in.saturating_sub(earlier.packets_in),
            packets_out: self.packets_out.saturating_sub(earlier.packets_out),
        }
    }

    const fn plus(&self, other: &Self) -> Self {
        Self {
            bytes_in: self.bytes_in.saturating_add(other.bytes_in),
            bytes_out: self.bytes_out.saturating_add(other.bytes_out),
            packets_in: self.packets_in.saturating_add(other.packets_in),
            packets_out: self.packets_out.saturating_add(other.packets_out),
        }
    }
}

/// The running interval; see [`crate::observe::Interval`].
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Interval {
    pub(super) started: Timestamp,
    pub(super) ended: Timestamp,
    interfaces: Vec<Interface>,
    processes: Vec<Process>,
    forwarded: Sum,
    forwarded_by_peer: Vec<Forwarded>,
    other_forwarded: Sum,
    stacked: Sum,
    unattributed_by_reason: Vec<Unattributed>,
    other: Sum,
    pub(super) lost_frames: Option<u64>,
    pub(super) capture_faults: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
struct Interface {
    name: String,
    kernel: Option<Sum>,
    captured: Sum,
    forwarded: Sum,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Process {
    identity: ProcessId,
    name: String,
    exe: Option<String>,
    workload: Option<Workload>,
    counters: Sum,
    remotes: Vec<Remote>,
    other_remotes: Sum,
}

#[derive(Debug, Clone, Deserialize)]
struct Remote {
    interface: String,
    address: IpAddr,
    port: u16,
    protocol: Value,
    counters: Sum,
}

#[derive(Debug, Clone, Deserialize)]
struct Forwarded {
    peer: IpAddr,
    remote: IpAddr,
    port: u16,
    protocol: Value,
    counters: Sum,
}

#[derive(Debug, Clone, Deserialize)]
struct Unattributed {
    reason: String,
    counters: Sum,
}

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// The same thing has the same key in every look.
    pub(super) key: String,
    /// What it is.
    pub(super) name: String,
    /// More about it; may be left out.
    pub(super) detail: String,
    /// Its traffic in the interval.
    pub(super) sum: Sum,
}

impl Row {
    fn new(key: String, name: &str, detail: &str, sum: Sum) -> Self {
        Self {
            key,
            name: safe(name).into_owned(),
            detail: safe(detail).into_owned(),
            sum,
        }
    }
}

impl Interval {
    /// The table.
    pub(super) fn rows(&self, by: By) -> Vec<Row> {
        match by {
            By::Process => self.processes.iter().map(Process::row).collect(),
            By::Interface => self.interfaces.iter().map(Interface::row).collect(),
            By::Remote => self.remotes(),
            By::Peer => self.peers(),
        }
    }

    /// What belongs to no row of the processes.
    pub(super) fn rest(&self) -> Vec<Row> {
        let row = |name: &str, detail: &str, sum: Sum| Row::new(name.to_owned(), name, detail, sum);
        let nothing = Sum::default();
        let unattributed = self
            .unattributed_by_reason
            .iter()
            .fold(nothing, |sum, item| sum.plus(&item.counters));
        let mut rows = vec![
            row("forwarded", "routed for others", self.forwarded),
            row("stacked", "counted on the interface above", self.stacked),
            row("other", "did not fit into the tables", self.other),
            row("unattributed", "without a process", unattributed),
        ];
        let reasons = self
            .unattributed_by_reason
            .iter()
            .filter(|item| item.counters != nothing);
        rows.extend(reasons.map(|item| {
            Row::new(
                format!("unattributed {}", item.reason),
                &format!("  {}", item.reason),
                meaning(&item.reason),
                item.counters,
            )
        }));
        rows
    }

    fn remotes(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for process in &self.processes {
            let owner = process.title();
            for remote in &process.remotes {
                let end = end(&remote.protocol, remote.address, remote.port);
                rows.push(Row::new(
                    format!("{:?} {} {end}", process.identity, remote.interface),
                    &end,
                    &format!("{} {owner}", remote.interface),
                    remote.counters,
                ));
            }
            if process.other_remotes != Sum::default() {
                let key = format!("{:?}", process.identity);
                rows.push(Row::new(key, "more remotes", &owner, process.other_remotes));
            }
        }
        for item in &self.forwarded_by_peer {
            let end = end(&item.protocol, item.remote, item.port);
            let detail = format!("routed for {}", item.peer);
            rows.push(Row::new(format!("{detail} {end}"), &end, &detail, item.counters));
        }
        rows
    }

    fn peers(&self) -> Vec<Row> {
        let mut places: HashMap<IpAddr, usize> = HashMap::new();
        let mut peers: Vec<(IpAddr, &Forwarded, u64, Sum)> = Vec::new();
        // Most bytes first: the first of a peer is the one to name.
        for item in &self.forwarded_by_peer {
            let place = *places.entry(item.peer).or_insert_with(|| {
                peers.push((item.peer, item, 0, Sum::default()));
                peers.len() - 1
            });
            if let Some((_, _, remotes, sum)) = peers.get_mut(place) {
                *remotes += 1;
                *sum = sum.plus(&item.counters);
            }
        }
        let mut rows: Vec<Row> = peers
            .into_iter()
            .map(|(peer, most, remotes, sum)| {
                let mut detail = end(&most.protocol, most.remote, most.port);
                if remotes > 1 {
                    detail = format!("{detail} and {} more", remotes - 1);
                }
                Row::new(peer.to_string(), &peer.to_string(), &detail, sum)
            })
            .collect();
        if self.other_forwarded != Sum::default() {
            let (key, detail) = ("(more)".to_owned(), "did not fit into the table");
            rows.push(Row::new(key, "more peers", detail, self.other_forwarded));
        }
        rows
    }
}

impl Process {
    /// Path (or name) and pid.
    fn title(&self) -> String {
        let program = self.exe.as_deref().unwrap_or(&self.name);
        format!("{program} ({})", self.identity.pid)
    }

    fn row(&self) -> Row {
        let workload = self
            .workload
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default();
        Row::new(
            format!("{:?}", self.identity),
            &self.title(),
            &workload,
            self.counters,
        )
    }
}

impl Interface {
    fn row(&self) -> Row {
        let captured = super::cells::bytes(self.captured.bytes());
        let mut detail = format!("{captured} captured");
        if self.forwarded != Sum::default() {
            detail = format!(
                "{detail}, {} forwarded",
                super::cells::bytes(self.forwarded.bytes())
            );
        }
        if self.kernel.is_none() {
            detail = "kernel's count not known".to_owned();
        }
        Row::new(
            self.name.clone(),
            &self.name,
            &detail,
            self.kernel.unwrap_or(self.captured),
        )
    }
}

/// `tcp 203.0.113.9:443`; protocols without ports have none.
fn end(protocol: &Value, address: IpAddr, port: u16) -> String {
    let protocol = match protocol {
        Value::String(name) => name.clone(),
        other => format!("protocol {}", other["other"]),
    };
    match address {
        _ if port == 0 => format!("{protocol} {address}"),
        IpAddr::V4(address) => format!("{protocol} {address}:{port}"),
        IpAddr::V6(address) => format!("{protocol} [{address}]:{port}"),
    }
}

/// What a reason means, in few words.
fn meaning(reason: &str) -> &'static str {
    match reason {
        "notIp" => "not an IP packet",
        "unparsed" => "truncated or malformed",
        "noPorts" => "a protocol without ports",
        "noSocket" => "no socket known for it",
        "notAccepted" => "no process has accepted it yet",
        "noProcess" => "no visible process holds the socket",
        "lookupFailed" => "the kernel could not be asked",
        "foreign" => "between two others",
        _ => "",
    }
}

#[cfg(test)]
#[path = "traffic_tests.rs"]
mod tests;
