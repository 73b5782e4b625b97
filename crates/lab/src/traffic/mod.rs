//! Traffic generators: sensor and rogue, and the sink they send to.
//!
//! [`sensor`] behaves well and says nothing; [`rogue`] does what the lab's attack script does and tells;
//! [`flood`] sends datagrams and [`syn`] segments as fast as told, [`burst`] sends once and exits; [`hoard`] opens files;
//! [`flows`] and [`echoes`] fill the table of connection tracking, [`ports`] holds every local port;
//! [`sink`] counts what arrives, so that a third party can tell whether traffic flows.

pub mod burst;
pub mod echoes;
pub mod flood;
pub mod flows;
pub mod hoard;
pub mod lines;
pub mod ports;
pub mod rogue;
pub mod sensor;
pub mod sink;
pub mod syn;
#[cfg(test)]
mod tests;

use std::time::Duration;

/// Shortest pause between two messages, in milliseconds: keeps a mistyped command from flooding the host.
pub const MIN_EVERY_MILLIS: u64 = 1;

/// Largest message, in bytes.
pub const MAX_MESSAGE_BYTES: u32 = 1024 * 1024;

/// Longest wait for a connection or for one message to leave. Behind a firewall that drops, both hang.
pub(crate) const IO_LIMIT: Duration = Duration::from_secs(2);
