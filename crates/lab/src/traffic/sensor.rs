//! A well-behaved telemetry process: small messages at a steady pace.
//!
//! In: where to send, how much, how often. Out: traffic, and nothing else; it reconnects for ever and
//! stays quiet. Deliberately absent: output, and any hurry to reconnect.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{IO_LIMIT, MAX_MESSAGE_BYTES, MIN_EVERY_MILLIS};

/// Sends small messages at a steady pace.
#[derive(Debug, Clone, clap::Args)]
pub struct SensorArgs {
    /// Where to send, ADDR:PORT (an IPv6 address in brackets).
    #[arg(long)]
    pub remote: SocketAddr,
    /// Size of one message, in bytes.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_MESSAGE_BYTES)))]
    pub bytes: u32,
    /// Milliseconds between two messages.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(MIN_EVERY_MILLIS..))]
    pub every_millis: u64,
    /// Send UDP datagrams.
    #[arg(long)]
    pub udp: bool,
}

/// Sends for ever.
pub async fn run(args: SensorArgs) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let message = vec![b's'; usize::try_from(args.bytes)?];
    let mut ticks = interval(Duration::from_millis(args.every_millis));
    // What could not be sent in time is stale; a burst afterwards would look like an attack.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut channel = None;
    loop {
        ticks.tick().await;
        channel = match channel.take() {
            Some(open) => Some(open),
            None => Channel::open(&args).await,
        };
        if let Some(open) = &mut channel
            && !open.send(&message).await
        {
            channel = None;
        }
    }
}

enum Channel {
    Tcp(TcpStream),
    Udp(UdpSocket),
}

impl Channel {
    async fn open(args: &SensorArgs) -> Option<Self> {
        if !args.udp {
            let stream = timeout(IO_LIMIT, TcpStream::connect(args.remote))
                .await
                .ok()?
                .ok()?;
            return Some(Self::Tcp(stream));
        }
        let local = if args.remote.is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        };
        let socket = UdpSocket::bind(local).await.ok()?;
        socket.connect(args.remote).await.ok()?;
        Some(Self::Udp(socket))
    }

    async fn send(&mut self, message: &[u8]) -> bool {
        let sent = match self {
            Self::Tcp(stream) => timeout(IO_LIMIT, stream.write_all(message)).await,
            Self::Udp(socket) => timeout(IO_LIMIT, socket.send(message))
                .await
                .map(|sent| sent.map(|_| ())),
        };
        matches!(sent, Ok(Ok(())))
    }
}
