//! Finds an owner for every sum of packets and enters it into the ledger.
//!
//! In: the sums of the shared [`Meter`], the interfaces, ticks. Out: pages of the [`Ledger`]. Effects only through the
//! tables of [`Attribution`]. One call of [`Accounts::settle_sums`] empties the meter, so closing an interval takes
//! exactly what was counted until then: nothing twice, nothing lost.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use packet_meter::tally::{FlowSum, Sighting, SightingContent};

use super::attribution::{Attribution, FlowOwner};
use super::direction::{OwnAddresses, PacketDirection, direction};
use super::flow::{FlowKey, LocalFlow};
use super::interval::{Counters, UnattributedReason};
use super::ledger::{Account, ForwardedFlow, Ledger, LedgerEntry, LedgerLimits, LedgerPage};
use super::link::Link;
use super::meter::Meter;
use super::sockets::{ProcessTable, SocketTable};
use crate::lock;
use crate::process::Process;

/// The open sockets are listed this often, so that one that closes before its first packet is looked up is known;
/// flows idle for as long are asked about again when they wake.
const REMEMBER: Duration = Duration::from_secs(1);
/// Waiting flows asked about at one tick; a lookup costs some microseconds.
const RETRIES_PER_TICK: usize = 256;
/// Waiting flows asked about when an interval closes: all that usually wait, in some 20 ms at most.
const RETRIES_AT_CLOSE: usize = 2_048;
/// Interface names kept for frames that are still under way when an interface goes.
const MAX_NAMES: usize = 4_096;

/// The sums of flows on their way to the ledger: `S` looks up sockets, `P` processes.
pub struct Accounts<S, P> {
    meter: Arc<Mutex<Meter>>,
    sums: Vec<(Sighting, FlowSum)>,
    own: OwnAddresses,
    names: HashMap<u32, String>,
    /// Interfaces there are now, by index.
    present: HashSet<u32>,
    attribution: Attribution<S, P>,
    ledger: Ledger,
    remembered_at: Option<Instant>,
    seen_frames: bool,
}

impl<S: SocketTable, P: ProcessTable> Accounts<S, P> {
    /// Nothing counted yet; takes its sums from `meter`.
    pub fn new(limits: LedgerLimits, meter: Arc<Mutex<Meter>>, sockets: S, processes: P) -> Self {
        Self {
            meter,
            sums: Vec::new(),
            own: OwnAddresses::default(),
            names: HashMap::new(),
            present: HashSet::new(),
            attribution: Attribution::new(sockets, processes),
            ledger: Ledger::new(limits),
            remembered_at: None,
            seen_frames: false,
        }
    }

    /// Closes the interval; with the names of the interfaces its frames came from.
    pub fn close(&mut self, now: Instant) -> (LedgerPage, HashMap<u32, String>) {
        self.settle_sums(now);
        let found = self.attribution.last_chance(RETRIES_AT_CLOSE, now);
        self.settle(&found);
        self.attribution.new_interval(now);
        let (page, names) = (self.ledger.take(), self.names.clone());
        // Frames of an interface that has gone may still come; an interval later none do.
        let counted: HashSet<u32> = page.interface_indexes().collect();
        let present = &self.present;
        self.names
            .retain(|index, _| present.contains(index) || counted.contains(index));
        (page, names)
    }

    /// A copy of the running interval, everything counted so far included.
    pub fn look(&mut self, now: Instant) -> (LedgerPage, HashMap<u32, String>) {
        self.settle_sums(now);
        (self.ledger.peek(), self.names.clone())
    }

    /// Takes the sums from the meter and enters them.
    pub fn settle_sums(&mut self, now: Instant) {
        let mut sums = std::mem::take(&mut self.sums);
        lock(&self.meter).drain(&mut sums);
        self.seen_frames |= !sums.is_empty();
        for (sighting, sum) in sums.drain(..) {
            self.enter(&sighting, sum, now);
        }
        self.sums = sums;
    }

    fn enter(&mut self, sighting: &Sighting, sum: FlowSum, now: Instant) {
        let flow = match &sighting.content {
            SightingContent::Ip(flow) => Some(flow),
            SightingContent::NotIp | SightingContent::Unparsed | SightingContent::Overflow => None,
        };
        let way = direction(sighting.way, flow, &self.own);
        let account = match (&sighting.content, way) {
            (_, PacketDirection::StackedIn | PacketDirection::StackedOut) => Account::Stacked,
            (SightingContent::Overflow, _) => Account::Overflow,
            (SightingContent::Unparsed, _) => Account::Unattributed(UnattributedReason::Unparsed),
            (_, PacketDirection::Foreign) => Account::Unattributed(UnattributedReason::Foreign),
            (SightingContent::Ip(flow), PacketDirection::ForwardedIn) => {
                Account::Forwarded(Some(self.peering(flow)))
            }
            (_, PacketDirection::ForwardedIn | PacketDirection::ForwardedOut) => Account::Forwarded(None),
            (SightingContent::NotIp, _) => Account::Unattributed(UnattributedReason::NotIp),
            (SightingContent::Ip(flow), _) => self.owner(flow, way, sighting.interface, sum.opens, now),
        };
        self.ledger.record(&LedgerEntry {
            interface: sighting.interface,
            counters: Counters::traffic(way.is_out(), sum.bytes, sum.packets),
            account,
        });
    }

    fn owner(
        &mut self,
        flow: &FlowKey,
        way: PacketDirection,
        interface: u32,
        opens: bool,
        now: Instant,
    ) -> Account {
        if !flow.has_socket() {
            return Account::Unattributed(UnattributedReason::NoPorts);
        }
        let local = if way.is_out() {
            flow.outgoing()
        } else {
            flow.incoming()
        };
        match self.attribution.owner(&local, interface, opens, now) {
            FlowOwner::Process(process) => Account::Process(process, local),
            FlowOwner::Settled(process) => {
                self.ledger.settle(&local, &process);
                Account::Process(process, local)
            }
            // Only what comes in enters here; what goes out has entered on the peer's side.
            FlowOwner::Translated(peer) if way == PacketDirection::In => {
                Account::Forwarded(Some(ForwardedFlow::to(peer, flow)))
            }
            FlowOwner::Translated(_) => Account::Forwarded(None),
            FlowOwner::Waiting(reason) => Account::Waiting(local, reason),
            FlowOwner::Overflow => Account::Overflow,
        }
    }

    /// Which end of a routed flow is the peer on our side: the one we reach without a router. If that is both or
    /// neither, the client by its higher port, which is the same end for either way of the conversation.
    fn peering(&self, flow: &FlowKey) -> ForwardedFlow {
        let near = [flow.source, flow.destination].map(|end| self.own.is_neighbour(end));
        let sent = match near {
            [true, false] => true,
            [false, true] => false,
            _ => flow.ports.map_or(flow.source >= flow.destination, |ports| {
                (ports.source, flow.source) >= (ports.destination, flow.destination)
            }),
        };
        if sent {
            ForwardedFlow::from(flow.source, flow)
        } else {
            ForwardedFlow::to(flow.destination, flow)
        }
    }

    /// The interfaces, whenever they were looked at.
    pub fn links(&mut self, links: Vec<Link>) {
        let mut own = OwnAddresses::default();
        self.present = links.iter().map(|link| link.index).collect();
        for link in links {
            link.addresses
                .iter()
                .for_each(|address| own.add_address(*address));
            link.broadcasts
                .iter()
                .for_each(|address| own.add_broadcast(*address));
            if !link.loopback {
                link.networks.iter().for_each(|network| own.add_network(*network));
            }
            if self.names.len() < MAX_NAMES || self.names.contains_key(&link.index) {
                self.names.insert(link.index, link.name);
            }
        }
        self.own = own;
    }

    /// How long the accountant may sleep: flows wait for an owner that may be found soon or never.
    pub const fn patience(&self) -> Option<Duration> {
        self.attribution.retry_in()
    }

    /// Takes the sums from the meter and asks again for flows without owner.
    pub fn retry(&mut self, now: Instant) {
        self.settle_sums(now);
        if self.seen_frames {
            let found = self.attribution.retry_waiting(RETRIES_PER_TICK, now);
            self.settle(&found);
        }
    }

    /// Asks again for flows without owner and, every `REMEMBER`, remembers the open sockets; does nothing on a quiet
    /// device.
    pub fn tick(&mut self, now: Instant) {
        self.retry(now);
        // A quiet device costs nothing: without frames there is nobody to attribute.
        if !self.seen_frames {
            return;
        }
        if self
            .remembered_at
            .is_none_or(|last| now.duration_since(last) >= REMEMBER)
        {
            self.remembered_at = Some(now);
            self.seen_frames = false;
            lock(&self.meter).forget_idle();
            if let Err(error) = self.attribution.remember(now) {
                tracing::debug!(%error, "the open sockets could not be listed");
            }
        }
    }

    fn settle(&mut self, found: &[(LocalFlow, Arc<Process>)]) {
        for (flow, process) in found {
            self.ledger.settle(flow, process);
        }
    }
}
