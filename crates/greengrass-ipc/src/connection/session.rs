//! One accepted connection, from the first request to its end.
//!
//! In: the socket, commands, wishes of the clients. Out: why it ended. Reading never waits for anything: events go
//! into bounded queues, answers into channels that are always free, and what has to be written waits in a buffer
//! while reading goes on. A component that stops reading would stall the whole nucleus.

use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::handshake::OpenConnection;
use super::streams::Streams;
use super::{Command, ConnectionEnd, Shared};
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
    accepted: OpenConnection,
    options: &ClientOptions,
    commands: &mut mpsc::Receiver<Command>,
    shared: &Shared,
    streams: &mut Streams,
) -> ConnectionEnd {
    let (mut reader, mut writer) = accepted.stream.into_split();
    let mut buffers = Buffers {
        decoder: accepted.decoder,
        chunk: BytesMut::with_capacity(READ_BYTES),
        unwritten: BytesMut::new(),
    };
    let mut progress = Progress::new(Instant::now(), options.stall_timeout);
    let mut nothing_ready = false;
    loop {
        let now = Instant::now();
        match receive_all(&mut buffers.decoder, streams, now, &mut buffers.unwritten) {
            Ok(0) => {}
            Ok(_) => progress.read_at = now,
            Err(lost) => return lost,
        }
        streams.settle(now, &mut buffers.unwritten);
        progress.note(&buffers, now);
        if let Some(lost) = verdict(&progress, streams, shared, now, nothing_ready) {
            return lost;
        }
        let wake = progress.deadline().into_iter().chain(streams.deadline()).min();
        let step = async {
            tokio::select! {
                read = reader.read_buf(&mut buffers.chunk) => took(read)?,
                // Not `write_buf`: its `writev` raises SIGPIPE when the nucleus has gone, which ends a process that
                // does not ignore it.
                written = writer.write(&buffers.unwritten), if !buffers.unwritten.is_empty() => {
                    let written = written.map_err(|source| ConnectionEnd::Socket { source })?;
                    buffers.unwritten.advance(written);
                    progress.written_at = Instant::now();
                }
                Some(command) = commands.recv(), if buffers.unwritten.len() < MAX_UNWRITTEN_BYTES => {
                    streams.start(command, Instant::now(), &mut buffers.unwritten);
                }
                () = shared.attention.notified() => {}
            }
            Ok(())
        };
        // Time counts only when nothing is ready: a process that was paused finds both, and the bytes were in time.
        match tokio::time::timeout_at(wake.unwrap_or(now + NO_DEADLINE), step).await {
            Ok(Err(lost)) => return lost,
            Ok(Ok(())) => nothing_ready = false,
            Err(_) => nothing_ready = true,
        }
        buffers.decoder.push(&buffers.chunk);
        buffers.chunk.clear();
    }
}

/// Bytes on their way in and out.
#[derive(Debug)]
struct Buffers {
    decoder: Decoder,
    /// Read and not decoded yet.
    chunk: BytesMut,
    unwritten: BytesMut,
}

/// The end of the stream is the end of the connection.
fn took(read: std::io::Result<usize>) -> Result<(), ConnectionEnd> {
    match read {
        Ok(0) => Err(ConnectionEnd::Closed),
        Ok(_) => Ok(()),
        Err(source) => Err(ConnectionEnd::Socket { source }),
    }
}

/// Takes every whole message; how many.
fn receive_all(
    decoder: &mut Decoder,
    streams: &mut Streams,
    now: Instant,
    out: &mut BytesMut,
) -> Result<u64, ConnectionEnd> {
    let mut taken = 0;
    while let Some(message) = decoder
        .next()
        .map_err(|source| ConnectionEnd::Garbage { source })?
    {
        streams.receive(message, now, out)?;
        taken += 1;
    }
    Ok(taken)
}

/// Reasons of our own to end the connection. Those of time hold only when nothing was ready.
fn verdict(
    progress: &Progress,
    streams: &Streams,
    shared: &Shared,
    now: Instant,
    nothing_ready: bool,
) -> Option<ConnectionEnd> {
    if let Some(reason) = shared.take_reconnect() {
        return Some(ConnectionEnd::Requested { reason });
    }
    if let Some(lost) = streams.exhausted() {
        return Some(lost);
    }
    if !nothing_ready {
        return None;
    }
    let late = progress.deadline().is_some_and(|deadline| deadline <= now);
    let stalled = late.then_some(ConnectionEnd::Stalled {
        after: progress.limit,
    });
    stalled.or_else(|| streams.silence(now))
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

    /// What waits now, and since when if it did not wait before.
    fn note(&mut self, buffers: &Buffers, now: Instant) {
        if !self.reading {
            self.read_at = now;
        }
        self.reading = buffers.decoder.has_partial_frame();
        if !self.writing {
            self.written_at = now;
        }
        self.writing = !buffers.unwritten.is_empty();
    }

    fn deadline(&self) -> Option<Instant> {
        let read = self.reading.then_some(self.read_at + self.limit);
        let written = self.writing.then_some(self.written_at + self.limit);
        read.into_iter().chain(written).min()
    }
}
