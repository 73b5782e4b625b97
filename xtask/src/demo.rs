//! `cargo xtask demo`: the story of the README, live.
//!
//! In: nothing. Out: a timeline with a verdict a step.

use crate::failure::Failure;

/// Runs the demo.
pub fn run() -> Result<(), Failure> {
    Err(Failure::NotBuilt { verb: "demo" })
}
