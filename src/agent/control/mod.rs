//! Answers the command line: the agent's side of the control socket.
//!
//! [`server`] listens and answers, `operator` reads orders of the operator, [`socket_list`] lists the open sockets.

mod operator;
pub(super) mod server;
mod socket_list;
