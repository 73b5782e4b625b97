//! What the kernel says about changes.
//!
//! In: datagrams of its notifications. Out: which tables are touched, and the generation that ends each transaction. What
//! changed is not told: a listing says it.

use crate::table::{TABLE_NAME, Table};
use crate::wire::message::{Message, MessageType};
use crate::wire::{DecodeError, attributes, decode_text, find};

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
        let name = find(message.attributes(), TABLE_NAME)
            .map(decode_text)
            .transpose()?;
        let table = message
            .family()
            .zip(name)
            .map(|(family, name)| Table::new(family, name));
        Ok(Some(Self::Change { table, kind }))
    }
}

/// The generation that a message tells.
pub(crate) fn generation_of(message: &Message<'_>) -> Result<Generation, DecodeError> {
    <Generation as crate::wire::Attributes>::get_all(message.attributes())
}
