//! Flow 3, the device's own way in: a socket on which the command line asks the agent.
//!
//! [`protocol`] is what is said, [`server`] answers, [`client`] asks.

pub mod client;
pub mod protocol;
pub mod server;
