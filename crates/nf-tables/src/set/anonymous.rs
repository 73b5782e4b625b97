//! The set of a rule's own constants.
//!
//! Normal form: elements are sorted, because the kernel lists them in the order of its own structures. Of intervals, the
//! end without a beginning that nft puts at zero is not among them; it is added where the set is written.

use super::interval::{Interval, interval_elements};
use super::{Element, KeyType, Set, SetDescription, SetFlags};
use crate::userdata::{KeyOrder, TypeOf, UserData};
use crate::value::Value;

/// Constants that one rule asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnonymousSet {
    key_type: KeyType,
    key_length: u32,
    intervals: bool,
    elements: Vec<Element>,
    userdata: UserData,
}

impl AnonymousSet {
    /// The name that the kernel replaces by one of its own.
    pub(crate) const NAME: &'static str = "__set%d";

    /// Keys, at least one and all of the same length; the kernel refuses others.
    #[must_use]
    pub fn of_values<V: Into<Value>>(
        key_type: KeyType,
        type_of: TypeOf,
        values: impl IntoIterator<Item = V>,
    ) -> Self {
        Self::of_ordered(KeyOrder::Network, (key_type, type_of), values)
    }

    /// The same of keys that are in the order of this machine, as those are that the kernel makes itself.
    #[must_use]
    pub fn of_host_values<V: Into<Value>>(
        key_type: KeyType,
        type_of: TypeOf,
        values: impl IntoIterator<Item = V>,
    ) -> Self {
        Self::of_ordered(KeyOrder::Host, (key_type, type_of), values)
    }

    fn of_ordered<V: Into<Value>>(
        order: KeyOrder,
        (key_type, type_of): (KeyType, TypeOf),
        values: impl IntoIterator<Item = V>,
    ) -> Self {
        let elements = values.into_iter().map(Element::new).collect();
        let userdata = UserData::of_set(order, false, Some(type_of));
        Self::new(key_type, false, elements, userdata)
    }

    /// Intervals of keys, at least one, disjoint and in ascending order.
    #[must_use]
    pub fn of_intervals(
        key_type: KeyType,
        type_of: TypeOf,
        intervals: impl IntoIterator<Item = Interval>,
    ) -> Self {
        let elements = interval_elements(intervals, false).collect();
        let userdata = UserData::of_set(KeyOrder::Network, true, Some(type_of));
        Self::new(key_type, true, elements, userdata)
    }

    fn new(key_type: KeyType, intervals: bool, mut elements: Vec<Element>, userdata: UserData) -> Self {
        Self::sort(&mut elements);
        let first = elements.first().and_then(|element| element.key);
        Self {
            key_type,
            key_length: first.map_or(0, |key| u32::try_from(key.len()).unwrap_or_default()),
            intervals,
            elements,
            userdata,
        }
    }

    /// Its elements, sorted.
    #[must_use]
    pub fn elements(&self) -> &[Element] {
        &self.elements
    }

    /// The elements as they are written.
    pub(crate) fn written_elements(&self) -> impl Iterator<Item = Element> {
        self.leading_end()
            .into_iter()
            .chain(self.elements.iter().cloned())
    }

    /// The set as it is written.
    pub(crate) fn written_set(&self) -> Set {
        let constant = SetFlags::ANONYMOUS.with(SetFlags::CONSTANT);
        let flags = if self.intervals {
            constant.with(SetFlags::INTERVAL)
        } else {
            constant
        };
        let size = self.elements.len() + usize::from(self.leading_end().is_some());
        Set {
            description: SetDescription {
                size: u32::try_from(size).ok(),
                ..SetDescription::default()
            },
            userdata: self.userdata.clone(),
            ..Set::new(Self::NAME, self.key_type, self.key_length, flags)
        }
    }

    /// The set of a listing as a rule's constants; none where it is more than that.
    pub(crate) fn listed(set: &Set, mut elements: Vec<Element>) -> Option<Self> {
        let intervals = set.flags.has(SetFlags::INTERVAL);
        if intervals {
            elements
                .retain(|element| !(element.ends_interval() && element.key.is_some_and(|key| key.is_zero())));
        }
        let listed = Self::new(set.key_type, intervals, elements, set.userdata.clone());
        let same = Set {
            name: Self::NAME.to_owned(),
            ..set.clone()
        };
        (listed.written_set() == same).then_some(listed)
    }

    /// nft begins with the end of nothing unless an interval begins at zero.
    fn leading_end(&self) -> Option<Element> {
        let first = self.elements.first()?.key?;
        (self.intervals && !first.is_zero()).then(|| Element::interval_end(Value::zero(first.len())))
    }
}
