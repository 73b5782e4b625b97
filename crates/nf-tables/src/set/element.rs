//! Elements of sets.
//!
//! They come and go in messages of their own, many in each; a set of a hundred thousand is written and read one by one
//! and never held as a whole by this crate. Keep it so: an [`Element`] is three times as large as what it says.

use super::AnonymousSet;
use crate::userdata::UserData;
use crate::value::Value;
use crate::wire::message::Message;
use crate::wire::{Attribute as _, DecodeError, attributes, attributes_of, decode_text, find, flags};

/// `NFTA_SET_ELEM_LIST_SET`.
pub(crate) const LIST_SET: u16 = 2;
/// `NFTA_SET_ELEM_LIST_ELEMENTS`.
pub(crate) const LIST: u16 = 3;
/// The number of each element in the list.
pub(crate) const LIST_ELEMENT: u16 = 1;
/// `NFTA_SET_ELEM_LIST_SET_ID`.
pub(crate) const LIST_ID: u16 = 4;

flags! {
    /// What an element is.
    pub struct ElementFlags {
        /// The first key behind an interval.
        INTERVAL_END = 1,
        /// It stands for all keys that there are no elements for.
        CATCH_ALL = 2,
    }
}

attributes! {
    /// One element. Normal form: no flags are not written.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Element as "an element" keep unknown {
        /// Its key; none only where it stands for all others.
        pub key: Option<Value> = 1,
        /// What it is.
        pub flags: ElementFlags = 3 or ElementFlags::NONE,
        /// Milliseconds it lives. The kernel counts in its own ticks, of ten milliseconds at most: whole seconds come back
        /// as they were given.
        pub timeout: Option<u64> = 4,
        /// Milliseconds that are left; the kernel's answer, or what is left of the time when it is made.
        pub expiration: Option<u64> = 5,
        /// What nft keeps for itself.
        pub userdata: UserData = 6 or UserData::NONE,
        /// The last key of an interval, in a set of concatenated intervals.
        pub key_end: Option<Value> = 10,
    }
}

impl Element {
    /// One that stays.
    #[must_use]
    pub fn new(key: impl Into<Value>) -> Self {
        Self {
            key: Some(key.into()),
            flags: ElementFlags::NONE,
            timeout: None,
            expiration: None,
            userdata: UserData::NONE,
            key_end: None,
            unknown: Vec::new(),
        }
    }

    /// One that ends after so many milliseconds, if there is such a time.
    #[must_use]
    pub fn with_timeout(mut self, milliseconds: Option<u64>) -> Self {
        self.timeout = milliseconds;
        self
    }

    /// The first key behind an interval.
    #[must_use]
    pub fn interval_end(key: impl Into<Value>) -> Self {
        Self {
            flags: ElementFlags::INTERVAL_END,
            ..Self::new(key)
        }
    }

    /// Whether an interval ends before it.
    #[must_use]
    pub fn ends_interval(&self) -> bool {
        self.flags.has(ElementFlags::INTERVAL_END)
    }

    /// What elements are sorted by: an interval's end before the beginning of the next one.
    pub(crate) fn place(&self) -> (Option<Value>, bool) {
        (self.key, !self.ends_interval())
    }
}

/// The set that a message of elements is about, and its elements.
pub(crate) fn elements_in<'a>(
    message: &Message<'a>,
) -> Result<(&'a str, impl Iterator<Item = Result<Element, DecodeError>> + 'a), DecodeError> {
    let what = "a list of elements";
    let attributes = message.attributes();
    let name = find(attributes, LIST_SET).ok_or(DecodeError::Missing {
        what,
        number: LIST_SET,
    })?;
    let elements = find(attributes, LIST).unwrap_or_default();
    let decode = |attribute: Result<crate::wire::RawAttribute<'a>, _>| Element::get(attribute?.value);
    Ok((decode_text(name)?, attributes_of(elements).map(decode)))
}

impl AnonymousSet {
    /// Sorts elements as they are compared.
    pub(crate) fn sort(elements: &mut [Element]) {
        elements.sort_by_key(Element::place);
    }
}
