//! The smallest transaction from one ruleset to another.
//!
//! In: what the kernel was proven to hold and at which generation, the handles of its rules, what is wanted. Out: a
//! transaction that touches what differs: elements alone where only elements differ, else also rules and the counters they
//! count in, each rule in its place; where interfaces came or went their chains, and tables that are there for them. So what a
//! rate remembers of its senders outlives whatever others do with interfaces. It can only be had where limits, the sets' sizes
//! and the chains of the IP stack are the same ([`Ruleset::same_frame`]); otherwise the tables are loaded whole. Whether the
//! kernel then holds what is wanted is proven elsewhere.

mod rules;

use std::collections::BTreeMap;

use jiff::Timestamp;
use nf_tables::{Batch, Object, ObjectKind};

use super::conditions::FilledSet;
use super::elements::OwnSet;
use super::kernel_form::{chain_contents, counter_from};
use super::{CarriedCounters, Chain, Layer, Ruleset, SetElements, Table, own_table};

/// The handles of the kernel's rules by table, each with its chain, those of one chain in their order.
pub type RuleHandles = BTreeMap<Layer, Vec<(String, u64)>>;

impl Ruleset {
    /// Whether it differs from `other` in nothing but what can be changed alone: rules, their counters and rates, elements,
    /// interfaces, chains and tables that one of them does not have.
    pub fn same_frame(&self, other: &Self) -> bool {
        let alike = |one: &Table| {
            let Some(other) = other.table(one.layer) else {
                return true;
            };
            one.has_endpoints == other.has_endpoints
                && one.chains.iter().all(|chain| {
                    let same = other.chain(chain.name);
                    same.is_none_or(|same| {
                        (same.hook, same.priority, same.policy) == (chain.hook, chain.priority, chain.policy)
                    })
                })
        };
        self.limits == other.limits
            && self.elements.declared_as(&other.elements)
            && self.tables.is_empty() == other.tables.is_empty()
            && self.tables.iter().all(alike)
    }

    /// Whether what was heard by way of lifelines behind the rules of `before` could be heard behind these: they may reach
    /// further, and what only interfaces differ in makes no difference.
    pub fn keeps_lifelines_of(&self, before: &Self) -> bool {
        let covers = |ruleset: &Self| ruleset.table(Layer::Netdev).is_some();
        let SetElements {
            endpoints,
            nucleus,
            ways,
            bearers,
            ..
        } = before.elements.difference(&self.elements);
        !before.tables.is_empty()
            && (covers(before) || !covers(self))
            // What was heard by any way says nothing of ties.
            && (!before.elements.ways.is_empty() || self.elements.ways.is_empty())
            && endpoints.is_empty()
            && nucleus.is_empty()
            && ways.is_empty()
            && bearers.is_empty()
    }

    /// The table of that family, if there is one.
    pub fn table(&self, layer: Layer) -> Option<&Table> {
        self.tables.iter().find(|table| table.layer == layer)
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
        for gone in held
            .tables
            .iter()
            .filter(|table| self.table(table.layer).is_none())
        {
            batch.delete_table(&own_table(gone.layer));
        }
        for table in &self.tables {
            match held.table(table.layer) {
                Some(before) if before == table => {}
                Some(before) => {
                    let listed = handles.get(&table.layer).map(Vec::as_slice).unwrap_or_default();
                    change_table(&mut batch, table, before, listed, counted)?;
                }
                None => self.add_table(&mut batch, table, counted, now),
            }
        }
        let loaded = held.elements.clone().live(now);
        self.change_elements(&mut batch, held, &loaded, now);
        Some(batch)
    }

    fn change_elements(&self, batch: &mut Batch, held: &Self, loaded: &SetElements, now: Timestamp) {
        if *loaded == self.elements {
            return;
        }
        let wanted = self.elements.difference(loaded);
        let unwanted = loaded.difference(&self.elements);
        let stays = |table: &&Table| held.table(table.layer).is_some();
        for table in self.tables.iter().filter(stays) {
            let own = own_table(table.layer);
            // An element whose time changes is in both: removed, then added.
            for set in OwnSet::all(table).filter(|set| unwanted.has(*set)) {
                let keys = unwanted.in_kernel(set, false, now);
                batch.delete_elements(&own, &set.name(), keys.map(|key| key.with_timeout(None)));
            }
            for set in OwnSet::all(table).filter(|set| wanted.has(*set)) {
                batch.add_new_elements(&own, &set.name(), wanted.in_kernel(set, false, now));
            }
        }
    }
}

impl Table {
    fn chain(&self, name: &str) -> Option<&Chain> {
        self.chains.iter().find(|chain| chain.name == name)
    }
}

/// What differs in a table that is there before and afterwards: first what rules need, last what none needs any more.
fn change_table(
    batch: &mut Batch,
    table: &Table,
    before: &Table,
    listed: &[(String, u64)],
    counted: &CarriedCounters,
) -> Option<()> {
    let own = own_table(table.layer);
    let (wanted, present) = (table.counters(), before.counters());
    let (sets, old_sets) = (table.filled_sets(), before.filled_sets());
    for name in wanted.difference(&present) {
        let counter = counter_from(counted, table.layer, name);
        batch.add_object(&own, &Object::new(*name, counter));
    }
    for set in sets.difference(&old_sets).copied().map(FilledSet::declared) {
        batch.add_set(&own, &set);
    }
    // The kernel has no word for other interfaces of a chain that all of its versions know.
    let stays = |chain: &Chain, other: &Table| {
        let same = other.chain(chain.name);
        same.is_some_and(|same| same.devices == chain.devices)
    };
    for gone in before.chains.iter().filter(|chain| !stays(chain, table)) {
        batch.delete_chain(&own, gone.name);
    }
    let new: Vec<_> = table
        .chains
        .iter()
        .filter(|chain| !stays(chain, before))
        .map(chain_contents)
        .collect();
    for contents in &new {
        batch.add_chain(&own, &contents.chain);
    }
    for contents in &new {
        for rule in &contents.rules {
            batch.add_rule(&own, &contents.chain.name, rule);
        }
    }
    for chain in table.chains.iter().filter(|chain| stays(chain, before)) {
        let old = before.chain(chain.name)?;
        if chain.rules != old.rules {
            rules::change(batch, &own, chain, &old.rules, listed)?;
        }
    }
    for set in old_sets.difference(&sets) {
        batch.delete_set(&own, &set.name);
    }
    for name in present.difference(&wanted) {
        batch.delete_object(&own, ObjectKind::Counter, name);
    }
    Some(())
}
