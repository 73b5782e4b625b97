//! Tells when somebody changed the packet filter, and has what stands by put back where it was ours.
//!
//! In: the kernel's notifications of nftables changes in our network namespace. Out: a wake-up, who made the last changes, and
//! what of our tables they touched. Lost notifications count as a change, and nothing is put back for them: the listing says
//! what became of our tables. What a program says in the kernel's place counts for nothing: an attacker could name somebody else as the maker.

use std::io;
use std::thread;

use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_NETFILTER;
use nf_tables::{Item, MessageType, Notice as KernelNotice, Table};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::sync::mpsc;

use super::kernel::{self, named};
use super::standby::Standby;
use super::{WATCHER, WORKER};
use crate::host::net::netlink::{receive, subscribe};
use crate::host::priority::Priority;
use crate::quarantine::ports::FilterChange;
use crate::quarantine::ruleset::verify::is_own_set;
use crate::quarantine::ruleset::{is_own_chain, is_own_table};

/// The kernel's multicast group of nftables changes (`NFNLGRP_NFTABLES`).
const GROUP: u32 = 7;
/// Notifications read at once; the kernel's are a few hundred bytes each.
const BUFFER: usize = 64 * 1024;
/// What the kernel may keep for us, in bytes: every change of a transaction is told before its maker is. Enough for some ten
/// thousand rules at once; of a larger one the maker is not known.
const ROOM: usize = 4 * 1024 * 1024;
/// The thread only waits and wakes.
const STACK: usize = 64 * 1024;
/// Changes that may wait; of more the oldest stay, and the generation tells that there were others.
const WAITING: usize = 16;
/// Things touched by one transaction that are named; names are whoever's who made it.
const NAMED: usize = 3;

/// What the subscription says: each transaction comes with its maker, `None` stands for those that were not told; the last
/// is why it has ended.
pub(crate) type Notice = io::Result<Option<FilterChange>>;

/// Subscribes until the subscription fails or nobody listens.
///
/// # Errors
/// The kernel's refusal, for want of CAP_NET_ADMIN for instance.
pub(crate) fn open(standby: Standby) -> io::Result<mpsc::Receiver<Notice>> {
    let socket = subscribe(NETLINK_NETFILTER, &[GROUP])?;
    if setsockopt(&socket, sockopt::RcvBufForce, &ROOM).is_err() {
        let _less_room = setsockopt(&socket, sockopt::RcvBuf, &ROOM);
    }
    let (wake, changes) = mpsc::channel(WAITING);
    thread::Builder::new()
        .name(WATCHER.into())
        .stack_size(STACK)
        .spawn(move || watch(&socket, &standby, &wake))?;
    Ok(changes)
}

fn watch(socket: &Socket, standby: &Standby, wake: &mpsc::Sender<Notice>) {
    // Each millisecond counts while our rules are gone.
    Priority::Serving.take();
    let mut buffer = Vec::with_capacity(BUFFER);
    // Opened now: there may be no descriptor left when it is needed.
    let mut kernel = kernel::open().ok();
    let mut own = None;
    let mut touched = Touched::default();
    loop {
        let found = match receive(socket, &mut buffer) {
            Ok(_) => match touched.read(&buffer) {
                Some(change) => Some(change),
                // A part of a burst, whose end follows; or nothing of the kernel's.
                None => continue,
            },
            // More was said than the socket holds: something changed, that is all there is to know.
            Err(error) if error.raw_os_error() == Some(nix::errno::Errno::ENOBUFS as i32) => {
                touched = Touched::default();
                None
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // Waits for room: there is nothing else left to do, and nobody may miss it.
            Err(error) => return drop(wake.blocking_send(Err(error))),
        };
        if let Some(change) = &found {
            if own == Some(change.generation) {
                // That is what stood by, and nobody else's: whoever made it necessary has woken everybody already.
                continue;
            }
            if change.touched.is_some()
                && !is_own(&change.name)
                && let Some(kernel) = &mut kernel
                && standby.stand_in(kernel, change)
            {
                let next = change.generation.wrapping_add(1);
                let is_next = kernel.generation().is_ok_and(|now| now.id == next);
                own = is_next.then_some(next);
            }
        }
        // A full queue wakes its reader all the same, who looks at everything.
        if let Err(mpsc::error::TrySendError::Closed(_)) = wake.try_send(Ok(found)) {
            return;
        }
    }
}

/// What the transaction under way has touched of our tables, as far as it was told.
#[derive(Default)]
struct Touched {
    named: Vec<String>,
    more: usize,
}

impl Touched {
    /// Takes a datagram. The message that ends a burst tells the generation and who made it; of several the last counts.
    fn read(&mut self, datagram: &[u8]) -> Option<FilterChange> {
        let mut change: Option<FilterChange> = None;
        for notice in KernelNotice::all(datagram).filter_map(Result::ok) {
            match notice {
                KernelNotice::Change {
                    table: Some(table),
                    kind,
                    item: Some(item),
                } if is_edit(kind, &table, &item) => {
                    if self.named.len() < NAMED {
                        self.named
                            .push(format!("{} {}", done(kind), named(&item, &table)));
                    } else {
                        self.more += 1;
                    }
                }
                KernelNotice::Change { .. } => {}
                KernelNotice::Generation(last) => {
                    change = Some(FilterChange {
                        generation: last.id,
                        pid: last.process.unwrap_or_default(),
                        name: last.program.unwrap_or_default(),
                        touched: std::mem::take(self)
                            .told()
                            .or(change.and_then(|before| before.touched)),
                        is_ours: last.process.is_some_and(is_thread_of_ours),
                    });
                }
            }
        }
        change
    }

    fn told(self) -> Option<String> {
        let named = self.named.join("; ");
        match (self.named.is_empty(), self.more) {
            (true, _) => None,
            (false, 0) => Some(named),
            (false, more) => Some(format!("{named}; and {more} more")),
        }
    }
}

/// Whether a program of that name may be one of ours, which is to change our tables: our threads, and the operator's command while
/// no agent answers. Whoever else calls itself so is found by the listing.
fn is_own(program: &str) -> bool {
    [WORKER, WATCHER].contains(&program) || program.starts_with(env!("CARGO_PKG_NAME"))
}

/// Whether the kernel has named a thread of this process. Where it counts processes otherwise than we do (in a container) nobody is.
fn is_thread_of_ours(id: u32) -> bool {
    std::path::Path::new(&format!("/proc/self/task/{id}")).exists()
}

/// Whether something of ours was changed. What somebody adds to our tables opens nothing and is found by the listing, which keeps
/// what was counted. That a quota is used up is told, too, at any time and as a change of an object: it belongs to no transaction.
fn is_edit(kind: MessageType, table: &Table, item: &Item) -> bool {
    let is_ours = match item {
        Item::Table => kind == MessageType::DeleteTable,
        Item::Chain(chain) | Item::Rule { chain, .. } => is_own_chain(chain),
        Item::Set(set) | Item::Elements(set) => is_own_set(set),
        Item::Object(_) => kind == MessageType::DeleteObject,
    };
    is_ours && is_own_table(table)
}

fn done(kind: MessageType) -> &'static str {
    use MessageType as Kind;
    match kind {
        Kind::DeleteTable
        | Kind::DeleteChain
        | Kind::DeleteRule
        | Kind::DeleteSet
        | Kind::DeleteElement
        | Kind::DeleteObject => "removed",
        _ => "added or changed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::time::TimeVal;

    #[test]
    fn a_subscription_that_fails_says_why_before_it_ends() {
        let mut socket = Socket::new(NETLINK_NETFILTER).unwrap();
        socket.bind_auto().unwrap();
        // A wait with a limit fails, as one does whose socket is broken.
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(0, 1_000)).unwrap();
        let (wake, mut changes) = mpsc::channel(1);
        let ends = thread::spawn(move || watch(&socket, &Standby::default(), &wake));
        let why = changes.blocking_recv().unwrap().unwrap_err();
        assert_eq!(why.kind(), io::ErrorKind::WouldBlock);
        assert!(changes.blocking_recv().is_none());
        ends.join().unwrap();
    }
}
