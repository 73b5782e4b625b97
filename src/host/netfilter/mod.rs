//! The kernel's packet filter, as enforcement asks for it ([`filter`]): what it is asked and told ([`kernel`]), its changes
//! are heard ([`watch`]), and what it refuses is tried ([`canary`]). The sockets for that stay open ([`sockets`]).

pub(crate) mod canary;
pub(crate) mod filter;
pub(crate) mod kernel;
mod sockets;
pub(crate) mod watch;
