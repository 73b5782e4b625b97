//! The door to the Linux kernel, files, clock and processes.

pub mod capture;
pub mod links;
pub mod procfs;
pub mod sock_diag;
