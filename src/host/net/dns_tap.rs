//! Sees the DNS messages that this machine sends and receives.
//!
//! In: what looks at them. Out: what that finds in datagrams of port 53 of every interface, loopback included, for
//! `quarantine::dns_questions`. The kernel's filter refuses everything else. Any program can send as many as it likes, so
//! they are read on a thread of their own, and nothing of them is believed. Nothing is sent, nothing is held up. Absent: DNS
//! over TCP, pieces of datagrams, IPv6 extension headers: names asked for that way are looked up when they are due.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use packet_ring::{FilteredSocket, FrameKind, RingError, Seen};
use pnet::packet::ipv4::Ipv4Packet;
use pnet::packet::ipv6::Ipv6Packet;
use pnet::packet::udp::UdpPacket;
use tokio::sync::mpsc;

use crate::host::priority::Priority;
use crate::quarantine::lifelines::dns_questions::{Datagram, DatagramDirection, MAX_MESSAGE, PORT};

/// Headers before the longest message: 60 bytes of IPv4 with all its options, 8 of UDP.
const HEADERS: usize = 68;
/// Bytes of a packet that are read.
const SNAP: usize = MAX_MESSAGE + HEADERS;
/// `ARPHRD_LOOPBACK`.
const LOOPBACK: u16 = 772;
/// UDP's number.
const UDP: u8 = 17;

/// Datagrams looked at in one go; what was found in them is told together.
const MAX_BATCH: usize = 64;
/// After every batch: 32,000 messages a second are more than any honest resolver sends.
const BREATH: Duration = Duration::from_millis(2);
/// The thread reads messages that others made, some levels deep.
const STACK: usize = 256 * 1024;

/// An open tap; it sees the network namespace of the thread that opened it.
pub(crate) struct DnsTap {
    socket: FilteredSocket,
    buffer: Box<[u8]>,
}

/// A tap that a thread of its own reads, which waits in the kernel while there is nothing, and ends when this is dropped.
pub(crate) struct DnsTapReader<T> {
    found: mpsc::Receiver<Result<Vec<T>, TapError>>,
    /// The thread has the other end, and sees that this one has gone.
    _stop: UnixStream,
}

/// Why there is no tap.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TapError {
    /// The kernel's refusal.
    #[error("DNS questions cannot be seen")]
    Open(#[from] RingError),
    /// The socket cannot be waited for, or has failed.
    #[error("DNS questions cannot be read")]
    Read(#[from] io::Error),
    /// It panicked, or could not be waited for.
    #[error("the thread that reads DNS questions has ended")]
    Ended,
}

impl<T> DnsTapReader<T> {
    /// What was found next; cancel-safe. Takes its time, and the thread waits meanwhile: nothing is heaped up.
    ///
    /// # Errors
    /// When there will be no more.
    pub(crate) async fn next(&mut self) -> Result<Vec<T>, TapError> {
        self.found.recv().await.unwrap_or(Err(TapError::Ended))
    }
}

impl DnsTap {
    /// Opens it.
    ///
    /// # Errors
    /// Without `CAP_NET_RAW`, or when the kernel refuses.
    pub(crate) fn open() -> Result<Self, TapError> {
        let snap = u32::try_from(SNAP).unwrap_or(u32::MAX);
        Ok(Self {
            socket: FilteredSocket::udp(PORT, snap)?,
            buffer: vec![0; SNAP].into_boxed_slice(),
        })
    }

    /// Has a thread give each datagram to `look`, and passes on what that finds.
    ///
    /// # Errors
    /// If no thread can be started.
    pub(crate) fn in_background<T: Send + 'static>(
        mut self,
        mut look: impl FnMut(&Datagram<'_>) -> Vec<T> + Send + 'static,
    ) -> Result<DnsTapReader<T>, TapError> {
        let (stop, stopped) = UnixStream::pair()?;
        let (tell, found) = mpsc::channel(1);
        let read = move || {
            // The thread that decides started this one, and others decide how much there is to read.
            Priority::Ordinary.take();
            if let Err(error) = self.read_until(&stopped, &mut look, &tell) {
                // Nobody may listen any more.
                let _ = tell.blocking_send(Err(error));
            }
        };
        let thread = thread::Builder::new().name("dns-questions".to_owned());
        thread.stack_size(STACK).spawn(read)?;
        Ok(DnsTapReader { found, _stop: stop })
    }

    fn read_until<T>(
        &mut self,
        stopped: &UnixStream,
        look: &mut impl FnMut(&Datagram<'_>) -> Vec<T>,
        tell: &mpsc::Sender<Result<Vec<T>, TapError>>,
    ) -> Result<(), TapError> {
        loop {
            let mut polled = [
                PollFd::new(stopped.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
            ];
            if !wait(&mut polled, PollTimeout::NONE)? {
                return Ok(());
            }
            let mut found = Vec::new();
            for _ in 0..MAX_BATCH {
                if !self.take(|datagram| found.extend(look(datagram)))? {
                    break;
                }
            }
            if !found.is_empty() && tell.blocking_send(Ok(found)).is_err() {
                return Ok(());
            }
            let mut polled = [PollFd::new(stopped.as_fd(), PollFlags::POLLIN)];
            let breath = PollTimeout::try_from(BREATH).unwrap_or(PollTimeout::ZERO);
            if !wait(&mut polled, breath)? {
                return Ok(());
            }
        }
    }

    /// Gives the next datagram that is there to `each`; `false`: there is none.
    ///
    /// # Errors
    /// If the socket has failed.
    fn take(&mut self, each: impl FnOnce(&Datagram<'_>)) -> Result<bool, TapError> {
        match self.socket.receive(&mut self.buffer) {
            Ok(seen) => {
                if let Some(datagram) = self
                    .buffer
                    .get(..seen.length)
                    .and_then(|bytes| read(bytes, &seen))
                {
                    each(&datagram);
                }
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
            // An interface went down; others go on.
            Err(error) if error.raw_os_error() == Some(Errno::ENETDOWN as i32) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }
}

/// Waits at most `limit`; `false`: the first of them says that it is over.
fn wait(polled: &mut [PollFd<'_>], limit: PollTimeout) -> io::Result<bool> {
    match poll(polled, limit) {
        Ok(_) => {}
        Err(Errno::EINTR) => return Ok(true),
        Err(errno) => return Err(errno.into()),
    }
    let stopped = polled.first().and_then(PollFd::any);
    Ok(stopped != Some(true))
}

/// The datagram in an IP packet, if it is one of ours.
fn read<'a>(bytes: &'a [u8], seen: &Seen) -> Option<Datagram<'a>> {
    let way = match (seen.hardware_type == LOOPBACK, seen.kind) {
        (true, FrameKind::Host) => DatagramDirection::Loopback,
        (false, FrameKind::Host) => DatagramDirection::Received,
        (false, FrameKind::Outgoing) => DatagramDirection::Sent,
        // On loopback every packet is seen leaving, too; what is for others is not ours.
        _ => return None,
    };
    let (source, destination, header) = match bytes.first()? >> 4 {
        4 => {
            let packet = Ipv4Packet::new(bytes)?;
            let header = usize::from(packet.get_header_length()) * 4;
            let protocol = packet.get_next_level_protocol().0;
            (protocol == UDP && header >= 20).then_some((
                packet.get_source().into(),
                packet.get_destination().into(),
                header,
            ))
        }
        6 => {
            let packet = Ipv6Packet::new(bytes)?;
            (packet.get_next_header().0 == UDP).then_some((
                packet.get_source().into(),
                packet.get_destination().into(),
                40,
            ))
        }
        _ => None,
    }?;
    let rest = bytes.get(header..)?;
    let udp = UdpPacket::new(rest)?;
    // Padding of the link may follow; the length is the datagram's own.
    let length = usize::from(udp.get_length());
    Some(Datagram {
        source: SocketAddr::new(source, udp.get_source()),
        destination: SocketAddr::new(destination, udp.get_destination()),
        interface: seen.interface,
        way,
        payload: rest.get(8..length)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(hardware_type: u16, kind: FrameKind) -> Seen {
        Seen {
            length: 0,
            interface: 2,
            kind,
            hardware_type,
        }
    }

    /// An IPv4 packet with one word of options and the message "hi", and two bytes of padding.
    fn packet() -> Vec<u8> {
        let mut bytes = vec![0x46, 0, 0, 34, 0, 0, 0, 0, 64, 17, 0, 0];
        bytes.extend([198, 51, 100, 1, 198, 51, 100, 2, 1, 1, 1, 1]);
        bytes.extend([0, 53, 0x9c, 0x40, 0, 10, 0, 0]);
        bytes.extend(b"hi\0\0");
        bytes
    }

    #[test]
    fn a_packet_is_read_without_options_and_padding() {
        let packet = packet();
        let datagram = read(&packet, &seen(1, FrameKind::Host)).unwrap();
        assert_eq!(datagram.payload, b"hi");
        assert_eq!(datagram.source, "198.51.100.1:53".parse().unwrap());
        assert_eq!(datagram.destination, "198.51.100.2:40000".parse().unwrap());
        assert_eq!(datagram.way, DatagramDirection::Received);
        let mut six = vec![0x60, 0, 0, 0, 0, 10, 17, 64];
        six.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1].repeat(2));
        six.extend([0x9c, 0x40, 0, 53, 0, 10, 0, 0]);
        six.extend(b"hi");
        let datagram = read(&six, &seen(1, FrameKind::Outgoing)).unwrap();
        assert_eq!(
            (datagram.payload, datagram.way),
            (&b"hi"[..], DatagramDirection::Sent)
        );
        assert_eq!(datagram.destination, "[2001:db8::1]:53".parse().unwrap());
    }

    #[test]
    fn a_packet_that_ends_early_or_lies_about_itself_is_passed_over() {
        let whole = packet();
        for length in 0..34 {
            let cut = &whole[..length];
            assert!(read(cut, &seen(1, FrameKind::Host)).is_none(), "{length} bytes");
        }
        for (offset, value) in [(0, 0x56), (0, 0x41), (0, 0x4f), (9, 6), (29, 7), (29, 200)] {
            let mut lie = whole.clone();
            lie[offset] = value;
            assert!(
                read(&lie, &seen(1, FrameKind::Host)).is_none(),
                "byte {offset} = {value}"
            );
        }
    }

    #[test]
    fn on_loopback_each_packet_counts_once() {
        let packet = packet();
        let way = |hardware, kind| read(&packet, &seen(hardware, kind)).map(|datagram| datagram.way);
        assert_eq!(way(LOOPBACK, FrameKind::Host), Some(DatagramDirection::Loopback));
        assert_eq!(way(LOOPBACK, FrameKind::Outgoing), None);
        assert_eq!(way(1, FrameKind::OtherHost), None);
        assert_eq!(way(1, FrameKind::Broadcast), None);
    }
}
