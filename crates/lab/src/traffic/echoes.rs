//! An ordinary user's datagrams to himself over loopback, which connection tracking takes for streams that must not be pushed out.
//!
//! In: how many ends there are on either side; each may talk to each. Out: as many flows as the table has room for, and no more,
//! because one too many would push out another that is young and leave its place to whoever comes next; a JSON line `echoing` when
//! every one has had its answer for longer than connection tracking waits; then the same again, for ever. Nobody reads what
//! arrives.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::json;

use super::lines;

const PORT: u16 = 7_000;
/// A datagram after this makes a stream of question and answer.
const STREAM_AFTER: Duration = Duration::from_secs(2);
/// From one round to the next.
const PAUSE: Duration = Duration::from_millis(200);
/// How full the table is, for anybody to read.
const COUNT: &str = "/proc/sys/net/netfilter/nf_conntrack_count";
const MOST: &str = "/proc/sys/net/netfilter/nf_conntrack_max";

/// Fills connection tracking without any privilege.
#[derive(Debug, Clone, clap::Args)]
pub struct EchoesArgs {
    /// Ends on either side; their flows are as many times as many at most.
    #[arg(long, default_value_t = 520, value_parser = clap::value_parser!(u16).range(1..=2_000))]
    pub ends: u16,
}

/// Talks for ever.
///
/// # Errors
/// When a socket cannot be made, or nobody tells how full the table is.
pub fn run(args: &EchoesArgs) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let (ones, others) = (side(1, args.ends)?, side(2, args.ends)?);
    let (mut flows, mut last_new, mut told) = (0, Instant::now(), false);
    loop {
        let room = number(MOST)?.saturating_sub(number(COUNT)?);
        let before = flows;
        flows = (flows + room).min(ones.len() * others.len());
        let are_streams = flows > 0 && last_new.elapsed() > STREAM_AFTER;
        let pairs = ones
            .iter()
            .flat_map(|one| others.iter().map(move |other| (one, other)));
        for ((one, first), (other, second)) in pairs.take(flows) {
            // What is refused is sent again in the next round.
            let _question = one.send_to(b"?", second);
            let _answer = other.send_to(b"!", first);
        }
        if flows > before + before / 100 {
            last_new = Instant::now();
        } else if are_streams && !told {
            told = true;
            lines::print(&json!({"event": "echoing", "flows": flows}))?;
        }
        std::thread::sleep(PAUSE);
    }
}

fn number(path: &str) -> std::io::Result<usize> {
    let text = std::fs::read_to_string(path)?;
    text.trim().parse().map_err(std::io::Error::other)
}

fn side(number: u8, ends: u16) -> std::io::Result<Vec<(UdpSocket, SocketAddrV4)>> {
    let end = |index: u16| {
        let [high, low] = index.to_be_bytes();
        let address = SocketAddrV4::new(Ipv4Addr::new(127, number, high, low), PORT);
        let socket = UdpSocket::bind(address)?;
        socket.set_nonblocking(true)?;
        Ok((socket, address))
    };
    (1..=ends).map(end).collect()
}
