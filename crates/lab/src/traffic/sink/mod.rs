//! Takes whatever arrives over TCP and UDP and counts it.
//!
//! In: connections and datagrams on one address and port. Out: `listening` once, then JSON lines with the
//! running total of each peer, at most five a second and peer; the last line of a peer is always its true
//! total. Deliberately absent: answers of any kind, and the content.

mod tally;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::interval;

use super::lines::{self, Tell};
use tally::Tally;

/// TCP connections at once; further ones wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 256;

/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;

/// Time between two lines of one peer: five a second.
const TELL_EVERY: Duration = Duration::from_millis(200);

/// Pause after a failed accept or receive, so that a lasting fault does not spin.
const FAULT_PAUSE: Duration = Duration::from_millis(100);

/// Counts what arrives.
#[derive(Debug, Clone, clap::Args)]
pub struct SinkArgs {
    /// Where to listen, ADDR:PORT, for TCP and UDP alike.
    #[arg(long)]
    pub listen: SocketAddr,
}

/// The address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("could not listen on {address} over {protocol}")]
pub struct ListenError {
    /// The address.
    pub address: SocketAddr,
    /// TCP or UDP.
    pub protocol: &'static str,
    /// What went wrong.
    #[source]
    pub source: std::io::Error,
}

type Shared = Arc<Mutex<Tally>>;

/// Counts for ever and prints.
pub async fn run(args: SinkArgs) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    serve(args.listen, lines::printer()).await
}

/// Counts for ever. With port 0 the kernel chooses; the `listening` line says which.
pub async fn serve(listen: SocketAddr, tell: Tell) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let tcp = TcpListener::bind(listen).await.map_err(|source| ListenError {
        address: listen,
        protocol: "TCP",
        source,
    })?;
    let address = tcp.local_addr()?;
    let udp = UdpSocket::bind(address).await.map_err(|source| ListenError {
        address,
        protocol: "UDP",
        source,
    })?;
    tell(&json!({"event": "listening", "address": address.to_string()}))?;
    let tally = Shared::default();
    tokio::spawn(accept(tcp, Arc::clone(&tally)));
    tokio::spawn(receive(udp, Arc::clone(&tally)));
    let mut ticks = interval(TELL_EVERY);
    loop {
        ticks.tick().await;
        let changed = tally
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take_changed();
        for (peer, total) in changed {
            tell(&json!({
                "event": "received",
                "total": total,
                "peer": peer.address,
                "protocol": peer.protocol,
            }))?;
        }
    }
}

async fn accept(listener: TcpListener, tally: Shared) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, peer)) => {
                let tally = Arc::clone(&tally);
                tokio::spawn(async move {
                    drain(stream, peer, tally).await;
                    drop(slot);
                });
            }
            Err(_) => tokio::time::sleep(FAULT_PAUSE).await,
        }
    }
}

async fn drain(mut stream: TcpStream, peer: SocketAddr, tally: Shared) {
    let mut buffer = vec![0; READ_BYTES];
    while let Ok(bytes @ 1..) = stream.read(&mut buffer).await {
        count(&tally, "tcp", peer, bytes);
    }
    tally
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .closed("tcp", peer);
}

async fn receive(socket: UdpSocket, tally: Shared) {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((bytes, peer)) => count(&tally, "udp", peer, bytes),
            Err(_) => tokio::time::sleep(FAULT_PAUSE).await,
        }
    }
}

fn count(tally: &Shared, protocol: &'static str, peer: SocketAddr, bytes: usize) {
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    tally
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .count(protocol, peer, bytes);
}
