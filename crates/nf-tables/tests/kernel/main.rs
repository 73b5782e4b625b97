//! This crate against the real kernel, with the nft program as the judge. Everything runs in network namespaces of its own.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a step of a test that fails is a failed test"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "tests run nft and ip, and send a datagram that is to be counted"
)]

mod faults;
mod listings;
mod namespaces;
mod oracle;
mod rulesets;
mod transactions;
