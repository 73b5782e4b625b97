//! The queues of the interfaces, taken so that nobody sends through them by `AF_XDP`: such frames pass no hook of the packet
//! filter.
//!
//! In: whether anything is cut, the interfaces. Out: a seat at every queue ([`QueueSeat`]), and what could not be taken. A queue
//! is tried at every look, whatever is believed of it: an interface that left the namespace and came back has lost its seats,
//! and an interface can get more queues. Closing a seat waits for the kernel (some 15 ms each), so this is work for a
//! thread of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use packet_ring::{QueueSeat, RingError};

use super::holders::{holders, xdp_senders};
use super::xdp_sockets::xdp_sockets;
use crate::error_text;
use crate::observe::link::Link;
use crate::{Arrange, Gather};

/// Seats at most: each is a descriptor, and a wait when it is given back. A gateway's interfaces have one to eight queues each.
const MAX_SEATS: usize = 64;
/// Sockets that are made while there is nothing to take, for a moment at which there is no descriptor left.
const RESERVE: usize = 16;
/// For so long a queue may be somebody's of whom nothing is known: the kernel gives it back a moment after its socket was
/// closed, and an agent of before may just be ending.
const PATIENCE: Duration = Duration::from_secs(1);
/// Queues of others that are told one by one.
const MAX_TOLD: usize = 8;

/// Programs of which one may be meant.
const MAX_SENDERS: usize = 3;

/// An interface, by index, and a queue of it.
type Place = (u32, u32);

/// The seats.
#[derive(Default)]
pub(super) struct QueueSeats {
    /// Sockets without a seat.
    ready: Vec<QueueSeat>,
    taken: BTreeMap<Place, QueueSeat>,
    /// Queues that others have, since when.
    others: BTreeMap<Place, Instant>,
    /// Holders that were looked for, by their sockets; none where they were not found.
    known: BTreeMap<u32, Option<String>>,
    /// Who sends by `AF_XDP`, where the kernel does not list such sockets; none before it was looked for.
    senders: Option<Vec<String>>,
}

/// What a look found.
#[derive(Debug, Default)]
pub(super) struct Seated {
    /// What is not cut, each a sentence.
    pub(super) uncovered: Vec<String>,
    /// Somebody else has a queue: it is worth to try again soon.
    pub(super) waits: bool,
}

impl QueueSeats {
    /// Gives every seat back, and has sockets ready for the next order.
    pub(super) fn give_back(&mut self) {
        *self = Self {
            ready: std::mem::take(&mut self.ready),
            ..Self::default()
        };
        while self.ready.len() < RESERVE {
            // What is not to be had now may be later, and is told then.
            let Ok(seat) = prepare_and_spare() else { break };
            self.ready.push(seat);
        }
    }

    /// Takes every queue that is free.
    pub(super) fn take(&mut self, links: &[Link], now: Instant) -> Seated {
        let mut links: Vec<&Link> = links.iter().filter(|link| !link.loopback).collect();
        // Where it is not enough for all, what has an address leads further than what has none.
        links.arrange_by_key(|link| (link.addresses.is_empty(), link.index));
        self.taken
            .retain(|(interface, _), _| links.iter().any(|link| link.index == *interface));
        let mut found = Seated::default();
        let (mut others, mut beyond, mut refused) = (BTreeSet::new(), 0, None);
        for link in &links {
            match self.take_queues(link.index, &mut others) {
                Ok(true) => {}
                Ok(false) => beyond += 1,
                // Of this interface; others may have queues that can be.
                Err(why) => drop(refused.get_or_insert(why)),
            }
        }
        if let Some(why) = refused {
            found.uncovered.push(format!(
                "frames sent by AF_XDP are not cut, the queues of interfaces cannot be taken: {why}"
            ));
        }
        if beyond > 0 {
            found.uncovered.push(format!(
                "frames sent by AF_XDP are not cut on {beyond} interfaces, {MAX_SEATS} queues are taken at most"
            ));
        }
        found.waits = !others.is_empty();
        self.tell(&links, &others, now, &mut found.uncovered);
        found
    }

    /// Takes the queues of one interface; false when there are too many.
    fn take_queues(&mut self, interface: u32, others: &mut BTreeSet<Place>) -> Result<bool, String> {
        for queue in 0.. {
            let place = (interface, queue);
            if self.taken.len() >= MAX_SEATS && !self.taken.contains_key(&place) {
                return Ok(false);
            }
            let seat = match self.ready.pop() {
                Some(seat) => seat,
                None => match prepare_and_spare() {
                    Ok(seat) => seat,
                    // What the kernel does not have needs no seats.
                    Err(error) if error.is_unsupported() => return Ok(true),
                    Err(error) => return Err(why(&error)),
                },
            };
            match seat.take(interface, queue) {
                // One that was here before had lost its interface.
                Ok(()) => drop(self.taken.insert(place, seat)),
                Err(errno) => {
                    self.ready.push(seat);
                    match errno {
                        Errno::EBUSY if self.taken.contains_key(&place) => {}
                        Errno::EBUSY => drop(others.insert(place)),
                        // There is no such queue, or no such interface any more.
                        Errno::EINVAL | Errno::ENODEV => return Ok(true),
                        errno => return Err(errno.desc().to_owned()),
                    }
                }
            }
        }
        Ok(true)
    }

    /// Names who has what is not ours.
    fn tell(&mut self, links: &[&Link], others: &BTreeSet<Place>, now: Instant, told: &mut Vec<String>) {
        if !self.others.keys().eq(others) {
            self.senders = None;
        }
        self.others.retain(|place, _| others.contains(place));
        if others.is_empty() {
            self.known.clear();
            return;
        }
        let sockets = self.sockets_at(others);
        let mut more = 0;
        for place in others {
            let since = *self.others.entry(*place).or_insert(now);
            let socket = sockets.get(place);
            if socket.is_none() && now.saturating_duration_since(since) < PATIENCE {
                continue;
            }
            if told.len() >= MAX_TOLD {
                more += 1;
                continue;
            }
            let link = links.iter().find(|link| link.index == place.0);
            let holder = match socket {
                Some(inode) => self.known.get(inode).cloned().flatten(),
                None => self.sender(),
            };
            told.push(format!(
                "frames that {} sends by AF_XDP are not cut: it had queue {} of {} before",
                holder.as_deref().unwrap_or("somebody"),
                place.1,
                link.map_or("an interface", |link| link.name.as_str()),
            ));
        }
        if more > 0 {
            told.push(format!("{more} more queues are others' for AF_XDP"));
        }
    }

    /// The sockets at these queues, whose holders are known then as far as they are found. A kernel that cannot list them has
    /// none.
    fn sockets_at(&mut self, others: &BTreeSet<Place>) -> BTreeMap<Place, u32> {
        let listed = xdp_sockets().unwrap_or_default().into_iter();
        let sockets: BTreeMap<Place, u32> = listed
            .map(|socket| ((socket.interface, socket.queue), socket.inode))
            .filter(|(place, _)| others.contains(place))
            .in_map();
        let is_there = |inode: &u32| sockets.values().any(|socket| socket == inode);
        self.known.retain(|inode, _| is_there(inode));
        let unknown = sockets.values().filter(|inode| !self.known.contains_key(inode));
        let unknown: BTreeSet<u32> = unknown.copied().in_set();
        if !unknown.is_empty() {
            let mut names = holders(unknown.clone());
            let named = unknown.into_iter().map(|inode| (inode, names.remove(&inode)));
            self.known.extend(named);
        }
        sockets
    }

    /// Whoever it may be, where that cannot be told by the socket.
    fn sender(&mut self) -> Option<String> {
        let senders = self.senders.get_or_insert_with(|| xdp_senders(MAX_SENDERS));
        (!senders.is_empty()).then(|| senders.join(" or "))
    }
}

/// A socket, where it is not the last descriptor: that one is the operator's, and whoever kept it would not let him in.
fn prepare_and_spare() -> Result<QueueSeat, RingError> {
    let seat = QueueSeat::prepare()?;
    drop(QueueSeat::prepare()?);
    Ok(seat)
}

fn why(error: &RingError) -> String {
    error_text(error)
}
