//! What is written is read as it was, whatever it is; what is damaged is never read as something else without a word.

#[path = "round_trip_strategies.rs"]
mod strategies;

use std::fmt::Debug;

use proptest::prelude::*;

use self::strategies::{any_chain, any_element, any_expression, any_object, any_rule, any_set};
use crate::listing::{ListingLimits, ListingReader};
use crate::set::{AnonymousSet, elements_in};
use crate::wire::message::{Message, MessageType};
use crate::wire::{Attribute, Attributes, Encoder, attributes_of};
use crate::*;

const LIMITS: ListingLimits = ListingLimits {
    items: 100_000,
    bytes: 10_000_000,
};

fn encoded(write: impl FnOnce(&mut Encoder)) -> Vec<u8> {
    let mut out = Encoder::default();
    write(&mut out);
    assert_eq!(out.take_fault(), None);
    out.bytes().to_vec()
}

/// It comes back, also when its attributes come in another order; and whatever is cut off is noticed or changes it.
fn comes_back<T: Attributes + PartialEq + Debug>(
    sent: &T,
    cut: prop::sample::Index,
) -> Result<(), TestCaseError> {
    let bytes = encoded(|out| sent.put_all(out));
    prop_assert_eq!(&T::get_all(&bytes).unwrap(), sent);
    let mut attributes: Vec<Vec<u8>> = attributes_of(&bytes)
        .map(Result::unwrap)
        .map(|attribute| encoded(|out| out.attribute(attribute.kind, attribute.value)))
        .collect();
    attributes.reverse();
    prop_assert_eq!(&T::get_all(&attributes.concat()).unwrap(), sent);
    if !bytes.is_empty() {
        let cut = &bytes[..cut.index(bytes.len())];
        // Padding at the end may be missing.
        let same_but_padding =
            bytes[cut.len()..].iter().all(|byte| *byte == 0) && bytes.len() - cut.len() < 4;
        if let Ok(read) = T::get_all(cut) {
            prop_assert!(read != *sent || same_but_padding);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn rules(sent in any_rule(), cut: prop::sample::Index) { comes_back(&sent, cut)?; }

    #[test]
    fn chains(sent in any_chain(), cut: prop::sample::Index) { comes_back(&sent, cut)?; }

    #[test]
    fn sets(sent in any_set(), cut: prop::sample::Index) { comes_back(&sent, cut)?; }

    #[test]
    fn elements(sent in any_element(), cut: prop::sample::Index) { comes_back(&sent, cut)?; }

    #[test]
    fn objects(sent in any_object(), cut: prop::sample::Index) { comes_back(&sent, cut)?; }

    #[test]
    fn expressions_that_are_damaged_are_unknown_or_others(
        sent in any_expression(),
        place: prop::sample::Index,
        bit in 0..8_u8,
    ) {
        let mut bytes = encoded(|out| sent.put(1, out));
        let place = 4 + place.index(bytes.len() - 4);
        bytes[place] ^= 1 << bit;
        // Only padding may change without a difference, and the flag that an attribute is nested.
        if let Ok(read) = Expression::get(&bytes[4..]) {
            let written = encoded(|out| read.put(1, out));
            let original = encoded(|out| sent.put(1, out));
            prop_assert!((read == sent) == (written == original));
        }
    }

    #[test]
    fn constants_come_back_in_any_order(
        keys in prop::collection::btree_set(any::<[u8; 4]>(), 1..20),
        intervals: bool,
        seed: u64,
    ) {
        let type_of = TypeOf::Field { header: Header::Ip, field: 12 };
        let keys: Vec<[u8; 4]> = keys.into_iter().collect();
        let set = if intervals {
            let pairs = keys.chunks_exact(2).map(|pair| Interval {
                first: pair[0].into(),
                last: pair[1].into(),
                timeout: None,
                expiration: None,
            });
            AnonymousSet::of_intervals(KeyType::IPV4, type_of, pairs)
        } else {
            AnonymousSet::of_values(KeyType::IPV4, type_of, keys)
        };
        prop_assume!(!set.elements().is_empty());
        let mut listed: Vec<Element> = set.written_elements().collect();
        listed.sort_by_key(|element| element.key.map(|key| {
            key.bytes().iter().fold(seed, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)))
        }));
        let written = Set { name: "__set7".into(), ..set.written_set() };
        prop_assert_eq!(AnonymousSet::listed(&written, listed.clone()), Some(set));
        // One more or one less makes it no constant that this crate could have written.
        listed.pop();
        prop_assert_eq!(AnonymousSet::listed(&written, listed), None);
    }

    #[test]
    fn intervals_come_back(bounds in prop::collection::btree_set(any::<[u8; 2]>(), 0..20), into_empty: bool) {
        let bounds: Vec<[u8; 2]> = bounds.into_iter().collect();
        let intervals: Vec<Interval> = bounds
            .chunks_exact(2)
            .map(|pair| Interval { first: pair[0].into(), last: pair[1].into(), timeout: Some(1), expiration: None })
            .collect();
        let mut elements: Vec<Element> = interval_elements(intervals.clone(), into_empty).collect();
        elements.reverse();
        prop_assert_eq!(intervals_of(elements), Some(intervals));
    }

    #[test]
    fn any_datagram_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        read_all(&bytes);
    }

    #[test]
    fn damaged_datagrams_are_read_or_refused(
        rules in prop::collection::vec(any_rule(), 1..4),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut: prop::sample::Index,
    ) {
        let mut bytes = listed(&rules);
        for (place, byte) in damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        read_all(&bytes);
        read_all(&bytes[..cut.index(bytes.len())]);
    }

    #[test]
    fn a_list_has_every_rule_in_its_order(rules in prop::collection::vec(any_rule(), 0..6), twice: bool) {
        let bytes = listed(&rules);
        let mut reader = ListingReader::new(table(), LIMITS);
        let messages: Vec<_> = Message::all(&bytes).map(Result::unwrap).collect();
        for message in &messages {
            reader.take(message).unwrap();
        }
        if let Some(last) = messages.last().filter(|_| twice) {
            reader.take(last).unwrap();
        }
        let contents = reader.finish().unwrap();
        let found = &contents.chains[0].rules;
        prop_assert_eq!(found == &rules, !twice || rules.is_empty());
    }
}

#[test]
fn an_object_that_is_listed_twice_is_one() {
    let quota = Quota {
        bytes: 1,
        flags: QuotaFlags::OVER,
        used: 0,
    };
    let objects = [
        Object::new("one", Counter::default()),
        Object::new("two", Counter::default()),
        // Names are of a kind each.
        Object::new("two", quota),
    ];
    let listed = encoded(|out| {
        for object in objects.iter().chain(&objects[1..]) {
            out.message(MessageType::NewObject, 2, Some(Family::Inet), |out| {
                out.text(1, "t");
                object.put_all(out);
            });
        }
    });
    let mut reader = ListingReader::new(table(), LIMITS);
    for message in Message::all(&listed) {
        reader.take(&message.unwrap()).unwrap();
    }
    reader.forget_repeated_objects();
    assert_eq!(reader.finish().unwrap().objects, objects);
}

fn table() -> Table {
    Table::new(Family::Inet, "t")
}

/// A chain and its rules as the kernel lists them.
fn listed(rules: &[Rule]) -> Vec<u8> {
    let chain = Chain::filter("c", Hook::new(Hook::INPUT, 0), Policy::Drop);
    encoded(|out| {
        out.message(MessageType::NewChain, 2, Some(Family::Inet), |out| {
            out.text(1, "t");
            chain.put_all(out);
        });
        for (handle, rule) in (1_u64..).zip(rules) {
            out.message(MessageType::NewRule, 2, Some(Family::Inet), |out| {
                out.text(1, "t");
                out.text(2, "c");
                handle.put(3, out);
                rule.put_all(out);
            });
        }
    })
}

/// Everything that reads reads it.
fn read_all(bytes: &[u8]) {
    let mut reader = ListingReader::new(table(), LIMITS);
    for message in Message::all(bytes).map_while(Result::ok) {
        let _ = reader.take(&message);
        let _ = elements_in(&message).map(|(_, elements)| elements.count());
        let _ = Rule::get_all(message.attributes());
        let _ = Set::get_all(message.attributes());
        let _ = Object::get_all(message.attributes());
        let _ = Generation::get_all(message.attributes());
    }
    let _ = reader.finish();
    let _ = Notice::all(bytes).count();
}
