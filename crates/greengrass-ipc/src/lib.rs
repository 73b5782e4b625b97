//! Async client for the AWS IoT Greengrass v2 component IPC, for the classic nucleus and for nucleus lite.
//!
//! A [`Client`] never fails to start, reconnects for ever and subscribes again by itself; a [`Subscription`] says what
//! may have been missed. It keeps what each nucleus demands, so that no request can cost a component its connection.
//!
//! ```no_run
//! use greengrass_ipc::{Client, ClientOptions, Qos, SubscribeToIotCore, SubscriptionEvent};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! // The socket and the token are in the environment of every Greengrass component.
//! let client = Client::start(ClientOptions::from_env()?);
//! client.publish_to_iot_core("gateway/hello", Qos::AtLeastOnce, b"hi").await?;
//!
//! let filter = SubscribeToIotCore::new("gateway/orders", Qos::AtLeastOnce);
//! let mut orders = client.subscribe(&filter).await?;
//! while let Some(event) = orders.next().await {
//!     match event {
//!         SubscriptionEvent::Message(order) => println!("{}: {} bytes", order.topic, order.payload.len()),
//!         SubscriptionEvent::Missed { count } => println!("too slow: {count} lost"),
//!         // Resubscribed: the nucleus was away, and anything may have been missed.
//!         _ => println!("ask for the present state"),
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Where to begin
//!
//! | | typed | as JSON |
//! |---|---|---|
//! | an operation that answers once | [`Client::request`] | [`Client::request_json`] |
//! | an operation that sends events | [`Client::subscribe`] | [`Client::subscribe_json`] |
//!
//! - Requests have the names of their operations, with `Iot` for `IoT`: [`GetConfiguration`], [`PublishToIotCore`],
//!   [`SubscribeToTopic`] and so on. They are made with `new`; what is optional is a field to set.
//! - An operation without a type here gets one by [`Operation`] and [`Request`] or [`SubscribeRequest`].
//! - [`IpcError`] says of every failure whether the nucleus may have acted. Nothing is ever repeated for the caller.
//! - [`ClientOptions`] has the limits, each with a default that suits both nuclei; [`Liveness`] finds a connection that
//!   is open and dead.
//! - [`Client::connection`] shows and awaits the state of the connection.
//!
//! The README has the table of operations by nucleus, all limits, and what success of each call is worth.
//!
//! # What it does not do
//!
//! Blocking calls, pings (lite closes the connection on them), repeating a call that failed (only the caller knows
//! whether that is safe), and unsafe code. The environment is read by [`ClientOptions::from_env`] alone.
//!
//! No type of a crate before its version 1 shows. What does show is of `bytes`, `serde`, `serde_json` and `tokio`, all
//! at version 1.
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
pub use operation::{EmptyReply, Operation, Request, SubscribeRequest};
pub use operations::*;
pub use options::{ClientOptions, DEFAULT_MAX_INBOUND_FRAME_BYTES, EnvironmentError, LITE_MAX_FRAME_BYTES};
pub use state::ConnectionState;
pub use subscription::{Subscription, SubscriptionEvent};

/// The example of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
