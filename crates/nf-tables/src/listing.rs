//! What the kernel lists of one table, put together.
//!
//! In: the messages of its answers about chains, rules, sets, objects and the elements of anonymous sets. Out: the same
//! types that a table is made from ([`TableContents`]), so that a listing is compared by `==`.
//! What belongs to another table is passed over without keeping anything of it. How much of our own table may be kept the
//! caller says ([`ListingLimits`]): whoever may change it can make it large.

use std::collections::{BTreeMap, HashSet};

use crate::chain::Chain;
use crate::expression::SetReference;
use crate::object::Object;
use crate::rule::{Rule, place_of};
use crate::set::{AnonymousSet, Element, Set, SetFlags, elements_in};
use crate::table::{ChainContents, TABLE_NAME, TABLE_USE, Table, TableContents, TableProperties};
use crate::wire::message::{Message, MessageType};
use crate::wire::{Attribute as _, Attributes as _, DecodeError, decode_text, find};

/// How much of a table a listing may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListingLimits {
    /// Chains, rules, sets, objects and elements of anonymous sets together.
    pub items: usize,
    /// Bytes of their messages together.
    pub bytes: usize,
}

/// Why a listing cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ListingError {
    /// Something in the table is not what this crate can read.
    #[error("could not read {what} of the table {table}")]
    Unreadable {
        /// The table.
        table: Table,
        /// What kind of thing, with its name where it has one.
        what: String,
        /// What is wrong.
        #[source]
        source: DecodeError,
    },
    /// The table is larger than the caller wants to hold.
    #[error("the table {table} is larger than {} items or {} bytes", limits.items, limits.bytes)]
    TooLarge {
        /// The table.
        table: Table,
        /// What was allowed.
        limits: ListingLimits,
    },
    /// More uses the table than chains, sets and objects: a flow table, for instance.
    #[error("the table {table} holds something that is not listed")]
    HoldsMore {
        /// The table.
        table: Table,
    },
    /// A rule is in a chain that was not listed.
    #[error("the table {table} has a rule in the chain {chain}, which is not listed")]
    NoChain {
        /// The table.
        table: Table,
        /// The chain's name.
        chain: String,
    },
}

/// A table as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// What it holds, without the elements of named sets.
    pub contents: TableContents,
    /// When it was read.
    pub during: During,
}

/// The generation of all rulesets before something was read, and after it. Of what was read while others wrote, only what a
/// notification does not name is sure to be of one moment.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct During {
    /// Before it.
    pub began: u32,
    /// After it.
    pub ended: u32,
}

impl During {
    /// Whether nobody changed anything meanwhile.
    #[must_use]
    pub const fn is_one(self) -> bool {
        self.began == self.ended
    }

    /// This reading and one that followed it, as one.
    #[must_use]
    pub const fn and(self, next: Self) -> Self {
        Self {
            began: self.began,
            ended: next.ended,
        }
    }
}

/// Puts messages together.
#[derive(Debug)]
pub struct ListingReader {
    limits: ListingLimits,
    items: usize,
    bytes: usize,
    contents: TableContents,
    rules: Vec<(String, Rule)>,
    anonymous: Vec<Set>,
    elements: BTreeMap<String, Vec<Element>>,
    /// How many things of the table the kernel counts: chains, named sets, objects and flow tables.
    used: Option<usize>,
}

impl ListingReader {
    /// Nothing yet of this table.
    #[must_use]
    pub fn new(table: Table, limits: ListingLimits) -> Self {
        Self {
            limits,
            items: 0,
            bytes: 0,
            contents: TableContents::new(table),
            rules: Vec::new(),
            anonymous: Vec::new(),
            elements: BTreeMap::new(),
            used: None,
        }
    }

    /// Takes one message of an answer; one about another table is passed over.
    ///
    /// # Errors
    /// It cannot be read, or the table is too large.
    pub fn take(&mut self, message: &Message<'_>) -> Result<(), ListingError> {
        if !self.is_ours(message) {
            return Ok(());
        }
        let attributes = message.attributes();
        self.count(1, attributes.len())?;
        match message.message_type() {
            Some(MessageType::NewTable) => {
                let properties = TableProperties::get_all(attributes);
                self.contents.properties =
                    properties.map_err(|source| self.unreadable("the head", source))?;
                let used = find(attributes, TABLE_USE).and_then(|used| u32::get(used).ok());
                self.used = used.and_then(|used| usize::try_from(used).ok());
            }
            Some(MessageType::NewChain) => {
                let chain =
                    Chain::get_all(attributes).map_err(|source| self.unreadable("a chain", source))?;
                let rules = Vec::new();
                self.contents.chains.push(ChainContents { chain, rules });
            }
            Some(MessageType::NewRule) => {
                let rule = rule_of(attributes).map_err(|source| self.unreadable("a rule", source))?;
                self.rules.push(rule);
            }
            Some(MessageType::NewSet) => {
                let set = Set::get_all(attributes).map_err(|source| self.unreadable("a set", source))?;
                if set.flags.has(SetFlags::ANONYMOUS) {
                    self.anonymous.push(set);
                } else {
                    self.contents.sets.push(set);
                }
            }
            Some(MessageType::NewObject) => {
                let object =
                    Object::get_all(attributes).map_err(|source| self.unreadable("an object", source))?;
                self.contents.objects.push(object);
            }
            Some(MessageType::NewElement) => self.take_elements(message)?,
            _ => {
                let kind = message.kind;
                return Err(self.unreadable("a message", DecodeError::Message { kind }));
            }
        }
        Ok(())
    }

    /// Whether there can be no chain besides those that were taken, once all sets and objects were: the kernel counts
    /// what a table has.
    #[must_use]
    pub fn has_all_chains(&self) -> bool {
        let TableContents {
            objects,
            sets,
            chains,
            ..
        } = &self.contents;
        self.used == Some(objects.len() + sets.len() + chains.len())
    }

    /// Forgets the chains, to take them anew.
    pub fn forget_chains(&mut self) {
        self.contents.chains.clear();
    }

    /// Forgets objects that came more than once: the kernel finds its place in their list by counting everybody's. Whether it
    /// left one out in the same way, [`ListingReader::has_all_chains`] tells.
    pub fn forget_repeated_objects(&mut self) {
        let mut seen = HashSet::new();
        let objects = &mut self.contents.objects;
        objects.retain(|object| seen.insert((object.name.clone(), object.state.kind_number())));
    }

    fn is_ours(&self, message: &Message<'_>) -> bool {
        let table = &self.contents.table;
        let name = find(message.attributes(), TABLE_NAME).and_then(|name| decode_text(name).ok());
        message.family() == Some(table.family) && name == Some(&table.name)
    }

    fn take_elements(&mut self, message: &Message<'_>) -> Result<(), ListingError> {
        let (name, elements) = elements_in(message).map_err(|source| self.unreadable("elements", source))?;
        for element in elements {
            let element = element.map_err(|source| self.unreadable("an element", source))?;
            self.count(1, 0)?;
            self.elements.entry(name.to_owned()).or_default().push(element);
        }
        Ok(())
    }

    fn count(&mut self, items: usize, bytes: usize) -> Result<(), ListingError> {
        self.items = self.items.saturating_add(items);
        self.bytes = self.bytes.saturating_add(bytes);
        if self.items > self.limits.items || self.bytes > self.limits.bytes {
            return Err(ListingError::TooLarge {
                table: self.contents.table.clone(),
                limits: self.limits,
            });
        }
        Ok(())
    }

    fn unreadable(&self, what: &str, source: DecodeError) -> ListingError {
        ListingError::Unreadable {
            table: self.contents.table.clone(),
            what: what.to_owned(),
            source,
        }
    }

    /// The anonymous sets whose elements are still to be taken.
    #[must_use]
    pub fn anonymous_sets(&self) -> Vec<String> {
        self.anonymous.iter().map(|set| set.name.clone()).collect()
    }

    /// Everything that was taken, each rule in its chain and each anonymous set in its rule. A set that no rule asks, or
    /// that is more than constants, stays among the sets.
    ///
    /// # Errors
    /// A rule has no chain.
    pub fn finish(self) -> Result<TableContents, ListingError> {
        let Self {
            mut contents,
            rules,
            anonymous,
            mut elements,
            ..
        } = self;
        // One by one: a collected map is sorted first, by six kilobytes of instructions for each type.
        let mut places = BTreeMap::new();
        for (place, chain) in contents.chains.iter().enumerate() {
            places.insert(chain.chain.name.clone(), place);
        }
        for (chain, rule) in rules {
            let place = places.get(&chain).copied();
            let Some(contents) = place.and_then(|place| contents.chains.get_mut(place)) else {
                let table = contents.table;
                return Err(ListingError::NoChain { table, chain });
            };
            contents.rules.push(rule);
        }
        let mut constants = BTreeMap::new();
        for set in anonymous {
            let elements = elements.remove(&set.name).unwrap_or_default();
            let listed = AnonymousSet::listed(&set, elements);
            constants.insert(set.name.clone(), (set, listed));
        }
        let mut asked = HashSet::new();
        for reference in contents.named_lookups() {
            let SetReference::Named(name) = reference else {
                continue;
            };
            if let Some((_, Some(set))) = constants.get(name.as_str()) {
                asked.insert(name.clone());
                *reference = SetReference::Anonymous(Box::new(set.clone()));
            }
        }
        let rest = constants.into_iter().filter(|(name, _)| !asked.contains(name));
        contents.sets.extend(rest.map(|(_, (set, _))| set));
        Ok(contents)
    }
}

/// A rule, with its chain.
fn rule_of(attributes: &[u8]) -> Result<(String, Rule), DecodeError> {
    let (chain, _) = place_of(attributes)?;
    Ok((chain, Rule::get_all(attributes)?))
}
