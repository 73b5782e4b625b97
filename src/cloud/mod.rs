//! The door to the cloud: everything that goes through the Greengrass IPC.
//!
//! In: the nucleus' socket. Out: shadow messages, answers to reports, configuration; and publishes.
//! Topics, documents, the shadow session's decisions and [`offence`] are pure. [`link`], [`nucleus`], [`publish`] and [`inbox`] are the
//! shell around the `greengrass-ipc` client, which nobody outside this folder may name.

pub(crate) mod connection_status;
pub(crate) mod inbox;
pub(crate) mod link;
pub(crate) mod nucleus;
pub(crate) mod offence;
pub(crate) mod publish;
mod shadow_answers;
mod shadow_echo;
mod shadow_held;
mod shadow_liveness;
pub(crate) mod shadow_message;
mod shadow_own;
mod shadow_request;
mod shadow_room;
pub(crate) mod shadow_session;
pub(crate) mod topics;
