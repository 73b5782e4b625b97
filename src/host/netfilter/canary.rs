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

/// What the kernel did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CanaryOutcome {
    /// The packet filter refused it: proof.
    Refused,
    /// There is no route; nothing can leave that way either, but it is no proof of the filter.
    NoRoute,
    /// It was sent: the filter does not hold.
    Left,
    /// Something else went wrong.
    Unclear(String),
}

/// Sends one datagram of one byte.
pub(crate) fn send(target: SocketAddr) -> CanaryOutcome {
    let any: IpAddr = match target.ip() {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let sent = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.set_nonblocking(true)?;
        socket.send_to(&[0], target)
    });
    match sent {
        Ok(_) => CanaryOutcome::Left,
        Err(error) => judge(&error),
    }
}

fn judge(error: &io::Error) -> CanaryOutcome {
    // EACCES is the same kind, and comes from a prohibiting route or a broadcast address without any filter.
    if error.raw_os_error() == Some(nix::errno::Errno::EPERM as i32) {
        return CanaryOutcome::Refused;
    }
    match error.kind() {
        io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkDown
        | io::ErrorKind::AddrNotAvailable
        // A kernel without IPv6.
        | io::ErrorKind::Unsupported => CanaryOutcome::NoRoute,
        _ => CanaryOutcome::Unclear(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_to_loopback_leaves() {
        assert_eq!(send("127.0.0.1:9".parse().unwrap()), CanaryOutcome::Left);
    }

    #[test]
    fn only_the_filters_refusal_is_proof() {
        assert_eq!(judge(&io::Error::from_raw_os_error(1)), CanaryOutcome::Refused);
        assert!(matches!(
            judge(&io::Error::from_raw_os_error(13)),
            CanaryOutcome::Unclear(_)
        ));
        assert_eq!(judge(&io::Error::from_raw_os_error(101)), CanaryOutcome::NoRoute);
        assert!(matches!(
            judge(&io::Error::from_raw_os_error(12)),
            CanaryOutcome::Unclear(_)
        ));
    }
}
