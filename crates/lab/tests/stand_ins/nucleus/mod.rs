//! The stand-in nucleus over a real socket and a real broker, against docs/reference/ipc-wire.md.

mod client;
mod client_operations;
mod component;
mod configuration;
mod deployment;
mod lifecycle;
mod mqtt;
mod pubsub;
mod shadows;
mod wire;
