//! The kernel's packet filter, as enforcement asks for it ([`filter`]): rules are loaded and listed ([`nft`]), its
//! generations and counters are asked for ([`kernel`]), its changes are heard ([`watch`]), and what it refuses is tried
//! ([`canary`]).

pub(crate) mod canary;
pub(crate) mod filter;
pub(crate) mod kernel;
mod load_watch;
pub(crate) mod nft;
pub(crate) mod watch;
