//! Sets that rules of ours fill while packets pass.
//!
//! In: a name, what its elements are told by. Out: its declaration in both forms. The kernel makes the elements itself, so that none of
//! them is listed or compared. Absent: the expressions that fill and ask such sets, which stand with what they are for.

use std::fmt::Write as _;

use nf_tables::{KeyOrder, KeyType, MetaKey, Set, SetDescription, SetFlags, TypeOf, UserData};

use super::rates::{Bucket, TAG};

/// How long an element lives after it was filled in last, so that what came and went does not fill the set.
pub(in super::super) const LIFE_SECONDS: u64 = 600;
/// Elements that there are at once. Nobody makes them but who makes interfaces, or who may send to lifelines without a bound. The kernel
/// takes the lower 16 bits for the size of the hash that it makes at once: none set makes a small one.
const ELEMENTS: u32 = 0x1_0000;

/// What an element is told by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) enum FilledKey {
    /// The link whose bucket it is.
    Link(Bucket),
    /// A stream of TCP, by both of its ends.
    Stream {
        /// Of which IP version.
        v4: bool,
    },
    /// Whom frames are sent to, and the interface that they leave by.
    Neighbour,
}

impl FilledKey {
    /// As a rule's text names it.
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Link(bucket) => bucket.key(),
            Self::Stream { v4: true } => "ip saddr . tcp sport . ip daddr . tcp dport",
            Self::Stream { v4: false } => "ip6 saddr . tcp sport . ip6 daddr . tcp dport",
            Self::Neighbour => "meta oifname . @ll,0,48",
        }
    }

    /// Its type as nft reads it.
    fn declared_type(self) -> String {
        let ends = |address: &str| format!("type {address} . inet_service . {address} . inet_service");
        match self {
            Self::Link(_) | Self::Neighbour => format!("typeof {}", self.text()),
            Self::Stream { v4: true } => ends("ipv4_addr"),
            Self::Stream { v4: false } => ends("ipv6_addr"),
        }
    }

    /// Its type as the kernel takes it, its length in bytes, and what nft wants to know of both.
    fn kernel_type(self) -> (KeyType, u32, KeyOrder, TypeOf) {
        const OUT: TypeOf = TypeOf::Meta(MetaKey::OutputInterface.number());
        const IN: TypeOf = TypeOf::Meta(MetaKey::InputInterface.number());
        const TAGGED: &[TypeOf] = &[
            OUT,
            TypeOf::Bits {
                base: 1,
                offset: TAG * 8,
                length: 16,
            },
        ];
        const NEIGHBOUR: &[TypeOf] = &[
            TypeOf::Meta(MetaKey::OutputName.number()),
            TypeOf::Bits {
                base: 1,
                offset: 0,
                length: 48,
            },
        ];
        let index = KeyType::INTERFACE_INDEX;
        let (address, length) = match self {
            Self::Link(Bucket::Arrival) => return (index, 4, KeyOrder::Host, IN),
            Self::Link(Bucket::Departure) => return (index, 4, KeyOrder::Host, OUT),
            Self::Link(Bucket::Tagged) => {
                let both = KeyType::concatenation(&[index, KeyType::INTEGER]);
                return (both, 8, KeyOrder::None, TypeOf::Parts(TAGGED));
            }
            Self::Neighbour => {
                let both = KeyType::concatenation(&[KeyType::INTERFACE_NAME, KeyType::INTEGER]);
                return (both, 24, KeyOrder::None, TypeOf::Parts(NEIGHBOUR));
            }
            Self::Stream { v4: true } => (KeyType::IPV4, 4),
            Self::Stream { v4: false } => (KeyType::IPV6, 16),
        };
        let ends = KeyType::concatenation(&[address, KeyType::PORT, address, KeyType::PORT]);
        (ends, 2 * (length + 4), KeyOrder::None, TypeOf::Concatenation)
    }
}

/// A set that a rule fills.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) struct FilledSet {
    pub(in super::super) name: String,
    pub(super) key: FilledKey,
    /// How many seconds an element lives after it was filled in last.
    pub(super) life: u64,
}

impl FilledSet {
    /// Expressions that load the key of a rate's bucket, none where it keeps no rates.
    pub(in super::super) const fn rate_loads(&self) -> Option<usize> {
        match self.key {
            FilledKey::Link(bucket) => Some(bucket.loads()),
            FilledKey::Stream { .. } | FilledKey::Neighbour => None,
        }
    }

    /// As nft reads it.
    pub(in super::super) fn declare(&self, text: &mut String) {
        let (name, key, life) = (&self.name, self.key.declared_type(), self.life);
        let _ = writeln!(
            text,
            "  set {name} {{\n    {key}\n    size {ELEMENTS}\n    flags dynamic, timeout\n    timeout {life}s\n  }}"
        );
    }

    /// As the kernel takes it.
    pub(in super::super) fn declared(&self) -> Set {
        let (key_type, length, order, type_of) = self.key.kernel_type();
        let flags = SetFlags::TIMEOUT.with(SetFlags::EVALUATED);
        Set {
            description: SetDescription {
                size: Some(ELEMENTS),
                ..SetDescription::default()
            },
            timeout: Some(self.life * 1_000),
            userdata: UserData::of_set(order, false, Some(type_of)),
            ..Set::new(self.name.as_str(), key_type, length, flags)
        }
    }
}
