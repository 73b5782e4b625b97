//! Tells when somebody changed the packet filter.
//!
//! In: the kernel's notifications of nftables changes in our network namespace. Out: a wake-up, and who made the last
//! changes; not what changed, the listing says that. Lost notifications count as a change. What a program says in the
//! kernel's place counts for nothing: an attacker could name somebody else as the maker.

use std::io;
use std::thread;

use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::sync::mpsc;

use crate::host::net::netlink::{receive, subscribe};
use crate::quarantine::ports::FilterChange;

/// The kernel's multicast group of nftables changes (`NFNLGRP_NFTABLES`).
const GROUP: u32 = 7;
/// Notifications read at once; the kernel's are a few hundred bytes each.
const BUFFER: usize = 64 * 1024;
/// What the kernel may keep for us, in bytes: every change of a transaction is told before its maker is. Enough for some ten
/// thousand rules at once; of a larger one the maker is not known.
const ROOM: usize = 4 * 1024 * 1024;
/// The thread's name; the kernel keeps fifteen characters of it.
const NAME: &str = "filter-watch";
/// The thread only waits and wakes.
const STACK: usize = 64 * 1024;
/// Changes that may wait; of more the oldest stay, and the generation tells that there were others.
const WAITING: usize = 16;

/// What the subscription says: each transaction comes with its maker, `None` stands for those that were not told; the last
/// is why it has ended.
pub(crate) type Notice = io::Result<Option<FilterChange>>;

/// Subscribes until the subscription fails or nobody listens.
///
/// # Errors
/// The kernel's refusal, for want of CAP_NET_ADMIN for instance.
pub(crate) fn open() -> io::Result<mpsc::Receiver<Notice>> {
    let socket = subscribe(NETLINK_NETFILTER, &[GROUP])?;
    if setsockopt(&socket, sockopt::RcvBufForce, &ROOM).is_err() {
        let _less_room = setsockopt(&socket, sockopt::RcvBuf, &ROOM);
    }
    let (wake, changes) = mpsc::channel(WAITING);
    thread::Builder::new()
        .name(NAME.into())
        .stack_size(STACK)
        .spawn(move || watch(&socket, &wake))?;
    Ok(changes)
}

fn watch(socket: &Socket, wake: &mpsc::Sender<Notice>) {
    let mut buffer = Vec::with_capacity(BUFFER);
    loop {
        let found = match receive(socket, &mut buffer) {
            Ok(_) => match read(&buffer) {
                Some(change) => Some(change),
                // A part of a burst, whose end follows; or nothing of the kernel's.
                None => continue,
            },
            // More was said than the socket holds: something changed, that is all there is to know.
            Err(error) if error.raw_os_error() == Some(nix::errno::Errno::ENOBUFS as i32) => None,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // Waits for room: there is nothing else left to do, and nobody may miss it.
            Err(error) => return drop(wake.blocking_send(Err(error))),
        };
        // A full queue wakes its reader all the same, who looks at everything.
        if let Err(mpsc::error::TrySendError::Closed(_)) = wake.try_send(Ok(found)) {
            return;
        }
    }
}

/// The message that ends a burst tells the generation and who made it.
fn read(datagram: &[u8]) -> Option<FilterChange> {
    let notices = nf_tables::Notice::all(datagram).filter_map(Result::ok);
    let generations = notices.filter_map(|notice| match notice {
        nf_tables::Notice::Generation(generation) => Some(generation),
        nf_tables::Notice::Change { .. } => None,
    });
    let last = generations.last()?;
    Some(FilterChange {
        generation: last.id,
        pid: last.process.unwrap_or_default(),
        name: last.program.unwrap_or_default(),
    })
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
        let ends = thread::spawn(move || watch(&socket, &wake));
        let why = changes.blocking_recv().unwrap().unwrap_err();
        assert_eq!(why.kind(), io::ErrorKind::WouldBlock);
        assert!(changes.blocking_recv().is_none());
        ends.join().unwrap();
    }
}
