//! An ordinary user who holds every local port that the kernel gives.
//!
//! In: how. Out: a JSON line `holding` once no port is left; then every port that becomes free, for ever. Each is bound, for TCP and
//! UDP, or is the near end of a connection to one remote, which need not answer.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};
use serde_json::json;

use super::lines;

/// From one try for a port that has become free to the next.
const PAUSE: Duration = Duration::from_millis(5);

/// Holds ports without any privilege.
#[derive(Debug, Clone, clap::Args)]
pub struct PortsArgs {
    /// Connect by each port to this remote, in place of binding it.
    #[arg(long)]
    pub remote: Option<SocketAddrV4>,
}

/// Holds them for ever.
///
/// # Errors
/// When the kernel refuses a socket for another reason than that no port is left.
pub fn run(args: &PortsArgs) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let (mut streams, mut datagrams, mut told) = (Vec::new(), Vec::new(), false);
    loop {
        while let Some(one) = stream(args.remote)? {
            streams.push(one);
        }
        while args.remote.is_none()
            && let Ok(one) = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
        {
            datagrams.push(one);
        }
        if !told {
            told = true;
            lines::print(&json!({"event": "holding", "ports": streams.len()}))?;
        }
        std::thread::sleep(PAUSE);
    }
}

/// One more port of TCP, while there is one.
fn stream(remote: Option<SocketAddrV4>) -> nix::Result<Option<OwnedFd>> {
    let one = socket(
        AddressFamily::Inet,
        SockType::Stream,
        SockFlag::SOCK_NONBLOCK,
        None,
    )?;
    let taken = match remote {
        Some(remote) => connect(one.as_raw_fd(), &SockaddrIn::from(remote)),
        None => bind(one.as_raw_fd(), &SockaddrIn::new(0, 0, 0, 0, 0)),
    };
    match taken {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(Some(one)),
        Err(Errno::EADDRINUSE | Errno::EADDRNOTAVAIL) => Ok(None),
        Err(other) => Err(other),
    }
}
