//! Intervals of keys as elements of a set.
//!
//! In: disjoint intervals in ascending order. Out: for each, the element it begins with and the one behind it, as nft
//! writes them; and back. The kernel lists them in an order of its own, and may list an end whose beginning has just
//! ended by itself; such an end says nothing.

use super::Element;
use crate::userdata::UserData;
use crate::value::Value;

/// Keys from one to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interval {
    /// The first key.
    pub first: Value,
    /// The last key, as long as the first.
    pub last: Value,
    /// Milliseconds it lives.
    pub timeout: Option<u64>,
    /// Milliseconds that are left of them; in answers of the kernel only.
    pub expiration: Option<u64>,
}

impl Interval {
    /// All keys that begin with so many bits of `key`; the others are zero in the first and one in the last.
    #[must_use]
    pub fn prefix(key: impl Into<Value>, bits: usize) -> Self {
        let key = key.into();
        let masked = |fill: u8| {
            let bytes = key.bytes().iter().enumerate().map(|(place, byte)| {
                let kept = bits.saturating_sub(place * 8).min(8);
                // Shifted as 16 bits: a byte of which all bits are kept is shifted by eight.
                let mask = (0xff00_u16 >> kept).to_be_bytes()[1];
                (byte & mask) | (fill & !mask)
            });
            let bytes: Vec<u8> = bytes.collect();
            Value::new(&bytes).unwrap_or(key)
        };
        Self {
            first: masked(0),
            last: masked(0xff),
            timeout: None,
            expiration: None,
        }
    }

    /// One that ends after so many milliseconds, if there is such a time.
    #[must_use]
    pub fn with_timeout(mut self, milliseconds: Option<u64>) -> Self {
        self.timeout = milliseconds;
        self
    }
}

/// The elements of intervals that are disjoint and in ascending order. `into_empty`: the set has no elements yet, so the
/// end of nothing comes first, as nft writes it; it changes no answer of the set.
pub fn interval_elements(
    intervals: impl IntoIterator<Item = Interval>,
    into_empty: bool,
) -> impl Iterator<Item = Element> {
    let mut intervals = intervals.into_iter().peekable();
    let leading = intervals
        .peek()
        .filter(|interval| into_empty && !interval.first.is_zero())
        .map(|interval| Element::interval_end(Value::zero(interval.first.len())));
    leading.into_iter().chain(intervals.flat_map(|interval| {
        let end = interval.last.successor().map(Element::interval_end);
        let mut start = Element::new(interval.first).with_timeout(interval.timeout);
        if end.is_none() {
            start.userdata = UserData::open_interval();
        }
        [Some(start), end].into_iter().flatten()
    }))
}

/// The intervals of these elements, in ascending order; none where they are no intervals: one begins within another, or
/// has more to it than a key and a time.
#[must_use]
pub fn intervals_of(mut elements: Vec<Element>) -> Option<Vec<Interval>> {
    elements.sort_by_key(Element::place);
    let mut intervals = Vec::new();
    let mut open: Option<Interval> = None;
    for element in elements {
        let key = element.key?;
        if element.ends_interval() {
            if let Some(interval) = open.take() {
                let last = predecessor(key)?;
                intervals.push(Interval { last, ..interval });
            }
            continue;
        }
        if open.is_some() || !element.unknown.is_empty() || element.key_end.is_some() {
            return None;
        }
        open = Some(Interval {
            first: key,
            last: key,
            timeout: element.timeout,
            expiration: element.expiration,
        });
    }
    if let Some(interval) = open {
        let last = Value::new(&vec![0xff; interval.first.len()])?;
        intervals.push(Interval { last, ..interval });
    }
    Some(intervals)
}

/// The value before this one; none before zero.
fn predecessor(value: Value) -> Option<Value> {
    let mut bytes = value.bytes().to_vec();
    for byte in bytes.iter_mut().rev() {
        let (before, borrowed) = byte.overflowing_sub(1);
        *byte = before;
        if !borrowed {
            return Value::new(&bytes);
        }
    }
    None
}
