//! The expression that asks a set.
//!
//! A rule's own constants (`tcp dport { 80, 443 }`) are a set without a name. In the kernel it is a set like any other,
//! made before the rule and told by an id of the batch, listed as `__set0`. Here it is part of the expression
//! ([`SetReference::Anonymous`]): the batch makes the set, and a listing puts it back into its rule, so both are alike.

use crate::set::AnonymousSet;
use crate::value::Register;
use crate::wire::{Attributes, DecodeError, Encoder, attributes, flags};

flags! {
    /// How an answer is meant.
    pub struct LookupFlags {
        /// The rule goes on where the set does not have it.
        INVERTED = 1,
    }
}

/// Ends the rule unless a set has, or has not, what is in a register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookup {
    /// Where the key begins.
    pub source: Register,
    /// Which set.
    pub set: SetReference,
    /// How its answer is meant.
    pub flags: LookupFlags,
}

/// The set that a lookup asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetReference {
    /// One of the table, by its name.
    Named(String),
    /// The rule's own.
    Anonymous(Box<AnonymousSet>),
}

impl Lookup {
    /// Goes on if the table's set of that name has what is in the first register.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            source: Register::FIRST,
            set: SetReference::Named(name.into()),
            flags: LookupFlags::NONE,
        }
    }

    /// Goes on if one of these is in the first register.
    #[must_use]
    pub fn one_of(set: AnonymousSet) -> Self {
        Self {
            source: Register::FIRST,
            set: SetReference::Anonymous(Box::new(set)),
            flags: LookupFlags::NONE,
        }
    }

    /// Goes on if none of these is in the first register.
    #[must_use]
    pub fn none_of(set: AnonymousSet) -> Self {
        Self {
            flags: LookupFlags::INVERTED,
            ..Self::one_of(set)
        }
    }
}

attributes! {
    /// How a lookup lies in a message. Normal form: no flags are not written, as the kernel lists them; the id is for one
    /// batch only. A map's destination is not described.
    struct LookupAttributes as "lookup" {
        set: String = 1,
        source: Register = 2,
        id: Option<u32> = 4,
        flags: LookupFlags = 5 or LookupFlags::NONE,
    }
}

impl Attributes for Lookup {
    fn put_all(&self, out: &mut Encoder) {
        let (set, id) = match &self.set {
            SetReference::Named(name) => (name.clone(), None),
            SetReference::Anonymous(_) => {
                let id = out.next_set;
                out.next_set = id.wrapping_add(1);
                (AnonymousSet::NAME.to_owned(), Some(id))
            }
        };
        let attributes = LookupAttributes {
            set,
            source: self.source,
            id,
            flags: self.flags,
        };
        attributes.put_all(out);
    }

    fn get_all(bytes: &[u8]) -> Result<Self, DecodeError> {
        let LookupAttributes {
            set, source, flags, ..
        } = LookupAttributes::get_all(bytes)?;
        Ok(Self {
            source,
            set: SetReference::Named(set),
            flags,
        })
    }
}
