//! Who touches our tables while we load them, as the kernel tells.
//!
//! In: the kernel's notifications, from before a load. Out: how many transactions named a table of ours. Kept by the thread
//! that loads. Absent: what they changed.

use std::io;
use std::time::Duration;

use netlink_packet_core::NetlinkBuffer;
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};

use super::kernel::{NEW_GENERATION, change, named_table};
use super::watch::GROUP;
use crate::host::clock;
use crate::quarantine::ruleset::TABLE;

/// What the kernel may keep for us: our own load of some hundred elements tells as many messages, each a kilobyte of the
/// kernel's memory. A load that tells more overflows, and then nothing is known.
const ROOM: usize = 4 * 1024 * 1024;
/// Notifications read at once; the kernel's are a few hundred bytes each.
const BUFFER: usize = 64 * 1024;
/// A transaction is told a moment after its generation can be asked for.
const PATIENCE: Duration = Duration::from_millis(200);

/// A subscription; it belongs to the network namespace of the thread that opened it.
pub(super) struct LoadWatch {
    socket: Socket,
}

impl LoadWatch {
    /// Subscribes.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        // Without the right to more room it overflows earlier.
        let _less_room = setsockopt(&socket, sockopt::RcvBufForce, &ROOM);
        socket.add_membership(GROUP)?;
        socket.set_non_blocking(true)?;
        Ok(Self { socket })
    }

    /// How many transactions up to that generation named a table of ours; `None` when the kernel had more to tell than we
    /// could keep, or did not tell it in time.
    ///
    /// # Errors
    /// If the subscription has failed.
    pub(super) fn touched(&self, until: u32) -> io::Result<Option<usize>> {
        let end = clock::instant() + PATIENCE;
        let (mut touched, mut is_ours) = (0, false);
        let mut buffer = Vec::with_capacity(BUFFER);
        loop {
            buffer.clear();
            match self.socket.recv_from(&mut buffer, 0) {
                Ok((_, sender)) if sender.port_number() != 0 => continue,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !self.wait(end.saturating_duration_since(clock::instant()))? {
                        return Ok(None);
                    }
                    continue;
                }
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            for (kind, payload) in messages(&buffer) {
                if kind != NEW_GENERATION {
                    is_ours |= named_table(payload) == Some(TABLE);
                    continue;
                }
                touched += usize::from(std::mem::take(&mut is_ours));
                let generation = change(payload).map(|change| change.generation);
                if generation.is_some_and(|told| told.wrapping_sub(until).cast_signed() >= 0) {
                    return Ok(Some(touched));
                }
            }
        }
    }

    /// Whether there is something to read in time.
    fn wait(&self, limit: Duration) -> io::Result<bool> {
        use std::os::fd::AsFd as _;
        let limit = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], limit) {
            Ok(0) => Ok(false),
            Ok(_) | Err(Errno::EINTR) => Ok(true),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// The messages of one datagram, as type and payload.
pub(super) fn messages(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let message = NetlinkBuffer::new_checked(rest).ok()?;
        let length = (message.length() as usize).next_multiple_of(4).max(16);
        rest = rest.get(length..).unwrap_or_default();
        Some((message.message_type(), message.payload()))
    })
}
