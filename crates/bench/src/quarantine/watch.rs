//! When the kernel's rules changed, by its own notifications.
//!
//! In: the nftables notifications of a network namespace. Out: one [`Transaction`] for each commit: its time, whether it
//! made or removed a table of ours, whose it was.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use edgewarden_lab::site::{Ns, Site};
use netlink_packet_core::{NetlinkBuffer, NlasIterator};
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};

use super::delays::now;
use crate::error::{self, BenchError, content};

/// `NFNLGRP_NFTABLES`.
const GROUP: u32 = 7;
/// Messages of `linux/netfilter/nf_tables.h`, with the subsystem's number in the upper byte.
const NEW_TABLE: u16 = 10 << 8;
const DELETE_TABLE: u16 = NEW_TABLE | 2;
const NEW_GENERATION: u16 = NEW_TABLE | 15;
/// Attributes of the same file.
const TABLE_NAME: u16 = 1;
const GENERATION_PROCESS: u16 = 2;
/// `struct nfgenmsg`.
const HEADER: usize = 4;
/// The agent's tables.
const TABLE: &[u8] = b"edgewarden\0";
/// Notifications read at once; the kernel's are a few kilobytes each.
const BUFFER: usize = 64 * 1024;
/// What the kernel keeps for us: a hundred thousand elements are about ten megabytes.
const KEPT: usize = 64 * 1024 * 1024;
/// Transactions that wait to be looked at: far more than happen between two looks.
const WAITING: usize = 4_096;

/// One commit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Transaction {
    /// When we heard of it, on the monotonic clock.
    pub(crate) at: Duration,
    /// It made a table of ours.
    pub(crate) made: bool,
    /// It removed a table of ours.
    pub(crate) removed: bool,
    /// The process that committed it.
    pub(crate) pid: Option<u32>,
    /// The kernel said more than could be kept; what it was is not known.
    pub(crate) lost: bool,
}

impl Transaction {
    /// Whether our tables came, or may have come.
    pub(crate) fn loads(&self) -> bool {
        self.made || self.lost
    }
}

/// The transactions of the gateway, from the call on.
pub(crate) struct Watch(Receiver<Transaction>);

impl Watch {
    /// Listens in the gateway until the process ends.
    pub(crate) fn open(site: &Site) -> Result<Self, BenchError> {
        let open = || {
            let mut socket = Socket::new(NETLINK_NETFILTER)?;
            socket.bind(&SocketAddr::new(0, 0))?;
            socket.add_membership(GROUP)?;
            // Only for the host's root; with less, a large load shows as lost notifications.
            let _ = setsockopt(&socket, sockopt::RcvBufForce, &KEPT);
            Ok(socket)
        };
        let socket = site.run_in(Ns::Gateway, open)?;
        let socket = socket.map_err(error::start("listening to the packet filter"))?;
        let (sender, seen) = sync_channel(WAITING);
        std::thread::spawn(move || listen(&socket, &sender));
        Ok(Self(seen))
    }

    /// The first transaction after `since` that `wanted` takes; those before it are forgotten.
    pub(crate) fn first(
        &self,
        since: Duration,
        limit: Duration,
        wanted: impl Fn(&Transaction) -> bool,
    ) -> Result<Transaction, BenchError> {
        let deadline = now() + limit;
        loop {
            let left = deadline.saturating_sub(now());
            match self.0.recv_timeout(left) {
                Ok(seen) if seen.at >= since && wanted(&seen) => return Ok(seen),
                Ok(_) => {}
                Err(_) => {
                    let fault = format!("expected a change within {} s, found none", limit.as_secs());
                    return Err(content("the packet filter of the gateway", fault));
                }
            }
        }
    }
}

fn listen(socket: &Socket, seen: &SyncSender<Transaction>) {
    let mut buffer = Vec::with_capacity(BUFFER);
    let mut current = Transaction::default();
    loop {
        buffer.clear();
        match socket.recv(&mut buffer, 0) {
            Ok(_) => {
                for mut done in read(&buffer, &mut current) {
                    done.at = now();
                    let _ = seen.try_send(done);
                }
            }
            Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => {
                let (at, lost) = (now(), true);
                eprintln!("bench: the kernel had more to tell than could be kept; a time may be early");
                let _ = seen.try_send(Transaction {
                    at,
                    lost,
                    ..Transaction::default()
                });
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// The commits that end in these bytes; `current` is what is known of the next one.
fn read(mut rest: &[u8], current: &mut Transaction) -> Vec<Transaction> {
    let mut done = Vec::new();
    while let Ok(message) = NetlinkBuffer::new_checked(rest) {
        let payload = message.payload();
        match message.message_type() {
            NEW_TABLE => current.made |= attribute(payload, TABLE_NAME) == Some(TABLE),
            DELETE_TABLE => current.removed |= attribute(payload, TABLE_NAME) == Some(TABLE),
            NEW_GENERATION => {
                let pid = attribute(payload, GENERATION_PROCESS).and_then(|value| value.try_into().ok());
                current.pid = pid.map(u32::from_be_bytes);
                done.push(std::mem::take(current));
            }
            _ => {}
        }
        // Messages begin at multiples of four bytes; a header is sixteen.
        let length = (message.length() as usize).next_multiple_of(4).max(16);
        rest = rest.get(length..).unwrap_or_default();
    }
    done
}

fn attribute(payload: &[u8], kind: u16) -> Option<&[u8]> {
    NlasIterator::new(payload.get(HEADER..)?)
        .flatten()
        .find(|attribute| attribute.kind() == kind)
        .and_then(|attribute| {
            let length = attribute.value_length();
            // What it holds goes on to the end of the message.
            attribute.into_inner().get(4..)?.get(..length)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, attribute: u16, value: &[u8]) -> Vec<u8> {
        let padded = value.len().next_multiple_of(4);
        let length = u32::try_from(16 + 4 + 4 + padded).unwrap();
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10 + HEADER]);
        bytes.extend(u16::try_from(4 + value.len()).unwrap().to_ne_bytes());
        bytes.extend(attribute.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(length as usize, 0);
        bytes
    }

    #[test]
    fn a_commit_is_read_over_several_datagrams() {
        let mut current = Transaction::default();
        let mut first = message(DELETE_TABLE, TABLE_NAME, b"edgewarden\0");
        first.extend(message(NEW_TABLE, TABLE_NAME, b"docker\0"));
        assert_eq!(read(&first, &mut current), []);
        let mut second = message(NEW_TABLE, TABLE_NAME, b"edgewarden\0");
        second.extend(message(NEW_GENERATION, GENERATION_PROCESS, &77_u32.to_be_bytes()));
        second.extend(message(NEW_GENERATION, GENERATION_PROCESS, &78_u32.to_be_bytes()));
        let done = read(&second, &mut current);
        let ours = Transaction {
            made: true,
            removed: true,
            pid: Some(77),
            ..Transaction::default()
        };
        let other = Transaction {
            pid: Some(78),
            ..Transaction::default()
        };
        assert_eq!(done, [ours, other]);
        assert!(ours.loads() && !other.loads());
    }

    #[test]
    fn an_attribute_ends_before_the_next() {
        let mut two = message(NEW_TABLE, TABLE_NAME, b"edgewarden\0").split_off(16);
        two.extend([8, 0, 9, 0, 1, 2, 3, 4]);
        assert_eq!(attribute(&two, TABLE_NAME), Some(TABLE));
        assert_eq!(attribute(&two, 9), Some([1, 2, 3, 4].as_slice()));
    }

    #[test]
    fn bytes_that_are_no_messages_are_nothing() {
        assert_eq!(read(&[1, 2, 3], &mut Transaction::default()), []);
        assert_eq!(read(&message(NEW_TABLE, 9, b""), &mut Transaction::default()), []);
    }
}
