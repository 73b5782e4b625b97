//! Netlink messages of nf_tables: header, family, type.
//!
//! In: a type, a family and what writes the attributes. Out: a message at the end of a batch, and back.

use super::{DecodeError, Encoder, numbers};

/// Bytes of `struct nlmsghdr`.
pub(crate) const HEADER: usize = 16;
/// Bytes of `struct nfgenmsg`.
const FAMILY_HEADER: usize = 4;
/// Where the sequence number is in a header.
const SEQUENCE: usize = 8;
/// Where the flags are in a header.
const FLAGS: usize = 6;

/// `NFNL_SUBSYS_NFTABLES`, in the upper half of a message's type.
const SUBSYSTEM: u16 = 10 << 8;
/// `NFNL_MSG_BATCH_BEGIN` and `NFNL_MSG_BATCH_END`.
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;

/// Flags of a header (`linux/netlink.h`).
pub(crate) const REQUEST: u16 = 1;
pub(crate) const ACKNOWLEDGE: u16 = 4;
pub(crate) const EXCLUSIVE: u16 = 0x200;
pub(crate) const CREATE: u16 = 0x400;
pub(crate) const APPEND: u16 = 0x800;

numbers! {
    /// A family of packets; each has tables of its own.
    pub enum Family as "a family" {
        /// IPv4 and IPv6 packets of the IP stack.
        Inet = 1,
        /// IPv4 packets of the IP stack.
        Ipv4 = 2,
        /// ARP packets of the IP stack.
        Arp = 3,
        /// Frames of an interface, as they come and go.
        Netdev = 5,
        /// Frames that a bridge passes on.
        Bridge = 7,
        /// IPv6 packets of the IP stack.
        Ipv6 = 10,
    }
}

impl Family {
    /// As nft writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inet => "inet",
            Self::Ipv4 => "ip",
            Self::Arp => "arp",
            Self::Netdev => "netdev",
            Self::Bridge => "bridge",
            Self::Ipv6 => "ip6",
        }
    }

    fn byte(self) -> u8 {
        u8::try_from(self.number()).unwrap_or_default()
    }
}

numbers! {
    /// Types of messages (`enum nf_tables_msg_types`).
    pub enum MessageType as "a message of nf_tables" {
        /// A table is made or told.
        NewTable = 0,
        /// A table is asked for.
        GetTable = 1,
        /// A table is removed.
        DeleteTable = 2,
        /// A chain is made or told.
        NewChain = 3,
        /// Chains are asked for.
        GetChain = 4,
        /// A chain is removed.
        DeleteChain = 5,
        /// A rule is made, replaced or told.
        NewRule = 6,
        /// Rules are asked for.
        GetRule = 7,
        /// A rule is removed.
        DeleteRule = 8,
        /// A set is made or told.
        NewSet = 9,
        /// Sets are asked for.
        GetSet = 10,
        /// A set is removed.
        DeleteSet = 11,
        /// Elements are added or told.
        NewElement = 12,
        /// Elements are asked for.
        GetElement = 13,
        /// Elements are removed.
        DeleteElement = 14,
        /// A generation is told.
        NewGeneration = 15,
        /// The generation is asked for.
        GetGeneration = 16,
        /// The way of a packet.
        Trace = 17,
        /// A stateful object is made or told.
        NewObject = 18,
        /// Stateful objects are asked for.
        GetObject = 19,
        /// A stateful object is removed.
        DeleteObject = 20,
        /// Stateful objects are asked for and set back.
        GetObjectReset = 21,
        /// A flow table is made or told.
        NewFlowTable = 22,
        /// Flow tables are asked for.
        GetFlowTable = 23,
        /// A flow table is removed.
        DeleteFlowTable = 24,
    }
}

impl MessageType {
    /// As it stands in a header.
    pub(crate) const fn kind(self) -> u16 {
        // Below 256: an offset in the subsystem.
        SUBSYSTEM | (self.number() & 0xff) as u16
    }

    /// The type that a header names; none for another subsystem's.
    pub(crate) fn of(kind: u16) -> Option<Self> {
        if kind & 0xff00 != SUBSYSTEM {
            return None;
        }
        Self::from_number(u32::from(kind & 0xff))
    }
}

impl Encoder {
    /// Appends one message.
    pub(crate) fn message(
        &mut self,
        kind: MessageType,
        flags: u16,
        family: Option<Family>,
        attributes: impl FnOnce(&mut Self),
    ) {
        let start = self.begin_message(kind.kind(), flags, family.map_or(0, Family::byte), 0);
        attributes(self);
        self.end_message(start);
    }

    /// Appends what begins a transaction; `generation` is the one that it is for.
    pub(crate) fn begin_batch(&mut self, generation: Option<u32>) {
        /// `NFNL_BATCH_GENID`.
        const GENERATION: u16 = 1;
        let start = self.begin_message(BATCH_BEGIN, REQUEST, 0, SUBSYSTEM >> 8);
        if let Some(generation) = generation {
            self.attribute(GENERATION, &generation.to_be_bytes());
        }
        self.end_message(start);
    }

    /// Appends what ends a transaction.
    pub(crate) fn end_batch(&mut self) {
        let start = self.begin_message(BATCH_END, REQUEST, 0, SUBSYSTEM >> 8);
        self.end_message(start);
    }

    fn begin_message(&mut self, kind: u16, flags: u16, family: u8, resource: u16) -> usize {
        let bytes = self.bytes_mut();
        let start = bytes.len();
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(&[family, 0]);
        bytes.extend_from_slice(&resource.to_be_bytes());
        start
    }

    fn end_message(&mut self, start: usize) {
        let length = u32::try_from(self.bytes().len() - start).unwrap_or(u32::MAX);
        if let Some(place) = self.bytes_mut().get_mut(start..start + 4) {
            place.copy_from_slice(&length.to_ne_bytes());
        }
    }
}

/// Numbers the messages in `bytes`, beginning with `first`; adds flags to the one at `marked`.
pub(crate) fn number_messages(bytes: &mut [u8], first: u32, marked: Option<(usize, u16)>) {
    let (mut rest, mut index) = (bytes, 0);
    while rest.len() >= HEADER {
        let length = word(rest, 0).map_or(HEADER, |length| length as usize);
        let sequence = first.wrapping_add(u32::try_from(index).unwrap_or_default());
        rest[SEQUENCE..SEQUENCE + 4].copy_from_slice(&sequence.to_ne_bytes());
        if let Some((_, added)) = marked.filter(|(place, _)| *place == index) {
            let flags = u16::from_ne_bytes([rest[FLAGS], rest[FLAGS + 1]]) | added;
            rest[FLAGS..FLAGS + 2].copy_from_slice(&flags.to_ne_bytes());
        }
        let next = length.next_multiple_of(4).clamp(HEADER, rest.len());
        rest = &mut rest[next..];
        index += 1;
    }
}

/// One message of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// Its type as the header has it.
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    /// What follows the header.
    pub(crate) payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// The messages of a datagram; the last one is an error where it is cut.
    pub fn all(datagram: &'a [u8]) -> impl Iterator<Item = Result<Self, DecodeError>> {
        let mut rest = datagram;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let first = Self::first(rest);
            rest = match first {
                Some((_, rest)) => rest,
                None => &[],
            };
            Some(first.map(|(message, _)| message).ok_or(DecodeError::Cut))
        })
    }

    fn first(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let length = word(bytes, 0)? as usize;
        let payload = bytes.get(HEADER..length)?;
        let half = |at: usize| Some(u16::from_ne_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
        let message = Self {
            kind: half(4)?,
            flags: half(FLAGS)?,
            sequence: word(bytes, SEQUENCE)?,
            payload,
        };
        Some((
            message,
            bytes.get(length.next_multiple_of(4)..).unwrap_or_default(),
        ))
    }

    /// What it says, if it is a message of nf_tables.
    #[must_use]
    pub fn message_type(&self) -> Option<MessageType> {
        MessageType::of(self.kind)
    }

    /// The family it is about; none where it is about none, or about one that is not known.
    #[must_use]
    pub fn family(&self) -> Option<Family> {
        Family::from_number(u32::from(*self.payload.first()?))
    }

    /// Its attributes.
    pub(crate) fn attributes(&self) -> &'a [u8] {
        self.payload.get(FAMILY_HEADER..).unwrap_or_default()
    }
}

/// Four bytes at `offset`, in the order of this machine.
pub(crate) fn word(bytes: &[u8], offset: usize) -> Option<u32> {
    let bytes = bytes.get(offset..offset.checked_add(4)?)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}
