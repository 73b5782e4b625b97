//! Transactions: messages that the kernel obeys all or none of.
//!
//! In: tables, chains, rules, sets, elements, objects, and what is to be removed. Out: the bytes of one transaction, and
//! for each message what it is about ([`Step`]), so that a refusal can name it.
//!
//! What is added is written at once and not kept; elements are taken one by one. The memory is that of the bytes.

mod step;

pub use step::{Action, Item, Step};

use crate::chain::{CHAIN_NAME, Chain};
use crate::object::{OBJECT_KIND, OBJECT_NAME, Object, ObjectKind};
use crate::rule::{RULE_CHAIN, RULE_HANDLE, RULE_POSITION, Rule};
use crate::set::{AnonymousSet, Element, LIST, LIST_ELEMENT, LIST_ID, LIST_SET, SET_NAME, Set};
use crate::table::{TABLE_NAME, Table, TableContents, TableProperties};
use crate::wire::message::{self, MessageType};
use crate::wire::{Attribute as _, Attributes as _, EncodeFault, Encoder};

/// Bytes of elements after which another message begins: an attribute's length is a number of 16 bits, and the longest
/// element has far less than what is left.
const ELEMENTS_IN_MESSAGE: usize = 60_000;
/// `NFTA_SET_ID`.
const SET_ID: u16 = 10;
/// The id of the first set in a transaction; the kernel takes zero for none.
const FIRST_SET: u32 = 1;
/// The message that begins a transaction comes before the first step's.
const BEGIN: usize = 1;

/// One transaction.
#[derive(Debug, Clone)]
pub struct Batch {
    encoder: Encoder,
    messages: usize,
    /// Each step with the number of its first message, counted from the one that begins the transaction.
    steps: Vec<(usize, Step)>,
    fault: Option<(usize, EncodeFault)>,
}

impl Default for Batch {
    fn default() -> Self {
        Self::beginning(None)
    }
}

impl Batch {
    /// An empty transaction.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty transaction that is refused as a whole unless the generation is this one when it begins.
    #[must_use]
    pub fn for_generation(generation: u32) -> Self {
        Self::beginning(Some(generation))
    }

    fn beginning(generation: Option<u32>) -> Self {
        let mut encoder = Encoder::default();
        encoder.next_set = FIRST_SET;
        encoder.begin_batch(generation);
        Self {
            encoder,
            messages: BEGIN,
            steps: Vec::new(),
            fault: None,
        }
    }

    /// Makes a table; refused if there is one of that name.
    pub fn add_table(&mut self, table: &Table, properties: &TableProperties) {
        self.step(Action::Add, table, Item::Table);
        self.add(MessageType::NewTable, message::EXCLUSIVE, table, |out| {
            properties.put_all(out);
        });
    }

    /// Removes a table with all that it holds; refused if there is none.
    pub fn delete_table(&mut self, table: &Table) {
        self.step(Action::Delete, table, Item::Table);
        self.remove(MessageType::DeleteTable, table, |_| {});
    }

    /// Removes a table if there is one: makes it first where it is not there.
    pub fn clear_table(&mut self, table: &Table) {
        self.step(Action::Delete, table, Item::Table);
        self.add(MessageType::NewTable, 0, table, |_| {});
        self.remove(MessageType::DeleteTable, table, |_| {});
    }

    /// Makes a table with all of this; refused if there is one of that name.
    pub fn add_contents(&mut self, contents: &TableContents) {
        let table = &contents.table;
        self.add_table(table, &contents.properties);
        for object in &contents.objects {
            self.add_object(table, object);
        }
        for set in &contents.sets {
            self.add_set(table, set);
        }
        for chain in &contents.chains {
            self.add_chain(table, &chain.chain);
        }
        for chain in &contents.chains {
            for rule in &chain.rules {
                self.add_rule(table, &chain.chain.name, rule);
            }
        }
    }

    /// Makes a chain; refused if there is one of that name.
    pub fn add_chain(&mut self, table: &Table, chain: &Chain) {
        self.step(Action::Add, table, Item::Chain(chain.name.clone()));
        self.add(MessageType::NewChain, message::EXCLUSIVE, table, |out| {
            chain.put_all(out);
        });
    }

    /// Removes a chain with its rules; refused where other chains send packets to it.
    pub fn delete_chain(&mut self, table: &Table, chain: &str) {
        self.step(Action::Delete, table, Item::Chain(chain.to_owned()));
        self.remove(MessageType::DeleteChain, table, |out| out.text(CHAIN_NAME, chain));
    }

    /// Makes a rule at the end of a chain.
    pub fn add_rule(&mut self, table: &Table, chain: &str, rule: &Rule) {
        self.write_rule(table, chain, rule, None);
    }

    /// Makes a rule right before another one of its chain, which is told by its handle.
    pub fn insert_rule(&mut self, table: &Table, chain: &str, before: u64, rule: &Rule) {
        self.write_rule(table, chain, rule, Some(before));
    }

    fn write_rule(&mut self, table: &Table, chain: &str, rule: &Rule, before: Option<u64>) {
        let item = Item::Rule {
            chain: chain.to_owned(),
            comment: rule.comment().map(str::to_owned),
            handle: None,
        };
        self.step(Action::Add, table, item);
        // Without this flag a rule comes before its position.
        let flags = before.map_or(message::APPEND, |_| 0);
        let first = self.encoder.next_set;
        for (id, set) in (first..).zip(rule.anonymous_sets()) {
            self.write_set(table, &set.written_set(), Some(id));
            let elements = set.written_elements();
            self.write_elements(
                (MessageType::NewElement, message::CREATE),
                table,
                (AnonymousSet::NAME, Some(id)),
                elements,
            );
        }
        self.add(MessageType::NewRule, flags, table, |out| {
            out.text(RULE_CHAIN, chain);
            before.put(RULE_POSITION, out);
            rule.put_all(out);
        });
    }

    /// Removes a rule.
    pub fn delete_rule(&mut self, table: &Table, chain: &str, handle: u64) {
        let item = Item::Rule {
            chain: chain.to_owned(),
            comment: None,
            handle: Some(handle),
        };
        self.step(Action::Delete, table, item);
        self.remove(MessageType::DeleteRule, table, |out| {
            out.text(RULE_CHAIN, chain);
            handle.put(RULE_HANDLE, out);
        });
    }

    /// Makes a set; refused if there is one of that name.
    pub fn add_set(&mut self, table: &Table, set: &Set) {
        self.step(Action::Add, table, Item::Set(set.name.clone()));
        let id = self.encoder.next_set;
        self.encoder.next_set = id.wrapping_add(1);
        self.write_set(table, set, Some(id));
    }

    fn write_set(&mut self, table: &Table, set: &Set, id: Option<u32>) {
        self.add(MessageType::NewSet, message::EXCLUSIVE, table, |out| {
            set.put_all(out);
            id.put(SET_ID, out);
        });
    }

    /// Removes a set that no rule asks.
    pub fn delete_set(&mut self, table: &Table, set: &str) {
        self.step(Action::Delete, table, Item::Set(set.to_owned()));
        self.remove(MessageType::DeleteSet, table, |out| out.text(SET_NAME, set));
    }

    /// Adds elements to a set; those that it has stay as they are.
    pub fn add_elements(&mut self, table: &Table, set: &str, elements: impl IntoIterator<Item = Element>) {
        self.step(Action::Add, table, Item::Elements(set.to_owned()));
        let made = (MessageType::NewElement, message::CREATE);
        self.write_elements(made, table, (set, None), elements);
    }

    /// Adds elements to a set; refused if one of them is there.
    pub fn add_new_elements(
        &mut self,
        table: &Table,
        set: &str,
        elements: impl IntoIterator<Item = Element>,
    ) {
        self.step(Action::Add, table, Item::Elements(set.to_owned()));
        let made = (MessageType::NewElement, message::CREATE | message::EXCLUSIVE);
        self.write_elements(made, table, (set, None), elements);
    }

    /// Removes elements from a set, by their keys; refused if one of them is not there.
    pub fn delete_elements(&mut self, table: &Table, set: &str, elements: impl IntoIterator<Item = Element>) {
        self.step(Action::Delete, table, Item::Elements(set.to_owned()));
        self.write_elements((MessageType::DeleteElement, 0), table, (set, None), elements);
    }

    /// Writes elements in as many messages as they need; none where there are none.
    fn write_elements(
        &mut self,
        (kind, flags): (MessageType, u16),
        table: &Table,
        (set, id): (&str, Option<u32>),
        elements: impl IntoIterator<Item = Element>,
    ) {
        let mut elements = elements.into_iter().peekable();
        while elements.peek().is_some() {
            self.write(kind, flags, table, |out| {
                out.text(LIST_SET, set);
                id.put(LIST_ID, out);
                let list = out.open_nest(LIST);
                while out.bytes().len() - list < ELEMENTS_IN_MESSAGE {
                    let Some(element) = elements.next() else { break };
                    element.put(LIST_ELEMENT, out);
                }
                out.close(list);
            });
        }
    }

    /// Makes a stateful object; refused if there is one of that name and kind.
    pub fn add_object(&mut self, table: &Table, object: &Object) {
        self.step(Action::Add, table, Item::Object(object.name.clone()));
        self.add(MessageType::NewObject, message::EXCLUSIVE, table, |out| {
            object.put_all(out);
        });
    }

    /// Removes a stateful object that no rule refers to.
    pub fn delete_object(&mut self, table: &Table, kind: ObjectKind, name: &str) {
        self.step(Action::Delete, table, Item::Object(name.to_owned()));
        self.remove(MessageType::DeleteObject, table, |out| {
            out.text(OBJECT_NAME, name);
            kind.number().put(OBJECT_KIND, out);
        });
    }

    fn step(&mut self, action: Action, table: &Table, item: Item) {
        let table = table.clone();
        self.steps.push((self.messages, Step { action, table, item }));
    }

    fn add(&mut self, kind: MessageType, flags: u16, table: &Table, attributes: impl FnOnce(&mut Encoder)) {
        self.write(kind, message::CREATE | flags, table, attributes);
    }

    fn remove(&mut self, kind: MessageType, table: &Table, attributes: impl FnOnce(&mut Encoder)) {
        self.write(kind, 0, table, attributes);
    }

    fn write(&mut self, kind: MessageType, flags: u16, table: &Table, attributes: impl FnOnce(&mut Encoder)) {
        let flags = message::REQUEST | flags;
        self.encoder.message(kind, flags, Some(table.family), |out| {
            out.text(TABLE_NAME, &table.name);
            attributes(out);
        });
        if let Some(fault) = self.encoder.take_fault() {
            self.fault.get_or_insert((self.messages, fault));
        }
        self.messages += 1;
    }

    /// What it does, in order.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().map(|(_, step)| step)
    }

    /// Whether it does nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages == BEGIN
    }

    /// Bytes that it has so far.
    #[must_use]
    pub fn size(&self) -> usize {
        self.encoder.bytes().len()
    }

    /// The number of the step, among [`Batch::steps`], to which a message belongs; messages are counted from the one that
    /// begins the transaction, which belongs to none.
    #[must_use]
    pub fn step_of(&self, message: usize) -> Option<usize> {
        self.steps
            .partition_point(|(first, _)| *first <= message)
            .checked_sub(1)
    }

    /// The bytes of a message, counted as for [`Batch::step_of`].
    #[must_use]
    pub fn message(&self, place: usize) -> Option<&[u8]> {
        let mut rest = self.encoder.bytes();
        for _ in 0..place {
            let length = message::word(rest, 0)? as usize;
            rest = rest.get(length.max(1).next_multiple_of(4)..)?;
        }
        rest.get(..message::word(rest, 0)? as usize)
    }

    /// A step by its number.
    #[must_use]
    pub fn step_at(&self, number: usize) -> Option<&Step> {
        self.steps.get(number).map(|(_, step)| step)
    }

    /// The number of the first step that cannot be written, and why. Such a transaction must not be sent.
    #[must_use]
    pub fn fault(&self) -> Option<(Option<usize>, EncodeFault)> {
        let (message, fault) = self.fault?;
        Some((self.step_of(message), fault))
    }

    /// Hands over the bytes of the whole transaction, its messages numbered from `first_sequence` on, and the number of the
    /// last message that does something, which asks for a word about it.
    pub fn with_bytes<T>(&mut self, first_sequence: u32, send: impl FnOnce(&[u8], usize) -> T) -> T {
        let open = self.encoder.bytes().len();
        self.encoder.end_batch();
        let last = self.messages - 1;
        let bytes = self.encoder.bytes_mut();
        // Without a word about the last message nobody could tell success from an answer that was lost.
        message::number_messages(bytes, first_sequence, Some((last, message::ACKNOWLEDGE)));
        let sent = send(bytes, last);
        bytes.truncate(open);
        sent
    }
}
