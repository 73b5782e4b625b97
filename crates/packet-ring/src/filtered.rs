//! A packet socket for the UDP datagrams of one port, on every interface.
//!
//! In: a port. Out: IP packets as they are sent and received, loopback included, each with the interface and the way it
//! went ([`Seen`]). The kernel's filter refuses everything else, so a busy machine does not wake the reader. For rare
//! packets: each is one read and one copy. Absent: other protocols, pieces of datagrams, IPv6 extension headers, decoding.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, LinkAddr, SockFlag, SockType, recvfrom, socket};

use crate::error::RingError;
use crate::filter::udp_program;
use crate::frame::FrameKind;
use crate::socket::{attach, bind_to_all};

/// What the kernel says about a packet that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Bytes of the packet in the buffer, from its IP header on; a longer packet was cut.
    pub length: usize,
    /// Index of the interface.
    pub interface: u32,
    /// Which way it went. On loopback every packet is seen twice, sent and received.
    pub kind: FrameKind,
    /// ARP hardware type of the interface; 772 is loopback.
    pub hardware_type: u16,
}

/// An open socket, non-blocking. It sees the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct FilteredSocket {
    socket: OwnedFd,
}

impl FilteredSocket {
    /// Opens it for UDP datagrams from or to `port`, each cut to `snap_length` bytes.
    ///
    /// # Errors
    /// If the capability `CAP_NET_RAW` is missing ([`RingError::is_permission`]) or the kernel refuses.
    pub fn udp(port: u16, snap_length: u32) -> Result<Self, RingError> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        // Datagram: packets begin with their network header, whatever the link is. Without protocol the socket receives
        // nothing until it is bound, so nothing comes before the filter is there.
        let socket = socket(AddressFamily::Packet, SockType::Datagram, flags, None)
            .map_err(|errno| RingError::refused("open a packet socket", errno))?;
        attach(&socket, udp_program(port, snap_length))?;
        bind_to_all(&socket)?;
        Ok(Self { socket })
    }

    /// The next packet; its bytes are in `buffer` then.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if there is none yet; else the socket has failed.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Seen> {
        let (length, from) = recvfrom::<LinkAddr>(self.socket.as_raw_fd(), buffer)?;
        let from = from.ok_or(Errno::EPROTO)?;
        Ok(Seen {
            length: length.min(buffer.len()),
            interface: u32::try_from(from.ifindex()).unwrap_or_default(),
            kind: FrameKind::from_number(from.pkttype()),
            hardware_type: from.hatype(),
        })
    }
}

impl AsFd for FilteredSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for FilteredSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
