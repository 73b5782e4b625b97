//! A process that lives just long enough to do harm: connects, sends, exits.
//!
//! In: where to, how much, how long it lives. Out: one TCP connection's worth of bytes. Deliberately absent: output; its
//! exit code tells whether everything was handed to the kernel.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::{IO_LIMIT, MAX_MESSAGE_BYTES};

/// Sends once and exits.
#[derive(Debug, Clone, clap::Args)]
pub struct BurstArgs {
    /// Where to send, ADDR:PORT (an IPv6 address in brackets).
    #[arg(long)]
    pub remote: SocketAddr,
    /// How much, in bytes.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_MESSAGE_BYTES)))]
    pub bytes: u32,
    /// How long the process lives at least, in milliseconds.
    #[arg(long, default_value_t = 20)]
    pub millis: u64,
}

/// Connects, sends, waits for its time to come.
///
/// # Errors
/// When the remote does not take it in time.
pub fn run(args: &BurstArgs) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let end = Instant::now() + Duration::from_millis(args.millis);
    let mut stream = TcpStream::connect_timeout(&args.remote, IO_LIMIT)?;
    stream.set_write_timeout(Some(IO_LIMIT))?;
    stream.write_all(&vec![b'b'; usize::try_from(args.bytes)?])?;
    std::thread::sleep(end.saturating_duration_since(Instant::now()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_arrives_and_the_connection_ends() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        let args = BurstArgs {
            remote: listener.local_addr()?,
            bytes: 100_000,
            millis: 1,
        };
        let sender = std::thread::spawn(move || run(&args));
        let (mut stream, _) = listener.accept()?;
        assert_eq!(std::io::copy(&mut stream, &mut std::io::sink())?, 100_000);
        sender.join().expect("the sender does not panic")
    }
}
