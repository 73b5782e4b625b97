//! A [`Message`] becomes one frame.
//!
//! In: a message. Out: bytes ready for the socket. There is no length limit here: what a peer accepts is the
//! business of whoever talks to it.

use aws_smithy_eventstream::frame::write_message_to;
use bytes::{Bytes, BytesMut};

use super::{FrameError, Message};

/// Encodes one message.
///
/// # Errors
/// [`FrameError::Encode`] when a text header is longer than 32,767 bytes or the frame longer than 4 GiB.
pub fn encode(message: &Message) -> Result<Bytes, FrameError> {
    let mut frame = BytesMut::new();
    write_message_to(&message.to_raw(), &mut frame).map_err(|source| FrameError::Encode { source })?;
    Ok(frame.freeze())
}
