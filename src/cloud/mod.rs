//! The door to the cloud: everything that goes through the Greengrass IPC.
//!
//! In: the nucleus' socket. Out: shadow messages, answers to reports, configuration; and publishes.
//! Topics, documents and the shadow session's decisions are pure; [`inbox`] and [`nucleus`] are the shell around the
//! `greengrass-ipc` client.

pub mod inbox;
pub mod nucleus;
pub mod shadow_message;
pub mod shadow_session;
pub mod topics;
