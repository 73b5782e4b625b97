//! Error answers of both nuclei become one kind of error.
//!
//! In: a message of kind `ApplicationError`, whose payload may be JSON of three shapes, plain text or nothing.
//! Out: [`IpcError::Service`]. Text is cut and freed of control characters: it ends up in logs.

use serde_json::Value;

use crate::error::IpcError;
use crate::frame::Message;

/// Characters kept of a text sent by the nucleus: enough for its messages, harmless in a log line.
const MAX_TEXT_CHARS: usize = 512;

/// Code when the nucleus names none.
const NAMELESS: &str = "UnknownError";

/// The error an error answer stands for.
pub(crate) fn service_error(operation: &str, answer: &Message) -> IpcError {
    let body: Option<Value> = serde_json::from_slice(&answer.payload).ok();
    let field = |name: &str| Some(tidy(body.as_ref()?.get(name)?.as_str()?));
    let plain = match &body {
        Some(Value::String(text)) => Some(tidy(text)),
        Some(_) => None,
        None => Some(text_of(&answer.payload)),
    };
    let shape = answer
        .service_model_type
        .as_deref()
        .map(|shape| tidy(shape_name(shape)));
    let code = shape
        .or_else(|| field("_errorCode"))
        .or_else(|| field("error"))
        .or_else(|| plain.clone().filter(|text| is_name(text)))
        .unwrap_or_else(|| NAMELESS.to_owned());
    let message = field("message")
        .or_else(|| field("_message"))
        .or(plain)
        .unwrap_or_default();
    IpcError::Service {
        operation: operation.to_owned(),
        code: code.into(),
        message,
    }
}

/// A payload as text fit for a log line.
pub(crate) fn text_of(payload: &[u8]) -> String {
    // Four bytes are the longest character; cutting first keeps the work small.
    let head = payload.get(..MAX_TEXT_CHARS * 4).unwrap_or(payload);
    tidy(&String::from_utf8_lossy(head))
}

fn tidy(text: &str) -> String {
    text.chars()
        .filter(|character| !character.is_control())
        .take(MAX_TEXT_CHARS)
        .collect()
}

/// `UnauthorizedError` of `aws.greengrass#UnauthorizedError`.
fn shape_name(shape: &str) -> &str {
    shape.rsplit_once('#').map_or(shape, |(_, name)| name)
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|character| character.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::MessageKind;

    fn parse(shape: Option<&str>, body: &str) -> IpcError {
        let mut answer = Message::new(MessageKind::ApplicationError, 1).with_payload(body.to_owned());
        answer.service_model_type = shape.map(str::to_owned);
        service_error("GetConfiguration", &answer)
    }

    fn parts(error: &IpcError) -> (&str, &str) {
        match error {
            IpcError::Service { code, message, .. } => (code.as_str(), message),
            other => panic!("not a service error: {other}"),
        }
    }

    #[test]
    fn lite_bodies() {
        let body = r#"{"_message":"IPC Operation not authorized.","_errorCode":"UnauthorizedError"}"#;
        let error = parse(Some("aws.greengrass#UnauthorizedError"), body);
        assert_eq!(
            parts(&error),
            ("UnauthorizedError", "IPC Operation not authorized.")
        );
        assert!(error.is_unauthorized() && !error.is_unsupported() && !error.is_not_found());

        let unknown = parse(None, r#"{"_message":"","_errorCode":"ServiceError"}"#);
        assert_eq!(parts(&unknown), ("ServiceError", ""));
        assert!(unknown.is_unsupported());
    }

    #[test]
    fn classic_bodies() {
        let body = r#"{"message":"Key not found","_service":"aws.greengrass#GreengrassCoreIPC",
            "_message":"Key not found","_errorCode":"ResourceNotFoundError"}"#;
        let error = parse(Some("aws.greengrass#ResourceNotFoundError"), body);
        assert_eq!(parts(&error), ("ResourceNotFoundError", "Key not found"));
        assert!(error.is_not_found() && !error.is_unauthorized());

        let body = r#"{"message":"Operation GetThingShadow is not supported by Greengrass"}"#;
        assert!(parse(Some("aws.greengrass#ServiceError"), body).is_unsupported());
        let offline = parse(
            Some("aws.greengrass#ServiceError"),
            r#"{"_message":"Failed to bind the subscription."}"#,
        );
        assert!(
            !offline.is_unsupported(),
            "a nucleus that is offline is not a nucleus without the operation"
        );

        let body = r#"{"error":"Unsupported Operation","message":"GetThingShadow"}"#;
        let error = parse(None, body);
        assert_eq!(parts(&error), ("Unsupported Operation", "GetThingShadow"));
        assert!(error.is_unsupported());
    }

    #[test]
    fn bodies_that_are_not_json() {
        assert_eq!(
            parts(&parse(None, "InternalServerError")),
            ("InternalServerError", "InternalServerError")
        );
        assert_eq!(parts(&parse(None, "")), (NAMELESS, ""));
        assert_eq!(parts(&parse(None, "[1,2]")), (NAMELESS, ""));
        assert_eq!(
            parts(&parse(Some("aws.greengrass#ServiceError"), "{{")),
            ("ServiceError", "{{")
        );
        assert_eq!(
            parts(&parse(None, r#"{"message":null,"_errorCode":7}"#)),
            (NAMELESS, "")
        );
    }

    #[test]
    fn hostile_text_is_cut_and_cleaned() {
        let error = parse(None, &format!("\u{1b}[31m\n{}", "é".repeat(5_000)));
        let (_, message) = parts(&error);
        assert_eq!(message.chars().count(), MAX_TEXT_CHARS);
        assert!(!message.contains(char::is_control));
    }
}
