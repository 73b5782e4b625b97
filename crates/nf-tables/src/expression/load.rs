//! Expressions that put something into a register.

use crate::value::Register;
use crate::wire::{Attribute, DecodeError, Encoder, attributes, flags, numbers};

numbers! {
    /// What of a packet is not in its bytes (`enum nft_meta_keys`).
    pub enum MetaKey as "a key of meta" {
        /// Its length in bytes, in the order of this machine.
        Length = 0,
        /// The Ethernet type of what is inside.
        Protocol = 1,
        /// The priority of its queue.
        Priority = 2,
        /// Its mark.
        Mark = 3,
        /// Number of the interface that it came by.
        InputInterface = 4,
        /// Number of the interface that it leaves by.
        OutputInterface = 5,
        /// Name of the interface that it came by.
        InputName = 6,
        /// Name of the interface that it leaves by.
        OutputName = 7,
        /// Hardware type of the interface that it came by, in the order of this machine.
        InputType = 8,
        /// Hardware type of the interface that it leaves by, in the order of this machine.
        OutputType = 9,
        /// The user whose socket sent it.
        User = 10,
        /// The group whose socket sent it.
        Group = 11,
        /// Realm of its route; ends the rule where it has no route.
        RouteRealm = 13,
        /// Family of its network protocol.
        NetworkFamily = 15,
        /// Its transport protocol.
        TransportProtocol = 16,
        /// Whether it is for this host, another one or many.
        PacketType = 19,
        /// The number of its socket's control group, version 1.
        ControlGroup = 23,
    }
}

attributes! {
    /// Loads something about the packet that is not in its bytes.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Meta as "meta" {
        /// Where it goes.
        pub destination: Register = 1,
        /// What is loaded.
        pub key: MetaKey = 2,
    }
}

impl Meta {
    /// Into the first register.
    #[must_use]
    pub const fn first(key: MetaKey) -> Self {
        Self {
            destination: Register::FIRST,
            key,
        }
    }
}

numbers! {
    /// Where in a packet offsets begin (`enum nft_payload_bases`).
    pub enum PayloadBase as "a header" {
        /// At its link-layer header.
        Link = 0,
        /// At its network header.
        Network = 1,
        /// At its transport header.
        Transport = 2,
        /// Behind its transport header.
        Inner = 3,
    }
}

attributes! {
    /// Loads bytes of the packet; ends the rule where it does not have them.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Payload as "payload" {
        /// Where they go.
        pub destination: Register = 1,
        /// What the offset counts from.
        pub base: PayloadBase = 2,
        /// The first byte.
        pub offset: u32 = 3,
        /// How many bytes.
        pub length: u32 = 4,
    }
}

impl Payload {
    /// Into the first register.
    #[must_use]
    pub const fn first(base: PayloadBase, offset: u32, length: u32) -> Self {
        Self {
            destination: Register::FIRST,
            base,
            offset,
            length,
        }
    }
}

numbers! {
    /// What is known of a packet's route (`enum nft_rt_keys`).
    pub enum RouteKey as "a key of rt" {
        /// Its realm.
        Realm = 0,
        /// The IPv4 address that it is handed to: a gateway's, or its own destination.
        NextHop4 = 1,
        /// The same of IPv6.
        NextHop6 = 2,
    }
}

attributes! {
    /// Loads something about the packet's route; ends the rule where it has none.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Route as "rt" {
        /// Where it goes.
        pub destination: Register = 1,
        /// What is loaded.
        pub key: RouteKey = 2,
    }
}

numbers! {
    /// What the host's routing is asked about an address (`enum nft_fib_result`).
    pub enum FibResult as "a result of fib" {
        /// Number of the interface that leads to it.
        Interface = 1,
        /// Name of that interface.
        InterfaceName = 2,
        /// What kind of address it is: four bytes, in the order of this machine.
        AddressType = 3,
    }
}

flags! {
    /// What the host's routing is asked with.
    pub struct FibFlags {
        /// The packet's source.
        SOURCE = 1,
        /// Its destination.
        DESTINATION = 2,
    }
}

attributes! {
    /// Loads what the host's routing says of an address of the packet.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Fib as "fib" {
        /// Where it goes.
        pub destination: Register = 1,
        /// What is loaded.
        pub result: FibResult = 2,
        /// What is asked.
        pub flags: FibFlags = 3,
    }
}

impl Fib {
    /// What [`FibResult::AddressType`] is for an address of this host's.
    pub const LOCAL: u32 = 2;
    /// The address of somebody else, one.
    pub const UNICAST: u32 = 1;

    /// The kind of the source's address, into the first register.
    #[must_use]
    pub const fn source_type() -> Self {
        Self {
            destination: Register::FIRST,
            result: FibResult::AddressType,
            flags: FibFlags::SOURCE,
        }
    }

    /// The same of the destination's.
    #[must_use]
    pub const fn destination_type() -> Self {
        Self {
            flags: FibFlags::DESTINATION,
            ..Self::source_type()
        }
    }
}

numbers! {
    /// What connection tracking knows of a packet (`enum nft_ct_keys`).
    pub enum ConntrackKey as "a key of ct" {
        /// The state of its flow: one bit of four bytes, in the order of this machine.
        State = 0,
        /// Whether it goes the way that its flow began, or answers: one byte.
        Direction = 1,
        /// Status bits of its flow.
        Status = 2,
        /// The mark of its flow.
        Mark = 3,
        /// Milliseconds until its flow is forgotten.
        Expiration = 5,
        /// Transport protocol of its flow.
        Protocol = 10,
        /// IPv4 address that packets of one direction of its flow come from.
        Source4 = 19,
        /// The same of IPv6.
        Source6 = 21,
    }
}

attributes! {
    /// Loads what connection tracking knows; ends the rule where it knows nothing.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Conntrack as "ct" {
        /// Where it goes.
        pub destination: Register = 1,
        /// What is loaded.
        pub key: ConntrackKey = 2,
        /// Of packets of which direction, where both have their own.
        pub direction: Option<Octet> = 3,
    }
}

impl Conntrack {
    /// The bit of an established flow in [`ConntrackKey::State`].
    pub const ESTABLISHED: u32 = 2;
    /// The bit of a flow that belongs to another one, as an error does.
    pub const RELATED: u32 = 4;
    /// The bit of a flow's first packet.
    pub const NEW: u32 = 8;
    /// The bit of a packet that somebody's rule keeps from connection tracking.
    pub const UNTRACKED: u32 = 64;

    /// The bit of a flow whose destination somebody's rule has changed, in [`ConntrackKey::Status`].
    pub const REDIRECTED: u32 = 32;

    /// What [`ConntrackKey::Direction`] is for a packet that goes as its flow's first one.
    pub const ORIGINAL: [u8; 1] = [0];
    /// What it is for one that answers.
    pub const REPLY: [u8; 1] = [1];

    /// Into the first register.
    #[must_use]
    pub const fn first(key: ConntrackKey) -> Self {
        Self {
            destination: Register::FIRST,
            key,
            direction: None,
        }
    }

    /// What answers come from, before it is led back: an address, into the first register.
    #[must_use]
    pub const fn answers_from(v4: bool) -> Self {
        let [reply] = Self::REPLY;
        Self {
            direction: Some(Octet(reply)),
            ..Self::first(if v4 {
                ConntrackKey::Source4
            } else {
                ConntrackKey::Source6
            })
        }
    }
}

/// A number of eight bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Octet(pub u8);

impl Attribute for Octet {
    fn put(&self, number: u16, out: &mut Encoder) {
        out.attribute(number, &[self.0]);
    }

    fn get(value: &[u8]) -> Result<Self, DecodeError> {
        let [octet] = *value else {
            return Err(DecodeError::Length {
                found: value.len(),
                expected: "an octet has 1",
            });
        };
        Ok(Self(octet))
    }
}

numbers! {
    /// Where further headers are looked for (`enum nft_exthdr_op`).
    pub enum ExtensionPlace as "a place of exthdr" {
        /// Among the extension headers of IPv6.
        Ip6 = 0,
        /// Among the options of TCP.
        Tcp = 1,
        /// Among the options of IPv4.
        Ip = 2,
    }
}

flags! {
    /// How a further header is loaded.
    pub struct ExtensionFlags {
        /// Whether it is there, in place of its bytes.
        PRESENT = 1,
    }
}

attributes! {
    /// Loads bytes of an option or extension header, or whether there is such a one.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct ExtensionHeader as "exthdr" {
        /// Where they go.
        pub destination: Register = 1,
        /// Its number.
        pub header: Octet = 2,
        /// The first byte.
        pub offset: u32 = 3,
        /// How many bytes.
        pub length: u32 = 4,
        /// How it is loaded.
        pub flags: ExtensionFlags = 5,
        /// Where it is looked for.
        pub place: ExtensionPlace = 6,
    }
}

impl ExtensionHeader {
    /// Whether a packet has an option of IPv4, or an extension header of IPv6, of this number: one or zero, into the first
    /// register.
    #[must_use]
    pub const fn presence(v4: bool, header: u8) -> Self {
        Self {
            destination: Register::FIRST,
            header: Octet(header),
            offset: 0,
            length: 1,
            flags: ExtensionFlags::PRESENT,
            place: if v4 {
                ExtensionPlace::Ip
            } else {
                ExtensionPlace::Ip6
            },
        }
    }
}
