//! One accepted connection, from the first request to its end.
//!
//! In: the socket, commands, wishes of the clients. Out: why it ended. Reading never waits for anything: events go
//! into bounded queues, answers into channels that are always free, and what has to be written waits in a buffer
//! while reading goes on. A component that stops reading would stall the whole nucleus.

use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::handshake::Accepted;
use super::streams::Streams;
use super::{Command, Lost, Shared};
use crate::frame::Decoder;
use crate::options::ClientOptions;

/// Bytes read at a time. Lite's frames are below 10 kB.
const READ_BYTES: usize = 16 * 1024;

/// With more than this waiting to be written, no further requests are taken; their callers wait within their limits.
const MAX_UNWRITTEN_BYTES: usize = 256 * 1024;

/// Longest sleep, so that the arithmetic of deadlines has an end.
const NO_DEADLINE: Duration = Duration::from_secs(3600);

/// Works until the connection ends.
pub(super) async fn run(
    accepted: Accepted,
    options: &ClientOptions,
    commands: &mut mpsc::Receiver<Command>,
    shared: &Shared,
    streams: &mut Streams,
) -> Lost {
    let (mut reader, mut writer) = accepted.stream.into_split();
    let mut decoder = accepted.decoder;
    let mut chunk = BytesMut::with_capacity(READ_BYTES);
    let mut unwritten = BytesMut::new();
    let mut progress = Progress::new(Instant::now(), options.stall_timeout);
    loop {
        let now = Instant::now();
        match receive_all(&mut decoder, streams, now, &mut unwritten) {
            Ok(0) => {}
            Ok(_) => progress.read_at = now,
            Err(lost) => return lost,
        }
        streams.settle(now, &mut unwritten);
        if let Some(lost) = verdict(&mut progress, &decoder, &unwritten, streams, shared, now) {
            return lost;
        }
        let wake = progress.deadline().into_iter().chain(streams.deadline()).min();
        chunk.clear();
        tokio::select! {
            read = reader.read_buf(&mut chunk) => match read {
                Ok(0) => return Lost::Closed,
                Ok(_) => decoder.push(&chunk),
                Err(source) => return Lost::Socket { source },
            },
            written = writer.write_buf(&mut unwritten), if !unwritten.is_empty() => match written {
                Ok(_) => progress.written_at = Instant::now(),
                Err(source) => return Lost::Socket { source },
            },
            Some(command) = commands.recv(), if unwritten.len() < MAX_UNWRITTEN_BYTES => {
                streams.start(command, Instant::now(), &mut unwritten);
            }
            () = shared.attention.notified() => {}
            () = tokio::time::sleep_until(wake.unwrap_or(now + NO_DEADLINE)) => {}
        }
    }
}

/// Takes every whole message; how many.
fn receive_all(
    decoder: &mut Decoder,
    streams: &mut Streams,
    now: Instant,
    out: &mut BytesMut,
) -> Result<u64, Lost> {
    let mut taken = 0;
    while let Some(message) = decoder.next().map_err(|source| Lost::Garbage { source })? {
        streams.receive(message, now, out)?;
        taken += 1;
    }
    Ok(taken)
}

/// Reasons of our own to end the connection.
fn verdict(
    progress: &mut Progress,
    decoder: &Decoder,
    unwritten: &BytesMut,
    streams: &Streams,
    shared: &Shared,
    now: Instant,
) -> Option<Lost> {
    if let Some(reason) = shared.take_reconnect() {
        return Some(Lost::Requested { reason });
    }
    if let Some(lost) = streams.verdict(now) {
        return Some(lost);
    }
    if !progress.reading {
        progress.read_at = now;
    }
    progress.reading = decoder.has_partial_frame();
    if !progress.writing {
        progress.written_at = now;
    }
    progress.writing = !unwritten.is_empty();
    let late = progress.deadline().is_some_and(|deadline| deadline <= now);
    late.then_some(Lost::Stalled {
        after: progress.limit,
    })
}

/// Since when half a frame waits for its rest, in each direction. What comes in must become whole within the limit:
/// a peer that drips bytes would otherwise hold the connection for ever. What goes out need only move, since many
/// frames wait there together.
#[derive(Debug)]
struct Progress {
    read_at: Instant,
    written_at: Instant,
    reading: bool,
    writing: bool,
    limit: Duration,
}

impl Progress {
    fn new(now: Instant, limit: Duration) -> Self {
        Self {
            read_at: now,
            written_at: now,
            reading: false,
            writing: false,
            limit,
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let read = self.reading.then_some(self.read_at + self.limit);
        let written = self.writing.then_some(self.written_at + self.limit);
        read.into_iter().chain(written).min()
    }
}
