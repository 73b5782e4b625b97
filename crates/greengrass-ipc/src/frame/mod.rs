//! Frames of the IPC: one [`Message`] is one AWS event-stream frame.
//!
//! In: bytes of a socket, in any chunks ([`Decoder`]). Out: whole, checked [`Message`]s, and the reverse
//! ([`encode`]); also their length alone ([`encoded_len`]). The layout and the checksums are the work of `aws-smithy-eventstream`; this module adds the
//! headers the IPC gives a meaning to, bounds, and early refusal.
//!
//! Deliberately absent: sockets, time, and any knowledge of operations. A server uses the same module.

mod decoder;
mod encode;
mod message;

use aws_smithy_eventstream::error::Error as CodecError;

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
        /// What the codec found.
        #[source]
        source: CodecError,
    },
    /// A header value is longer than a frame can carry.
    #[error("could not encode the message")]
    Encode {
        /// What the codec refused.
        #[source]
        source: CodecError,
    },
    /// One of the three headers that every IPC message has is absent or not an int32.
    #[error("the frame has no int32 header {name}")]
    MissingHeader {
        /// Name of the header.
        name: &'static str,
    },
    /// The message type is not one of the eight known ones.
    #[error("unknown message type {value}")]
    UnknownKind {
        /// The number found.
        value: i32,
    },
    /// An earlier error lost the position in the stream; nothing more can be read from it.
    #[error("the stream is out of step after an earlier error")]
    OutOfStep,
}
