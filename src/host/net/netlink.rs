//! Questions to the kernel over netlink, and its answers as bytes.
//!
//! In: a protocol, a request. Out: the payload of every message that answers it. One socket for each [`Netlink`]; it
//! belongs to the network namespace of the thread that opened it. What the bytes mean is known by the callers
//! (`sock_diag`, `links`, `conntrack`). Subscriptions ([`subscribe`]) have no questions; whoever reads them reads through
//! [`receive`].
//! Invariant: nobody but the kernel is believed. A program with CAP_NET_ADMIN can send to every netlink socket, and to
//! every group of listeners.

use std::io;

use netlink_packet_core::{
    NLA_F_NESTED, NLA_HEADER_SIZE, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE,
    NLMSG_ERROR, NetlinkBuffer, NetlinkHeader, NlasIterator,
};
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike as _};

/// The kernel never puts more than 32 KiB into one dump message; twice that leaves room for it to change its mind.
const RECEIVE_BUFFER: usize = 65_536;
/// The kernel answers at once; a lost answer must not hang the caller.
const ANSWER_LIMIT_SECONDS: i64 = 2;
/// Bytes of a message header.
const HEADER: usize = 16;

/// Why the kernel's answer is not known.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    #[error("could not open a netlink socket")]
    Open(#[source] io::Error),
    /// The request was not taken.
    #[error("could not send a netlink request")]
    Send(#[source] io::Error),
    #[error("could not receive a netlink answer")]
    Receive(#[source] io::Error),
    /// An answer that makes no sense.
    #[error("could not read a netlink answer: {expected}")]
    Answer {
        /// What was wrong.
        expected: String,
    },
    #[error("the kernel refused a netlink request")]
    Refused(#[source] io::Error),
}

impl NetlinkError {
    /// The kernel's own reason for refusing.
    #[must_use]
    pub fn refusal(&self) -> Option<Errno> {
        match self {
            Self::Refused(error) => error.raw_os_error().map(Errno::from_raw),
            _ => None,
        }
    }
}

/// What to ask.
#[derive(Debug, Clone, Copy)]
pub struct NetlinkRequest<'a> {
    /// Type of the request, as the protocol numbers them.
    pub message_type: u16,
    /// Every object there is, or the one that the payload names.
    pub dump: bool,
    /// What follows the message header.
    pub payload: &'a [u8],
}

/// A socket that hears these groups of a protocol, in the network namespace of the calling thread.
///
/// # Errors
/// The kernel's refusal.
pub(crate) fn subscribe(protocol: isize, groups: &[u32]) -> io::Result<Socket> {
    let mut socket = Socket::new(protocol)?;
    socket.bind(&SocketAddr::new(0, 0))?;
    // Messages to this socket alone, which the kernel has none of, are refused where they are sent.
    socket.connect(&SocketAddr::new(0, 0))?;
    for group in groups {
        socket.add_membership(*group)?;
    }
    Ok(socket)
}

/// Reads one datagram into `buffer`; false when it was not the kernel's: `buffer` is empty then.
///
/// # Errors
/// Those of the socket.
pub(crate) fn receive(socket: &Socket, buffer: &mut Vec<u8>) -> io::Result<bool> {
    buffer.clear();
    let (_, sender) = socket.recv_from(buffer, 0)?;
    let kernels = sender.port_number() == 0;
    if !kernels {
        buffer.clear();
    }
    Ok(kernels)
}

/// An open netlink socket.
pub struct Netlink {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    /// Opens it in the network namespace of the calling thread.
    ///
    /// # Errors
    /// If the kernel does not have the protocol or refuses.
    pub fn open(protocol: isize) -> Result<Self, NetlinkError> {
        let mut socket = Socket::new(protocol).map_err(NetlinkError::Open)?;
        socket.bind_auto().map_err(NetlinkError::Open)?;
        socket
            .connect(&SocketAddr::new(0, 0))
            .map_err(NetlinkError::Open)?;
        let limit = TimeVal::seconds(ANSWER_LIMIT_SECONDS);
        setsockopt(&socket, sockopt::ReceiveTimeout, &limit)
            .map_err(|errno| NetlinkError::Open(errno.into()))?;
        Ok(Self {
            socket,
            sequence: 0,
            buffer: Vec::with_capacity(RECEIVE_BUFFER),
        })
    }

    /// Asks, and calls `each` with the payload of every message of the answer.
    ///
    /// # Errors
    /// If the kernel cannot be asked or refuses; the refusal says why ([`NetlinkError::refusal`]).
    pub fn ask(
        &mut self,
        question: NetlinkRequest<'_>,
        each: &mut dyn FnMut(&[u8]) -> Result<(), NetlinkError>,
    ) -> Result<(), NetlinkError> {
        let flags = if question.dump { NLM_F_DUMP } else { 0 };
        self.send(question.message_type, flags, question.payload)?;
        while !self.receive(question.dump, each)? {}
        Ok(())
    }

    /// Has the kernel do something that has no other answer than done or refused.
    ///
    /// # Errors
    /// As [`Netlink::ask`].
    pub fn instruct(&mut self, message_type: u16, payload: &[u8]) -> Result<(), NetlinkError> {
        self.instruct_with(message_type, 0, payload)
    }

    /// The same, with flags of that message: to make what is not there, for one.
    ///
    /// # Errors
    /// As [`Netlink::ask`].
    pub(super) fn instruct_with(
        &mut self,
        message_type: u16,
        flags: u16,
        payload: &[u8],
    ) -> Result<(), NetlinkError> {
        self.send(message_type, NLM_F_ACK | flags, payload)?;
        while !self.receive(false, &mut |_| Ok(()))? {}
        Ok(())
    }

    /// Has the kernel do the same with each of these, with one call; some dozens of them. What it refuses of a single one is told
    /// of the last one only.
    ///
    /// # Errors
    /// As [`Netlink::ask`].
    pub(super) fn instruct_all(
        &mut self,
        message_type: u16,
        payloads: &[Vec<u8>],
    ) -> Result<(), NetlinkError> {
        let mut bytes = Vec::new();
        for (index, payload) in payloads.iter().enumerate() {
            // The kernel works through them in this order, so the last answer tells that all are done.
            let is_last = index + 1 == payloads.len();
            self.write(
                message_type,
                if is_last { NLM_F_ACK } else { 0 },
                payload,
                &mut bytes,
            );
        }
        if bytes.is_empty() {
            return Ok(());
        }
        self.hand_over(&bytes)?;
        while !self.receive(false, &mut |_| Ok(()))? {}
        Ok(())
    }

    fn send(&mut self, message_type: u16, flags: u16, payload: &[u8]) -> Result<(), NetlinkError> {
        let mut bytes = Vec::new();
        self.write(message_type, flags, payload, &mut bytes);
        self.hand_over(&bytes)
    }

    /// Appends a message of the next number.
    fn write(&mut self, message_type: u16, flags: u16, payload: &[u8], bytes: &mut Vec<u8>) {
        self.sequence = self.sequence.wrapping_add(1);
        let begin = bytes.len();
        bytes.resize(begin + HEADER, 0);
        let mut header = NetlinkHeader::default();
        header.length = u32::try_from(HEADER + payload.len()).unwrap_or(u32::MAX);
        header.message_type = message_type;
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        netlink_packet_core::Emitable::emit(&header, bytes.get_mut(begin..).unwrap_or_default());
        bytes.extend_from_slice(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }

    fn hand_over(&self, bytes: &[u8]) -> Result<(), NetlinkError> {
        self.socket.send(bytes, 0).map(|_| ()).map_err(NetlinkError::Send)
    }

    /// Reads one datagram of the kernel; true when the answer is complete.
    fn receive(
        &mut self,
        dump: bool,
        each: &mut dyn FnMut(&[u8]) -> Result<(), NetlinkError>,
    ) -> Result<bool, NetlinkError> {
        receive(&self.socket, &mut self.buffer).map_err(NetlinkError::Receive)?;
        let mut rest = self.buffer.as_slice();
        while !rest.is_empty() {
            let message = NetlinkBuffer::new_checked(rest).map_err(|error| NetlinkError::Answer {
                expected: error.to_string(),
            })?;
            // Messages begin at multiples of four bytes.
            let length = (message.length() as usize).next_multiple_of(4).max(HEADER);
            rest = rest.get(length..).unwrap_or_default();
            if message.sequence_number() != self.sequence {
                continue; // the late answer to a request that was given up
            }
            match message.message_type() {
                // The end of a list that was given up says why, as an error does.
                NLMSG_DONE | NLMSG_ERROR => return refused(message.payload()),
                _ => {
                    if message.flags() & NLM_F_DUMP_INTR != 0 {
                        tracing::debug!("what was listed changed meanwhile; the list may miss something");
                    }
                    each(message.payload())?;
                    if !dump {
                        return Ok(true);
                    }
                }
            }
        }
        Ok(false)
    }
}

/// An error message begins with the negative error number; zero is an acknowledgement.
fn refused(payload: &[u8]) -> Result<bool, NetlinkError> {
    let code = word(payload, 0).map_or(0, u32::cast_signed);
    if code >= 0 {
        return Ok(true);
    }
    Err(NetlinkError::Refused(io::Error::from_raw_os_error(
        code.saturating_neg(),
    )))
}

/// Four bytes at `offset`, in the order of this machine.
#[must_use]
pub fn word(bytes: &[u8], offset: usize) -> Option<u32> {
    let bytes = bytes.get(offset..offset.checked_add(4)?)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

/// The attributes in `bytes` as number and value; ends at the first that is cut.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(bytes).map_while(|attribute| {
        let attribute = attribute.ok()?;
        let (number, end) = (attribute.kind(), usize::from(attribute.length()));
        Some((number, attribute.into_inner().get(NLA_HEADER_SIZE..end)?))
    })
}

/// Appends an attribute; `value` may be attributes again.
pub fn push_attribute(bytes: &mut Vec<u8>, number: u16, nested: bool, value: &[u8]) {
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    let flag = if nested { NLA_F_NESTED } else { 0 };
    bytes.extend(length.to_ne_bytes());
    bytes.extend((number | flag).to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use netlink_sys::protocols::{NETLINK_ROUTE, NETLINK_USERSOCK};

    use super::*;

    #[test]
    fn what_another_program_sends_is_thrown_away() {
        let mut listener = Socket::new(NETLINK_USERSOCK).unwrap();
        let place = listener.bind_auto().unwrap();
        let mut stranger = Socket::new(NETLINK_USERSOCK).unwrap();
        stranger.bind_auto().unwrap();
        stranger.send_to(b"forged", &place, 0).unwrap();
        let mut buffer = Vec::with_capacity(64);
        assert!(!receive(&listener, &mut buffer).unwrap());
        assert!(buffer.is_empty());

        let subscribed = subscribe(NETLINK_USERSOCK, &[]).unwrap();
        let mut place = SocketAddr::new(0, 0);
        subscribed.get_address(&mut place).unwrap();
        let refused = stranger.send_to(b"forged", &place, 0).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn what_the_kernel_answers_is_taken() {
        let mut netlink = Netlink::open(NETLINK_ROUTE).unwrap();
        // RTM_GETLINK, every interface.
        let mut count = 0;
        let question = NetlinkRequest {
            message_type: 18,
            dump: true,
            payload: &[0; 16],
        };
        netlink
            .ask(question, &mut |_| {
                count += 1;
                Ok(())
            })
            .unwrap();
        assert!(count > 0, "loopback at least");
    }
}
