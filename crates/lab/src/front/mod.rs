//! A relay before the broker: the way there as a test wants it to be.
//!
//! ```text
//! nucleus ──► relay ── pipe (delay, black hole) ── packets (what MQTT says) ──► broker
//!                ▲
//!            settings ◄── control: a Unix socket, one JSON object a line
//! ```
//!
//! In: TCP connections, and at run time [`Change`]s: one-way delay, a black hole, a cut, refused connections, topics whose
//! publish ends the connection as AWS IoT ends it where the core's policy lacks the right, a message to the client that is lost. Out: the same bytes to the
//! broker and back, and a JSON line for each connection, MQTT session, denied publish and end.
//! Deliberately absent: TLS. Bytes that are no MQTT pass with their delay, but nothing is read or denied in them. Nor are
//! topic aliases of MQTT 5 followed, which no nucleus uses.

mod control;
mod handle;
mod packets;
mod pipe;
mod relay;
mod settings;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;

pub use handle::{Front, FrontError};
pub use settings::Change;

use crate::traffic::lines::{self, Tell};
use settings::Settings;

/// Stands before a broker: delays, swallows, cuts, denies.
#[derive(Debug, Clone, clap::Args)]
pub struct FrontArgs {
    /// Where to listen, ADDR:PORT.
    #[arg(long)]
    pub listen: SocketAddr,
    /// Where to connect to, ADDR:PORT.
    #[arg(long)]
    pub to: SocketAddr,
    /// Unix socket that takes changes, e.g. {"delayMillis":150}, {"blackHole":true}, {"refuse":true}, {"cut":true},
    /// {"deny":["$aws/things/+/shadow/get"]}, {"lose":"$aws/things/+/shadow/update/accepted"}.
    #[arg(long)]
    pub control: PathBuf,
    /// One-way delay at the beginning, in milliseconds.
    #[arg(long, default_value_t = 0)]
    pub delay_millis: u64,
}

/// Something the relay needs is not to be had.
#[derive(Debug, thiserror::Error)]
#[error("could not listen on {place}")]
pub struct ListenError {
    /// Address or socket.
    pub place: String,
    /// What went wrong.
    #[source]
    pub source: std::io::Error,
}

/// Relays for ever; prints one JSON object a line on standard output.
///
/// # Errors
/// When it cannot listen, or nobody reads its lines any more.
pub async fn run(args: FrontArgs) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    serve(args, lines::printer()).await
}

/// Relays for ever. With port 0 the kernel chooses; the `listening` line says which.
async fn serve(args: FrontArgs, tell: Tell) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let failed = |place: String| move |source| ListenError { place, source };
    let settings = watch::Sender::new(Settings {
        delay: Duration::from_millis(args.delay_millis),
        ..Settings::default()
    });
    let orders = control::listen(&args.control).map_err(failed(args.control.display().to_string()))?;
    let listener = TcpListener::bind(args.listen)
        .await
        .map_err(failed(args.listen.to_string()))?;
    let relay = relay::Relay::new(listener, args.to, settings.subscribe(), tell)?;
    tokio::select! {
        outcome = relay.run() => outcome,
        () = control::serve(orders, settings) => Ok(()),
    }
}
