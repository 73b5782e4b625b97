//! The door to the Linux kernel: packet filter, network, processes, files, clock, packets, boot.
//!
//! Everything that touches the machine is here or in `cloud/`; the linter refuses it elsewhere (`clippy.toml`).

pub(crate) mod boot;
pub mod capture;
pub(crate) mod clock;
pub(crate) mod end;
pub(crate) mod files;
pub(crate) mod guard;
pub(crate) mod log;
pub mod net;
pub(crate) mod netfilter;
pub(crate) mod priority;
pub(crate) mod processes;
pub(crate) mod program;
pub(crate) mod sources;
pub(crate) mod spare;
pub(crate) mod surroundings;
pub(crate) mod turns;
pub(crate) mod watchdog;
pub(crate) mod worker;
