//! The shipped program from outside: started in a stage of the lab, told what to do through its doors, and judged by what
//! the kernel, the cloud and its own answers show.
//!
//! * [`orders`]: who orders what, and what is cut by it
//! * [`attacks`], [`layers`]: packets, frames and other hands against an isolation
//! * [`holds`]: kills, harmed journals, stepped clocks, other tables
//! * [`devices`]: each kind of interface as uplink
//! * [`device`]: boot, installation, crashes, history and missing surroundings
//! * [`reports`], [`traffic_cli`]: what is told, to the cloud and to the terminal
//!
//! Deliberately absent: any use of Edgewarden's code, which `tests/library` tests.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test touches the outside, prints what it measured and fails by panicking"
)]

mod attacks;
mod common;
mod device;
mod devices;
mod holds;
mod layers;
mod orders;
mod reports;
mod traffic_cli;
