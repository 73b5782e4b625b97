//! Answers the command line: the agent's side of the control socket.
//!
//! [`server`] listens, `crowd` says who has a place there, [`aside`] takes work off the thread that decides, `answers` says what
//! is answered to each question, `operator` reads orders of the operator, `socket_list` lists the open sockets.

mod answers;
pub(super) mod aside;
mod crowd;
pub(super) mod operator;
pub(super) mod server;
mod socket_list;
