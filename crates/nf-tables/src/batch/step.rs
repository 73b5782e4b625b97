//! What the parts of a transaction do, for whoever has to say which of them was refused.

use crate::table::Table;

/// What one part of a transaction does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Whether something is made or removed.
    pub action: Action,
    /// In which table.
    pub table: Table,
    /// What it is about.
    pub item: Item,
}

/// What is done with something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It is made.
    Add,
    /// It is removed.
    Delete,
}

/// What a step is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// The table itself.
    Table,
    /// A chain, by name.
    Chain(String),
    /// A rule.
    Rule {
        /// Its chain.
        chain: String,
        /// Its comment, if it has one and is not only removed.
        comment: Option<String>,
        /// Its handle, if it is removed.
        handle: Option<u64>,
    },
    /// A set, by name.
    Set(String),
    /// Elements of the set of that name.
    Elements(String),
    /// A stateful object, by name.
    Object(String),
}
