//! As many datagrams as wanted, cheaply: the load of `cargo xtask bench traffic`.
//!
//! In: where to, size, pace, number. Out: datagrams over UDP, a batch with each system call, and one JSON line `flooded`
//! at the end, with what the kernel took. Deliberately absent: answers; an unreachable remote stops nobody.

use std::io::IoSlice;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg};
use serde_json::json;

use super::lines;

/// Datagrams handed over with one call, at most.
const MAX_BATCH: u64 = 64;
/// With a pace, a batch is what is due in this time: sleeping more often would cost more than sending.
const BATCH_TIME: Duration = Duration::from_millis(1);
/// Sockets, so flows, at most.
const MAX_FLOWS: u16 = 1_024;
/// The largest datagram.
const MAX_SIZE: u16 = 65_507;

/// Sends datagrams as fast as told.
#[derive(Debug, Clone, clap::Args)]
pub struct FloodArgs {
    /// Where to send, ADDR:PORT (an IPv6 address in brackets).
    #[arg(long)]
    pub remote: SocketAddr,
    /// What each datagram says, two hexadecimal digits a byte, in place of `--size` bytes without meaning.
    #[arg(long, value_parser = payload)]
    pub payload: Option<Payload>,
    /// Bytes in each datagram.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_SIZE)))]
    pub size: u16,
    /// Datagrams a second; as fast as the machine can when missing.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub rate: Option<u64>,
    /// How long.
    #[arg(long, default_value_t = 1_000)]
    pub millis: u64,
    /// Sockets that take turns.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_FLOWS)))]
    pub flows: u16,
}

/// The content of a datagram.
#[derive(Debug, Clone)]
pub struct Payload(pub Vec<u8>);

fn payload(text: &str) -> Result<Payload, String> {
    let pairs = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = pairs.map(byte).collect();
    bytes
        .map(Payload)
        .ok_or_else(|| "expected hexadecimal digits".to_owned())
}

/// Sends and tells.
///
/// # Errors
/// When a socket cannot be made or the kernel refuses to send.
pub fn run(args: &FloodArgs) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let begin = Instant::now();
    let packets = flood(args)?;
    lines::print(&json!({
        "event": "flooded",
        "packets": packets,
        "bytes": packets * args.payload.as_ref().map_or(args.size.into(), |payload| payload.0.len() as u64),
        "millis": u64::try_from(begin.elapsed().as_millis())?,
    }))?;
    Ok(())
}

/// Sends; returns how many datagrams the kernel took.
pub(super) fn flood(args: &FloodArgs) -> Result<u64, Box<dyn std::error::Error + Send + Sync>> {
    let sockets = (0..args.flows).map(|_| open(args.remote));
    let sockets = sockets.collect::<std::io::Result<Vec<_>>>()?;
    let payload = match &args.payload {
        Some(Payload(bytes)) => bytes.clone(),
        None => vec![b'f'; usize::from(args.size)],
    };
    let begin = Instant::now();
    let end = begin + Duration::from_millis(args.millis);
    let mut packets = 0;
    for socket in sockets.iter().cycle() {
        let now = Instant::now();
        if now >= end {
            break;
        }
        let due = match args.rate {
            None => MAX_BATCH,
            Some(rate) => due(rate, now - begin).saturating_sub(packets).min(MAX_BATCH),
        };
        let taken = match due {
            0 => 0,
            due => send(socket, &payload, usize::try_from(due)?)?,
        };
        packets += taken;
        if due < MAX_BATCH || taken == 0 {
            std::thread::sleep(BATCH_TIME / 4);
        }
    }
    Ok(packets)
}

/// Datagrams that a pace asks for within a time.
pub(super) fn due(rate: u64, elapsed: Duration) -> u64 {
    let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
    rate.saturating_mul(micros) / 1_000_000
}

fn open(remote: SocketAddr) -> std::io::Result<UdpSocket> {
    let any: SocketAddr = match remote {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(remote)?;
    Ok(socket)
}

/// Sends `count` datagrams; returns how many the kernel took.
fn send(socket: &UdpSocket, payload: &[u8], count: usize) -> nix::Result<u64> {
    let slices = vec![[IoSlice::new(payload)]; count];
    let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(count, None);
    let addresses = vec![None; count];
    let sent = sendmmsg(
        socket.as_raw_fd(),
        &mut headers,
        &slices,
        &addresses,
        [],
        MsgFlags::empty(),
    );
    match sent {
        Ok(results) => Ok(u64::try_from(results.count()).unwrap_or_default()),
        // Nobody listens (told by an earlier datagram's answer), a buffer is full, or a packet filter drops it: all of them pass.
        Err(Errno::ECONNREFUSED | Errno::ENOBUFS | Errno::EAGAIN | Errno::EINTR | Errno::EPERM) => Ok(0),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_arrives() {
        let taker = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        taker.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let args = FloodArgs {
            remote: taker.local_addr().unwrap(),
            payload: None,
            size: 100,
            rate: Some(2_000),
            millis: 50,
            flows: 4,
        };
        let packets = flood(&args).unwrap();
        assert!((1..=100).contains(&packets), "{packets}");
        for _ in 0..packets {
            assert_eq!(taker.recv(&mut [0; 200]).unwrap(), 100);
        }
    }

    #[test]
    fn a_pace_is_kept() {
        assert_eq!(due(100_000, Duration::from_millis(10)), 1_000);
        assert_eq!(due(1, Duration::from_millis(999)), 0);
    }
}
