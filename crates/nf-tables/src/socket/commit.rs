//! Sends a transaction and finds out what became of it.
//!
//! The kernel works on a transaction while it is sent, so its answers lie in the socket when the sending returns: a
//! refusal for each message that it does not like, or a word about the last message where it likes all of them. Any
//! refusal means that nothing was changed. What can be neither is told as unclear: the generation says it then.

use std::io;

use nix::sys::socket::{setsockopt, sockopt};

use super::connection::{AskError, Connection, receive};
use super::deadline::Deadline;
use super::protocol;
use super::refusal::{Refusal, errno_of};
use crate::batch::Batch;
use crate::wire::EncodeFault;
use crate::wire::message::Message;

/// Refusals that are kept; more say nothing new.
const MAX_REFUSALS: usize = 16;

/// Why a transaction was not carried out, or is not known to be.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// It has something that cannot be written; nothing was sent.
    #[error("a transaction cannot be written: {fault}")]
    Unwritable {
        /// The step, among those of the transaction.
        step: Option<usize>,
        /// What cannot be written.
        fault: EncodeFault,
    },
    /// The kernel did not take it; nothing was changed.
    #[error("could not send a transaction of {size} bytes to the packet filter")]
    NotSent {
        /// Its length.
        size: usize,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// The kernel refused it; nothing was changed.
    #[error("the packet filter refused: {}", first(refusals))]
    Refused {
        /// Why, for each message that was refused; at least one.
        refusals: Vec<Refusal>,
    },
    /// Nobody knows; the generation tells.
    #[error("it is not known whether the packet filter carried a transaction out")]
    Unclear(#[source] Unclear),
}

/// Why the outcome is not known.
#[derive(Debug, thiserror::Error)]
pub enum Unclear {
    /// No word about the last message.
    #[error("the packet filter did not answer in time")]
    Silent,
    /// Some words were lost.
    #[error("an answer of the packet filter was lost")]
    Lost,
    /// The socket failed after the transaction was taken.
    #[error("could not receive an answer of the packet filter")]
    Receive(#[source] io::Error),
}

fn first(refusals: &[Refusal]) -> String {
    refusals.first().map(ToString::to_string).unwrap_or_default()
}

impl CommitError {
    /// Whether somebody else's transaction came first: the generation was not the one that this one was for.
    #[must_use]
    pub fn is_outdated(&self) -> bool {
        /// What the kernel says then (`ERESTART`); a program never gets it for anything else.
        const RESTART: i32 = 85;
        matches!(self, Self::Refused { refusals } if refusals.iter().any(|refusal| refusal.errno == RESTART))
    }
}

impl Connection {
    /// Has the kernel carry a transaction out, whole or not at all. One that does nothing is not sent.
    ///
    /// # Errors
    /// [`CommitError`]: only with [`CommitError::Unclear`] anything may have been changed.
    pub fn commit(&mut self, batch: &mut Batch) -> Result<(), CommitError> {
        if let Some((step, fault)) = batch.fault() {
            return Err(CommitError::Unwritable { step, fault });
        }
        if batch.is_empty() {
            return Ok(());
        }
        let first = self.sequence.wrapping_add(1);
        let sent = batch.with_bytes(first, |bytes, last| {
            self.make_room(bytes.len());
            let size = bytes.len();
            let sent = self.socket.send(bytes, 0);
            sent.map(|_| last)
                .map_err(|source| CommitError::NotSent { size, source })
        });
        let last = sent?;
        // The messages, the one that begins and the one that ends them have numbers of their own.
        let used = u32::try_from(last).unwrap_or(u32::MAX).saturating_add(2);
        self.sequence = self.sequence.wrapping_add(used);
        self.verdict(batch, first, last)
    }

    /// Has the kernel take as much from us at once. Without the right to (in a user namespace there is none) it is what the
    /// system allows everybody, and what is larger is not sent.
    fn make_room(&mut self, size: usize) {
        if size <= self.send_room {
            return;
        }
        if setsockopt(&self.socket, sockopt::SndBufForce, &size).is_ok() {
            self.send_room = size;
        } else {
            let _less_room = setsockopt(&self.socket, sockopt::SndBuf, &size);
        }
    }

    fn verdict(&mut self, batch: &Batch, first: u32, last: usize) -> Result<(), CommitError> {
        let deadline = Deadline::after(self.limit);
        let mut answers = Answers::default();
        while !answers.complete {
            // What was refused is refused; whether more was is not worth a wait.
            let deadline = if answers.refusals.is_empty() {
                deadline
            } else {
                Deadline::after(std::time::Duration::ZERO)
            };
            match receive(&self.socket, &mut self.buffer, deadline) {
                Ok(bytes) => answers.read(bytes, batch, first, last),
                Err(AskError::Lost) => answers.lost = true,
                Err(AskError::Receive(error)) => {
                    return answers.end(Unclear::Receive(error));
                }
                Err(_) => return answers.end(Unclear::Silent),
            }
        }
        answers.end(Unclear::Lost)
    }
}

/// What was said about a transaction so far.
#[derive(Debug, Default)]
struct Answers {
    refusals: Vec<Refusal>,
    lost: bool,
    /// The last message was spoken of; nothing follows.
    complete: bool,
}

impl Answers {
    fn read(&mut self, datagram: &[u8], batch: &Batch, first: u32, last: usize) {
        for message in Message::all(datagram) {
            // A word that cannot be read is a lost one.
            let Ok(message) = message else {
                self.lost = true;
                return;
            };
            let place = message.sequence.wrapping_sub(first) as usize;
            // Beyond the message that ends it: of something earlier.
            if message.kind != protocol::ERROR || place > last + 1 {
                continue;
            }
            match errno_of(&message) {
                Some(0) => {}
                Some(errno) if self.refusals.len() < MAX_REFUSALS => {
                    self.refusals.push(Refusal::within(&message, errno, batch, place));
                }
                Some(_) => {}
                None => self.lost = true,
            }
            self.complete |= place == last;
        }
    }

    fn end(self, otherwise: Unclear) -> Result<(), CommitError> {
        if !self.refusals.is_empty() {
            let refusals = self.refusals;
            return Err(CommitError::Refused { refusals });
        }
        match (self.complete, self.lost) {
            (true, false) => Ok(()),
            (_, true) => Err(CommitError::Unclear(Unclear::Lost)),
            (false, false) => Err(CommitError::Unclear(otherwise)),
        }
    }
}

#[cfg(test)]
#[path = "commit_tests.rs"]
mod tests;
