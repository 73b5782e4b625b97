//! The kernel's packet filter, as enforcement asks for it ([`filter`]): what it is asked and told ([`kernel`]), its changes
//! are heard ([`watch`]), and what it refuses is tried ([`canary`]).

pub(crate) mod canary;
pub(crate) mod filter;
pub(crate) mod kernel;
pub(crate) mod watch;
