//! Expressions that decide, count and limit. Counter, quota and limit are the same in a rule and as an object of a table.

use crate::object::ObjectKind;
use crate::value::{Data, Register, Verdict};
use crate::wire::{attributes, flags, numbers};

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
    /// Gives this verdict.
    #[must_use]
    pub const fn of(verdict: Verdict) -> Self {
        Self {
            destination: Register::VERDICT,
            data: Data::Verdict(verdict),
        }
    }
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
