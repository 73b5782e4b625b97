//! What the kernel tells by itself.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};

use super::connection::{AskError, receive};
use super::deadline::Deadline;
use crate::notice::Notice;

/// The kernel's group of changes of nf_tables (`NFNLGRP_NFTABLES`).
const GROUP: u32 = 7;
/// Bytes of a datagram that are read at once; the kernel's are 32 KiB at most.
const BUFFER: usize = 64 * 1024;

/// A subscription to all changes of rulesets, by anybody, in one network namespace.
pub struct Notifications {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Notifications {
    /// Subscribes in the network namespace of the calling thread. The kernel keeps `room` bytes of what is not read yet,
    /// or less without the right to more.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn open(room: usize) -> Result<Self, AskError> {
        let mut socket = Socket::new(NETLINK_NETFILTER).map_err(AskError::Open)?;
        socket.bind(&SocketAddr::new(0, 0)).map_err(AskError::Open)?;
        socket.connect(&SocketAddr::new(0, 0)).map_err(AskError::Open)?;
        if setsockopt(&socket, sockopt::RcvBufForce, &room).is_err() {
            let _less_room = setsockopt(&socket, sockopt::RcvBuf, &room);
        }
        socket.add_membership(GROUP).map_err(AskError::Open)?;
        socket.set_non_blocking(true).map_err(AskError::Open)?;
        Ok(Self {
            socket,
            buffer: Vec::with_capacity(BUFFER),
        })
    }

    /// Waits for `limit` at most and gives each notice of one datagram to `each`. False when nothing came.
    ///
    /// # Errors
    /// [`AskError::Lost`] when the kernel had more to say than it could keep: anything may have changed. It says so once, and
    /// loses more without a word until all that it has kept is read. Others are those of the socket.
    pub fn next(&mut self, limit: Duration, mut each: impl FnMut(Notice)) -> Result<bool, AskError> {
        match receive(&self.socket, &mut self.buffer, Deadline::after(limit)) {
            Ok(bytes) => {
                for notice in Notice::all(bytes) {
                    each(notice?);
                }
                Ok(true)
            }
            Err(AskError::Late) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for Notifications {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Notifications {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
