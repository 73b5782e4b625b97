//! The canary: a datagram that must be refused.
//!
//! In: an address outside every lifeline. Out: what the kernel did with a datagram to it. An output chain that drops
//! it makes the send fail with EPERM and nothing leaves the device
//! (docs/reference/nftables.md#drops-and-what-is-seen-of-them), so no network is needed. The sockets stay open, so no
//! descriptor is needed either; between two canaries they have no port, and nobody can send anything to them.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrStorage, connect, getsockopt, send, socket, sockopt,
};

use rustix::net::connect_unspec;

use crate::quarantine::proof::canary::CanaryFate;

/// One socket for each family that this kernel has.
#[derive(Default)]
pub(super) struct CanarySockets {
    v4: Option<OwnedFd>,
    v6: Option<OwnedFd>,
}

impl CanarySockets {
    /// Opens those that are not open; one that cannot be is tried again when it is needed.
    pub(super) fn open(&mut self) {
        let _when_needed = (
            open(&mut self.v4, AddressFamily::Inet),
            open(&mut self.v6, AddressFamily::Inet6),
        );
    }

    /// Sends one datagram of one byte.
    pub(super) fn send(&mut self, target: SocketAddr) -> CanaryFate {
        let (kept, family) = match target {
            SocketAddr::V4(_) => (&mut self.v4, AddressFamily::Inet),
            SocketAddr::V6(_) => (&mut self.v6, AddressFamily::Inet6),
        };
        let sent = open(kept, family).and_then(|socket| {
            // What a host answered to an earlier one is no answer to this one.
            let _earlier = getsockopt(socket, sockopt::SocketError);
            connect(socket.as_raw_fd(), &SockaddrStorage::from(target))?;
            send(socket.as_raw_fd(), &[0], MsgFlags::empty())
        });
        // Gives the port back: whoever lists sockets must not find one of ours waiting there.
        *kept = kept.take().filter(|socket| connect_unspec(socket).is_ok());
        match sent {
            Ok(_) => CanaryFate::Left,
            Err(errno) => judge(&errno.into()),
        }
    }
}

/// The socket, opened if need be.
fn open(kept: &mut Option<OwnedFd>, family: AddressFamily) -> Result<&OwnedFd, Errno> {
    let opened = match kept.take() {
        Some(socket) => socket,
        None => {
            let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
            socket(family, SockType::Datagram, flags, None)?
        }
    };
    Ok(kept.insert(opened))
}

fn judge(error: &io::Error) -> CanaryFate {
    // EACCES is the same kind, and comes from a prohibiting route or a broadcast address without any filter.
    if error.raw_os_error() == Some(Errno::EPERM as i32) {
        return CanaryFate::Refused;
    }
    // A kernel without IPv6.
    if error.raw_os_error() == Some(Errno::EAFNOSUPPORT as i32) {
        return CanaryFate::NoRoute;
    }
    match error.kind() {
        io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkDown
        | io::ErrorKind::AddrNotAvailable
        | io::ErrorKind::Unsupported => CanaryFate::NoRoute,
        _ => CanaryFate::Unclear(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::getsockname;

    #[test]
    fn a_datagram_to_loopback_leaves_each_time_and_no_port_stays_open() {
        let mut sockets = CanarySockets::default();
        sockets.open();
        for _ in 0..3 {
            for target in ["127.0.0.1:9", "127.0.0.2:9"] {
                assert_eq!(sockets.send(target.parse().unwrap()), CanaryFate::Left);
                let socket = sockets.v4.as_ref().unwrap();
                let own: SockaddrStorage = getsockname(socket.as_raw_fd()).unwrap();
                assert_eq!(own.as_sockaddr_in().unwrap().port(), 0);
            }
        }
    }

    #[test]
    fn only_the_filters_refusal_is_proof() {
        assert_eq!(judge(&io::Error::from_raw_os_error(1)), CanaryFate::Refused);
        assert!(matches!(
            judge(&io::Error::from_raw_os_error(13)),
            CanaryFate::Unclear(_)
        ));
        assert_eq!(judge(&io::Error::from_raw_os_error(101)), CanaryFate::NoRoute);
        assert!(matches!(
            judge(&io::Error::from_raw_os_error(12)),
            CanaryFate::Unclear(_)
        ));
    }
}
