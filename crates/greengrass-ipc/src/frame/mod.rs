//! Frames of the IPC: one [`Message`] is one AWS event-stream frame.
//!
//! In: bytes of a socket, in any chunks ([`Decoder`]). Out: whole, checked [`Message`]s, and the reverse
//! ([`encode`]); also their length alone ([`encoded_len`]). The layout and the checksums are the work of AWS's own
//! codec, `aws-smithy-eventstream`; this module adds the headers the IPC gives a meaning to, bounds, and early refusal.
//! No type of the codec shows, so that its releases are none of ours.
//!
//! [`Client`](crate::Client) does all of this by itself. The module is public for the other side of the socket: a
//! stand-in nucleus for tests reads and writes the same frames.
//!
//! ```
//! use greengrass_ipc::frame::{CONNECTION_ACCEPTED, Decoder, FrameError, Message, MessageKind, encode};
//!
//! /// What a nucleus answers to the first bytes of a client, once they are a whole frame.
//! fn welcome(decoder: &mut Decoder, bytes: &[u8]) -> Result<Option<bytes::Bytes>, FrameError> {
//!     decoder.push(bytes);
//!     let Some(first) = decoder.next()? else {
//!         return Ok(None);
//!     };
//!     let accepted = first.kind == MessageKind::Connect && first.version.as_deref() == Some("0.1.0");
//!     let flags = if accepted { CONNECTION_ACCEPTED } else { 0 };
//!     encode(&Message::new(MessageKind::ConnectAck, 0).with_flags(flags)).map(Some)
//! }
//!
//! let connect = Message::new(MessageKind::Connect, 0).with_version("0.1.0").with_json(r#"{"authToken":"t"}"#);
//! let answer = welcome(&mut Decoder::new(10_012), &encode(&connect)?)?;
//! assert!(answer.is_some());
//! # Ok::<(), FrameError>(())
//! ```
//!
//! Deliberately absent: sockets, time, and any knowledge of operations.

mod decoder;
mod encode;
mod message;

use aws_smithy_eventstream::error::Error as EventStreamError;

pub use decoder::Decoder;
pub(crate) use encode::append;
pub use encode::{encode, encoded_len};
pub use message::{Message, MessageKind};

/// Flag of a [`MessageKind::ConnectAck`]: the connection was accepted. Without it the ack is a refusal.
pub const CONNECTION_ACCEPTED: i32 = 1;

/// Flag that ends a stream, whichever side sets it.
pub const TERMINATE_STREAM: i32 = 2;

/// Length of the smallest frame, in bytes: three prelude words, no headers, no payload, one checksum.
pub const MIN_FRAME_BYTES: usize = 16;

/// What the codec found wrong with a frame. Its text is all there is to it.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct CodecError(EventStreamError);

/// Why bytes are not a frame, or a message cannot become one.
///
/// After a decoding error the position in the stream is lost: the connection has to be dropped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The frame announces more bytes than the receiver takes. Nothing of it was buffered for its sake.
    #[error("frame of {size} bytes is longer than the {limit} allowed")]
    TooLong {
        /// Announced length of the whole frame, in bytes.
        size: usize,
        /// Longest frame allowed, in bytes.
        limit: usize,
    },
    /// The frame announces longer headers than the receiver takes.
    #[error("headers of {size} bytes are longer than the {limit} allowed")]
    HeadersTooLong {
        /// Announced length of the headers, in bytes.
        size: usize,
        /// Longest headers allowed, in bytes.
        limit: usize,
    },
    /// The frame announces fewer bytes than an empty frame has.
    #[error("frame of {size} bytes is shorter than the smallest possible one")]
    TooShort {
        /// Announced length of the whole frame, in bytes.
        size: usize,
    },
    /// The checksum of the prelude does not match: this is not a frame at all, or it was damaged.
    #[error("prelude checksum is {found:#010x}, expected {expected:#010x}")]
    Prelude {
        /// Checksum computed from the prelude.
        expected: u32,
        /// Checksum found in the frame.
        found: u32,
    },
    /// Headers, text or the checksum of the whole frame are damaged.
    #[error("could not decode the frame")]
    Decode {
        /// What is damaged, in the words of the codec.
        #[source]
        source: CodecError,
    },
    /// A header value is longer than a frame can carry.
    #[error("could not encode the message")]
    Encode {
        /// What does not fit, in the words of the codec.
        #[source]
        source: CodecError,
    },
    /// One of the three headers that every IPC message has is absent or not an int32.
    #[error("the frame has no int32 header {name}")]
    MissingHeader {
        /// Name of the first of the three that is missing, for instance `:stream-id`.
        name: &'static str,
    },
    /// The message type is not one of the eight known ones.
    #[error("unknown message type {value}")]
    UnknownKind {
        /// Number in the header `:message-type`, not one of 0 to 7.
        value: i32,
    },
    /// An earlier error lost the position in the stream; nothing more can be read from it.
    #[error("the stream is out of step after an earlier error")]
    OutOfStep,
}
