//! Adds packets up: per interface, per process, per remote endpoint.
//!
//! In: [`LedgerEntry`]s, each a sum of packets that are the same in everything that is told apart, and
//! [`Ledger::settle`] when the owner of a waiting flow becomes known. Out: [`Ledger::take`], which closes everything at
//! once, or [`Ledger::peek`], which only looks.
//!
//! Invariants: what goes in comes out, exactly once (see [`super::interval`]); memory is bounded by [`LedgerLimits`]
//! and what does not fit is counted as `other`; no clock, no effects.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::net::IpAddr;
use std::sync::Arc;

use super::flow::{FlowKey, IpProtocol, LocalFlow};
use super::interval::{
    Counters, ForwardedTraffic, InterfaceTraffic, ProcessTraffic, RemoteTraffic, UnattributedReason,
    UnattributedTraffic,
};
use crate::Arrange;
use crate::process::{Process, ProcessId};

/// How much the ledger remembers within one interval.
#[derive(Debug, Clone, Copy)]
pub struct LedgerLimits {
    /// Processes with traffic.
    pub processes: usize,
    /// Remote endpoints of all processes together.
    pub remotes: usize,
    /// Flows whose owner is not known yet.
    pub waiting: usize,
    /// Pairs of a peer on our side and a remote endpoint that traffic was routed for.
    pub forwarded: usize,
    /// Captured interfaces, by index.
    pub interfaces: usize,
}

impl Default for LedgerLimits {
    /// About 7 MiB if every table is full: 1,024 processes of 300 bytes, 32,768 remotes of 110, 8,192 flows of 180 and
    /// as many forwarded pairs of 100.
    fn default() -> Self {
        Self {
            processes: 1_024,
            remotes: 32_768,
            waiting: 8_192,
            forwarded: 8_192,
            interfaces: 256,
        }
    }
}

/// Where a packet's bytes go.
#[derive(Debug, Clone)]
pub enum Account {
    /// To a process, talking to this remote.
    Process(Arc<Process>, LocalFlow),
    /// Nobody yet; `settle` may name the owner before the interval closes, else it is unattributed.
    Waiting(LocalFlow, UnattributedReason),
    /// Routed for others; with the two ends where it entered, without where it left.
    Forwarded(Option<ForwardedFlow>),
    /// Counted on the interface above.
    Stacked,
    /// Nobody's, for this reason.
    Unattributed(UnattributedReason),
    /// The flow table was full.
    Overflow,
}

/// The two ends of routed traffic, and which of them sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForwardedFlow {
    /// The end on our side.
    pub peer: IpAddr,
    /// The other end.
    pub remote: IpAddr,
    /// Its port, 0 where there is none.
    pub port: u16,
    pub protocol: IpProtocol,
    /// True for what `peer` sent.
    pub sent: bool,
}

impl ForwardedFlow {
    /// `peer` sends to the destination of `flow`.
    #[must_use]
    pub fn from(peer: IpAddr, flow: &FlowKey) -> Self {
        Self {
            peer,
            remote: flow.destination,
            port: flow.ports.map_or(0, |ports| ports.destination),
            protocol: flow.protocol,
            sent: true,
        }
    }

    /// The source of `flow` sends to `peer`.
    #[must_use]
    pub fn to(peer: IpAddr, flow: &FlowKey) -> Self {
        Self {
            peer,
            remote: flow.source,
            port: flow.ports.map_or(0, |ports| ports.source),
            protocol: flow.protocol,
            sent: false,
        }
    }
}

/// Packets of one sighting.
#[derive(Debug, Clone)]
pub struct LedgerEntry {
    /// Interface index they were seen on.
    pub interface: u32,
    /// How many and how long, all one way.
    pub counters: Counters,
    pub account: Account,
}

/// The counters of a closed or running interval; interface names are added by the shell.
#[derive(Debug, Clone, Default)]
pub struct LedgerPage {
    interfaces: HashMap<u32, Counters>,
    processes: HashMap<ProcessId, ProcessAccount>,
    remotes: HashMap<(ProcessId, u32, RemoteEnd), Counters>,
    waiting: HashMap<LocalFlow, WaitingFlow>,
    unattributed: HashMap<UnattributedReason, Counters>,
    forwarded: Counters,
    forwarded_by_interface: HashMap<u32, Counters>,
    peers: HashMap<(IpAddr, RemoteEnd), Counters>,
    other_peers: Counters,
    stacked: Counters,
    other: Counters,
    uncounted_interfaces: Counters,
    unparsed: u64,
}

#[derive(Debug, Clone)]
struct ProcessAccount {
    process: Arc<Process>,
    counters: Counters,
    other_remotes: Counters,
}

#[derive(Debug, Clone)]
struct WaitingFlow {
    reason: UnattributedReason,
    /// A flow is rarely seen on more than one interface.
    by_interface: Vec<(u32, Counters)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct RemoteEnd {
    address: IpAddr,
    port: u16,
    protocol: IpProtocol,
}

/// The running interval.
#[derive(Debug, Default)]
pub struct Ledger {
    limits: LedgerLimits,
    page: LedgerPage,
}

impl Ledger {
    #[must_use]
    pub fn new(limits: LedgerLimits) -> Self {
        Self {
            limits,
            page: LedgerPage::default(),
        }
    }

    pub fn record(&mut self, entry: &LedgerEntry) {
        let (interface, counters, limits) = (entry.interface, entry.counters, &self.limits);
        let page = &mut self.page;
        page.count_interface(interface, counters, limits.interfaces);
        match &entry.account {
            Account::Process(process, flow) => page.charge(process, flow, interface, counters, limits),
            Account::Waiting(flow, reason) => page.wait(*flow, *reason, interface, counters, limits),
            Account::Forwarded(peering) => page.forward(peering.as_ref(), interface, counters, limits),
            Account::Stacked => page.stacked += counters,
            Account::Overflow => page.other += counters,
            Account::Unattributed(reason) => {
                if *reason == UnattributedReason::Unparsed {
                    page.unparsed = page.unparsed.saturating_add(counters.packets());
                }
                *page.unattributed.entry(*reason).or_default() += counters;
            }
        }
    }

    /// Gives what waited under this flow to its owner.
    pub fn settle(&mut self, flow: &LocalFlow, process: &Arc<Process>) {
        if let Some(waiting) = self.page.waiting.remove(flow) {
            for (interface, counters) in waiting.by_interface {
                self.page.charge(process, flow, interface, counters, &self.limits);
            }
        }
    }

    /// Closes the interval: everything so far comes out and counting starts at zero.
    pub fn take(&mut self) -> LedgerPage {
        std::mem::take(&mut self.page)
    }

    /// A copy of the running interval.
    #[must_use]
    pub fn peek(&self) -> LedgerPage {
        self.page.clone()
    }
}

impl LedgerPage {
    fn count_interface(&mut self, index: u32, counters: Counters, limit: usize) {
        let known = self.interfaces.len();
        match self.interfaces.entry(index) {
            Slot::Occupied(mut slot) => *slot.get_mut() += counters,
            Slot::Vacant(slot) if known < limit => {
                slot.insert(counters);
            }
            Slot::Vacant(_) => self.uncounted_interfaces += counters,
        }
    }

    fn charge(
        &mut self,
        process: &Arc<Process>,
        flow: &LocalFlow,
        interface: u32,
        counters: Counters,
        limits: &LedgerLimits,
    ) {
        let known = self.processes.len();
        let owned = match self.processes.entry(process.identity) {
            Slot::Occupied(slot) => slot.into_mut(),
            Slot::Vacant(slot) if known < limits.processes => slot.insert(ProcessAccount {
                process: Arc::clone(process),
                counters: Counters::default(),
                other_remotes: Counters::default(),
            }),
            Slot::Vacant(_) => {
                self.other += counters;
                return;
            }
        };
        owned.counters += counters;
        let remote = RemoteEnd {
            address: flow.remote,
            port: flow.remote_port,
            protocol: flow.protocol,
        };
        let known = self.remotes.len();
        match self.remotes.entry((process.identity, interface, remote)) {
            Slot::Occupied(mut slot) => *slot.get_mut() += counters,
            Slot::Vacant(slot) if known < limits.remotes => {
                slot.insert(counters);
            }
            Slot::Vacant(_) => owned.other_remotes += counters,
        }
    }

    fn wait(
        &mut self,
        flow: LocalFlow,
        reason: UnattributedReason,
        interface: u32,
        counters: Counters,
        limits: &LedgerLimits,
    ) {
        let known = self.waiting.len();
        let waiting = match self.waiting.entry(flow) {
            Slot::Occupied(slot) => slot.into_mut(),
            Slot::Vacant(slot) if known < limits.waiting => slot.insert(WaitingFlow {
                reason,
                by_interface: Vec::new(),
            }),
            Slot::Vacant(_) => {
                *self.unattributed.entry(reason).or_default() += counters;
                return;
            }
        };
        waiting.reason = reason;
        let place = &mut waiting.by_interface;
        if let Some((_, sum)) = place.iter_mut().find(|(index, _)| *index == interface) {
            *sum += counters;
        } else if place.len() < limits.interfaces {
            place.push((interface, counters));
        } else {
            *self.unattributed.entry(reason).or_default() += counters;
        }
    }

    fn forward(
        &mut self,
        peering: Option<&ForwardedFlow>,
        interface: u32,
        counters: Counters,
        limits: &LedgerLimits,
    ) {
        self.forwarded += counters;
        let known = self.forwarded_by_interface.len();
        if known < limits.interfaces || self.forwarded_by_interface.contains_key(&interface) {
            *self.forwarded_by_interface.entry(interface).or_default() += counters;
        }
        let Some(peering) = peering else { return };
        let remote = RemoteEnd {
            address: peering.remote,
            port: peering.port,
            protocol: peering.protocol,
        };
        // From the peer's point of view: what it sent and what was sent to it.
        let counters = Counters::traffic(peering.sent, counters.bytes(), counters.packets());
        let known = self.peers.len();
        match self.peers.entry((peering.peer, remote)) {
            Slot::Occupied(mut slot) => *slot.get_mut() += counters,
            Slot::Vacant(slot) if known < limits.forwarded => {
                slot.insert(counters);
            }
            Slot::Vacant(_) => self.other_peers += counters,
        }
    }

    /// Captured traffic of one interface.
    #[must_use]
    pub fn interface(&self, index: u32) -> Counters {
        self.interfaces.get(&index).copied().unwrap_or_default()
    }

    /// Indexes of the interfaces with captured traffic.
    pub(crate) fn interface_indexes(&self) -> impl Iterator<Item = u32> + '_ {
        self.interfaces.keys().copied()
    }

    /// Traffic of interfaces beyond the limit, as an interface of its own if there was any.
    #[must_use]
    pub(crate) fn uncounted_interfaces(&self) -> Option<InterfaceTraffic> {
        let captured = self.uncounted_interfaces;
        (captured != Counters::default()).then(|| InterfaceTraffic {
            name: "other".to_owned(),
            kernel: None,
            captured,
            forwarded: Counters::default(),
        })
    }

    #[must_use]
    pub fn captured_total(&self) -> Counters {
        let mut total: Counters = self.interfaces.values().copied().sum();
        total += self.uncounted_interfaces;
        total
    }

    /// Routed for others.
    #[must_use]
    pub const fn forwarded(&self) -> Counters {
        self.forwarded
    }

    /// Routed for others, as seen on one interface.
    #[must_use]
    pub(crate) fn forwarded_on(&self, index: u32) -> Counters {
        self.forwarded_by_interface
            .get(&index)
            .copied()
            .unwrap_or_default()
    }

    /// Routed for others by their two ends, most bytes first.
    #[must_use]
    pub fn forwarded_by_peer(&self) -> Vec<ForwardedTraffic> {
        let mut list: Vec<_> = self
            .peers
            .iter()
            .map(|((peer, remote), counters)| ForwardedTraffic {
                peer: *peer,
                remote: remote.address,
                port: remote.port,
                protocol: remote.protocol,
                counters: *counters,
            })
            .collect();
        list.arrange_by_key(|item| {
            (
                std::cmp::Reverse(item.counters.bytes()),
                item.peer,
                item.remote,
                item.port,
                item.protocol,
            )
        });
        list
    }

    /// Entered for others and did not fit into [`LedgerPage::forwarded_by_peer`].
    #[must_use]
    pub const fn other_forwarded(&self) -> Counters {
        self.other_peers
    }

    /// Counted on the interface above.
    #[must_use]
    pub const fn stacked(&self) -> Counters {
        self.stacked
    }

    /// What did not fit.
    #[must_use]
    pub const fn other(&self) -> Counters {
        self.other
    }

    /// Frames that could not be read.
    #[must_use]
    pub const fn unparsed(&self) -> u64 {
        self.unparsed
    }

    /// Traffic without owner, flows still waiting included, in the order of the reasons.
    #[must_use]
    pub fn unattributed(&self) -> Vec<UnattributedTraffic> {
        let mut sums = self.unattributed.clone();
        for waiting in self.waiting.values() {
            let sum = sums.entry(waiting.reason).or_default();
            waiting
                .by_interface
                .iter()
                .for_each(|(_, counters)| *sum += *counters);
        }
        let mut list: Vec<_> = sums
            .into_iter()
            .map(|(reason, counters)| UnattributedTraffic { reason, counters })
            .collect();
        list.arrange_by_key(|item| item.reason);
        list
    }

    /// Every process with its remotes, most bytes first. `name` tells the name of an interface by its index.
    #[must_use]
    pub fn processes(&self, name: impl Fn(u32) -> String) -> Vec<ProcessTraffic> {
        let mut remotes: HashMap<ProcessId, Vec<RemoteTraffic>> = HashMap::new();
        for ((owner, interface, remote), counters) in &self.remotes {
            remotes.entry(*owner).or_default().push(RemoteTraffic {
                interface: name(*interface),
                address: remote.address,
                port: remote.port,
                protocol: remote.protocol,
                counters: *counters,
            });
        }
        let mut list: Vec<_> = self
            .processes
            .values()
            .map(|owned| {
                let mut remotes = remotes.remove(&owned.process.identity).unwrap_or_default();
                remotes.arrange_by_key(|item| {
                    (
                        std::cmp::Reverse(item.counters.bytes()),
                        item.address,
                        item.port,
                        item.protocol,
                    )
                });
                ProcessTraffic {
                    identity: owned.process.identity,
                    name: owned.process.name.clone(),
                    exe: owned.process.exe.clone(),
                    cgroup: owned.process.cgroup.clone(),
                    workload: owned.process.workload.clone(),
                    counters: owned.counters,
                    remotes,
                    other_remotes: owned.other_remotes,
                }
            })
            .collect();
        list.arrange_by_key(|item| (std::cmp::Reverse(item.counters.bytes()), item.identity));
        list
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
