//! What differs between the rules of one chain.
//!
//! In: the rules that it has, with their handles, and those that it is to have. Out: those that are new, each in its place,
//! and the removal of those that are not wanted. As many stay as can, and with them what their rates remember.

use std::collections::{BTreeMap, VecDeque};

use nf_tables::Batch;

use super::super::{Chain, Rule};

/// None where these are not the handles of the rules `before`.
pub(super) fn change(
    batch: &mut Batch,
    own: &nf_tables::Table,
    chain: &Chain,
    before: &[Rule],
    listed: &[(String, u64)],
) -> Option<()> {
    let listed = listed.iter().filter(|(of, _)| of == chain.name);
    let handles: Vec<u64> = listed.map(|(_, handle)| *handle).collect();
    if handles.len() != before.len() {
        return None;
    }
    let kept = staying(&chain.rules, before);
    let mut next = kept.iter().copied().peekable();
    for (place, rule) in chain.rules.iter().enumerate() {
        if next.next_if(|(wanted, _)| *wanted == place).is_some() {
            continue;
        }
        let rule = nf_tables::Rule::new(rule.expressions.clone(), &rule.comment);
        match next.peek() {
            Some((_, behind)) => batch.insert_rule(own, chain.name, *handles.get(*behind)?, &rule),
            None => batch.add_rule(own, chain.name, &rule),
        }
    }
    let mut next = kept.iter().map(|(_, held)| *held).peekable();
    for (place, handle) in handles.iter().enumerate() {
        if next.next_if_eq(&place).is_none() {
            batch.delete_rule(own, chain.name, *handle);
        }
    }
    Some(())
}

/// The places in both of as many rules as are alike in the same order.
fn staying(wanted: &[Rule], before: &[Rule]) -> Vec<(usize, usize)> {
    let mut places: BTreeMap<&str, VecDeque<usize>> = BTreeMap::new();
    for (place, rule) in before.iter().enumerate() {
        places.entry(&rule.comment).or_default().push_back(place);
    }
    let mut pairs = wanted.iter().enumerate().filter_map(|(place, rule)| {
        let held = places.get_mut(rule.comment.as_str())?.pop_front()?;
        (before.get(held) == Some(rule)).then_some((place, held))
    });
    longest_rising(&mut pairs)
}

/// Of pairs that rise in the first number as many as also rise in the second.
fn longest_rising(pairs: &mut dyn Iterator<Item = (usize, usize)>) -> Vec<(usize, usize)> {
    // Each pair with the one before it in the longest row that it ends; of each length, the row that ends lowest.
    let mut seen: Vec<((usize, usize), Option<usize>)> = Vec::new();
    let mut ends: Vec<usize> = Vec::new();
    let second =
        |seen: &[((usize, usize), Option<usize>)], at: usize| seen.get(at).map(|((_, held), _)| *held);
    for pair in pairs {
        let length = ends.partition_point(|end| second(&seen, *end) < Some(pair.1));
        let previous = length
            .checked_sub(1)
            .and_then(|shorter| ends.get(shorter))
            .copied();
        seen.push((pair, previous));
        let this = seen.len() - 1;
        match ends.get_mut(length) {
            Some(end) => *end = this,
            None => ends.push(this),
        }
    }
    let mut row = Vec::new();
    let mut at = ends.last().copied();
    while let Some((pair, previous)) = at.and_then(|at| seen.get(at)) {
        row.push(*pair);
        at = *previous;
    }
    row.reverse();
    row
}

#[cfg(test)]
mod tests {
    use super::longest_rising;

    #[test]
    fn as_many_rules_stay_as_can() {
        let stay = |held: &[usize]| {
            let row = longest_rising(&mut held.iter().copied().enumerate());
            row.into_iter().map(|(_, held)| held).collect::<Vec<_>>()
        };
        assert_eq!(stay(&[]), [0; 0]);
        assert_eq!(stay(&[0, 1, 2]), [0, 1, 2]);
        assert_eq!(stay(&[5, 0, 1, 9, 2, 3]), [0, 1, 2, 3]);
        assert_eq!(stay(&[3, 2, 1, 0]), [0]);
    }
}
