//! Adds packets up: per interface, per process, per remote endpoint.
//!
//! In: one [`Entry`] a packet, and [`Ledger::settle`] when the owner of a waiting flow becomes known.
//! Out: [`Ledger::take`], which closes everything at once, or [`Ledger::peek`], which only looks.
//!
//! Invariants: what goes in comes out, exactly once (see [`super::interval`]); memory is bounded by [`Limits`] and what
//! does not fit is counted as `other`; no clock, no effects.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::net::IpAddr;
use std::sync::Arc;

use super::flow::{LocalFlow, Protocol};
use super::interval::{
    Counters, InterfaceTraffic, ProcessTraffic, Reason, RemoteTraffic, UnattributedTraffic,
};
use crate::process::{Process, ProcessId};

/// How much the ledger remembers within one interval.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Processes with traffic.
    pub processes: usize,
    /// Remote endpoints of all processes together.
    pub remotes: usize,
    /// Flows whose owner is not known yet.
    pub waiting: usize,
    /// Captured interfaces, by index.
    pub interfaces: usize,
}

impl Default for Limits {
    /// About 6 MiB if every table is full: 1,024 processes of 300 bytes, 32,768 remotes of 100, 8,192 flows of 150.
    fn default() -> Self {
        Self {
            processes: 1_024,
            remotes: 32_768,
            waiting: 8_192,
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
    Waiting(LocalFlow, Reason),
    /// Routed for others.
    Forwarded,
    /// Nobody.
    Unattributed(Reason),
    /// The flow table was full.
    Overflow,
}

/// One packet.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Interface index it was seen on.
    pub interface: u32,
    /// True if it left there.
    pub out: bool,
    /// Length on the wire.
    pub bytes: u64,
    /// Whose it is.
    pub account: Account,
}

/// The counters of a closed or running interval; interface names are added by the shell.
#[derive(Debug, Clone, Default)]
pub struct Page {
    interfaces: HashMap<u32, Counters>,
    processes: HashMap<ProcessId, Owned>,
    remotes: HashMap<(ProcessId, Remote), Counters>,
    waiting: HashMap<LocalFlow, (Reason, Counters)>,
    unattributed: HashMap<Reason, Counters>,
    forwarded: Counters,
    other: Counters,
    uncounted_interfaces: Counters,
    unparsed: u64,
}

#[derive(Debug, Clone)]
struct Owned {
    process: Arc<Process>,
    counters: Counters,
    other_remotes: Counters,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Remote {
    address: IpAddr,
    port: u16,
    protocol: Protocol,
}

/// The running interval.
#[derive(Debug, Default)]
pub struct Ledger {
    limits: Limits,
    page: Page,
}

impl Ledger {
    /// An empty ledger.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            page: Page::default(),
        }
    }

    /// Counts one packet.
    pub fn record(&mut self, entry: &Entry) {
        let counters = Counters::packet(entry.out, entry.bytes);
        self.page
            .count_interface(entry.interface, counters, self.limits.interfaces);
        match &entry.account {
            Account::Process(process, flow) => self.page.charge(process, flow, counters, &self.limits),
            Account::Waiting(flow, reason) => self.page.wait(*flow, *reason, counters, self.limits.waiting),
            Account::Forwarded => self.page.forwarded += counters,
            Account::Overflow => self.page.other += counters,
            Account::Unattributed(reason) => {
                self.page.unparsed += u64::from(*reason == Reason::Unparsed);
                *self.page.unattributed.entry(*reason).or_default() += counters;
            }
        }
    }

    /// Gives what waited under this flow to its owner.
    pub fn settle(&mut self, flow: &LocalFlow, process: &Arc<Process>) {
        if let Some((_, counters)) = self.page.waiting.remove(flow) {
            self.page.charge(process, flow, counters, &self.limits);
        }
    }

    /// Closes the interval: everything so far comes out and counting starts at zero.
    pub fn take(&mut self) -> Page {
        std::mem::take(&mut self.page)
    }

    /// A copy of the running interval.
    #[must_use]
    pub fn peek(&self) -> Page {
        self.page.clone()
    }
}

impl Page {
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

    fn charge(&mut self, process: &Arc<Process>, flow: &LocalFlow, counters: Counters, limits: &Limits) {
        let known = self.processes.len();
        let owned = match self.processes.entry(process.identity) {
            Slot::Occupied(slot) => slot.into_mut(),
            Slot::Vacant(slot) if known < limits.processes => slot.insert(Owned {
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
        let remote = Remote {
            address: flow.remote,
            port: flow.remote_port,
            protocol: flow.protocol,
        };
        let known = self.remotes.len();
        match self.remotes.entry((process.identity, remote)) {
            Slot::Occupied(mut slot) => *slot.get_mut() += counters,
            Slot::Vacant(slot) if known < limits.remotes => {
                slot.insert(counters);
            }
            Slot::Vacant(_) => owned.other_remotes += counters,
        }
    }

    fn wait(&mut self, flow: LocalFlow, reason: Reason, counters: Counters, limit: usize) {
        let known = self.waiting.len();
        match self.waiting.entry(flow) {
            Slot::Occupied(mut slot) => {
                let (last_reason, sum) = slot.get_mut();
                *last_reason = reason;
                *sum += counters;
            }
            Slot::Vacant(slot) if known < limit => {
                slot.insert((reason, counters));
            }
            Slot::Vacant(_) => *self.unattributed.entry(reason).or_default() += counters,
        }
    }

    /// Captured traffic of one interface.
    #[must_use]
    pub fn interface(&self, index: u32) -> Counters {
        self.interfaces.get(&index).copied().unwrap_or_default()
    }

    /// Indexes of the interfaces with captured traffic.
    pub fn interface_indexes(&self) -> impl Iterator<Item = u32> + '_ {
        self.interfaces.keys().copied()
    }

    /// Traffic of interfaces beyond the limit, as an interface of its own if there was any.
    #[must_use]
    pub fn uncounted_interfaces(&self) -> Option<InterfaceTraffic> {
        let captured = self.uncounted_interfaces;
        (captured != Counters::default()).then(|| InterfaceTraffic {
            name: "other".to_owned(),
            kernel: None,
            captured,
        })
    }

    /// Everything captured.
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
        for (reason, counters) in self.waiting.values() {
            *sums.entry(*reason).or_default() += *counters;
        }
        let mut list: Vec<_> = sums
            .into_iter()
            .map(|(reason, counters)| UnattributedTraffic { reason, counters })
            .collect();
        list.sort_by_key(|item| item.reason);
        list
    }

    /// Every process with its remotes, most bytes first.
    #[must_use]
    pub fn processes(&self) -> Vec<ProcessTraffic> {
        let mut remotes: HashMap<ProcessId, Vec<RemoteTraffic>> = HashMap::new();
        for ((owner, remote), counters) in &self.remotes {
            remotes.entry(*owner).or_default().push(RemoteTraffic {
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
                remotes.sort_by_key(|item| {
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
                    counters: owned.counters,
                    remotes,
                    other_remotes: owned.other_remotes,
                }
            })
            .collect();
        list.sort_by_key(|item| (std::cmp::Reverse(item.counters.bytes()), item.identity));
        list
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
