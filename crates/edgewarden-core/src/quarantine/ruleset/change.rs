//! The smallest transaction from one ruleset to another.
//!
//! In: what the kernel was proven to hold and at which generation, the handles of its rules, what is wanted. Out: a
//! transaction that touches what differs: elements alone where only elements differ, else also rules and the counters they
//! count in, each rule in its place. It can only be had where tables, chains, limits and the sets' sizes are the same ([`Ruleset::same_frame`]);
//! otherwise the tables are loaded whole. Whether the kernel then holds what is wanted is proven elsewhere.

use std::collections::BTreeMap;

use jiff::Timestamp;
use nf_tables::{Batch, Object, ObjectKind};

use super::elements::OwnSet;
use super::kernel_form::counter_from;
use super::{CarriedCounters, Chain, Layer, Rule, Ruleset, SetElements, Table, own_table};

/// The handles of the kernel's rules by table, each with its chain, those of one chain in their order.
pub type RuleHandles = BTreeMap<Layer, Vec<(String, u64)>>;

impl Ruleset {
    /// Whether it differs from `other` in nothing but rules, their counters and elements, all of which can be changed alone.
    pub fn same_frame(&self, other: &Self) -> bool {
        let alike = |(one, other): (&Table, &Table)| {
            (one.layer, one.has_endpoints) == (other.layer, other.has_endpoints)
                && one.chains.len() == other.chains.len()
                && one.chains.iter().zip(&other.chains).all(|(one, other)| {
                    (one.hook, one.policy, &one.devices) == (other.hook, other.policy, &other.devices)
                })
        };
        self.limits == other.limits
            && self.elements.declared_as(&other.elements)
            && self.tables.len() == other.tables.len()
            && self.tables.iter().zip(&other.tables).all(alike)
    }

    /// The transaction that turns the `held` tables into these; empty when nothing differs. It counts only in that generation,
    /// and only where what it adds is not there and what it removes is. Counters that are made go on from `counted`; handles
    /// need only be known where rules differ. None where these are not the handles of the `held` rules.
    pub fn change_batch(
        &self,
        held: &Self,
        handles: &RuleHandles,
        counted: &CarriedCounters,
        generation: u32,
        now: Timestamp,
    ) -> Option<Batch> {
        let mut batch = Batch::for_generation(generation);
        for (table, before) in self.tables.iter().zip(&held.tables) {
            let own = own_table(table.layer);
            let (wanted, present) = (table.counters(), before.counters());
            for name in wanted.difference(&present) {
                let counter = counter_from(counted, table.layer, name);
                batch.add_object(&own, &Object::new(*name, counter));
            }
            let listed = handles.get(&table.layer).map(Vec::as_slice).unwrap_or_default();
            for (chain, before) in table.chains.iter().zip(&before.chains) {
                if chain.rules != before.rules {
                    change_rules(&mut batch, &own, chain, &before.rules, listed)?;
                }
            }
            for name in present.difference(&wanted) {
                batch.delete_object(&own, ObjectKind::Counter, name);
            }
        }
        let loaded = held.elements.clone().live(now);
        self.change_elements(&mut batch, &loaded, now);
        Some(batch)
    }

    fn change_elements(&self, batch: &mut Batch, loaded: &SetElements, now: Timestamp) {
        if *loaded == self.elements {
            return;
        }
        let wanted = self.elements.difference(loaded);
        let unwanted = loaded.difference(&self.elements);
        for table in &self.tables {
            let own = own_table(table.layer);
            // An element whose time changes is in both: removed, then added.
            for set in OwnSet::all(table.has_endpoints).filter(|set| unwanted.has(*set)) {
                let keys = unwanted.in_kernel(set, false, now);
                batch.delete_elements(&own, &set.name(), keys.map(|key| key.with_timeout(None)));
            }
            for set in OwnSet::all(table.has_endpoints).filter(|set| wanted.has(*set)) {
                batch.add_new_elements(&own, &set.name(), wanted.in_kernel(set, false, now));
            }
        }
    }
}

/// What is alike at the beginning and at the end of a chain stays; what is between is made anew.
fn change_rules(
    batch: &mut Batch,
    own: &nf_tables::Table,
    chain: &Chain,
    before: &[Rule],
    listed: &[(String, u64)],
) -> Option<()> {
    let listed = listed.iter().filter(|(of, _)| of == chain.hook);
    let handles: Vec<u64> = listed.map(|(_, handle)| *handle).collect();
    if handles.len() != before.len() {
        return None;
    }
    let first = alike(chain.rules.iter().zip(before));
    let (wanted, present) = (chain.rules.get(first..)?, before.get(first..)?);
    let last = alike(wanted.iter().rev().zip(present.iter().rev()));
    let behind = handles.get(before.len() - last).copied();
    for rule in wanted.get(..wanted.len() - last)? {
        let rule = nf_tables::Rule::new(rule.expressions.clone(), &rule.comment);
        match behind {
            Some(behind) => batch.insert_rule(own, chain.hook, behind, &rule),
            None => batch.add_rule(own, chain.hook, &rule),
        }
    }
    for handle in handles.get(first..before.len() - last)? {
        batch.delete_rule(own, chain.hook, *handle);
    }
    Some(())
}

/// How many pairs are alike until one is not.
fn alike<'a>(pairs: impl Iterator<Item = (&'a Rule, &'a Rule)>) -> usize {
    pairs.take_while(|(one, other)| one == other).count()
}
