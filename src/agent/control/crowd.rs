//! Many clients at once: none of them keeps another from being heard.
//!
//! In: connections, and what is asked. Out: who may stay, and when he is answered. Whoever asks nothing has no place of anybody:
//! all are taken in at once, and the one who has been silent longest is sent away for a newcomer. Instructions do not wait
//! behind questions. Bounded: how many are silent, how many are answered, how many wait for that.

use std::collections::VecDeque;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};
use tokio::time::timeout;

use super::server::REQUEST_LIMIT;
use crate::control::protocol::{MAX_ORDER_REQUEST, MAX_REQUEST};

/// Clients that have not asked: a descriptor and some kilobytes each. Whoever asks does so at once.
const MAX_SILENT: usize = 64;
/// Questions that are answered at once: some take memory as long as their answers are, and seconds.
const MAX_ANSWERED: usize = 32;
/// Clients that wait until others have been answered: more than scripts of a device start at once.
const MAX_IN_LINE: usize = 128;
/// Long orders in memory at once, each of some megabytes.
const MAX_LONG: usize = 8;

/// Who is there and has not asked, the oldest first.
#[derive(Debug, Default)]
pub(super) struct SilentClients(VecDeque<oneshot::Sender<()>>);

/// Is there while its client may stay.
pub(super) type Welcome = oneshot::Receiver<()>;

impl SilentClients {
    /// Takes a newcomer in, in the place of another one if need be.
    pub(super) fn welcome(&mut self) -> Welcome {
        // Whoever has asked, or has gone, keeps no place.
        self.0.retain(|client| !client.is_closed());
        while self.0.len() >= MAX_SILENT {
            self.send_one_away();
        }
        let (stays, welcome) = oneshot::channel();
        self.0.push_back(stays);
        welcome
    }

    /// Sends the one away who has been silent longest.
    pub(super) fn send_one_away(&mut self) {
        drop(self.0.pop_front());
    }
}

/// What is answered at once, and who waits for it.
#[derive(Debug)]
struct Lane {
    places: Semaphore,
    line: Semaphore,
}

impl Lane {
    fn new(places: usize) -> Self {
        Self {
            places: Semaphore::new(places),
            line: Semaphore::new(MAX_IN_LINE),
        }
    }

    /// A place, in turn.
    async fn place(&self) -> Result<SemaphorePermit<'_>, String> {
        let full = |_| format!("{MAX_IN_LINE} others wait for an answer already: ask again");
        let _in_line = self.line.try_acquire().map_err(full)?;
        let place = self.places.acquire().await;
        place.map_err(|_| "the agent is stopping".to_owned())
    }
}

/// The places of those who have asked.
#[derive(Debug)]
pub(super) struct Lanes {
    questions: Lane,
    instructions: Lane,
    long: Lane,
}

impl Default for Lanes {
    fn default() -> Self {
        Self {
            questions: Lane::new(MAX_ANSWERED),
            instructions: Lane::new(MAX_ANSWERED),
            long: Lane::new(MAX_LONG),
        }
    }
}

/// The line of a request, as far as it may be read.
pub(super) struct Asked<'a> {
    pub(super) line: String,
    /// What was read of it at most, in bytes.
    pub(super) limit: u64,
    /// Until it is answered.
    _long: Option<SemaphorePermit<'a>>,
}

impl Lanes {
    /// A place for a question.
    ///
    /// # Errors
    /// Too many others wait, in a sentence for people.
    pub(super) async fn question(&self) -> Result<SemaphorePermit<'_>, String> {
        self.questions.place().await
    }

    /// A place for an instruction of the operator, which no question takes away.
    ///
    /// # Errors
    /// As [`Lanes::question`].
    pub(super) async fn instruction(&self) -> Result<SemaphorePermit<'_>, String> {
        self.instructions.place().await
    }

    /// Reads a request while its client is welcome; none where he is sent away, or says nothing for too long. A long one is read
    /// to its end where `may_be_long`, in turn: each takes memory.
    ///
    /// # Errors
    /// Why it cannot be read, in a sentence for people.
    pub(super) async fn read(
        &self,
        read: impl AsyncRead + Unpin,
        mut welcome: Welcome,
        may_be_long: bool,
    ) -> Option<Result<Asked<'_>, String>> {
        let mut reader = BufReader::new(read.take(MAX_REQUEST));
        let mut line = Vec::new();
        tokio::select! {
            begun = timeout(REQUEST_LIMIT, reader.read_until(b'\n', &mut line)) => begun.ok()?.ok()?,
            _ = &mut welcome => return None,
        };
        // Who has asked is not sent away.
        drop(welcome);
        let (mut limit, mut long) = (MAX_REQUEST, None);
        if may_be_long && line.len() as u64 == MAX_REQUEST && !line.ends_with(b"\n") {
            long = match self.long.place().await {
                Ok(place) => Some(place),
                Err(full) => return Some(Err(full)),
            };
            limit = MAX_ORDER_REQUEST;
            reader.get_mut().set_limit(MAX_ORDER_REQUEST - MAX_REQUEST);
            let rest = timeout(REQUEST_LIMIT, reader.read_until(b'\n', &mut line));
            rest.await.ok()?.ok()?;
        }
        if line.is_empty() {
            return None;
        }
        let read = String::from_utf8(line).map(|line| Asked {
            line,
            limit,
            _long: long,
        });
        Some(read.map_err(|error| format!("the request cannot be read: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_silent_client_goes_for_a_newcomer_and_whoever_asked_keeps_no_place() {
        let mut silent = SilentClients::default();
        let mut first = silent.welcome();
        drop(silent.welcome());
        let mut others: Vec<Welcome> = (1..MAX_SILENT).map(|_| silent.welcome()).collect();
        let stays = |one: &mut Welcome| one.try_recv() == Err(oneshot::error::TryRecvError::Empty);
        assert!(stays(&mut first), "the one that had gone kept no place");
        let mut newest = silent.welcome();
        assert!(!stays(&mut first) && stays(&mut newest));
        assert!(others.iter_mut().all(stays));
    }

    #[tokio::test]
    async fn a_request_is_read_while_its_client_is_welcome() {
        let lanes = Lanes::default();
        let mut silent = SilentClients::default();
        let asked = lanes.read(&b"{}\n"[..], silent.welcome(), false).await;
        assert_eq!(asked.unwrap().unwrap().line, "{}\n");
        let broken = lanes.read(&b"\xff\n"[..], silent.welcome(), false).await;
        assert!(broken.unwrap().is_err_and(|why| why.contains("cannot be read")));
        assert!(lanes.read(&b""[..], silent.welcome(), false).await.is_none());
        let welcome = silent.welcome();
        while silent.0.iter().any(|client| !client.is_closed()) {
            silent.send_one_away();
        }
        let (_never_said, nothing) = tokio::io::duplex(1);
        assert!(lanes.read(nothing, welcome, false).await.is_none());
    }

    #[tokio::test]
    async fn a_long_request_is_read_whole_where_it_may_be_long() {
        let lanes = Lanes::default();
        let mut silent = SilentClients::default();
        // The bound falls into a character.
        let long = format!("a{}\n", "é".repeat(10_000));
        let short = lanes.read(long.as_bytes(), silent.welcome(), false).await;
        assert!(short.unwrap().is_err());
        let mut held = Vec::new();
        for _ in 0..MAX_LONG {
            let whole = lanes.read(long.as_bytes(), silent.welcome(), true).await;
            let whole = whole.unwrap().unwrap();
            assert_eq!((&whole.line, whole.limit), (&long, MAX_ORDER_REQUEST));
            held.push(whole);
        }
        let next = lanes.read(long.as_bytes(), silent.welcome(), true);
        tokio::pin!(next);
        let waits = timeout(std::time::Duration::from_millis(50), &mut next).await;
        assert!(waits.is_err(), "each takes memory");
        held.pop();
        assert!(next.await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn an_instruction_does_not_wait_behind_questions() {
        let lanes = Lanes::default();
        let mut held = Vec::new();
        for _ in 0..MAX_ANSWERED {
            held.push(lanes.question().await.unwrap());
        }
        let waits = timeout(std::time::Duration::from_millis(50), lanes.question()).await;
        assert!(waits.is_err(), "control: there is no place for a question");
        assert!(lanes.instruction().await.is_ok());
        held.pop();
        assert!(lanes.question().await.is_ok());
    }
}
