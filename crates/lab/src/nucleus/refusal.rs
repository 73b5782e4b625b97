//! Error answers, in the shape of each nucleus: docs/reference/ipc-wire.md#requests-and-answers.

use greengrass_ipc::frame::{Message, MessageKind, TERMINATE_STREAM};
use serde_json::json;

use super::personality::Personality;

/// Why an operation was not carried out, as the component is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// An error of the service model.
    Modelled {
        /// For instance `UnauthorizedError`.
        code: &'static str,
        /// Text; lite leaves it empty at times.
        text: String,
    },
    /// Classic only: an operation that the service model does not have.
    Unmodelled {
        /// The operation asked for.
        operation: String,
    },
}

impl Refusal {
    fn modelled(code: &'static str, text: impl Into<String>) -> Self {
        Self::Modelled {
            code,
            text: text.into(),
        }
    }

    /// `ServiceError`.
    pub fn service(text: impl Into<String>) -> Self {
        Self::modelled("ServiceError", text)
    }

    /// `InvalidArgumentsError`.
    pub fn arguments(text: impl Into<String>) -> Self {
        Self::modelled("InvalidArgumentsError", text)
    }

    /// `ResourceNotFoundError`.
    pub fn not_found(text: impl Into<String>) -> Self {
        Self::modelled("ResourceNotFoundError", text)
    }

    /// `ResourceNotFoundError` of a configuration key.
    #[must_use]
    pub fn no_key() -> Self {
        Self::not_found("Key not found.")
    }

    /// `ConflictError`.
    pub fn conflict(text: impl Into<String>) -> Self {
        Self::modelled("ConflictError", text)
    }

    /// `FailedUpdateConditionCheckError`.
    #[must_use]
    pub fn stale_update() -> Self {
        Self::modelled(
            "FailedUpdateConditionCheckError",
            "Proposed timestamp is older than actual.",
        )
    }

    /// `UnauthorizedError`.
    #[must_use]
    pub fn unauthorized(personality: Personality, component: &str, operation: &str, resource: &str) -> Self {
        let text = match (personality, operation) {
            (Personality::Lite, "RestartComponent") => {
                "Component not authorized to restart component.".to_owned()
            }
            (Personality::Lite, _) => "IPC Operation not authorized.".to_owned(),
            (Personality::Classic, _) => {
                format!("{component} may not perform aws.greengrass#{operation} on {resource}")
            }
        };
        Self::modelled("UnauthorizedError", text)
    }

    /// The error frame for `stream`.
    #[must_use]
    pub fn message(&self, personality: Personality, stream: i32) -> Message {
        let frame = Message::new(MessageKind::ApplicationError, stream).with_flags(TERMINATE_STREAM);
        match self {
            Self::Modelled { code, text } => {
                let body = if personality.is_lite() {
                    json!({ "_message": text, "_errorCode": code })
                } else {
                    json!({
                        "message": text,
                        "_service": "aws.greengrass#GreengrassCoreIPC",
                        "_message": text,
                        "_errorCode": code,
                    })
                };
                frame
                    .with_service_model_type(format!("aws.greengrass#{code}"))
                    .with_json(body.to_string())
            }
            Self::Unmodelled { operation } => frame.with_json(
                json!({
                    "error": "Unsupported Operation",
                    "message": format!("{operation} is not an operation of this service"),
                })
                .to_string(),
            ),
        }
    }
}
