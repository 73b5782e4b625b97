//! Sets: what they hold is told by their type, and changed without touching the rules that ask them.
//!
//! In: names, types, flags. Out: a set's attributes. Its elements are messages of their own ([`element`]); a set of some
//! rule's own constants is [`AnonymousSet`].

mod anonymous;
mod element;
mod interval;

pub use anonymous::AnonymousSet;
pub use element::{Element, ElementFlags};
pub(crate) use element::{LIST, LIST_ELEMENT, LIST_ID, LIST_SET, elements_in};
pub use interval::{Interval, interval_elements, intervals_of};

use crate::userdata::UserData;
use crate::wire::{Attribute, DecodeError, Encoder, attributes, flags};

flags! {
    /// What a set can do.
    pub struct SetFlags {
        /// It belongs to one rule and has no name of its own.
        ANONYMOUS = 1,
        /// Its elements do not change.
        CONSTANT = 2,
        /// Its elements are intervals.
        INTERVAL = 4,
        /// Each key has a value.
        MAP = 8,
        /// Elements can end by themselves.
        TIMEOUT = 0x10,
        /// Rules can add elements.
        EVALUATED = 0x20,
        /// Each key has an object.
        OBJECT = 0x40,
        /// Its keys are concatenations of intervals.
        CONCATENATION = 0x80,
    }
}

/// The type of a set's keys, as nft numbers them (`enum datatypes`); the kernel keeps the number and does not read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyType(u32);

impl KeyType {
    /// Bits that each part of a concatenation's type has.
    const PART_BITS: u32 = 6;

    /// A number without a type of its own.
    pub const INTEGER: Self = Self(4);
    /// IPv4 addresses, 4 bytes.
    pub const IPV4: Self = Self(7);
    /// IPv6 addresses, 16 bytes.
    pub const IPV6: Self = Self(8);
    /// Ethernet types, 2 bytes.
    pub const ETHERNET_TYPE: Self = Self(10);
    /// Transport protocols, 1 byte.
    pub const TRANSPORT_PROTOCOL: Self = Self(12);
    /// Ports, 2 bytes.
    pub const PORT: Self = Self(13);
    /// Types of ICMP messages, 1 byte.
    pub const ICMP_TYPE: Self = Self(14);
    /// Numbers of interfaces, 4 bytes in the order of this machine.
    pub const INTERFACE_INDEX: Self = Self(20);
    /// Types of ICMPv6 messages, 1 byte.
    pub const ICMPV6_TYPE: Self = Self(29);

    /// Names of interfaces, 16 bytes with zeros behind the name.
    pub const INTERFACE_NAME: Self = Self(41);

    /// Several one behind the other, five at most.
    #[must_use]
    pub fn concatenation(parts: &[Self]) -> Self {
        let shifted = |sum: u32, part: &Self| (sum << Self::PART_BITS) | part.0;
        Self(parts.iter().fold(0, shifted))
    }

    /// nft's number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// From nft's number.
    #[must_use]
    pub const fn from_number(number: u32) -> Self {
        Self(number)
    }
}

impl Attribute for KeyType {
    fn put(&self, number: u16, out: &mut Encoder) {
        self.0.put(number, out);
    }

    fn get(value: &[u8]) -> Result<Self, DecodeError> {
        u32::get(value).map(Self)
    }
}

attributes! {
    /// What a set may grow to, and what its keys are made of.
    #[derive(Debug, Clone, Default, PartialEq, Eq)]
    pub struct SetDescription as "a set's description" keep unknown {
        /// Most elements; none where it may grow for ever. Where the set is a hash the kernel makes it large enough for so many
        /// at once, but by the lower 16 bits of the number only.
        pub size: Option<u32> = 1,
        /// Bytes of each part, where the keys are concatenations of intervals.
        pub parts: Vec<SetPart> = 2,
    }
}

attributes! {
    /// One part of a key.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct SetPart as "a part of a key" {
        /// Its bytes.
        pub length: u32 = 1,
    }
}

/// `NFTA_SET_NAME`.
pub(crate) const SET_NAME: u16 = 2;

attributes! {
    /// A set of a table, without its elements.
    ///
    /// Normal form: no flags and an empty description, both of which the kernel lists, are not written; handle, and what
    /// newer kernels tell of their own structures and of the number of elements, are left out; the id is for one batch
    /// only and is given by it.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Set as "a set" ignore 1 | 10 | 14 | 16 | 19 | 20 keep unknown {
        /// Its name.
        pub name: String = 2,
        /// What it can do.
        pub flags: SetFlags = 3 or SetFlags::NONE,
        /// The type of its keys.
        pub key_type: KeyType = 4,
        /// Bytes of a key.
        pub key_length: u32 = 5,
        /// What it may grow to.
        pub description: SetDescription = 9 or SetDescription::default(),
        /// Milliseconds after which elements end that say nothing else.
        pub timeout: Option<u64> = 11,
        /// What nft keeps for itself.
        pub userdata: UserData = 13 or UserData::NONE,
    }
}

impl Set {
    /// One whose keys have this type and so many bytes, in network order.
    #[must_use]
    pub fn new(name: impl Into<String>, key_type: KeyType, key_length: u32, flags: SetFlags) -> Self {
        Self {
            name: name.into(),
            flags,
            key_type,
            key_length,
            description: SetDescription::default(),
            timeout: None,
            userdata: UserData::of_set(crate::userdata::KeyOrder::Network, false, None),
            unknown: Vec::new(),
        }
    }
}
