//! Tells when somebody changed the packet filter.
//!
//! In: the kernel's notifications of nftables changes in our network namespace. Out: a wake-up, and who made the last
//! changes; not what changed, the listing says that. Lost notifications count as a change.

use std::io;
use std::thread;

use netlink_packet_core::NetlinkBuffer;
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use tokio::sync::mpsc;

use super::kernel::{NEW_GENERATION, change};
use crate::quarantine::ports::FilterChange;

/// The kernel's multicast group of nftables changes (`NFNLGRP_NFTABLES`).
pub(super) const GROUP: u32 = 7;
/// Notifications read at once; the kernel's are a few hundred bytes each.
const BUFFER: usize = 64 * 1024;
/// The thread only waits and wakes.
const STACK: usize = 64 * 1024;
/// Changes that may wait; of more the oldest stay, and the generation tells that there were others.
const WAITING: usize = 16;

/// Subscribes for the life of the process. Each transaction comes with its maker; `None` stands for those that were not
/// told.
///
/// # Errors
/// The kernel's refusal, for want of CAP_NET_ADMIN for instance.
pub(crate) fn open() -> io::Result<mpsc::Receiver<Option<FilterChange>>> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind(&SocketAddr::new(0, 0))?;
    socket.add_membership(GROUP)?;
    let (wake, changes) = mpsc::channel(WAITING);
    thread::Builder::new()
        .name("nft-watch".into())
        .stack_size(STACK)
        .spawn(move || watch(&socket, &wake))?;
    Ok(changes)
}

fn watch(socket: &Socket, wake: &mpsc::Sender<Option<FilterChange>>) {
    let mut buffer = Vec::with_capacity(BUFFER);
    loop {
        buffer.clear();
        let found = match socket.recv(&mut buffer, 0) {
            Ok(_) => match read(&buffer) {
                Some(change) => Some(change),
                // A part of a burst; the message that ends it follows.
                None => continue,
            },
            // More was said than the socket holds: something changed, that is all there is to know.
            Err(error) if error.raw_os_error() == Some(nix::errno::Errno::ENOBUFS as i32) => None,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        // A full queue wakes its reader all the same, who looks at everything.
        if let Err(mpsc::error::TrySendError::Closed(_)) = wake.try_send(found) {
            return;
        }
    }
}

/// The message that ends a burst tells the generation and who made it.
fn read(mut rest: &[u8]) -> Option<FilterChange> {
    let mut found = None;
    while let Ok(message) = NetlinkBuffer::new_checked(rest) {
        if message.message_type() == NEW_GENERATION {
            found = change(message.payload());
        }
        let length = (message.length() as usize).next_multiple_of(4).max(16);
        rest = rest.get(length..).unwrap_or_default();
    }
    found
}
