//! One direction of one connection: bytes come in, wait as long as the way is, and go out in order.
//!
//! In: a socket to read, the settings of the moment. Out: the bytes at the other socket, what their packets say, how it
//! ended. Bounded: when the queue is full, nothing is read and TCP holds the sender back.

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::packets::{Packets, Said};
use super::settings::Settings;

/// Bytes read at once.
const READ_BYTES: usize = 16 * 1024;
/// Reads under way in one direction, 4 MB at most: thirty of the largest messages AWS IoT takes.
const MAX_UNDER_WAY: usize = 256;

/// Why a direction ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Its sender has nothing more to say, and all of it arrived.
    Finished,
    /// One side is gone.
    Broken,
    /// The client published where it may not.
    Denied { topic: String },
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Arrives,
    /// It does not arrive, and what is behind it does.
    Lost,
    /// It ends the connection.
    Denied,
}

struct Portion {
    read_at: Instant,
    /// Empty at the end.
    bytes: Vec<u8>,
}

/// Passes everything on until one side ends it. `hear` gets what packets say, and says what becomes of them.
pub(super) async fn run(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    settings: watch::Receiver<Settings>,
    mut hear: impl FnMut(&Said) -> Fate,
) -> End {
    let (queue, under_way) = mpsc::channel(MAX_UNDER_WAY);
    let reading = async move {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            // A broken connection has nothing more to say either.
            let length = from.read(&mut buffer).await.unwrap_or(0);
            let portion = Portion {
                read_at: Instant::now(),
                bytes: buffer[..length].to_vec(),
            };
            if queue.send(portion).await.is_err() || length == 0 {
                return;
            }
        }
    };
    let writing = write(&mut to, under_way, settings, &mut hear);
    tokio::pin!(writing);
    let end = tokio::select! {
        end = &mut writing => end,
        () = reading => writing.await,
    };
    end.unwrap_or(End::Broken)
}

async fn write(
    to: &mut OwnedWriteHalf,
    mut under_way: mpsc::Receiver<Portion>,
    mut settings: watch::Receiver<Settings>,
    hear: &mut impl FnMut(&Said) -> Fate,
) -> io::Result<End> {
    let mut packets = Packets::new();
    let mut fate = Fate::Arrives;
    while let Some(portion) = under_way.recv().await {
        arrive(&mut settings, portion.read_at).await;
        if portion.bytes.is_empty() {
            to.shutdown().await?;
            return Ok(End::Finished);
        }
        for piece in packets.push(&portion.bytes) {
            if !piece.goes_on {
                fate = piece.said.as_ref().map_or(Fate::Arrives, &mut *hear);
            }
            match (fate, piece.said) {
                (Fate::Denied, Some(Said::Publish { topic })) => return Ok(End::Denied { topic }),
                (Fate::Lost, _) => {}
                _ => to.write_all(&piece.bytes).await?,
            }
        }
    }
    Ok(End::Finished)
}

/// Waits until what set out at `since` is at the other end.
pub(super) async fn arrive(settings: &mut watch::Receiver<Settings>, since: Instant) {
    loop {
        let (delay, black_hole) = {
            let now = settings.borrow_and_update();
            (now.delay, now.black_hole)
        };
        let due = since + delay;
        if !black_hole && Instant::now() >= due {
            return;
        }
        let changed = settings.changed();
        let outcome = if black_hole {
            changed.await
        } else {
            tokio::select! {
                outcome = changed => outcome,
                () = sleep_until(due) => Ok(()),
            }
        };
        if outcome.is_err() {
            // Nobody can change the way any more: the program is about to end.
            return;
        }
    }
}
