//! Tables, and everything that one holds.

use crate::chain::Chain;
use crate::expression::{Expression, SetReference};
use crate::object::Object;
use crate::rule::Rule;
use crate::set::Set;
use crate::userdata::UserData;
use crate::wire::message::Family;
use crate::wire::{attributes, flags};

/// `NFTA_TABLE_NAME`, and the number of the table's name in everything that a table holds.
pub(crate) const TABLE_NAME: u16 = 1;

/// `NFTA_TABLE_USE`.
pub(crate) const TABLE_USE: u16 = 3;

/// What names a table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Table {
    /// Its family.
    pub family: Family,
    /// Its name, unique in its family.
    pub name: String,
}

impl Table {
    /// The table of that family and name.
    #[must_use]
    pub fn new(family: Family, name: impl Into<String>) -> Self {
        Self {
            family,
            name: name.into(),
        }
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.family.name(), self.name)
    }
}

flags! {
    /// How a table is meant.
    pub struct TableFlags {
        /// Its chains see no packets.
        DORMANT = 1,
        /// It ends with the program that made it, and nobody else can change it.
        OWNER = 2,
    }
}

attributes! {
    /// A table without what it holds. Left out of a listing: its name, use count and handle.
    #[derive(Debug, Clone, Default, PartialEq, Eq)]
    pub struct TableProperties as "a table" ignore 1 | 3 | 4 | 5 keep unknown {
        /// How it is meant.
        pub flags: TableFlags = 2 or TableFlags::NONE,
        /// What nft keeps for itself.
        pub userdata: UserData = 6 or UserData::NONE,
    }
}

/// A table with all that it holds but the elements of its named sets, which can be too many to be held twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableContents {
    /// What names it.
    pub table: Table,
    /// How it is meant.
    pub properties: TableProperties,
    /// Counters, quotas and limits, in the order they were made.
    pub objects: Vec<Object>,
    /// Named sets, in the order they were made.
    pub sets: Vec<Set>,
    /// Chains with their rules, in the order they were made.
    pub chains: Vec<ChainContents>,
}

/// A chain with its rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainContents {
    /// The chain.
    pub chain: Chain,
    /// Its rules, the first one first.
    pub rules: Vec<Rule>,
}

impl TableContents {
    /// An empty table.
    #[must_use]
    pub fn new(table: Table) -> Self {
        Self {
            table,
            properties: TableProperties::default(),
            objects: Vec::new(),
            sets: Vec::new(),
            chains: Vec::new(),
        }
    }

    /// It without what traffic has changed of it ([`Object::uncounted`], [`Rule::uncounted`]).
    #[must_use]
    pub fn uncounted(mut self) -> Self {
        self.objects = self.objects.into_iter().map(Object::uncounted).collect();
        for ChainContents { rules, .. } in &mut self.chains {
            *rules = std::mem::take(rules).into_iter().map(Rule::uncounted).collect();
        }
        self
    }

    /// It without attributes that this crate does not know. A newer kernel may list attributes that no older one has, for
    /// everything alike; whether those that are there may be passed over, only a listing right behind the own load can say.
    /// Unknown expressions stay.
    #[must_use]
    pub fn without_unknown(mut self) -> Self {
        self.properties.unknown.clear();
        self.objects.iter_mut().for_each(|object| object.unknown.clear());
        for set in &mut self.sets {
            set.unknown.clear();
            set.description.unknown.clear();
        }
        for ChainContents { chain, rules } in &mut self.chains {
            chain.unknown.clear();
            if let Some(hook) = &mut chain.hook {
                hook.unknown.clear();
            }
            rules.iter_mut().for_each(|rule| rule.unknown.clear());
        }
        self
    }

    /// The lookups of all rules that name a set.
    pub(crate) fn named_lookups(&mut self) -> impl Iterator<Item = &mut SetReference> {
        let rules = self.chains.iter_mut().flat_map(|chain| &mut chain.rules);
        let expressions = rules.flat_map(|rule| &mut rule.expressions);
        expressions.filter_map(|expression| match expression {
            Expression::Lookup(lookup) => match &mut lookup.set {
                set @ SetReference::Named(_) => Some(set),
                SetReference::Anonymous(_) => None,
            },
            _ => None,
        })
    }
}
