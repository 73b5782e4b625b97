//! Questions and their answers.
//!
//! In: a question. Out: every message of its answer, in order. Late answers to earlier questions are told by their number
//! and passed over. The kernel gives one list at a time, so the next question after a list that nobody wants any more has a
//! socket of its own; where there is none to be had, what is left is read away.

use std::io;
use std::time::Duration;

use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, setsockopt, sockopt};

use super::deadline::Deadline;
use super::protocol;
use super::refusal::{Refusal, errno_of};
use crate::listing::ListingError;
use crate::wire::message::{self, Family, Message, MessageType};
use crate::wire::{DecodeError, Encoder};

/// The kernel puts 32 KiB at most into one datagram of a list, and a rule's message is 64 KiB at most. One that is larger
/// is noticed.
const RECEIVE_BUFFER: usize = 128 * 1024;
/// What the kernel may keep for us, in bytes: the refusals of a thousand messages.
const RECEIVE_ROOM: usize = 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The kernel has no packet filter, or there are no descriptors.
    #[error("could not open a netlink socket of the packet filter")]
    Open(#[source] io::Error),
    /// The question was not taken.
    #[error("could not send a question to the packet filter")]
    Send(#[source] io::Error),
    /// The socket failed.
    #[error("could not receive an answer of the packet filter")]
    Receive(#[source] io::Error),
    /// Nothing, or not everything, within the limit.
    #[error("the packet filter did not answer in time")]
    Late,
    /// Part of an answer did not fit.
    #[error("an answer of the packet filter was lost")]
    Lost,
    /// It says something that is not understood.
    #[error("could not read an answer of the packet filter")]
    Decode(#[from] DecodeError),
    /// It says no.
    #[error("the packet filter refused a question: {0}")]
    Refused(Refusal),
    /// What was listed was changed by somebody while it was read, each time that it was tried.
    #[error("the packet filter kept changing while it was read")]
    Changing,
    /// A table cannot be put together.
    #[error("could not list a table")]
    Listing(#[from] ListingError),
    /// More elements or objects than the caller wanted.
    #[error("there are more than {limit} in the list")]
    TooMany {
        /// What was allowed.
        limit: usize,
    },
}

impl AskError {
    /// The error number with which the kernel refused.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused(refusal) => Some(refusal.errno),
            _ => None,
        }
    }

    /// Whether what was asked for is not there.
    pub(super) fn is_absent(&self) -> bool {
        self.errno() == Some(Errno::ENOENT as i32)
    }
}

/// A socket for questions and transactions.
pub struct Connection {
    pub(super) socket: Socket,
    pub(super) limit: Duration,
    pub(super) sequence: u32,
    pub(super) buffer: Vec<u8>,
    /// What the kernel takes from us at once.
    pub(super) send_room: usize,
    /// The number of a list that was not read to its end.
    unfinished: Option<u32>,
    /// A generation whose transaction is known to be complete.
    pub(super) settled: Option<u32>,
    pub(super) waits: Waits,
}

/// How the end of others' transactions is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waits {
    /// By an empty transaction, of which it is not known yet whether the kernel counts it.
    Unknown,
    /// By an empty transaction, which the kernel does not count.
    Empty,
    /// By one that the kernel refuses.
    Refused,
}

impl Connection {
    /// Opens it in the network namespace of the calling thread, where it must be used. Each call waits for `limit` at most.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn open(limit: Duration) -> Result<Self, AskError> {
        Ok(Self {
            socket: open_socket()?,
            limit,
            sequence: 0,
            buffer: Vec::with_capacity(RECEIVE_BUFFER),
            send_room: 0,
            unfinished: None,
            settled: None,
            waits: Waits::Unknown,
        })
    }

    /// Asks for one thing, or for a list; `each` gets every message of the answer. What `each` refuses ends the question.
    pub(super) fn ask(
        &mut self,
        (kind, family, list): (MessageType, Option<Family>, bool),
        attributes: impl FnOnce(&mut Encoder),
        each: &mut dyn FnMut(&Message<'_>) -> Result<(), AskError>,
    ) -> Result<(), AskError> {
        let deadline = Deadline::after(self.limit);
        self.give_up_list(deadline)?;
        self.sequence = self.sequence.wrapping_add(1);
        let flags = message::REQUEST | if list { protocol::DUMP } else { 0 };
        let mut encoder = Encoder::default();
        encoder.message(kind, flags, family, attributes);
        message::number_messages(encoder.bytes_mut(), self.sequence, None);
        self.socket.send(encoder.bytes(), 0).map_err(AskError::Send)?;
        if list {
            self.unfinished = Some(self.sequence);
        }
        let mut answer = Answer {
            sequence: self.sequence,
            list,
            interrupted: false,
        };
        loop {
            let bytes = receive(&self.socket, &mut self.buffer, deadline)?;
            if let Some(end) = answer.read(bytes, each)? {
                self.unfinished = None;
                return end;
            }
        }
    }

    /// Rids us of what is left of a list, which may be as long as others made it: to read a million things away takes the
    /// kernel seconds, because it looks for its place from the beginning each time.
    fn give_up_list(&mut self, deadline: Deadline) -> Result<(), AskError> {
        let Some(sequence) = self.unfinished else {
            return Ok(());
        };
        if let Ok(socket) = open_socket() {
            self.socket = socket;
            self.send_room = 0;
            self.unfinished = None;
            return Ok(());
        }
        self.read_away(sequence, deadline)
    }

    fn read_away(&mut self, sequence: u32, deadline: Deadline) -> Result<(), AskError> {
        let mut rest = Answer {
            sequence,
            list: true,
            interrupted: false,
        };
        loop {
            match receive(&self.socket, &mut self.buffer, deadline) {
                Ok(bytes) => {
                    if let Ok(None) = rest.read(bytes, &mut |_| Ok(())) {
                        continue;
                    }
                }
                Err(AskError::Lost) => continue,
                Err(error) => return Err(error),
            }
            self.unfinished = None;
            return Ok(());
        }
    }
}

/// A socket in the network namespace of the calling thread that only the kernel is heard on.
fn open_socket() -> Result<Socket, AskError> {
    let mut socket = Socket::new(NETLINK_NETFILTER).map_err(AskError::Open)?;
    socket.bind_auto().map_err(AskError::Open)?;
    // What other programs send to it is refused where they send it.
    socket.connect(&SocketAddr::new(0, 0)).map_err(AskError::Open)?;
    socket.set_non_blocking(true).map_err(AskError::Open)?;
    // Refusals with the kernel's words, and without the message that they are about. Before Linux 4.12 without words.
    let _without_words = socket.set_ext_ack(true);
    let _with_message = socket.set_cap_ack(true);
    // Less room without the right to it: what is lost then is noticed.
    if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_ROOM).is_err() {
        let _less_room = setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_ROOM);
    }
    Ok(socket)
}

/// Reads one datagram of the kernel into `buffer`.
pub(super) fn receive<'a>(
    socket: &Socket,
    buffer: &'a mut Vec<u8>,
    deadline: Deadline,
) -> Result<&'a [u8], AskError> {
    let flags = (MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC).bits();
    loop {
        buffer.clear();
        match socket.recv_from(buffer, flags) {
            Ok((_, sender)) if sender.port_number() != 0 => {}
            Ok((length, _)) if length > buffer.len() => return Err(AskError::Lost),
            Ok(_) => return Ok(buffer),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if !deadline.readable(socket).map_err(AskError::Receive)? {
                    return Err(AskError::Late);
                }
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => return Err(AskError::Lost),
            Err(error) => return Err(AskError::Receive(error)),
        }
        if deadline.is_over() {
            return Err(AskError::Late);
        }
    }
}

/// An answer while it is read.
struct Answer {
    sequence: u32,
    list: bool,
    interrupted: bool,
}

impl Answer {
    /// Reads one datagram; the end of the answer, if it is in it.
    fn read(
        &mut self,
        datagram: &[u8],
        each: &mut dyn FnMut(&Message<'_>) -> Result<(), AskError>,
    ) -> Result<Option<Result<(), AskError>>, AskError> {
        for message in Message::all(datagram) {
            let message = message?;
            if message.sequence != self.sequence {
                continue; // of a question that was given up
            }
            self.interrupted |= message.flags & protocol::DUMP_INTERRUPTED != 0;
            match message.kind {
                protocol::ERROR | protocol::DONE => return Ok(Some(self.end(&message))),
                _ => each(&message)?,
            }
            if !self.list {
                return Ok(Some(Ok(())));
            }
        }
        Ok(None)
    }

    fn end(&self, message: &Message<'_>) -> Result<(), AskError> {
        match errno_of(message).ok_or(DecodeError::Cut)? {
            errno if errno > 0 => Err(AskError::Refused(Refusal::of(message, errno).0)),
            _ if self.interrupted => Err(AskError::Changing),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
pub(super) mod tests;
