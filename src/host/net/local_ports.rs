//! Whether a local port is left for another connection.
//!
//! In: the connection's remote end. Out: [`are_used_up`]. Any user may bind every port, or connect by every port to one remote;
//! the kernel begins no connection then, whatever the rules are. Absent: who holds them.

use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, socket};

/// Whether the kernel has no port left to connect to that remote by. Tries it: where one is left a packet leaves, and nobody waits
/// for what it leads to. An address that is missing is another matter: rules may have kept its lease from being renewed.
pub(crate) fn are_used_up(remote: SocketAddr) -> bool {
    let refused = |kind| try_to_connect(remote, kind) == Err(Errno::EADDRNOTAVAIL);
    refused(SockType::Stream) && !refused(SockType::Datagram)
}

fn try_to_connect(remote: SocketAddr, kind: SockType) -> nix::Result<()> {
    let family = match remote {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let probe = socket(family, kind, flags, None)?;
    connect(probe.as_raw_fd(), &SockaddrStorage::from(remote))
}
