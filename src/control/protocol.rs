//! What the command line and the agent say to each other: one JSON object a line, one answer a request.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::connections::Query;
use super::report::ReportQuestion;

/// Where the agent listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/edgewarden/control.sock";
/// Longest request in bytes; the longest honest one carries a reason or a filter of 256 characters.
pub const MAX_REQUEST: u64 = 4096;
/// Longest request that carries an order, in bytes: 100,000 blocked remotes are about 4 MB.
pub const MAX_ORDER_REQUEST: u64 = 8 * 1024 * 1024;
/// Longest answer in bytes: `top` with thousands of remotes.
pub const MAX_ANSWER: u64 = 16 * 1024 * 1024;
/// Longest reason in characters; it goes into the shadow.
pub const MAX_REASON: usize = 256;
/// Longest name to look for in characters: paths that people type are shorter, and it fits into a request.
pub const MAX_FILTER: usize = 256;

/// A question or an instruction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Everything the agent knows about itself.
    Status,
    /// The running interval's traffic.
    Top,
    /// About reports.
    Report {
        /// What.
        question: ReportQuestion,
    },
    /// The open sockets.
    Connections {
        /// Which of them.
        #[serde(default)]
        query: Query,
    },
    /// The operator isolates the device.
    Quarantine {
        /// Why.
        reason: String,
        /// Ends by itself after this many seconds.
        expires_seconds: Option<u64>,
    },
    /// The operator gives an order as a document.
    Order {
        /// As `edgewarden schema order` describes it.
        order: Value,
        /// Why, instead of what the document says.
        reason: Option<String>,
        /// Ends by itself after this many seconds, instead of when the document says.
        expires_seconds: Option<u64>,
    },
    /// What is done now, or would be.
    Plan {
        /// An order that the operator might give.
        order: Option<Value>,
    },
    /// The operator ends the operator's order, or every order.
    Release {
        /// Every order, against its authority's will.
        everything: bool,
        /// Why; required for `everything`.
        reason: Option<String>,
    },
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer<T = Value> {
    /// Done; for `status` and instructions a [`super::status::Status`], for `top` an interval,
    /// for `connections` a [`super::connections::ConnectionList`], for `plan` a [`crate::quarantine::plan::preview::Shown`].
    Ok(T),
    /// Not done; a sentence.
    Error(String),
}

impl Request {
    /// Whether it may be as long as [`MAX_ORDER_REQUEST`].
    #[must_use]
    pub const fn carries_order(&self) -> bool {
        matches!(self, Self::Order { .. } | Self::Plan { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_strictly() {
        let read = |text: &str| serde_json::from_str::<Request>(text);
        assert_eq!(read(r#"{"command":"status"}"#).unwrap(), Request::Status);
        assert!(read(r#"{"command":"reboot"}"#).is_err());
        assert!(
            read(r#"{"command":"quarantine"}"#).is_err(),
            "a reason is required"
        );
    }
}
