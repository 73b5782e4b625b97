//! The long lists of blocked remotes of a journal: out of it to be written, back into it when it was read.
//!
//! In: a journal, or one without its lists and what was found of them. Out: the other of the two, or what is missing.
//! An order without its list says how many it leaves out, so that none passes for one with a short list.

use std::borrow::Cow;
use std::collections::HashMap;

use super::journal::Journal;
use crate::quarantine::orders::document::MAX_BLOCKS;
use crate::quarantine::orders::order::Order;
use crate::quarantine::orders::remotes::{RemoteList, digest};

/// Remotes of an order that stay in the journal's file. Any authority but the operator has no more, and gives another list with each
/// order: a file for it would save nothing.
const MOST_WITHIN: usize = MAX_BLOCKS;

/// The journal without its long lists, and these in the order in which they are missed.
pub(super) fn take_out<'a>(journal: &Journal<'a>) -> (Journal<'a>, Vec<RemoteList>) {
    let mut lists = Vec::new();
    // Its lists are shared: a copy of an order is small.
    let mut short = journal.clone();
    if orders(journal).all(|order| order.block.remotes.len() <= MOST_WITHIN) {
        return (short, lists);
    }
    for order in orders_mut(&mut short) {
        if order.block.remotes.len() > MOST_WITHIN {
            order.block.omitted = order.block.remotes.len();
            lists.push(std::mem::take(&mut order.block.remotes));
        }
    }
    (short, lists)
}

/// The journal with its lists: each has to be among `found`, byte for byte as it was written, and as long as the order says.
pub(super) fn put_back<'a>(
    mut journal: Journal<'static>,
    named: &[String],
    found: impl Iterator<Item = &'a [u8]>,
) -> Result<Journal<'static>, String> {
    let found: HashMap<String, &[u8]> = found.map(|list| (digest(list), list)).collect();
    let mut read: HashMap<&str, RemoteList> = HashMap::new();
    let mut named = named.iter();
    for order in orders_mut(&mut journal) {
        if order.block.omitted == 0 {
            continue;
        }
        let name = named.next().ok_or("an order misses its blocked remotes")?;
        let list = match read.get(name.as_str()) {
            Some(list) => list.clone(),
            None => {
                let list = found
                    .get(name)
                    .and_then(|list| RemoteList::read(list, name.clone()));
                let missing =
                    || format!("the blocked remotes {name} are missing or not as they were written");
                let list = list.ok_or_else(missing)?;
                read.entry(name).or_insert(list).clone()
            }
        };
        if list.len() != order.block.omitted {
            return Err(format!("the blocked remotes {name} are not those of the order"));
        }
        order.block.remotes = list;
        order.block.omitted = 0;
    }
    Ok(journal)
}

fn orders<'a>(journal: &'a Journal<'_>) -> impl Iterator<Item = &'a Order> {
    let ended = journal.overridden.iter().flat_map(|ended| &ended.orders);
    journal.book.orders().iter().chain(ended)
}

fn orders_mut<'a>(journal: &'a mut Journal<'_>) -> impl Iterator<Item = &'a mut Order> {
    let overridden: &mut Option<_> = Cow::to_mut(&mut journal.overridden);
    let ended = overridden
        .iter_mut()
        .flat_map(|ended: &mut super::journal::OperatorOverride| &mut ended.orders);
    journal.book.to_mut().orders_mut().iter_mut().chain(ended)
}
