//! Lists in order, and sets of what comes one by one, with little code for each type.
//!
//! The standard library's sorting is some six kilobytes of instructions for every type that it sorts, also where a `BTreeMap`
//! is collected; there were a hundred copies of it in the agent. Here one copy sorts places in a list, and what is made for each
//! type only compares and moves. A list whose length others choose, up to a hundred thousand remotes, is still sorted by the
//! standard library: it is three times as fast.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

/// Lists that are put in order; what compares as equal stays as it was.
pub trait Arrange<T> {
    /// The least first.
    fn arrange(&mut self)
    where
        T: Ord;

    /// The least key first.
    fn arrange_by_key<K: Ord>(&mut self, key: impl Fn(&T) -> K);

    /// In the order that is said.
    fn arrange_by(&mut self, compare: impl Fn(&T, &T) -> Ordering);
}

impl<T> Arrange<T> for [T] {
    fn arrange(&mut self)
    where
        T: Ord,
    {
        self.arrange_by(T::cmp);
    }

    fn arrange_by_key<K: Ord>(&mut self, key: impl Fn(&T) -> K) {
        self.arrange_by(|one, other| key(one).cmp(&key(other)));
    }

    fn arrange_by(&mut self, compare: impl Fn(&T, &T) -> Ordering) {
        let places = places(self.len(), &|one, other| compare(&self[one], &self[other]));
        permute(self, places);
    }
}

/// Which place's content belongs at each place.
#[inline(never)]
fn places(length: usize, compare: &dyn Fn(usize, usize) -> Ordering) -> Vec<usize> {
    let mut places: Vec<usize> = (0..length).collect();
    places.sort_by(|one, other| compare(*one, *other));
    places
}

/// Puts at each place what `places` names for it, one cycle after the other.
fn permute<T>(list: &mut [T], mut places: Vec<usize>) {
    for start in 0..places.len() {
        let mut at = start;
        loop {
            let from = std::mem::replace(&mut places[at], at);
            if from == start {
                break;
            }
            list.swap(at, from);
            at = from;
        }
    }
}

/// What is gathered item by item.
pub trait Gather: IntoIterator + Sized {
    /// Each once.
    fn in_set(self) -> BTreeSet<Self::Item>
    where
        Self::Item: Ord,
    {
        let mut set = BTreeSet::new();
        for item in self {
            set.insert(item);
        }
        set
    }

    /// The last of each key.
    fn in_map<K: Ord, V>(self) -> BTreeMap<K, V>
    where
        Self: IntoIterator<Item = (K, V)>,
    {
        let mut map = BTreeMap::new();
        for (key, value) in self {
            map.insert(key, value);
        }
        map
    }
}

impl<I: IntoIterator> Gather for I {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_list_is_sorted_as_the_standard_library_sorts_it(list in proptest::collection::vec((0_u8..16, any::<u16>()), 0..80)) {
            let (mut ours, mut theirs) = (list.clone(), list.clone());
            ours.arrange_by_key(|item| item.0);
            theirs.sort_by_key(|item| item.0);
            prop_assert_eq!(&ours, &theirs, "what is equal stays as it was");
            ours.arrange();
            theirs.sort_unstable();
            prop_assert_eq!(&ours, &theirs);
            ours.arrange_by(|one, other| other.cmp(one));
            theirs.reverse();
            prop_assert_eq!(ours, theirs);
        }

        #[test]
        fn what_is_gathered_is_what_is_collected(list in proptest::collection::vec((0_u8..16, any::<u16>()), 0..80)) {
            prop_assert_eq!(list.iter().in_set(), list.iter().collect());
            prop_assert_eq!(list.iter().copied().in_map(), list.iter().copied().collect());
        }
    }
}
