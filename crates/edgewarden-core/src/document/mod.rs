//! Reads hostile JSON: every fault at once, each with its path. Knows no domain.
//!
//! In: a JSON value of somebody else. Out: what its fields say, and [`Fault`]s with the path, what was found and what
//! was expected. Deliberately absent: what a field means, and where the document came from.

pub mod fault;
pub(crate) mod fields;

pub use fault::Fault;
