//! What makes a type a request of the IPC: the name of its operation and the type of what comes back.
//!
//! In: nothing. Out: the traits that [`crate::Client::request`] and [`crate::Client::subscribe`] work on. Operations
//! this crate has no type for are either implemented by the application, with the same traits, or used untyped through
//! [`crate::Client::request_json`] and [`crate::Client::subscribe_json`].

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// An operation of the IPC with its arguments: a name, and the JSON that is sent with it.
///
/// The JSON must be an object, and members that are absent must be left out: nucleus lite refuses `null`. What comes
/// back is told by [`Request`] for an operation that answers once, by [`SubscribeRequest`] for one that sends events.
pub trait Operation: Serialize {
    /// Bare name on the wire, for instance `GetConfiguration`. Those that send events begin with `SubscribeTo`.
    const NAME: &'static str;

    /// What forbids sending the request, and what was expected. `None` when it may be sent.
    fn problem(&self) -> Option<String> {
        None
    }
}

/// An operation that answers once, for [`Client::request`](crate::Client::request).
///
/// ```
/// use greengrass_ipc::{Client, IpcError, Operation, Request};
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
/// impl Operation for GetComponentDetails<'_> {
///     const NAME: &'static str = "GetComponentDetails";
/// }
///
/// impl Request for GetComponentDetails<'_> {
///     type Reply = Details;
/// }
///
/// async fn version(client: &Client, component: &str) -> Result<Option<String>, IpcError> {
///     let details = client.request(&GetComponentDetails { component_name: component }).await?;
///     Ok(details.component_details["version"].as_str().map(str::to_owned))
/// }
/// ```
pub trait Request: Operation {
    /// What the JSON of the answer is read as. An answer without any is read as `{}`.
    type Reply: DeserializeOwned;
}

/// An operation that answers and then sends events, for [`Client::subscribe`](crate::Client::subscribe).
pub trait SubscribeRequest: Operation {
    /// What the JSON of an event is read as, with its envelope. An event that cannot be read is told as
    /// [`SubscriptionEvent::Missed`](crate::SubscriptionEvent::Missed).
    type Event: DeserializeOwned;
}

/// The answer of an operation that has nothing to tell: the nucleus took the request. What that is worth differs, see
/// the operation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct EmptyReply {}
