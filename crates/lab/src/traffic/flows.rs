//! Entries of connection tracking, made by hand: open connections that nobody has any more.
//!
//! In: whose they are and where they went, how many. Out: the table of this network namespace with them in it, or as full as it
//! takes, and a JSON line `tracked` with how many there are; with `--flush` an empty one. Needs CAP_NET_ADMIN, and stands for what
//! would take a user minutes.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};
use serde_json::json;

use super::lines;

/// Messages of `ctnetlink`: new, delete, how full.
const NEW: u16 = 1 << 8;
const DELETE: u16 = 1 << 8 | 2;
const STATISTICS: u16 = 1 << 8 | 5;
/// A request; with an answer; that makes something.
const REQUEST: u16 = 1;
const ACKNOWLEDGED: u16 = 4;
const CREATE: u16 = 0x400 | 0x200;
/// What an answer without content is called.
const ERROR: u16 = 2;
const NESTED: u16 = 0x8000;
/// Seen both ways, not to be pushed out, in the table.
const STATUS: u32 = 2 | 4 | 8;
const ESTABLISHED: u8 = 3;
const TCP: u8 = 6;
/// How long they stay, in seconds: five days, as long as connections do.
const STAY: u32 = 432_000;
const AT_ONCE: usize = 64;
/// Ports of an address that are used.
const PORTS: u32 = 60_000;

/// Fills or empties connection tracking.
#[derive(Debug, Clone, clap::Args)]
pub struct FlowsArgs {
    /// Whose connections.
    #[arg(long, default_value = "198.51.100.2")]
    pub local: Ipv4Addr,
    /// Where they went: this port of this address, and of those after it.
    #[arg(long, default_value = "203.0.113.1:4444")]
    pub remote: SocketAddrV4,
    /// How many.
    #[arg(long, default_value_t = 300_000)]
    pub count: u32,
    /// Take all out instead.
    #[arg(long)]
    pub flush: bool,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Fills or empties it and tells how full it is.
///
/// # Errors
/// When the kernel refuses for another reason than that there is no room.
pub fn run(args: &FlowsArgs) -> Result<(), Failure> {
    let kernel = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkNetFilter,
    )?;
    if args.flush {
        let mut bytes = Vec::new();
        message(&mut bytes, DELETE, ACKNOWLEDGED, &[0; 4]);
        hand_over(&kernel, &bytes, 1)?;
    } else {
        let numbers: Vec<u32> = (0..args.count).collect();
        for some in numbers.chunks(AT_ONCE) {
            let mut bytes = Vec::new();
            for number in some {
                message(&mut bytes, NEW, CREATE | ACKNOWLEDGED, &entry(args, *number));
            }
            if !hand_over(&kernel, &bytes, some.len())? {
                break;
            }
        }
    }
    let mut bytes = Vec::new();
    message(&mut bytes, STATISTICS, 0, &[0; 4]);
    send(kernel.as_raw_fd(), &bytes, MsgFlags::empty())?;
    let mut answer = [0; 4_096];
    let length = recv(kernel.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    // Behind both headers: entries, then how many there may be.
    let number = |at: usize| {
        answer[..length]
            .get(at..at + 4)?
            .try_into()
            .ok()
            .map(u32::from_be_bytes)
    };
    lines::print(&json!({"event": "tracked", "flows": number(24), "most": number(32)}))?;
    Ok(())
}

/// Whether all of it was taken; false when there is no room.
fn hand_over(kernel: &OwnedFd, bytes: &[u8], answers: usize) -> Result<bool, Failure> {
    send(kernel.as_raw_fd(), bytes, MsgFlags::empty())?;
    let mut has_room = true;
    for _ in 0..answers {
        let mut answer = [0; 4_096];
        let length = recv(kernel.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        let kind = answer[..length].get(4..6).map(|kind| [kind[0], kind[1]]);
        assert_eq!(
            kind.map(u16::from_ne_bytes),
            Some(ERROR),
            "an answer without content"
        );
        let code = answer[..length].get(16..20).and_then(|code| code.try_into().ok());
        match Errno::from_raw(code.map_or(0, i32::from_ne_bytes).abs()) {
            // Made anew it would be the same.
            Errno::UnknownErrno | Errno::EEXIST => {}
            Errno::ENOMEM => has_room = false,
            other => return Err(other.into()),
        }
    }
    Ok(has_room)
}

fn entry(args: &FlowsArgs, number: u32) -> Vec<u8> {
    let port = u16::try_from(1_024 + number % PORTS).unwrap_or_default();
    let remote = Ipv4Addr::from_bits(args.remote.ip().to_bits() + number / PORTS);
    let (here, there) = ((args.local, port), (remote, args.remote.port()));
    let mut entry = vec![2, 0, 0, 0];
    attribute(&mut entry, 1 | NESTED, &tuple(here, there));
    attribute(&mut entry, 2 | NESTED, &tuple(there, here));
    attribute(&mut entry, 3, &STATUS.to_be_bytes());
    let (mut state, mut protocol) = (Vec::new(), Vec::new());
    attribute(&mut state, 1, &[ESTABLISHED]);
    attribute(&mut protocol, 1 | NESTED, &state);
    attribute(&mut entry, 4 | NESTED, &protocol);
    attribute(&mut entry, 7, &STAY.to_be_bytes());
    entry
}

fn tuple(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16)) -> Vec<u8> {
    let (mut addresses, mut ports, mut tuple) = (Vec::new(), Vec::new(), Vec::new());
    attribute(&mut addresses, 1, &from.0.octets());
    attribute(&mut addresses, 2, &to.0.octets());
    attribute(&mut ports, 1, &[TCP]);
    attribute(&mut ports, 2, &from.1.to_be_bytes());
    attribute(&mut ports, 3, &to.1.to_be_bytes());
    attribute(&mut tuple, 1 | NESTED, &addresses);
    attribute(&mut tuple, 2 | NESTED, &ports);
    tuple
}

fn attribute(bytes: &mut Vec<u8>, number: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(number.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

fn message(bytes: &mut Vec<u8>, kind: u16, flags: u16, payload: &[u8]) {
    let length = u32::try_from(16 + payload.len()).unwrap_or(u32::MAX);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((REQUEST | flags).to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend(payload);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}
