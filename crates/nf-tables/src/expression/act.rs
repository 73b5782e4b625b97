//! Expressions that decide, count and limit. Counter, quota and limit are the same in a rule and as an object of a table.

use super::{Expression, MetaKey};
use crate::object::ObjectKind;
use crate::value::{Data, Register, Value, Verdict};
use crate::wire::{Attribute, DecodeError, Encoder, attributes, flags, numbers};

attributes! {
    /// Puts a value or, into [`Register::VERDICT`], a verdict into a register.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct SetVerdict as "immediate" {
        /// Where it goes.
        pub destination: Register = 1,
        /// What it is.
        pub data: Data = 2,
    }
}

impl SetVerdict {
    /// Puts this value into the first register.
    #[must_use]
    pub fn value(value: impl Into<Value>) -> Self {
        Self {
            destination: Register::FIRST,
            data: Data::Value(value.into()),
        }
    }

    /// Gives this verdict.
    #[must_use]
    pub const fn of(verdict: Verdict) -> Self {
        Self {
            destination: Register::VERDICT,
            data: Data::Verdict(verdict),
        }
    }
}

attributes! {
    /// Gives the packet what is in a register: its mark, for one. The kernel has one name for this and for loading it.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct SetMeta as "meta" {
        /// What of the packet is set.
        pub key: MetaKey = 2,
        /// Where it is.
        pub source: Register = 3,
    }
}

impl SetMeta {
    /// From the first register.
    #[must_use]
    pub const fn first(key: MetaKey) -> Self {
        Self {
            key,
            source: Register::FIRST,
        }
    }
}

attributes! {
    /// Keeps the packet from connection tracking; in chains that come before it only.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
    pub struct Notrack as "notrack" {}
}

numbers! {
    /// What a limit counts (`enum nft_limit_type`).
    pub enum LimitKind as "a kind of limit" {
        /// Packets.
        Packets = 0,
        /// Bytes.
        Bytes = 1,
    }
}

flags! {
    /// How a limit is meant.
    pub struct LimitFlags {
        /// What is above the rate goes on in the rule, not what is below.
        OVER = 1,
    }
}

attributes! {
    /// A bucket that fills with time: what it has goes on in the rule.
    ///
    /// Normal form: all five numbers are always written, because the kernel lists all of them. A burst of zero packets
    /// becomes five in the kernel and is not sent back.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Limit as "a limit" {
        /// Packets or bytes in each unit of time.
        pub rate: u64 = 1,
        /// The unit of time in seconds.
        pub seconds: u64 = 2,
        /// What may come at once above the rate.
        pub burst: u32 = 3,
        /// What is counted.
        pub kind: LimitKind = 4,
        /// How it is meant.
        pub flags: LimitFlags = 5,
    }
}

attributes! {
    /// Packets and bytes that were counted.
    #[derive(Debug, Clone, Default, PartialEq, Eq)]
    pub struct Counter as "a counter" ignore 3 {
        /// Bytes counted so far.
        pub bytes: u64 = 1,
        /// Packets counted so far.
        pub packets: u64 = 2,
    }
}

flags! {
    /// How a quota is meant.
    pub struct QuotaFlags {
        /// What is above goes on in the rule, not what is below.
        OVER = 1,
        /// The kernel's note that it was reached, and told.
        DEPLETED = 2,
    }
}

attributes! {
    /// So many bytes, once.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Quota as "a quota" ignore 3 {
        /// How many.
        pub bytes: u64 = 1,
        /// How it is meant. [`QuotaFlags::DEPLETED`] cannot be set, only listed.
        pub flags: QuotaFlags = 2,
        /// Bytes used so far.
        pub used: u64 = 4 or 0,
    }
}

attributes! {
    /// Has an object of the table count or limit.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct ObjectReference as "objref" {
        /// What kind of object.
        pub kind: ObjectKind = 1,
        /// Its name.
        pub name: String = 2,
    }
}

numbers! {
    /// What a rule does to a set's element (`enum nft_dynset_ops`).
    pub enum DynamicOperation as "an operation of dynset" {
        /// Makes it where it is not there.
        Add = 0,
        /// The same, and lets it live anew.
        Update = 1,
        /// Removes it.
        Delete = 2,
    }
}

flags! {
    /// How a dynamic element is meant.
    pub struct DynamicFlags {
        /// The rule goes on where the element cannot be had.
        INVERTED = 1,
    }
}

attributes! {
    /// Makes an element of what is in a register, perhaps with an expression of its own, which it then runs: a limit for each key.
    ///
    /// Normal form: the set is told by its name, which must be there before. No time and no flags, both of which the kernel lists,
    /// are not written.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct DynamicElement as "dynset" ignore 8 {
        /// Of which set.
        pub set: String = 1,
        /// What is done.
        pub operation: DynamicOperation = 3,
        /// Where the key begins.
        pub source: Register = 4,
        /// Milliseconds that it lives; 0: as the set says.
        pub timeout: u64 = 6 or 0,
        /// What it runs.
        pub expression: Option<Box<Expression>> = 7,
        /// How it is meant.
        pub flags: DynamicFlags = 9 or DynamicFlags::NONE,
    }
}

impl DynamicElement {
    /// Goes on as long as the limit of what is in the first register has room.
    #[must_use]
    pub fn limit(set: impl Into<String>, limit: Limit) -> Self {
        Self {
            set: set.into(),
            operation: DynamicOperation::Add,
            source: Register::FIRST,
            timeout: 0,
            expression: Some(Box::new(limit.into())),
            flags: DynamicFlags::NONE,
        }
    }

    /// Notes what is in the first register, or lets it live anew, and goes on.
    #[must_use]
    pub fn noted(set: impl Into<String>) -> Self {
        Self {
            set: set.into(),
            operation: DynamicOperation::Update,
            source: Register::FIRST,
            timeout: 0,
            expression: None,
            flags: DynamicFlags::NONE,
        }
    }

    /// Forgets what is in the first register, and goes on.
    #[must_use]
    pub fn forgotten(set: impl Into<String>) -> Self {
        Self {
            operation: DynamicOperation::Delete,
            ..Self::noted(set)
        }
    }
}

impl Attribute for Box<Expression> {
    fn put(&self, number: u16, out: &mut Encoder) {
        (**self).put(number, out);
    }

    fn get(value: &[u8]) -> Result<Self, DecodeError> {
        Expression::get(value).map(Self::new)
    }
}
