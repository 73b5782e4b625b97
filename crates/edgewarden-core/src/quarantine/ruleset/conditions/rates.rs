//! Conditions of how often something may pass, of which every link has its own bucket: who makes one link busy takes nothing of
//! another's.
//!
//! In: a rate, what its buckets are told by. Out: the expression that keeps a bucket for each key in a set of the rule's own
//! ([`FilledSet`]). Absent: what a set holds at any moment; a link whose bucket has ended begins a new one.

use nf_tables::{
    Bitwise, DynamicElement, Expression, Limit, LimitFlags, LimitKind, Lookup, Meta, MetaKey, Payload,
    PayloadBase, Register,
};

use super::filled_sets::{FilledKey, FilledSet, LIFE_SECONDS};
use super::{Conditions, NAME, Rate, TimeUnit, TypePlace};

/// Where a frame's VLAN tag has the VLAN's number, behind its type: the byte it begins at, and which bits of it are the number. The
/// others are a priority, which every sender chooses.
pub(super) const TAG: u32 = 14;
const VLAN_BITS: [u8; 2] = [0x0f, 0xff];
/// Bytes of the type that says that a tag follows.
const TYPE: u32 = 2;
/// Bytes of the key before the tag, an interface by its number.
const INDEX: usize = 4;

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
}

impl Bucket {
    pub(super) const fn key(self) -> &'static str {
        match self {
            Self::Arrival => "meta iif",
            Self::Departure => "meta oif",
            Self::Tagged => "meta oif . @ll,112,16",
        }
    }

    /// As a rule computes it.
    const fn computed(self) -> &'static str {
        match self {
            Self::Arrival | Self::Departure => self.key(),
            Self::Tagged => "meta oif . @ll,112,16 & 0x0fff",
        }
    }

    /// Expressions that load the key.
    pub(super) const fn loads(self) -> usize {
        match self {
            Self::Arrival | Self::Departure => 1,
            Self::Tagged => 3,
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

    /// The tag that begins there is of no VLAN.
    pub(in super::super) fn tagged_as_none(self, place: TypePlace) -> Self {
        let place = place.byte() + TYPE;
        self.said(format_args!("@ll,{},16 & 0x0fff == 0", place * 8))
            .step(Payload::first(PayloadBase::Link, place, 2))
            .step(Bitwise::mask(VLAN_BITS))
            .step(Expression::equal([0; 2]))
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
            Bucket::Departure | Bucket::Tagged => MetaKey::OutputInterface,
        };
        let mut loaded = self
            .said(format_args!(
                "add @{name} {{ {key} limit rate {packets}/{unit} burst {burst} packets }}"
            ))
            .step(Meta::first(interface));
        if bucket == Bucket::Tagged {
            loaded = loaded.load_vlan(INDEX);
        }
        loaded.fills = Some(FilledSet {
            name: name.clone(),
            key: FilledKey::Link(bucket),
            life: LIFE_SECONDS,
        });
        loaded.step(DynamicElement::limit(name, limit))
    }
}
