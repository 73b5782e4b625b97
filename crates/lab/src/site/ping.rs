//! One ICMP echo over a raw socket: no `ping` program, no waiting beyond the limit.

use std::net::{IpAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, recv, sendto,
    setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

/// ICMP types of echo request and reply, per family.
const ECHO_V4: (u8, u8) = (8, 0);
const ECHO_V6: (u8, u8) = (128, 129);

/// True when `address` answered; false when it did not, or when the packet may not leave.
///
/// The calling thread must be in the namespace to ping from.
pub(super) fn echo(address: IpAddr, limit: Duration) -> nix::Result<bool> {
    let deadline = Instant::now() + limit;
    let nonce = nonce(deadline);
    let (family, protocol, (request, reply)) = match address {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp, ECHO_V4),
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6, ECHO_V6),
    };
    let raw = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    if !send(&raw, address, &packet(request, nonce, address.is_ipv4()))? {
        return Ok(false);
    }
    let mut buffer = [0_u8; 2048];
    loop {
        let Some(left) = deadline
            .checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero())
        else {
            return Ok(false);
        };
        let micros = i64::try_from(left.as_micros()).unwrap_or(i64::MAX).max(1);
        setsockopt(&raw, sockopt::ReceiveTimeout, &TimeVal::microseconds(micros))?;
        match recv(raw.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Ok(length) if is_reply(&buffer[..length], address.is_ipv4(), reply, nonce) => return Ok(true),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

/// False when firewall or routing refuse the packet on the way out.
fn send(raw: &OwnedFd, address: IpAddr, packet: &[u8]) -> nix::Result<bool> {
    let descriptor = raw.as_raw_fd();
    let sent = match address {
        IpAddr::V4(v4) => {
            let to = SockaddrIn::from(SocketAddrV4::new(v4, 0));
            sendto(descriptor, packet, &to, MsgFlags::empty())
        }
        IpAddr::V6(v6) => {
            let to = SockaddrIn6::from(SocketAddrV6::new(v6, 0, 0, 0));
            sendto(descriptor, packet, &to, MsgFlags::empty())
        }
    };
    match sent {
        Ok(_) => Ok(true),
        // EINVAL is what a blackhole route answers.
        Err(
            Errno::EINVAL
            | Errno::EPERM
            | Errno::ENETUNREACH
            | Errno::EHOSTUNREACH
            | Errno::EACCES
            | Errno::ENOBUFS,
        ) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Tells the answers of concurrent pings apart: thread and time, mixed.
fn nonce(deadline: Instant) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one((std::thread::current().id(), deadline))
}

/// Type, code, checksum, identifier, sequence, nonce. The kernel fills the checksum in for IPv6.
fn packet(kind: u8, nonce: u64, with_checksum: bool) -> Vec<u8> {
    let mut packet = vec![kind, 0, 0, 0, 0x45, 0x57, 0, 1];
    packet.extend_from_slice(&nonce.to_be_bytes());
    if with_checksum {
        let mut sum: u32 = packet
            .chunks(2)
            .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]))
            .sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        let [_, _, high, low] = (!sum).to_be_bytes();
        packet[2] = high;
        packet[3] = low;
    }
    packet
}

/// A raw IPv4 socket gives the IP header too, a raw IPv6 socket does not.
fn is_reply(packet: &[u8], with_ip_header: bool, kind: u8, nonce: u64) -> bool {
    let skip = if with_ip_header {
        packet.first().map_or(0, |first| usize::from(first & 0x0f) * 4)
    } else {
        0
    };
    let Some(icmp) = packet.get(skip..) else {
        return false;
    };
    icmp.first() == Some(&kind) && icmp.get(8..16) == Some(&nonce.to_be_bytes())
}
