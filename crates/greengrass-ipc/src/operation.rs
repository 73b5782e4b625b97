//! What makes a type a request of the IPC: the name of its operation and the type of what comes back.
//!
//! In: nothing. Out: the traits that [`crate::Client::execute`] and [`crate::Client::listen`] work on. Operations this
//! crate has no type for are either implemented by the application, with the same traits, or used untyped through
//! [`crate::Client::call`] and [`crate::Client::subscribe`].

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A request: the JSON it becomes and the operation it is for.
///
/// The JSON must be an object, and members that are absent must be left out: nucleus lite refuses `null`.
pub trait Request: Serialize {
    /// Bare name of the operation, for instance `GetConfiguration`.
    const NAME: &'static str;

    /// What forbids sending the request, and what was expected. `None` when it may be sent.
    fn problem(&self) -> Option<String> {
        None
    }
}

/// An operation that answers once.
///
/// ```
/// use greengrass_ipc::{Operation, Request};
///
/// #[derive(serde::Serialize)]
/// #[serde(rename_all = "camelCase")]
/// struct GetComponentDetails<'a> {
///     component_name: &'a str,
/// }
///
/// #[derive(serde::Deserialize)]
/// #[serde(rename_all = "camelCase")]
/// struct Details {
///     component_details: serde_json::Value,
/// }
///
/// impl Request for GetComponentDetails<'_> {
///     const NAME: &'static str = "GetComponentDetails";
/// }
///
/// impl Operation for GetComponentDetails<'_> {
///     type Reply = Details;
/// }
/// ```
pub trait Operation: Request {
    /// What the answer means.
    type Reply: DeserializeOwned;
}

/// An operation that answers and then sends events.
pub trait StreamOperation: Request {
    /// What an event means.
    type Event: DeserializeOwned;
}

/// The answer of an operation that has nothing to tell: the nucleus took the request. What that is worth differs, see
/// the operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Accepted {}
