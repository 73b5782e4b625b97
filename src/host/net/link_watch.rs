//! Notices at once when interfaces, their addresses or filters, routes or the rules that choose among routes change.
//!
//! In: nothing. Out: a wait that ends with the next change. What changed is not told: whoever waits looks at
//! everything, so a message that was lost costs nothing.

use std::io;
use std::thread;
use std::time::Duration;

use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::mpsc;

use super::netlink::{receive, subscribe};

/// `RTNLGRP_LINK` and `_TC`; `_IFADDR`, `_ROUTE` and `_RULE` of IPv4 and of IPv6.
const GROUPS: [u32; 8] = [1, 4, 5, 7, 8, 9, 11, 19];
/// Room for one message; what is longer is cut, its content is not read.
const BUFFER: usize = 4_096;
/// Messages taken in one go; the rest makes the next wait end at once.
const MAX_BURST: usize = 1_024;
/// The thread only waits and wakes.
const STACK: usize = 64 * 1024;
/// How often the thread looks whether anybody still listens.
const PATIENCE: Duration = Duration::from_secs(60);

/// A subscription; it belongs to the network namespace of the thread that opened it.
pub(crate) struct LinkWatch {
    socket: Socket,
}

impl LinkWatch {
    /// Subscribes.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(crate) fn open() -> io::Result<Self> {
        let socket = subscribe(NETLINK_ROUTE, &GROUPS)?;
        socket.set_non_blocking(true)?;
        Ok(Self { socket })
    }

    /// Waits at most `limit`; true if something changed.
    ///
    /// # Errors
    /// If the subscription has failed.
    pub(crate) fn wait(&self, limit: Duration) -> io::Result<bool> {
        use std::os::fd::AsFd;
        let limit = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        let mut polled = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        match poll(&mut polled, limit) {
            Ok(0) | Err(Errno::EINTR) => return Ok(false),
            Ok(_) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut buffer = Vec::with_capacity(BUFFER);
        let mut changed = false;
        for _ in 0..MAX_BURST {
            match receive(&self.socket, &mut buffer) {
                Ok(by_kernel) => changed |= by_kernel,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // More was said than the socket holds.
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => changed = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(changed)
    }

    /// Waits in a thread of its own until it fails or nobody listens; the receiver wakes after every change, and the
    /// last it gets is why the thread has ended.
    ///
    /// # Errors
    /// If no thread can be started.
    pub(crate) fn in_background(self) -> io::Result<mpsc::Receiver<io::Result<()>>> {
        // One waiting wake-up is enough: whoever takes it looks at everything.
        let (wake, changes) = mpsc::channel(1);
        thread::Builder::new()
            .name("link-watch".into())
            .stack_size(STACK)
            .spawn(move || {
                while !wake.is_closed() {
                    match self.wait(PATIENCE) {
                        Ok(true) => drop(wake.try_send(Ok(()))),
                        Ok(false) => {}
                        // Waits for room: there is nothing else left to do, and nobody may miss it.
                        Err(error) => return drop(wake.blocking_send(Err(error))),
                    }
                }
            })?;
        Ok(changes)
    }
}
