//! The door to the Linux kernel: packet filter, network, processes, files, clock, packets, boot.
//!
//! Everything that touches the machine is here or in `cloud/`; the linter refuses it elsewhere (`clippy.toml`).

pub mod boot;
pub mod capture;
pub mod clock;
pub mod files;
pub mod net;
pub mod netfilter;
pub mod processes;
pub mod surroundings;
pub mod worker;
