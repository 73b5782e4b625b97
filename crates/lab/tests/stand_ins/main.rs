//! The stand-ins of the lab: each plays its part as the original does, or these tests say where it does not.
//!
//! * [`nucleus`], [`official`], [`examples`]: the nucleus, before plain sockets, AWS's own client and our client's examples
//! * [`cloud`]: the services behind a real broker
//! * [`site`], [`front`]: the network of namespaces, and the way to the broker

mod bench;
mod cloud;
mod examples;
mod front;
mod nucleus;
mod official;
mod site;
