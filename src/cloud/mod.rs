//! The door to the cloud: everything that goes through the Greengrass IPC.
//!
//! In: the nucleus' socket. Out: shadow messages, answers to reports, configuration; and publishes.
//! Topics, documents and the shadow session's decisions are pure. [`link`], [`nucleus`], [`publish`] and [`inbox`] are the
//! shell around the `greengrass-ipc` client, which nobody outside this folder may name.

pub mod inbox;
pub mod link;
pub mod nucleus;
pub mod publish;
pub mod shadow_message;
pub mod shadow_session;
pub mod topics;
