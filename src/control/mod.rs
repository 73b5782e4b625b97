//! Flow 3, the device's own way in: what the command line and the agent say to each other over a socket.
//!
//! [`question`] has a type for all that may be asked, with the type of its answer; [`protocol`] is how both stand on a
//! line, [`status`], [`sockets`] and [`report`] are answers (others are the core's own types), [`client`] asks, and
//! [`ask_error`] says why nothing came. Who answers is the agent (`agent::control`); nothing of it is known here.

pub mod ask_error;
pub mod client;
pub mod protocol;
pub mod question;
pub mod report;
pub mod sockets;
pub mod status;
