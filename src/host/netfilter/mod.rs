//! The kernel's packet filter: rules are loaded and listed ([`nft`]), its generations and counters are asked for
//! ([`kernel`]), its changes are heard ([`watch`]), and what it refuses is tried ([`canary`]).

pub mod canary;
pub mod kernel;
pub mod nft;
pub mod watch;
