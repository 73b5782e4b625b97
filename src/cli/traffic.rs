//! The traffic page's rows. Pure.
//!
//! In: the agent's running interval. Out: [`TrafficRow`]s whose texts are fit for a terminal, with a key that stays the
//! same from look to look.

use std::collections::HashMap;
use std::net::IpAddr;

use super::cells::bytes;
use super::safe::safe;
use crate::observe::flow::IpProtocol;
use crate::observe::interval::{ForwardedTraffic, InterfaceTraffic, ProcessTraffic, UnattributedReason};
use crate::observe::{Counters, Interval};

/// What the rows are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Grouping {
    /// Processes of this device.
    Process,
    /// Interfaces, as the kernel counts them where it tells.
    Interface,
    /// Remote endpoints, with who talks to them.
    Remote,
    /// Devices behind this one, for which it routes.
    Peer,
}

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TrafficRow {
    /// The same thing has the same key in every look.
    pub(super) key: String,
    /// Fit for a terminal, not cut.
    pub(super) name: String,
    /// Left out where there is no room.
    pub(super) detail: String,
    /// Traffic in the interval.
    pub(super) sum: Counters,
}

impl TrafficRow {
    fn new(key: String, name: &str, detail: &str, sum: Counters) -> Self {
        Self {
            key,
            name: safe(name).into_owned(),
            detail: safe(detail).into_owned(),
            sum,
        }
    }
}

/// What came since `earlier`; a count that fell (traffic that got its owner, a link that was reset) is no growth.
pub(super) const fn gained_since(sum: &Counters, earlier: &Counters) -> Counters {
    Counters {
        bytes_in: sum.bytes_in.saturating_sub(earlier.bytes_in),
        bytes_out: sum.bytes_out.saturating_sub(earlier.bytes_out),
        packets_in: sum.packets_in.saturating_sub(earlier.packets_in),
        packets_out: sum.packets_out.saturating_sub(earlier.packets_out),
    }
}

/// One row for each thing of the grouping that had traffic.
pub(super) fn rows(interval: &Interval, grouping: Grouping) -> Vec<TrafficRow> {
    match grouping {
        Grouping::Process => interval.processes.iter().map(process_row).collect(),
        Grouping::Interface => interval.interfaces.iter().map(interface_row).collect(),
        Grouping::Remote => remotes(interval),
        Grouping::Peer => peers(interval),
    }
}

/// What belongs to no row of the processes.
pub(super) fn rest(interval: &Interval) -> Vec<TrafficRow> {
    let row = |name: &str, detail: &str, sum: Counters| TrafficRow::new(name.to_owned(), name, detail, sum);
    let reasons = &interval.unattributed_by_reason;
    let unattributed = reasons.iter().map(|item| item.counters).sum();
    let mut rows = vec![
        row("forwarded", "routed for others", interval.forwarded),
        row("stacked", "counted on the interface above", interval.stacked),
        row("other", "did not fit into the tables", interval.other),
        row("unattributed", "without a process", unattributed),
    ];
    let reasons = reasons.iter().filter(|item| item.counters != Counters::default());
    rows.extend(reasons.map(|item| {
        let (name, meaning) = in_words(item.reason);
        let key = format!("unattributed {name}");
        TrafficRow::new(key, &format!("  {name}"), meaning, item.counters)
    }));
    rows
}

fn remotes(interval: &Interval) -> Vec<TrafficRow> {
    let mut rows = Vec::new();
    for process in &interval.processes {
        let owner = title(process);
        for remote in &process.remotes {
            let end = end(remote.protocol, remote.address, remote.port);
            rows.push(TrafficRow::new(
                format!("{:?} {} {end}", process.identity, remote.interface),
                &end,
                &format!("{} {owner}", remote.interface),
                remote.counters,
            ));
        }
        if process.other_remotes != Counters::default() {
            let key = format!("{:?}", process.identity);
            rows.push(TrafficRow::new(
                key,
                "more remotes",
                &owner,
                process.other_remotes,
            ));
        }
    }
    for item in &interval.forwarded_by_peer {
        let end = end(item.protocol, item.remote, item.port);
        let detail = format!("routed for {}", item.peer);
        rows.push(TrafficRow::new(
            format!("{detail} {end}"),
            &end,
            &detail,
            item.counters,
        ));
    }
    rows
}

fn peers(interval: &Interval) -> Vec<TrafficRow> {
    let mut places: HashMap<IpAddr, usize> = HashMap::new();
    let mut peers: Vec<(IpAddr, &ForwardedTraffic, u64, Counters)> = Vec::new();
    // Most bytes first: the first of a peer is the one to name.
    for item in &interval.forwarded_by_peer {
        let place = *places.entry(item.peer).or_insert_with(|| {
            peers.push((item.peer, item, 0, Counters::default()));
            peers.len() - 1
        });
        if let Some((_, _, remotes, sum)) = peers.get_mut(place) {
            *remotes += 1;
            *sum += item.counters;
        }
    }
    let mut rows: Vec<TrafficRow> = peers
        .into_iter()
        .map(|(peer, most, remotes, sum)| {
            let mut detail = end(most.protocol, most.remote, most.port);
            if remotes > 1 {
                detail = format!("{detail} and {} more", remotes - 1);
            }
            TrafficRow::new(peer.to_string(), &peer.to_string(), &detail, sum)
        })
        .collect();
    if interval.other_forwarded != Counters::default() {
        let (key, detail) = ("(more)".to_owned(), "did not fit into the table");
        rows.push(TrafficRow::new(
            key,
            "more peers",
            detail,
            interval.other_forwarded,
        ));
    }
    rows
}

/// Path (or name) and pid.
fn title(process: &ProcessTraffic) -> String {
    let program = process.exe.as_deref().unwrap_or(&process.name);
    format!("{program} ({})", process.identity.pid)
}

fn process_row(process: &ProcessTraffic) -> TrafficRow {
    let workload = process.workload.as_ref().map(ToString::to_string);
    TrafficRow::new(
        format!("{:?}", process.identity),
        &title(process),
        &workload.unwrap_or_default(),
        process.counters,
    )
}

fn interface_row(interface: &InterfaceTraffic) -> TrafficRow {
    let mut detail = format!("{} captured", bytes(interface.captured.bytes()));
    if interface.forwarded != Counters::default() {
        detail = format!("{detail}, {} forwarded", bytes(interface.forwarded.bytes()));
    }
    if interface.kernel.is_none() {
        detail = "kernel's count not known".to_owned();
    }
    let sum = interface.kernel.unwrap_or(interface.captured);
    TrafficRow::new(interface.name.clone(), &interface.name, &detail, sum)
}

/// `tcp 203.0.113.9:443`; protocols without ports have none.
fn end(protocol: IpProtocol, address: IpAddr, port: u16) -> String {
    let protocol = match protocol {
        IpProtocol::Tcp => "tcp".to_owned(),
        IpProtocol::Udp => "udp".to_owned(),
        IpProtocol::Icmp => "icmp".to_owned(),
        IpProtocol::Icmpv6 => "icmpv6".to_owned(),
        IpProtocol::Other(number) => format!("protocol {number}"),
    };
    match address {
        _ if port == 0 => format!("{protocol} {address}"),
        IpAddr::V4(address) => format!("{protocol} {address}:{port}"),
        IpAddr::V6(address) => format!("{protocol} [{address}]:{port}"),
    }
}

/// A reason as `--json` names it, and what it means, in few words.
const fn in_words(reason: UnattributedReason) -> (&'static str, &'static str) {
    match reason {
        UnattributedReason::NotIp => ("notIp", "not an IP packet"),
        UnattributedReason::Unparsed => ("unparsed", "truncated or malformed"),
        UnattributedReason::NoPorts => ("noPorts", "a protocol without ports"),
        UnattributedReason::NoSocket => ("noSocket", "no socket known for it"),
        UnattributedReason::NotAccepted => ("notAccepted", "no process has accepted it yet"),
        UnattributedReason::NoProcess => ("noProcess", "no visible process holds the socket"),
        UnattributedReason::LookupFailed => ("lookupFailed", "the kernel could not be asked"),
        UnattributedReason::Foreign => ("foreign", "between two others"),
    }
}

#[cfg(test)]
#[path = "traffic_tests.rs"]
mod tests;
