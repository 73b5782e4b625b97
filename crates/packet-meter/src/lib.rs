//! All that is done once for each packet: a frame is read, and its bytes are added to its flow's.
//!
//! ```text
//! frame ─► decode ─► way (which interface it crosses, and how) ─► fragments ─► tally (sums by flow) ─► meter's user
//! ```
//!
//! In: frames as they were captured. Out: sums by flow, once somebody drains them. Absent: whose a flow is, and every effect.
//! A crate of its own because it is built for speed while the rest of the agent is built for size.

#![forbid(unsafe_code)]

pub mod decode;
pub mod flow;
mod fragments;
pub mod meter;
pub mod tally;
pub mod way;
