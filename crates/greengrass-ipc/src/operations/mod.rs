//! Single operations, typed: what a request looks like and what an answer or event means.
//!
//! In: arguments of the caller and payloads of the nucleus. Out: JSON and typed events. Absent optionals are left
//! out, never sent as null: lite refuses null.

mod configuration;
mod iot_core;
mod lifecycle;

pub use configuration::ConfigurationUpdate;
pub use iot_core::{IotCoreMessage, Qos};
pub use lifecycle::ComponentState;
