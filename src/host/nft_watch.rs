//! Tells when somebody changed the packet filter.
//!
//! In: the kernel's notifications of nftables changes in our network namespace. Out: a wake-up; not what changed, the
//! listing says that. Lost notifications count as a change.

use std::io;
use std::thread;

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use tokio::sync::mpsc;

/// The kernel's multicast group of nftables changes (`NFNLGRP_NFTABLES`).
const GROUP: u32 = 7;
/// Notifications read at once; the kernel's are a few hundred bytes each.
const BUFFER: usize = 64 * 1024;
/// The thread only waits and wakes.
const STACK: usize = 64 * 1024;

/// Subscribes for the life of the process; the receiver wakes after every burst of changes.
///
/// # Errors
/// The kernel's refusal, for want of CAP_NET_ADMIN for instance.
pub fn open() -> io::Result<mpsc::Receiver<()>> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind(&SocketAddr::new(0, 0))?;
    socket.add_membership(GROUP)?;
    // One waiting wake-up is enough: whoever takes it looks at everything.
    let (wake, changes) = mpsc::channel(1);
    thread::Builder::new()
        .name("nft-watch".into())
        .stack_size(STACK)
        .spawn(move || watch(&socket, &wake))?;
    Ok(changes)
}

fn watch(socket: &Socket, wake: &mpsc::Sender<()>) {
    let mut buffer = Vec::with_capacity(BUFFER);
    loop {
        buffer.clear();
        match socket.recv(&mut buffer, 0) {
            Ok(_) => {}
            // More was said than the socket holds: something changed, that is all there is to know.
            Err(error) if error.raw_os_error() == Some(nix::errno::Errno::ENOBUFS as i32) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        }
        if let Err(mpsc::error::TrySendError::Closed(())) = wake.try_send(()) {
            return;
        }
    }
}
