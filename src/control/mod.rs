//! Flow 3, the device's own way in: a socket on which the command line asks the agent.
//!
//! [`protocol`] is what is said, [`server`] answers, [`client`] asks. [`connections`] and [`socket_list`] are the
//! answer about open sockets, `operator` reads orders.

pub mod client;
pub mod connections;
mod operator;
pub mod protocol;
pub mod server;
pub mod socket_list;
