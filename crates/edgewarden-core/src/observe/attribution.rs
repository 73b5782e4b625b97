//! Names the process behind a flow, at the flow's first packet.
//!
//! In: a [`LocalFlow`], the interface, `now`. Out: a [`FlowOwner`]. Answers are cached per flow, asked again after
//! `RECHECK` (sockets are passed on and ports reused) and at every SYN, and forgotten with the interval they were last
//! used in. A socket that closed before the question is looked up among those remembered from the last lists; one that
//! is not there either has no owner, for [`UnattributedReason::NoSocket`].
//!
//! A process that ends keeps what its socket still sends. A socket that is passed on is the old holder's until the
//! recheck that finds it without it: what it moved within that second is counted as the old holder's. So is what the
//! socket of another process moves that takes the port of a datagram flow to the same remote within it.
//!
//! Invariants: never a guessed owner; memory bounded by [`MAX_FLOWS`] and [`MAX_REMEMBERED`]; no effects except through
//! the two tables it is given.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::flow::{IpProtocol, LocalFlow};
use super::interval::UnattributedReason;
use super::sockets::{HolderLookup, LookupError, OpenSocket, ProcessTable, SocketOwner, SocketTable};
use crate::process::Process;

/// Flows remembered at once: 2 MiB. A flow beyond it is counted as `other`, so a port scan cannot fill memory.
pub(super) const MAX_FLOWS: usize = 16_384;
/// Sockets remembered from lists, for flows whose socket closed before the first lookup: 2 MiB.
pub(super) const MAX_REMEMBERED: usize = 16_384;
/// A cached owner is confirmed this often; one lookup costs some microseconds.
const RECHECK: Duration = Duration::from_secs(1);
/// A flow without owner is asked about this often: bounds the cost of unanswerable flows, short enough that most get
/// their owner while the process lives.
const RETRY: Duration = Duration::from_millis(20);
/// What still comes for a socket that has gone is its last owner's for so long: the time a closed TCP connection may
/// linger.
const GRACE: Duration = Duration::from_secs(60);
/// After this many attempts a flow is left alone for [`RECHECK`].
const EAGER_ATTEMPTS: u8 = 10;

/// Whose flow it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FlowOwner {
    /// Was known when the flow was asked for.
    Process(Arc<Process>),
    /// Known since now; earlier packets of the flow waited for this.
    Settled(Arc<Process>),
    /// Routed with address translation for this device on our side.
    Translated(IpAddr),
    /// Not known yet, for this reason.
    Waiting(UnattributedReason),
    /// The flow table is full.
    Overflow,
}

#[derive(Clone)]
enum SettledOwner {
    Process(Arc<Process>),
    /// A device on our side, by its address.
    Translated(IpAddr),
}

struct FlowEntry {
    owner: Result<SettledOwner, UnattributedReason>,
    inode: u32,
    interface: u32,
    ask_again: Instant,
    /// When the owner was last seen with the socket.
    confirmed: Instant,
    attempts: u8,
    used: bool,
}

impl FlowEntry {
    fn verdict(&self) -> FlowOwner {
        match &self.owner {
            Ok(SettledOwner::Process(process)) => FlowOwner::Process(Arc::clone(process)),
            Ok(SettledOwner::Translated(peer)) => FlowOwner::Translated(*peer),
            Err(reason) => FlowOwner::Waiting(*reason),
        }
    }
}

/// The cache and the two tables behind it.
pub(super) struct Attribution<S, P> {
    sockets: S,
    processes: P,
    flows: HashMap<LocalFlow, FlowEntry>,
    /// A flow waits that is asked about every [`RETRY`].
    eager: bool,
    remembered: HashMap<LocalFlow, SocketOwner>,
    bound_udp: HashMap<(IpAddr, u16), SocketOwner>,
}

impl<S: SocketTable, P: ProcessTable> Attribution<S, P> {
    /// With an empty cache.
    pub(super) fn new(sockets: S, processes: P) -> Self {
        Self {
            sockets,
            processes,
            flows: HashMap::new(),
            eager: false,
            remembered: HashMap::new(),
            bound_udp: HashMap::new(),
        }
    }

    /// The owner of one packet's flow. `opens` says that the packet begins a new connection.
    pub(super) fn owner(&mut self, flow: &LocalFlow, interface: u32, opens: bool, now: Instant) -> FlowOwner {
        if let Some(known) = self.flows.get_mut(flow) {
            known.used = true;
            if !opens && now < known.ask_again {
                return known.verdict();
            }
        } else if self.flows.len() >= MAX_FLOWS && !self.make_room() {
            return FlowOwner::Overflow;
        }
        self.ask(flow, interface, opens, now)
    }

    /// Forgets flows that were asked about in vain; true if there were any. Whoever sprays packets at closed ports must
    /// not hide others behind them.
    fn make_room(&mut self) -> bool {
        self.flows
            .retain(|_, known| known.owner.is_ok() || known.attempts < EAGER_ATTEMPTS);
        self.flows.len() < MAX_FLOWS
    }

    fn ask(&mut self, flow: &LocalFlow, interface: u32, opens: bool, now: Instant) -> FlowOwner {
        let previous = self.flows.remove(flow);
        let waited = previous.as_ref().is_some_and(|known| known.owner.is_err());
        match (self.look_up(flow, interface, previous.as_ref(), now), previous) {
            (Ok((inode, owner)), _) => {
                let known = FlowEntry {
                    owner: Ok(owner),
                    inode,
                    interface,
                    ask_again: now + RECHECK,
                    confirmed: now,
                    attempts: 0,
                    used: true,
                };
                let verdict = match known.verdict() {
                    FlowOwner::Process(process) if waited => FlowOwner::Settled(process),
                    verdict => verdict,
                };
                self.flows.insert(*flow, known);
                verdict
            }
            // The socket has gone: the last packets of a connection are still its owner's. A SYN is a new connection
            // and proves nothing about the old owner.
            (Err((inode, _)), Some(known @ FlowEntry { owner: Ok(_), .. }))
                if !opens && inode == 0 && now.duration_since(known.confirmed) < GRACE =>
            {
                let verdict = known.verdict();
                self.flows.insert(
                    *flow,
                    FlowEntry {
                        ask_again: now + RECHECK,
                        ..known
                    },
                );
                verdict
            }
            (Err((inode, reason)), previous) => {
                let attempts = previous.map_or(0, |known| known.attempts).saturating_add(1);
                let eager = attempts < EAGER_ATTEMPTS;
                self.eager |= eager;
                let ask_again = now + if eager { RETRY } else { RECHECK };
                let owner = Err(reason);
                self.flows.insert(
                    *flow,
                    FlowEntry {
                        owner,
                        inode,
                        interface,
                        ask_again,
                        confirmed: now,
                        attempts,
                        used: true,
                    },
                );
                FlowOwner::Waiting(reason)
            }
        }
    }

    /// The socket's inode (0 if there is none) and its holder, or why there is none.
    fn look_up(
        &mut self,
        flow: &LocalFlow,
        interface: u32,
        previous: Option<&FlowEntry>,
        now: Instant,
    ) -> Result<(u32, SettledOwner), (u32, UnattributedReason)> {
        let found = self
            .sockets
            .find(flow, interface)
            .map_err(|_| (0, UnattributedReason::LookupFailed))?;
        let accepts = found.is_some_and(|owner| owner.listening && flow.protocol == IpProtocol::Tcp);
        let found = found
            .filter(|owner| owner.inode != 0)
            .or_else(|| self.recall(flow));
        // A socket that takes from everybody may only share its port with a translated flow.
        if (accepts || flow.protocol == IpProtocol::Udp || found.is_none())
            && let Some(peer) = self.translated_for(flow)
        {
            return Ok((0, SettledOwner::Translated(peer)));
        }
        if accepts {
            // The listener need not be the one who will accept: a child or a worker may.
            return Err((0, UnattributedReason::NotAccepted));
        }
        let Some(SocketOwner { inode, .. }) = found else {
            return Err((0, UnattributedReason::NoSocket));
        };
        match (self.processes.holder(inode, now), previous) {
            (HolderLookup::Process(process), _) => Ok((inode, SettledOwner::Process(process))),
            // It is too early to look for a new holder of the same socket.
            (
                HolderLookup::AskLater,
                Some(FlowEntry {
                    owner: Ok(owner),
                    inode: before,
                    ..
                }),
            ) if *before == inode => Ok((inode, owner.clone())),
            (HolderLookup::Nobody, Some(_)) if self.is_closed(flow, interface) => {
                Err((0, UnattributedReason::NoProcess))
            }
            (HolderLookup::Nobody | HolderLookup::AskLater, _) => Err((inode, UnattributedReason::NoProcess)),
        }
    }

    /// Translated towards ourselves (a redirection, or our own traffic) is not somebody else's.
    fn translated_for(&mut self, flow: &LocalFlow) -> Option<IpAddr> {
        let peer = self.sockets.translated_for(flow).ok().flatten();
        peer.filter(|peer| *peer != flow.local)
    }

    /// True if the socket that was found a moment ago was closed since: nobody holds it because its process just ended,
    /// not because it is somewhere we cannot look.
    fn is_closed(&mut self, flow: &LocalFlow, interface: u32) -> bool {
        self.sockets
            .find(flow, interface)
            .is_ok_and(|found| found.is_none_or(|owner| owner.inode == 0))
    }

    /// A socket of the last list: the connection itself, or for UDP the one bound to our port.
    fn recall(&self, flow: &LocalFlow) -> Option<SocketOwner> {
        if let Some(owner) = self.remembered.get(flow) {
            return Some(*owner);
        }
        let any_v4 = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let any_v6 = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        let candidates = [flow.local, any_v4, any_v6];
        let usable = if flow.local.is_ipv4() {
            &candidates[..]
        } else {
            &[flow.local, any_v6][..]
        };
        usable
            .iter()
            .find_map(|local| self.bound_udp.get(&(*local, flow.local_port)).copied())
            .filter(|_| flow.protocol == IpProtocol::Udp)
    }

    /// How soon [`Attribution::retry_waiting`] is worth a call, if it is before the next tick.
    #[must_use]
    pub(super) const fn retry_in(&self) -> Option<Duration> {
        if self.eager { Some(RETRY) } else { None }
    }

    /// Asks again for flows still without owner that are due, `limit` at most; returns those that have one now.
    pub(super) fn retry_waiting(&mut self, limit: usize, now: Instant) -> Vec<(LocalFlow, Arc<Process>)> {
        let waits = |known: &FlowEntry| known.owner.is_err() && known.attempts < EAGER_ATTEMPTS;
        let found = self.ask_again(limit, now, |known| known.ask_again <= now);
        self.eager = self.eager && self.flows.values().any(waits);
        found
    }

    /// As [`Attribution::retry_waiting`], for every flow and with a fresh look at the processes: what has no owner
    /// when an interval closes never gets one.
    pub(super) fn last_chance(&mut self, limit: usize, now: Instant) -> Vec<(LocalFlow, Arc<Process>)> {
        self.processes.look_again();
        self.ask_again(limit, now, |_| true)
    }

    fn ask_again(
        &mut self,
        limit: usize,
        now: Instant,
        due: impl Fn(&FlowEntry) -> bool,
    ) -> Vec<(LocalFlow, Arc<Process>)> {
        let waiting = self
            .flows
            .iter()
            .filter(|(_, known)| known.owner.is_err() && due(known));
        let waiting: Vec<(LocalFlow, u32)> = waiting
            .map(|(flow, known)| (*flow, known.interface))
            .take(limit)
            .collect();
        waiting
            .into_iter()
            .filter_map(|(flow, interface)| {
                let used = self.flows.get(&flow).is_some_and(|known| known.used);
                let verdict = self.ask(&flow, interface, false, now);
                // A question of ours is no packet: the flow is forgotten with the interval of its last one.
                if let Some(known) = self.flows.get_mut(&flow) {
                    known.used = used;
                }
                match verdict {
                    FlowOwner::Settled(process) | FlowOwner::Process(process) => Some((flow, process)),
                    FlowOwner::Waiting(_) | FlowOwner::Translated(_) | FlowOwner::Overflow => None,
                }
            })
            .collect()
    }

    /// Lists the open sockets and remembers them, and the processes of new ones, until the next list; called about
    /// once a second.
    ///
    /// # Errors
    /// If the kernel cannot be asked; then the last list stays.
    pub(super) fn remember(&mut self, now: Instant) -> Result<(), LookupError> {
        let Some(list) = self.sockets.list(MAX_REMEMBERED, now)? else {
            return Ok(());
        };
        let before: HashSet<u32> = self
            .remembered
            .values()
            .chain(self.bound_udp.values())
            .map(|owner| owner.inode)
            .collect();
        self.remembered.clear();
        self.bound_udp.clear();
        for socket in list.iter().filter(|socket| socket.owner.inode != 0) {
            self.remember_one(socket);
            if !before.contains(&socket.owner.inode) {
                // Only to fill the index while the process lives; the answer is used when a packet asks.
                let _known_now = self.processes.holder(socket.owner.inode, now);
            }
        }
        Ok(())
    }

    fn remember_one(&mut self, socket: &OpenSocket) {
        let (local, local_port) = (socket.local.ip(), socket.local.port());
        match socket.remote {
            Some(remote) => {
                let (remote, remote_port) = (remote.ip(), remote.port());
                let flow = LocalFlow {
                    protocol: socket.protocol,
                    local,
                    local_port,
                    remote,
                    remote_port,
                };
                self.remembered.insert(flow, socket.owner);
            }
            None if socket.protocol == IpProtocol::Udp => {
                self.bound_udp.insert((local, local_port), socket.owner);
            }
            None => {}
        }
    }

    /// Begins a new interval: flows not seen in the last one are forgotten.
    pub(super) fn new_interval(&mut self, now: Instant) {
        self.flows.retain(|_, known| std::mem::take(&mut known.used));
        self.processes.forget_gone(now);
    }
}

#[cfg(test)]
#[path = "attribution_tests.rs"]
mod tests;
