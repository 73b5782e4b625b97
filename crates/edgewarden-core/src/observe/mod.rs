//! Flow 1, first half: packets and sockets become one closed interval.
//!
//! ```text
//! (capture) ─► meter (decode, way, fragments, tally) ─► accounts (direction, attribution, ledger) ─► interval
//!              once a frame                            once a flow, with sockets and processes
//! ```
//!
//! In: frames of every wanted interface, the kernel's sockets, processes and link counters. Out: [`Interval`]s and
//! [`SocketSnapshot`]s. What is done once a frame is the crate `packet-meter`, whose modules appear here. Every stage is pure or gets its effects through the traits in [`sockets`]; the threads that run
//! them are `agent::observer`'s.

pub mod accounts;
mod attribution;
pub mod closing;
mod direction;
pub mod interval;
pub mod ledger;
pub mod link;
pub mod sockets;

pub use packet_meter::{decode, flow, meter, way};

pub use interval::{Counters, Interval, LinkCounters};
pub use sockets::SocketSnapshot;
