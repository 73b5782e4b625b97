//! What happens in one run, made from the fuzzer's bytes.

use arbitrary::Arbitrary;
use greengrass_ipc::frame::{Message, MessageKind, encode};

/// Everything that happens in one run.
#[derive(Debug, Arbitrary)]
pub struct Script {
    /// Whether the client may authenticate by its component's name.
    pub by_name: bool,
    /// In order.
    pub steps: Vec<Step>,
}

/// One thing that happens.
#[derive(Debug, Arbitrary)]
pub enum Step {
    /// The application calls an operation.
    Call(u8),
    /// The application subscribes.
    Subscribe(u8),
    /// The application drops every call and subscription.
    GiveUp,
    /// The application asks for a new connection.
    Reconnect,
    /// Time passes, in seconds.
    Wait(u8),
    /// The server says something, to a client it accepts first when there is none.
    Say(Saying),
    /// The server accepts the next client and lets it in.
    Listen,
    /// The server closes the connection.
    HangUp,
}

/// What a server says.
#[derive(Debug, Arbitrary)]
pub enum Saying {
    /// A well-formed frame.
    Frame {
        /// Modulo 8.
        kind: u8,
        /// Any bits.
        flags: i8,
        /// Small, so that it hits streams that exist.
        stream: i8,
        /// What the payload claims to be.
        shape: Shape,
        /// What it is.
        body: Body,
        /// Only so many bytes of the frame, and the rest with the next thing said, or never.
        cut: Option<u8>,
    },
    /// Any bytes.
    Bytes(Vec<u8>),
}

/// A `service-model-type`.
#[derive(Debug, Arbitrary)]
pub enum Shape {
    None,
    Response(u8),
    Error(u8),
    Event,
    Any(String),
}

/// A payload.
#[derive(Debug, Arbitrary)]
pub enum Body {
    Known(u8),
    Any(Vec<u8>),
}

/// Operations whose answers a server may send; each is called or subscribed to by some step.
const OPERATIONS: [&str; 11] = [
    "GetConfiguration",
    "GetThingShadow",
    "ListNamedShadowsForThing",
    "RestartComponent",
    "Anything",
    "SubscribeToIoTCore",
    "SubscribeToTopic",
    "SubscribeToConfigurationUpdate",
    "SubscribeToComponentUpdates",
    "SubscribeToValidateConfigurationUpdates",
    "SubscribeToIoTCoreConnectionStatus",
];

/// Error shapes of both nuclei.
const ERRORS: [&str; 5] = [
    "ServiceError",
    "UnauthorizedError",
    "ResourceNotFoundError",
    "FailedUpdateConditionCheckError",
    "InvalidTokenError",
];

/// Bodies as real nuclei send them, for the fuzzer to begin from.
const BODIES: [&str; 13] = [
    "{}",
    "",
    r#"{"componentName":"c","value":{"a":"300"}}"#,
    r#"{"payload":"e30="}"#,
    r#"{"results":["a","b"],"timestamp":1764000000.0,"nextToken":"x"}"#,
    r#"{"restartStatus":"SUCCEEDED","message":"m"}"#,
    r#"{"message":{"topicName":"a/b","payload":"aGk="}}"#,
    r#"{"jsonMessage":{"message":{"a":1},"context":{"topic":"a"}}}"#,
    r#"{"binaryMessage":{"message":"aGk="}}"#,
    r#"{"configurationUpdateEvent":{"componentName":"c","keyPath":["a"]}}"#,
    r#"{"preUpdateEvent":{"deploymentId":"d","isGgcRestarting":true}}"#,
    r#"{"validateConfigurationUpdateEvent":{"configuration":{"a":1},"deploymentId":"d"}}"#,
    r#"{"_message":"IPC Operation not authorized.","_errorCode":"UnauthorizedError"}"#,
];

fn pick<'a>(of: &[&'a str], which: u8) -> &'a str {
    of[usize::from(which) % of.len()]
}

impl Saying {
    /// The bytes on the socket.
    pub fn bytes(self) -> Vec<u8> {
        let (kind, flags, stream, shape, body, cut) = match self {
            Self::Bytes(bytes) => return bytes,
            Self::Frame {
                kind,
                flags,
                stream,
                shape,
                body,
                cut,
            } => (kind, flags, stream, shape, body, cut),
        };
        let kind = MessageKind::try_from(i32::from(kind % 8)).expect("eight kinds");
        let mut message = Message::new(kind, stream.into()).with_flags(flags.into());
        let shape = match shape {
            Shape::None => None,
            Shape::Response(which) => Some(format!("{}Response", pick(&OPERATIONS, which))),
            Shape::Error(which) => Some(pick(&ERRORS, which).to_owned()),
            Shape::Event => Some("IoTCoreMessage".to_owned()),
            Shape::Any(text) => Some(text),
        };
        if let Some(shape) = shape {
            message = message.with_service_model_type(format!("aws.greengrass#{shape}"));
        }
        let message = message.with_json(match body {
            Body::Known(which) => pick(&BODIES, which).as_bytes().to_vec(),
            Body::Any(bytes) => bytes,
        });
        let Ok(frame) = encode(&message) else {
            return Vec::new();
        };
        let mut frame = frame.to_vec();
        frame.truncate(cut.map_or(frame.len(), usize::from));
        frame
    }
}
