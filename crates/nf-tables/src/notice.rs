//! What the kernel says about changes.
//!
//! In: datagrams of its notifications. Out: what is touched, by name, and the generation that ends each transaction. What it
//! holds afterwards is not told: a listing says it.

use crate::batch::Item;
use crate::chain::CHAIN_NAME;
use crate::object::OBJECT_NAME;
use crate::rule::{RULE_CHAIN, RULE_HANDLE, RULE_USERDATA};
use crate::set::{LIST_SET, SET_NAME};
use crate::table::{TABLE_NAME, Table};
use crate::userdata::UserData;
use crate::wire::message::{Message, MessageType};
use crate::wire::{Attribute as _, DecodeError, attributes, decode_text, find};

attributes! {
    /// The number of a state of all rulesets of a network namespace: one more with each transaction of anybody.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Generation as "a generation" keep unknown {
        /// The number; after its largest it begins anew.
        pub id: u32 = 1,
        /// The process that made it, as the kernel numbers it where we are; in notifications it is the one that changed
        /// something, in an answer whoever asks.
        pub process: Option<u32> = 2,
        /// The first fifteen bytes of that process' name.
        pub program: Option<String> = 3,
    }
}

/// Something that the kernel tells by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Something of a table was made, changed or removed, in the transaction that the next generation ends.
    Change {
        /// Which table; none for what is no part of one.
        table: Option<Table>,
        /// What happened.
        kind: MessageType,
        /// What it happened to, as far as this crate knows such things.
        item: Option<Item>,
    },
    /// A transaction is complete.
    Generation(Generation),
}

impl Notice {
    /// The notices of one datagram. What is no message of nf_tables is passed over.
    pub fn all(datagram: &[u8]) -> impl Iterator<Item = Result<Self, DecodeError>> {
        Message::all(datagram).filter_map(|message| match message {
            Ok(message) => Self::of(&message).transpose(),
            Err(error) => Some(Err(error)),
        })
    }

    fn of(message: &Message<'_>) -> Result<Option<Self>, DecodeError> {
        let Some(kind) = message.message_type() else {
            return Ok(None);
        };
        if kind == MessageType::NewGeneration {
            return Ok(Some(Self::Generation(generation_of(message)?)));
        }
        let table = message
            .family()
            .zip(named(message, TABLE_NAME)?)
            .map(|(family, name)| Table::new(family, name));
        let item = item_of(kind, message)?;
        Ok(Some(Self::Change { table, kind, item }))
    }
}

/// What a message of this kind is about.
fn item_of(kind: MessageType, message: &Message<'_>) -> Result<Option<Item>, DecodeError> {
    use MessageType as Kind;
    Ok(match kind {
        Kind::NewTable | Kind::DeleteTable => Some(Item::Table),
        Kind::NewChain | Kind::DeleteChain => named(message, CHAIN_NAME)?.map(Item::Chain),
        Kind::NewRule | Kind::DeleteRule => {
            let value = |number| find(message.attributes(), number);
            let userdata = value(RULE_USERDATA).map(UserData::get).transpose()?;
            named(message, RULE_CHAIN)?.map(|chain| Item::Rule {
                chain,
                comment: userdata.and_then(|userdata| userdata.comment().map(str::to_owned)),
                handle: value(RULE_HANDLE).and_then(|handle| u64::get(handle).ok()),
            })
        }
        Kind::NewSet | Kind::DeleteSet => named(message, SET_NAME)?.map(Item::Set),
        Kind::NewElement | Kind::DeleteElement => named(message, LIST_SET)?.map(Item::Elements),
        Kind::NewObject | Kind::DeleteObject => named(message, OBJECT_NAME)?.map(Item::Object),
        _ => None,
    })
}

/// A name that a message tells.
fn named(message: &Message<'_>, number: u16) -> Result<Option<String>, DecodeError> {
    let name = find(message.attributes(), number).map(decode_text).transpose()?;
    Ok(name.map(str::to_owned))
}

/// The generation that a message tells.
pub(crate) fn generation_of(message: &Message<'_>) -> Result<Generation, DecodeError> {
    <Generation as crate::wire::Attributes>::get_all(message.attributes())
}
