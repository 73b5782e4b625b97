//! The kernel's packet filter, as enforcement asks for it ([`filter`]): what it is asked and told ([`kernel`]), its changes
//! are heard ([`watch`]) and answered at once ([`standby`]), and what it refuses is tried ([`canary`]). The sockets for that stay
//! open ([`sockets`]).

pub(crate) mod canary;
pub(crate) mod filter;
pub(crate) mod kernel;
mod sockets;
pub(crate) mod standby;
mod trial;
pub(crate) mod watch;

/// The thread that carries out orders; the kernel tells its name with each change, and keeps fifteen characters of it.
const WORKER: &str = "packet-filter";
/// The thread that watches, and puts back what stands by.
const WATCHER: &str = "filter-watch";
