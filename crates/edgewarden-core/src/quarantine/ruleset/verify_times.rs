//! Which listed elements should not be there, or not for that time, and which are missing.

use jiff::{SignedDuration, Timestamp};

use super::MAX_TIMEOUT;

/// How far the kernel's timer of an element may be from the plan's time: loading a large set takes seconds.
const SLACK: SignedDuration = SignedDuration::from_secs(5);

/// How many of the sorted `found`, each with the milliseconds that are left of it, should not be there or not for that time,
/// and how many of `wanted` are missing. Of `also` what has just ended may still be there.
pub(super) fn strays<T: Ord>(
    found: &[(T, Option<u64>)],
    wanted: &[(T, Option<Timestamp>)],
    also: &[(T, Option<Timestamp>)],
    now: Timestamp,
) -> (usize, usize) {
    let right = |key: &T, ends: Option<u64>| match find(wanted, key) {
        Some(expires) => in_time(*expires, ends, now),
        None => find(also, key).is_some_and(|expires| ended(*expires, now)),
    };
    let wrong = found.iter().filter(|(key, ends)| !right(key, *ends)).count();
    let soon = now.saturating_add(SLACK).unwrap_or(now);
    let gone =
        |(key, expires): &&(T, Option<Timestamp>)| find(found, key).is_none() && !ended(*expires, soon);
    (wrong, wanted.iter().filter(gone).count())
}

/// What a sorted list has for a key.
fn find<'a, T: Ord, V>(list: &'a [(T, V)], key: &T) -> Option<&'a V> {
    let place = list.binary_search_by(|(known, _)| known.cmp(key)).ok()?;
    list.get(place).map(|(_, value)| value)
}

pub(super) fn ended(expires: Option<Timestamp>, now: Timestamp) -> bool {
    expires.is_some_and(|expires| expires <= now)
}

/// Whether the kernel's element, which ends in `ends` milliseconds, holds as long as the plan wants.
fn in_time(expires: Option<Timestamp>, ends: Option<u64>, now: Timestamp) -> bool {
    match (expires, ends) {
        (None, None) => true,
        (Some(expires), Some(milliseconds)) => {
            let left = expires.duration_since(now).as_secs().min(MAX_TIMEOUT);
            let needed = SignedDuration::from_secs(left).saturating_sub(SLACK);
            i128::from(milliseconds) >= needed.as_millis()
        }
        _ => false,
    }
}
