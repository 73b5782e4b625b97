//! A [`Message`] becomes one frame.
//!
//! In: a message. Out: bytes ready for the socket, and their number without making them. There is no length limit
//! here: what a peer accepts is the business of whoever talks to it.

use aws_smithy_eventstream::frame::write_message_to;
use bytes::{Bytes, BytesMut};

use super::{CodecError, FrameError, MIN_FRAME_BYTES, Message};

/// The whole frame of one message, ready for the socket.
///
/// # Errors
/// [`FrameError::Encode`] when a text header is longer than 32,767 bytes or the frame longer than 4 GiB.
pub fn encode(message: &Message) -> Result<Bytes, FrameError> {
    let mut frame = BytesMut::with_capacity(encoded_len(message));
    append(message, &mut frame)?;
    Ok(frame.freeze())
}

/// Appends one message to `out`; nothing of it when there is an error.
///
/// # Errors
/// As [`encode`].
pub(crate) fn append(message: &Message, out: &mut BytesMut) -> Result<(), FrameError> {
    // The codec checks every length before it writes the first byte.
    write_message_to(&message.to_raw(), out).map_err(|error| FrameError::Encode {
        source: CodecError(error),
    })
}

/// Length of the frame that [`encode`] makes of a message, in bytes, without making it.
#[must_use]
pub fn encoded_len(message: &Message) -> usize {
    MIN_FRAME_BYTES + message.headers_len() + message.payload.len()
}
