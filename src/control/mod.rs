//! Flow 3, the device's own way in: what the command line and the agent say to each other over a socket.
//!
//! [`protocol`] is the conversation, [`status`], [`connections`] and [`report`] are answers, [`client`] asks. Who answers is
//! the agent (`agent::control`); nothing of it is known here.

pub mod client;
pub mod connections;
pub mod protocol;
pub mod report;
pub mod status;
