//! A compromised process: what the lab's `send_large_payload.sh` makes a device do, with the size as a
//! parameter, against any TCP sink.
//!
//! In: one or more remotes, number, size and pace of messages. Out: traffic over one TCP connection per
//! remote that stays open, and a JSON line per message: `sent` or `error`. After an error it connects
//! again with the next message, as an attacker would. A `sent` message has been handed to the kernel; only
//! the sink knows whether it arrived. A connection whose data is not acknowledged for
//! `--user-timeout-millis` is reported as an error.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::lines::{self, LinesError, Tell};
use super::{IO_LIMIT, MAX_MESSAGE_BYTES, MIN_EVERY_MILLIS};

/// Most remotes at once.
const MAX_REMOTES: usize = 16;

/// Sends large messages.
#[derive(Debug, Clone, clap::Args)]
pub struct RogueArgs {
    /// Where to send, ADDR:PORT (an IPv6 address in brackets).
    #[arg(long)]
    pub remote: SocketAddr,
    /// Further remotes that get the same.
    #[arg(long)]
    pub also: Vec<SocketAddr>,
    /// Messages to each remote.
    #[arg(long, default_value_t = 10)]
    pub messages: u64,
    /// Random letters in one message.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_MESSAGE_BYTES)))]
    pub size: u32,
    /// Milliseconds between two messages to one remote.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(MIN_EVERY_MILLIS..))]
    pub every_millis: u64,
    /// Never stop.
    #[arg(long)]
    pub forever: bool,
    /// Milliseconds without acknowledgement after which the kernel gives a connection up.
    #[arg(long, default_value_t = 3_000)]
    pub user_timeout_millis: u32,
}

/// More remotes than the rogue serves.
#[derive(Debug, thiserror::Error)]
#[error("{remotes} remotes are given, at most {MAX_REMOTES} are served")]
pub struct TooManyRemotes {
    /// How many were given.
    pub remotes: usize,
}

/// Sends to all remotes and prints; ends when every one has had its messages.
pub async fn run(args: RogueArgs) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    attack_all(args, lines::printer()).await
}

/// Sends to all remotes; ends when every one has had its messages.
pub async fn attack_all(args: RogueArgs, tell: Tell) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let remotes = [args.remote]
        .into_iter()
        .chain(args.also.iter().copied())
        .collect::<Vec<_>>();
    if remotes.len() > MAX_REMOTES {
        return Err(Box::new(TooManyRemotes {
            remotes: remotes.len(),
        }));
    }
    let mut attacks = JoinSet::new();
    for (number, remote) in remotes.into_iter().enumerate() {
        let seed = u64::from(std::process::id()) + u64::try_from(number)?;
        attacks.spawn(attack(args.clone(), remote, seed, Arc::clone(&tell)));
    }
    while let Some(ended) = attacks.join_next().await {
        ended??;
    }
    Ok(())
}

async fn attack(args: RogueArgs, remote: SocketAddr, mut seed: u64, tell: Tell) -> Result<(), LinesError> {
    let mut ticks = interval(Duration::from_millis(args.every_millis));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut stream = None;
    let mut total = 0_u64;
    let mut attempts = 0_u64;
    while args.forever || attempts < args.messages {
        ticks.tick().await;
        attempts = attempts.saturating_add(1);
        let message = message(args.size, &mut seed);
        match send(&mut stream, remote, args.user_timeout_millis, &message).await {
            Ok(()) => {
                total = total.saturating_add(u64::try_from(message.len()).unwrap_or(u64::MAX));
                tell(&json!({
                    "event": "sent", "remote": remote.to_string(), "bytes": message.len(), "total": total,
                }))?;
            }
            Err(error) => {
                stream = None;
                tell(&json!({
                    "event": "error", "remote": remote.to_string(), "error": error.to_string(),
                }))?;
            }
        }
    }
    if let Some(mut stream) = stream {
        // The last message leaves before the process does; a failure was already cut off by the timeout.
        let _finished = timeout(IO_LIMIT, stream.shutdown()).await;
    }
    Ok(())
}

/// Sends over the open connection, or opens it first.
async fn send(
    stream: &mut Option<TcpStream>,
    remote: SocketAddr,
    user_timeout: u32,
    message: &[u8],
) -> std::io::Result<()> {
    let open = match stream.take() {
        Some(open) => stream.insert(open),
        None => {
            let fresh = timeout(IO_LIMIT, TcpStream::connect(remote)).await??;
            setsockopt(&fresh, sockopt::TcpUserTimeout, &user_timeout)?;
            stream.insert(fresh)
        }
    };
    timeout(IO_LIMIT, open.write_all(message)).await?
}

/// The workshop's document with `size` letters, and a line feed.
fn message(size: u32, seed: &mut u64) -> Vec<u8> {
    let mut message = b"{\"payload\":\"".to_vec();
    message.extend((0..size).map(|_| letter(seed)));
    message.extend(b"\"}\n");
    message
}

/// A letter of a linear congruential sequence: random enough not to compress away.
fn letter(seed: &mut u64) -> u8 {
    *seed = seed
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    u8::try_from((*seed >> 33) % 26).map_or(b'a', |offset| b'a' + offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_the_workshops_document_with_the_size_asked_for() -> Result<(), serde_json::Error> {
        let mut seed = 1;
        let (first, second) = (message(500, &mut seed), message(500, &mut seed));
        assert_ne!(first, second);
        let document: serde_json::Value = serde_json::from_slice(&first)?;
        let payload = document["payload"].as_str().unwrap_or_default();
        assert_eq!(payload.len(), 500);
        assert!(payload.bytes().all(|byte| byte.is_ascii_lowercase()), "{payload}");
        Ok(())
    }
}
