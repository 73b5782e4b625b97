//! Why a call failed, in terms of what the caller can do about it.

use std::error::Error;
use std::time::Duration;

use crate::error_code::ErrorCode;

/// A call or subscription that did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IpcError {
    /// There was no connection for the whole time the call may take; nothing was sent.
    #[error("not connected to the nucleus{}", reason(last_error))]
    #[non_exhaustive]
    NotConnected {
        /// Why the last attempt failed; `None` when none has ended yet.
        last_error: Option<String>,
    },
    /// The connection ended after the request was sent: the nucleus may or may not have acted on it.
    #[error("{operation}: the connection was lost before the answer: {reason}")]
    #[non_exhaustive]
    ConnectionLost {
        /// Bare name of the operation, for instance `GetConfiguration`.
        operation: String,
        /// What ended the connection, in one line.
        reason: String,
    },
    /// The nucleus did not answer in time: it may or may not have acted on the request.
    #[error("{operation}: no answer within {after:?}")]
    #[non_exhaustive]
    Timeout {
        /// Bare name of the operation, for instance `GetConfiguration`.
        operation: String,
        /// [`ClientOptions::request_timeout`](crate::ClientOptions::request_timeout), which passed.
        after: Duration,
    },
    /// The request does not fit into the longest frame; nothing was sent.
    #[error("{operation}: a frame of {size} bytes is longer than the {limit} the nucleus takes")]
    #[non_exhaustive]
    TooLarge {
        /// Bare name of the operation, for instance `GetConfiguration`.
        operation: String,
        /// Length of the whole frame, in bytes.
        size: usize,
        /// [`Client::max_frame_bytes`](crate::Client::max_frame_bytes) at that moment.
        limit: usize,
    },
    /// The request would harm the nucleus or cannot mean anything; nothing was sent.
    #[error("{operation}: {problem}")]
    #[non_exhaustive]
    InvalidRequest {
        /// Bare name of the operation, for instance `GetConfiguration`.
        operation: String,
        /// What is wrong, and what was expected.
        problem: String,
    },
    /// Too many calls or subscriptions are waiting already; nothing was sent.
    #[error("{operation}: {limit} streams are in use already")]
    #[non_exhaustive]
    Busy {
        /// Bare name of the operation, for instance `GetConfiguration`.
        operation: String,
        /// Streams, or subscriptions if the request is one, that one client may have.
        limit: usize,
    },
    /// The nucleus refused the request.
    #[error("{operation}: the nucleus answered {code}: {message:?}")]
    #[non_exhaustive]
    Service {
        /// Bare name of the operation, for instance `GetConfiguration`.
        operation: String,
        /// The error's name in the service model.
        code: ErrorCode,
        /// The nucleus' text, empty when it gave none; at most 512 characters, without control characters.
        message: String,
    },
    /// The request cannot be put into a frame; nothing was sent.
    #[error("{operation}: could not encode the request")]
    #[non_exhaustive]
    Encode {
        /// Bare name of the operation, for instance `GetConfiguration`.
        operation: String,
        /// What does not fit: a header longer than 32,767 bytes, in practice the name of the operation.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The nucleus accepted the request, but its answer makes no sense.
    #[error("{operation}: could not understand the answer")]
    #[non_exhaustive]
    BadReply {
        /// Bare name of the operation, for instance `GetConfiguration`.
        operation: String,
        /// What is wrong with the answer.
        #[source]
        source: serde_json::Error,
    },
    /// The connection task is gone, because the runtime it ran on is.
    #[error("{operation}: the connection task has ended")]
    #[non_exhaustive]
    Stopped {
        /// Bare name of the operation, for instance `GetConfiguration`.
        operation: String,
    },
}

impl IpcError {
    /// The error the nucleus answered with; `None` when it was not the nucleus that refused.
    #[must_use]
    pub fn code(&self) -> Option<&ErrorCode> {
        match self {
            Self::Service { code, .. } => Some(code),
            _ => None,
        }
    }

    /// True when the component's policy does not allow the operation. Lite says the same while it cannot read the
    /// policy, so it need not be for ever.
    #[must_use]
    pub fn is_unauthorized(&self) -> bool {
        self.code() == Some(&ErrorCode::Unauthorized)
    }

    /// True when this nucleus does not know the operation.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        let Self::Service { code, message, .. } = self else {
            return false;
        };
        let named = message.starts_with("Operation ") && message.contains(" is not supported");
        match code {
            ErrorCode::Service => message.is_empty() || named,
            code => code.as_str() == "Unsupported Operation",
        }
    }

    /// True when the thing asked for does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(
            self.code(),
            Some(ErrorCode::ResourceNotFound | ErrorCode::ComponentNotFound)
        )
    }
}

fn reason(last_error: &Option<String>) -> String {
    last_error
        .as_ref()
        .map(|text| format!(": {text}"))
        .unwrap_or_default()
}

/// An error and everything below it in one line, for places that keep text only.
pub(crate) fn in_one_line(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        line.push_str(": ");
        line.push_str(&source.to_string());
        cause = source.source();
    }
    line
}
