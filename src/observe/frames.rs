//! Runs every captured frame through direction, attribution and ledger.
//!
//! In: [`CaptureEvent`]s, in the order of the channel. Out: pages of the [`Ledger`]. Effects only through the tables of
//! [`Attribution`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::attribution::{Attribution, Verdict};
use super::decode::{Decoded, PacketSummary};
use super::direction::{Direction, OwnAddresses, direction};
use super::flow::{FlowKey, LocalFlow};
use super::interval::Reason;
use super::ledger::{Account, Entry, Ledger, Limits, Page};
use super::sockets::{ProcessTable, SocketTable};
use crate::host::capture::CaptureEvent;
use crate::host::links::Link;
use crate::process::Process;

/// The open sockets are listed this often, so that one that closes before its first packet is looked up is known.
const REMEMBER: Duration = Duration::from_secs(1);
/// Waiting flows asked about at one tick; a lookup costs some microseconds.
const RETRIES_PER_TICK: usize = 256;
/// Waiting flows asked about when an interval closes: all that usually wait, in some 20 ms at most.
const RETRIES_AT_CLOSE: usize = 2_048;
/// Interface names kept for frames that are still under way when an interface goes.
const MAX_NAMES: usize = 4_096;

pub(super) struct Frames<S, P> {
    own: OwnAddresses,
    names: HashMap<u32, String>,
    attribution: Attribution<S, P>,
    ledger: Ledger,
    remembered_at: Option<Instant>,
    seen_frames: bool,
    latest: Option<Instant>,
}

impl<S: SocketTable, P: ProcessTable> Frames<S, P> {
    pub(super) fn new(limits: Limits, sockets: S, processes: P) -> Self {
        Self {
            own: OwnAddresses::default(),
            names: HashMap::new(),
            attribution: Attribution::new(sockets, processes),
            ledger: Ledger::new(limits),
            remembered_at: None,
            seen_frames: false,
            latest: None,
        }
    }

    pub(super) fn handle(&mut self, event: CaptureEvent) {
        match event {
            CaptureEvent::Frame {
                interface,
                summary,
                at,
            } => self.frame(interface, &summary, at),
            CaptureEvent::Links(links) => self.links(links),
            CaptureEvent::Tick(now) => self.tick(now),
        }
    }

    /// Closes the interval; with the names of the interfaces its frames came from.
    pub(super) fn close(&mut self) -> (Page, HashMap<u32, String>) {
        if let Some(now) = self.latest {
            let found = self.attribution.last_chance(RETRIES_AT_CLOSE, now);
            self.settle(&found);
            self.attribution.new_interval(now);
        }
        (self.ledger.take(), self.names.clone())
    }

    pub(super) fn look(&self) -> (Page, HashMap<u32, String>) {
        (self.ledger.peek(), self.names.clone())
    }

    fn frame(&mut self, interface: u32, summary: &PacketSummary, at: Instant) {
        self.latest = Some(at);
        self.seen_frames = true;
        let way = direction(summary, &self.own);
        let account = match (&summary.content, way) {
            (Decoded::Unparsed, _) => Account::Unattributed(Reason::Unparsed),
            (_, Direction::Foreign) => Account::Unattributed(Reason::Foreign),
            (_, Direction::ForwardedIn | Direction::ForwardedOut) => Account::Forwarded,
            (Decoded::NotIp, _) => Account::Unattributed(Reason::NotIp),
            (Decoded::Ip { flow, opens }, _) => self.owner(flow, way, interface, *opens, at),
        };
        self.ledger.record(&Entry {
            interface,
            out: way.is_out(),
            bytes: summary.bytes,
            account,
        });
    }

    fn owner(&mut self, flow: &FlowKey, way: Direction, interface: u32, opens: bool, at: Instant) -> Account {
        if !flow.has_socket() {
            return Account::Unattributed(Reason::NoPorts);
        }
        let local = if way.is_out() {
            flow.outgoing()
        } else {
            flow.incoming()
        };
        match self.attribution.owner(&local, interface, opens, at) {
            Verdict::Process(process) => Account::Process(process, local),
            Verdict::Settled(process) => {
                self.ledger.settle(&local, &process);
                Account::Process(process, local)
            }
            Verdict::Waiting(reason) => Account::Waiting(local, reason),
            Verdict::Overflow => Account::Overflow,
        }
    }

    fn links(&mut self, links: Vec<Link>) {
        let mut own = OwnAddresses::default();
        for link in links {
            link.addresses
                .iter()
                .for_each(|address| own.add_address(*address));
            link.broadcasts
                .iter()
                .for_each(|address| own.add_broadcast(*address));
            link.hardware
                .iter()
                .for_each(|address| own.add_hardware(*address));
            if self.names.len() < MAX_NAMES || self.names.contains_key(&link.index) {
                self.names.insert(link.index, link.name);
            }
        }
        self.own = own;
    }

    fn tick(&mut self, now: Instant) {
        self.latest = Some(now);
        // A quiet device costs nothing: without frames there is nobody to attribute.
        if !self.seen_frames {
            return;
        }
        let found = self.attribution.retry_waiting(RETRIES_PER_TICK, now);
        self.settle(&found);
        if self
            .remembered_at
            .is_none_or(|last| now.duration_since(last) >= REMEMBER)
        {
            self.remembered_at = Some(now);
            self.seen_frames = false;
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
