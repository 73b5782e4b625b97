//! How much of what a TCP connection has sent the other end has acknowledged: what nobody but that end can make.
//!
//! In: both ends of a connection. Out: its socket's inode and the count of bytes. Kernels before 4.1 do not count.

use std::net::SocketAddr;

use netlink_packet_core::Parseable as _;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP, SOCK_DIAG_BY_FAMILY};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, InetResponseHeader, SocketId, StateFlags};
use nix::errno::Errno;

use super::{NO_COOKIE, SockDiag, payload_of};
use crate::host::net::netlink::{NetlinkError, NetlinkRequest};

/// Bytes of `struct inet_diag_msg`, behind which the attributes begin.
const HEADER: usize = 72;
/// The attribute with `struct tcp_info` (`INET_DIAG_INFO`), and where `tcpi_bytes_acked` begins in it.
const INFO: u16 = 2;
const BYTES_ACKED: usize = 120;
/// What each attribute begins with, and to what its end is filled up.
const ATTRIBUTE: usize = 4;

impl SockDiag {
    /// The inode of the socket with exactly these ends, and how many bytes of it the other end has acknowledged.
    ///
    /// # Errors
    /// If the kernel cannot be asked.
    pub(crate) fn acknowledged(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
        bound_to: u32,
    ) -> Result<Option<(u32, u64)>, NetlinkError> {
        let request = InetRequest {
            family: if local.is_ipv4() { AF_INET } else { AF_INET6 },
            protocol: IPPROTO_TCP,
            extensions: ExtensionFlags::INFO,
            states: StateFlags::all(),
            socket_id: SocketId {
                source_port: local.port(),
                destination_port: remote.port(),
                source_address: local.ip(),
                destination_address: remote.ip(),
                interface_id: bound_to,
                cookie: NO_COOKIE,
            },
        };
        let payload = payload_of(&request);
        let question = NetlinkRequest {
            message_type: SOCK_DIAG_BY_FAMILY,
            dump: false,
            payload: &payload,
        };
        let mut found = None;
        let asked = self.netlink.ask(question, &mut |answer| {
            let header = InetResponseHeader::parse(answer).map_err(|error| NetlinkError::Answer {
                expected: error.to_string(),
            })?;
            found = bytes_acked(answer).map(|bytes| (header.inode, bytes));
            Ok(())
        });
        match asked {
            Err(error) if error.refusal() == Some(Errno::ENOENT) => Ok(None),
            asked => asked.map(|()| found),
        }
    }
}

fn bytes_acked(answer: &[u8]) -> Option<u64> {
    let mut attributes = answer.get(HEADER..)?;
    while let Some([a, b, c, d]) = attributes.first_chunk::<ATTRIBUTE>() {
        let length = usize::from(u16::from_ne_bytes([*a, *b]));
        let kind = u16::from_ne_bytes([*c, *d]);
        let value = attributes.get(ATTRIBUTE..length)?;
        if kind == INFO {
            let bytes = value.get(BYTES_ACKED..)?.first_chunk::<8>()?;
            return Some(u64::from_ne_bytes(*bytes));
        }
        attributes = attributes.get(length.next_multiple_of(ATTRIBUTE)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a connection of our own")]
    fn what_the_other_end_has_is_counted() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        let ends = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
        let mut diag = SockDiag::open().unwrap();
        let (inode, before) = diag.acknowledged(ends.0, ends.1, 0).unwrap().unwrap();
        assert!(inode > 0);
        stream.write_all(&[7; 1_000]).unwrap();
        accepted.read_exact(&mut [0; 1_000]).unwrap();
        let (_, after) = diag.acknowledged(ends.0, ends.1, 0).unwrap().unwrap();
        assert_eq!(after - before, 1_000);
        drop((stream, accepted, listener));
        assert_eq!(diag.acknowledged(ends.1, ends.0, 0).unwrap(), None);
    }
}
