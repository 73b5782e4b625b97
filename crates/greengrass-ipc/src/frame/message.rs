//! One IPC message as data, and its translation to and from the codec's header list.
//!
//! In: header lists of `aws-smithy-eventstream`. Out: [`Message`]. Headers without a meaning for the IPC are
//! skipped whatever their type, and so is a known text header that is not text.

use aws_smithy_types::event_stream::{Header, HeaderValue, Message as RawMessage};
use aws_smithy_types::str_bytes::StrBytes;
use bytes::Bytes;

use super::FrameError;

const MESSAGE_TYPE: &str = ":message-type";
const MESSAGE_FLAGS: &str = ":message-flags";
const STREAM_ID: &str = ":stream-id";
const OPERATION: &str = "operation";
const SERVICE_MODEL_TYPE: &str = "service-model-type";
const CONTENT_TYPE: &str = ":content-type";
const VERSION: &str = ":version";
const SVCUID: &str = "svcuid";

/// The three headers every message has and the five it may have.
const MAX_HEADERS: usize = 8;

/// What a message is for: the `:message-type` header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MessageKind {
    /// A request, a response or an event.
    ApplicationMessage = 0,
    /// The error answer of a request.
    ApplicationError = 1,
    /// Never sent by this crate: nucleus lite closes the connection on it.
    Ping = 2,
    /// Answer to a ping, with the ping's payload.
    PingResponse = 3,
    /// First message of a client: its token, or the name of its component.
    Connect = 4,
    /// Answer to [`MessageKind::Connect`]; accepted only with the flag [`super::CONNECTION_ACCEPTED`].
    ConnectAck = 5,
    /// The peer found a violation of the protocol.
    ProtocolError = 6,
    /// The peer failed; its text is in the payload.
    InternalError = 7,
}

impl TryFrom<i32> for MessageKind {
    type Error = FrameError;

    fn try_from(value: i32) -> Result<Self, FrameError> {
        Ok(match value {
            0 => Self::ApplicationMessage,
            1 => Self::ApplicationError,
            2 => Self::Ping,
            3 => Self::PingResponse,
            4 => Self::Connect,
            5 => Self::ConnectAck,
            6 => Self::ProtocolError,
            7 => Self::InternalError,
            value => return Err(FrameError::UnknownKind { value }),
        })
    }
}

/// One message of the IPC: the headers that mean something to it, and the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// What the message is for.
    pub kind: MessageKind,
    /// Bits of [`super::CONNECTION_ACCEPTED`] and [`super::TERMINATE_STREAM`]; 0 for none.
    pub flags: i32,
    /// Stream the message belongs to; 0 is the connection itself.
    pub stream_id: i32,
    /// `aws.greengrass#<Operation>`, in requests.
    pub operation: Option<String>,
    /// `aws.greengrass#<Shape>`: tells a response from an event and one error from another.
    pub service_model_type: Option<String>,
    /// Media type of the payload (`:content-type`), `application/json` as a rule.
    pub content_type: Option<String>,
    /// Protocol version, `0.1.0` in every [`MessageKind::Connect`].
    pub version: Option<String>,
    /// Fresh authentication token, in the ack of nucleus lite to an authentication by component name.
    pub svcuid: Option<String>,
    /// The body, JSON as a rule; may be empty.
    pub payload: Bytes,
}

impl Message {
    /// A message without flags, text headers or payload.
    #[must_use]
    pub fn new(kind: MessageKind, stream_id: i32) -> Self {
        Self {
            kind,
            flags: 0,
            stream_id,
            operation: None,
            service_model_type: None,
            content_type: None,
            version: None,
            svcuid: None,
            payload: Bytes::new(),
        }
    }

    /// Sets the flags, replacing all of them.
    #[must_use]
    pub fn with_flags(mut self, flags: i32) -> Self {
        self.flags = flags;
        self
    }

    /// Sets the operation header, for instance `aws.greengrass#PublishToIoTCore`.
    #[must_use]
    pub fn with_operation(mut self, operation: impl Into<String>) -> Self {
        self.operation = Some(operation.into());
        self
    }

    /// Sets the shape of the payload, for instance `aws.greengrass#PublishToIoTCoreResponse`.
    #[must_use]
    pub fn with_service_model_type(mut self, shape: impl Into<String>) -> Self {
        self.service_model_type = Some(shape.into());
        self
    }

    /// Sets the media type of the payload.
    #[must_use]
    pub fn with_content_type(mut self, media_type: impl Into<String>) -> Self {
        self.content_type = Some(media_type.into());
        self
    }

    /// Sets the protocol version, which a [`MessageKind::Connect`] must have.
    #[must_use]
    pub fn with_version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }

    /// Sets the token a server hands out in its [`MessageKind::ConnectAck`].
    #[must_use]
    pub fn with_svcuid(mut self, svcuid: impl Into<String>) -> Self {
        self.svcuid = Some(svcuid.into());
        self
    }

    /// Sets the payload and leaves its media type as it is.
    #[must_use]
    pub fn with_payload(mut self, payload: impl Into<Bytes>) -> Self {
        self.payload = payload.into();
        self
    }

    /// Sets the payload and declares it as JSON.
    #[must_use]
    pub fn with_json(self, payload: impl Into<Bytes>) -> Self {
        self.with_content_type("application/json").with_payload(payload)
    }

    /// True when this message ends its stream.
    #[must_use]
    pub fn terminates(&self) -> bool {
        self.flags & super::TERMINATE_STREAM != 0
    }

    /// The message as the codec wants it.
    pub(super) fn to_raw(&self) -> RawMessage {
        let mut headers = Vec::with_capacity(MAX_HEADERS);
        headers.extend(self.ints().map(|(name, value)| int(name, value)));
        headers.extend(
            self.texts()
                .map(|(name, text)| Header::new(name, HeaderValue::String(StrBytes::copy_from_str(text)))),
        );
        RawMessage::new_from_parts(headers, self.payload.clone())
    }

    /// Length of all headers in a frame, in bytes: of each, the name behind its length, the type, the value.
    pub(super) fn headers_len(&self) -> usize {
        let ints = self.ints().map(|(name, _)| 1 + name.len() + 1 + size_of::<i32>());
        let texts = self
            .texts()
            .map(|(name, text)| 1 + name.len() + 1 + size_of::<u16>() + text.len());
        ints.into_iter().sum::<usize>() + texts.sum::<usize>()
    }

    /// The headers every message has.
    fn ints(&self) -> [(&'static str, i32); 3] {
        [
            (MESSAGE_TYPE, self.kind as i32),
            (MESSAGE_FLAGS, self.flags),
            (STREAM_ID, self.stream_id),
        ]
    }

    /// The headers this message has besides.
    fn texts(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let texts = [
            (VERSION, &self.version),
            (OPERATION, &self.operation),
            (SERVICE_MODEL_TYPE, &self.service_model_type),
            (CONTENT_TYPE, &self.content_type),
            (SVCUID, &self.svcuid),
        ];
        texts
            .into_iter()
            .filter_map(|(name, text)| text.as_deref().map(|text| (name, text)))
    }

    /// The message the codec's headers describe.
    pub(super) fn from_raw(raw: &RawMessage) -> Result<Self, FrameError> {
        let kind = MessageKind::try_from(int_of(raw, MESSAGE_TYPE)?)?;
        Ok(Self {
            kind,
            flags: int_of(raw, MESSAGE_FLAGS)?,
            stream_id: int_of(raw, STREAM_ID)?,
            operation: text_of(raw, OPERATION),
            service_model_type: text_of(raw, SERVICE_MODEL_TYPE),
            content_type: text_of(raw, CONTENT_TYPE),
            version: text_of(raw, VERSION),
            svcuid: text_of(raw, SVCUID),
            payload: raw.payload().clone(),
        })
    }
}

fn int(name: &'static str, value: i32) -> Header {
    Header::new(name, HeaderValue::Int32(value))
}

fn find<'a>(raw: &'a RawMessage, name: &str) -> Option<&'a HeaderValue> {
    raw.headers()
        .iter()
        .find(|header| header.name().as_str() == name)
        .map(Header::value)
}

fn int_of(raw: &RawMessage, name: &'static str) -> Result<i32, FrameError> {
    find(raw, name)
        .and_then(|value| value.as_int32().ok())
        .ok_or(FrameError::MissingHeader { name })
}

fn text_of(raw: &RawMessage, name: &str) -> Option<String> {
    find(raw, name)?
        .as_string()
        .ok()
        .map(|text| text.as_str().to_owned())
}
