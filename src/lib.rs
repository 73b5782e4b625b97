//! Edgewarden: the security component that AWS IoT Greengrass v2 gateways lack.
//!
//! The modules, in the order in which data flows through them:
//!
//! 1. packets and sockets become a report: [`observe`] → [`report`] → (`cloud`) → Device Defender; the same interval
//!    feeds [`detect`], whose alarm may become an order
//! 2. orders become rules that are proven: [`quarantine`] (pure) carried out by [`agent::enforcer`]
//! 3. a person asks the device: [`cli`] → [`control`]
//!
//! What is decided is the crate `edgewarden-core`, whose folders appear here by their names; it has no effects. What
//! acts lives behind two doors, [`host`] (the Linux kernel) and `cloud` (Greengrass IPC), and [`agent`] wires
//! everything together. Arrows point only down: core < host, cloud < control < agent < cli (`tests/docs/architecture/tables.rs`).

pub mod agent;
pub mod cli;
pub(crate) mod cloud;
pub mod control;
pub mod host;

pub use edgewarden_core::{
    config, detect, document, error_text, moment, observe, process, quarantine, report,
};

pub(crate) use edgewarden_core::{Arrange, Gather, lock};
