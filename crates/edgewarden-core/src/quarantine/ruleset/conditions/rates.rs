//! Conditions of how often something may pass, of which every link has its own bucket: who makes one link busy takes nothing of
//! another's.
//!
//! In: a rate, what its buckets are told by. Out: the expression that keeps a bucket for each key in a set of the rule's own
//! ([`RateSet`]), and that set's declaration in both forms. The kernel makes the elements itself, so that none of them is listed or
//! compared. Absent: what a set holds at any moment; a link whose bucket has ended begins a new one.

use std::fmt::Write as _;

use nf_tables::{
    Bitwise, DynamicElement, KeyOrder, KeyType, Limit, LimitFlags, LimitKind, Lookup, Meta, MetaKey, Payload,
    PayloadBase, Register, Set, SetDescription, SetFlags, TypeOf, UserData,
};

use super::{Conditions, Rate, TimeUnit};

/// How long a bucket lives before it begins anew, so that interfaces which came and went do not fill the set.
const LIFE_SECONDS: u64 = 600;
/// Links that have buckets at once. Nobody but who makes interfaces makes such keys. The kernel takes the lower 16 bits for the size of
/// the hash that it makes at once: none set makes a small one.
const LINKS: u32 = 0x1_0000;
/// Where a frame's VLAN tag has the VLAN's number, behind its type: the byte it begins at, and which bits of it are the number. The
/// others are a priority, which every sender chooses.
const TAG: u32 = 14;
const VLAN_BITS: [u8; 2] = [0x0f, 0xff];
/// Bytes of the key before the tag, an interface by its number.
const INDEX: usize = 4;
/// The same by its name.
const NAME: usize = 16;

/// What a bucket is told by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) enum Bucket {
    /// The interface that something came by.
    Arrival,
    /// The one that it leaves by.
    Departure,
    /// The same, and the VLAN of its frame's tag: what was sent on another link leaves by the interface below both. Only VLANs of
    /// this device have them, so there are no more than interfaces.
    Tagged,
    /// No bucket: the stream itself, by both of its ends. Only who may send to lifelines without a bound makes such keys.
    Stream {
        /// Of which IP version.
        v4: bool,
    },
}

impl Bucket {
    pub(super) const fn key(self) -> &'static str {
        match self {
            Self::Stream { v4: true } => "ip saddr . tcp sport . ip daddr . tcp dport",
            Self::Stream { v4: false } => "ip6 saddr . tcp sport . ip6 daddr . tcp dport",
            Self::Arrival => "meta iif",
            Self::Departure => "meta oif",
            Self::Tagged => "meta oif . @ll,112,16",
        }
    }

    /// As a rule computes it.
    const fn computed(self) -> &'static str {
        match self {
            Self::Arrival | Self::Departure | Self::Stream { .. } => self.key(),
            Self::Tagged => "meta oif . @ll,112,16 & 0x0fff",
        }
    }

    /// Expressions that load the key.
    pub(in super::super) const fn loads(self) -> usize {
        match self {
            Self::Arrival | Self::Departure => 1,
            Self::Tagged => 3,
            Self::Stream { .. } => 4,
        }
    }
}

/// The set in which a rule keeps its buckets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) struct RateSet {
    pub(in super::super) name: String,
    pub(in super::super) bucket: Bucket,
}

impl RateSet {
    /// As nft reads it.
    pub(in super::super) fn declare(&self, text: &mut String) {
        let (name, size) = (&self.name, LINKS);
        let key = match self.bucket {
            Bucket::Stream { v4: true } => {
                "type ipv4_addr . inet_service . ipv4_addr . inet_service".to_owned()
            }
            Bucket::Stream { v4: false } => {
                "type ipv6_addr . inet_service . ipv6_addr . inet_service".to_owned()
            }
            links => format!("typeof {}", links.key()),
        };
        let _ = writeln!(
            text,
            "  set {name} {{\n    {key}\n    size {size}\n    flags dynamic, timeout\n    timeout {LIFE_SECONDS}s\n  }}"
        );
    }

    /// As the kernel takes it.
    pub(in super::super) fn declared(&self) -> Set {
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
        let index = KeyType::INTERFACE_INDEX;
        let (key_type, length, order, type_of) = match self.bucket {
            Bucket::Arrival => (index, 4, KeyOrder::Host, IN),
            Bucket::Departure => (index, 4, KeyOrder::Host, OUT),
            Bucket::Tagged => {
                let both = KeyType::concatenation(&[index, KeyType::INTEGER]);
                (both, 8, KeyOrder::None, TypeOf::Parts(TAGGED))
            }
            Bucket::Stream { v4 } => {
                let (address, length) = if v4 {
                    (KeyType::IPV4, 4)
                } else {
                    (KeyType::IPV6, 16)
                };
                let ends = [address, KeyType::PORT, address, KeyType::PORT];
                let length = 2 * (length + 4);
                (
                    KeyType::concatenation(&ends),
                    length,
                    KeyOrder::None,
                    TypeOf::Concatenation,
                )
            }
        };
        let flags = SetFlags::TIMEOUT.with(SetFlags::EVALUATED);
        Set {
            description: SetDescription {
                size: Some(LINKS),
                ..SetDescription::default()
            },
            timeout: Some(LIFE_SECONDS * 1_000),
            userdata: UserData::of_set(order, false, Some(type_of)),
            ..Set::new(self.name.as_str(), key_type, length, flags)
        }
    }
}

impl Conditions {
    /// The number of the VLAN in the frame's tag, behind so many bytes of a key.
    fn load_vlan(self, behind: usize) -> Self {
        let place = super::behind(Register::FIRST, behind);
        self.step(Payload {
            destination: place,
            ..Payload::first(PayloadBase::Link, TAG, 2)
        })
        .step(Bitwise {
            source: place,
            destination: place,
            ..Bitwise::mask(VLAN_BITS)
        })
    }

    /// The interface that it leaves by, with the VLAN of its tag, is in the set of that name.
    pub(in super::super) fn tagged_as(self, set: &str) -> Self {
        self.said(format_args!("meta oifname . @ll,112,16 & 0x0fff @{set}"))
            .step(Meta::first(MetaKey::OutputName))
            .load_vlan(NAME)
            .step(Lookup::named(set))
    }

    /// As long as the bucket of its link has room; the buckets are in the set `rates-<what>`, which is this rule's alone.
    pub(in super::super) fn at_rate(self, bucket: Bucket, what: &str, rate: Rate) -> Self {
        let Rate { packets, per, burst } = rate;
        let (unit, seconds) = match per {
            TimeUnit::Second => ("second", 1),
            TimeUnit::Minute => ("minute", 60),
        };
        let (name, key) = (format!("rates-{what}"), bucket.computed());
        let limit = Limit {
            rate: packets,
            seconds,
            burst,
            kind: LimitKind::Packets,
            flags: LimitFlags::NONE,
        };
        let interface = match bucket {
            Bucket::Arrival => MetaKey::InputInterface,
            Bucket::Departure | Bucket::Tagged | Bucket::Stream { .. } => MetaKey::OutputInterface,
        };
        let mut loaded = self
            .said(format_args!(
                "add @{name} {{ {key} limit rate {packets}/{unit} burst {burst} packets }}"
            ))
            .step(Meta::first(interface));
        if bucket == Bucket::Tagged {
            loaded = loaded.load_vlan(INDEX);
        }
        loaded.rates = Some(RateSet {
            name: name.clone(),
            bucket,
        });
        loaded.step(DynamicElement::limit(name, limit))
    }
}
