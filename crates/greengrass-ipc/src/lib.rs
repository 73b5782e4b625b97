//! Async client for the AWS IoT Greengrass v2 component IPC.
//!
//! In: a socket path and a token ([`ClientOptions`]). Out: a [`Client`] that never fails to start, reconnects for
//! ever, and re-subscribes; and [`Subscription`]s that say what may have been missed. It speaks to both nuclei
//! (classic and lite) and keeps what each of them demands.
//!
//! ```text
//! operations/  requests, answers and events of single operations, typed     operation  what makes a type a request
//! client       calls: size check, time limit                                subscription  events, bounded queue
//! liveness     probes of the application, and a new connection when they miss
//! connection/  the one task: handshake -> session (socket) -> streams (who waits for what) -> back-off
//! frame        messages as bytes
//! ```
//!
//! Deliberately absent: reading the environment (a closure is asked), blocking calls, pings (lite closes the
//! connection on them), repeating a call that failed (only the caller knows whether that is safe), and unsafe code.
#![forbid(unsafe_code)]
#![warn(missing_docs, rustdoc::private_intra_doc_links)]

mod backoff;
mod client;
mod connection;
mod error;
mod error_code;
pub mod frame;
mod liveness;
mod operation;
mod operations;
mod options;
mod queue;
mod refusal;
mod state;
mod subscription;

pub use client::Client;
pub use error::IpcError;
pub use error_code::ErrorCode;
pub use liveness::Liveness;
pub use operation::{Accepted, Operation, Request, StreamOperation};
pub use operations::*;
pub use options::{ClientOptions, DEFAULT_MAX_INBOUND_FRAME_BYTES, EnvironmentError, LITE_MAX_FRAME_BYTES};
pub use state::ConnectionState;
pub use subscription::{Subscription, SubscriptionEvent};

/// The example of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
