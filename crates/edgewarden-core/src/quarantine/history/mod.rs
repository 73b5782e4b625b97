//! The audit history: what was ordered, carried out, proven and undone, by whom and why, as a chain of records.
//!
//! In: [`Event`]s, the bytes of the kept files. Out: lines to append, and what a reader may believe of them
//! ([`verify`]). A record carries the SHA-256 of the one before, so what was changed, removed, doubled or moved between
//! two records is found. Absent on purpose: files (`host::files::append_file`), and a key. Whoever is root on the
//! device can write a whole new chain; only a hash that was noted elsewhere before (`edgewarden history --verify`
//! prints it) tells.

mod budget;
mod chain;
mod event;
mod record;
mod resume;
#[cfg(test)]
mod tests;

pub use budget::EventBudget;
pub use chain::{ChainFault, ChainSummary, HistoryFile, HistoryLine, TornLine, read, verify};
pub use event::{Actor, Event, names};
use record::MAX_LINE;
pub use record::{ChainHead, Record, line};
pub use resume::{TAIL, resume};

/// Name of the file in the state directory; older ones are `history.1` to `history.4`.
pub const FILE: &str = "history";
/// Size in bytes at which a file is rotated: some three thousand records.
pub const MAX_FILE: u64 = 1024 * 1024;
/// Older files kept: with the running one five megabytes at most, what a small device can spare.
pub const KEPT: usize = 4;
