//! The canary: a datagram that must be refused.
//!
//! In: an address outside every lifeline. Out: what the kernel did with a datagram to it. An output chain that drops
//! it makes the send fail with EPERM and nothing leaves the device
//! (docs/reference/nftables.md#drops-and-what-is-seen-of-them), so no network is needed.

#![expect(
    clippy::disallowed_methods,
    reason = "host is a door: opens the canary's socket"
)]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use crate::quarantine::ports::CanaryFate;

/// Sends one datagram of one byte.
pub(crate) fn send(target: SocketAddr) -> CanaryFate {
    let any: IpAddr = match target.ip() {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let sent = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.set_nonblocking(true)?;
        socket.send_to(&[0], target)
    });
    match sent {
        Ok(_) => CanaryFate::Left,
        Err(error) => judge(&error),
    }
}

fn judge(error: &io::Error) -> CanaryFate {
    // EACCES is the same kind, and comes from a prohibiting route or a broadcast address without any filter.
    if error.raw_os_error() == Some(nix::errno::Errno::EPERM as i32) {
        return CanaryFate::Refused;
    }
    match error.kind() {
        io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkDown
        | io::ErrorKind::AddrNotAvailable
        // A kernel without IPv6.
        | io::ErrorKind::Unsupported => CanaryFate::NoRoute,
        _ => CanaryFate::Unclear(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_to_loopback_leaves() {
        assert_eq!(send("127.0.0.1:9".parse().unwrap()), CanaryFate::Left);
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
