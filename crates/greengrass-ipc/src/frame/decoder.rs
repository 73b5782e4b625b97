//! Bytes in any chunks become whole messages.
//!
//! In: [`Decoder::push`], as read from a socket. Out: [`Decoder::next`]. Memory never exceeds one frame of the
//! allowed length plus the last chunk, as long as the caller empties the decoder after every push. A length or a
//! prelude checksum that cannot be right is refused as soon as its bytes are there, not when the frame is.

use aws_smithy_eventstream::frame::read_message_from;
use bytes::{Buf, Bytes, BytesMut};

use super::{CodecError, FrameError, MIN_FRAME_BYTES, Message};

/// Bytes of the prelude: total length, headers length, checksum of both.
const PRELUDE_BYTES: usize = 12;

/// Bytes of the prelude that its checksum covers.
const PRELUDE_CHECKED_BYTES: usize = 8;

/// Longest headers accepted, in bytes. Those of the IPC have a few hundred; a header of three bytes becomes a structure
/// of about a hundred, so that a long frame of nothing else would cost fifty times its length.
const MAX_HEADERS_BYTES: usize = 16 * 1024;

/// Splits a byte stream, in chunks of any size, into whole messages.
#[derive(Debug)]
pub struct Decoder {
    buffer: BytesMut,
    max_frame_bytes: usize,
    out_of_step: bool,
}

impl Decoder {
    /// A decoder that refuses frames longer than `max_frame_bytes`, counted over the whole frame.
    #[must_use]
    pub fn new(max_frame_bytes: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            max_frame_bytes,
            out_of_step: false,
        }
    }

    /// Adds bytes as they came from the peer. After an error they are thrown away.
    pub fn push(&mut self, bytes: &[u8]) {
        if !self.out_of_step {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// True when bytes of an unfinished frame are waiting for the rest.
    #[must_use]
    pub fn has_partial_frame(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Takes the next whole message; `None` when more bytes are needed.
    ///
    /// # Errors
    /// Anything that is not a frame of the IPC. The error is final: later calls give [`FrameError::OutOfStep`].
    #[expect(
        clippy::should_implement_trait,
        reason = "not an iterator: None means 'not yet', not 'finished'"
    )]
    pub fn next(&mut self) -> Result<Option<Message>, FrameError> {
        if self.out_of_step {
            return Err(FrameError::OutOfStep);
        }
        let taken = self
            .take_frame()
            .and_then(|frame| frame.as_ref().map(decode).transpose());
        if taken.is_err() {
            self.out_of_step = true;
            self.buffer = BytesMut::new();
        }
        taken
    }

    fn take_frame(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some(size) = self
            .buffer
            .first_chunk::<4>()
            .map(|word| u32::from_be_bytes(*word))
        else {
            return Ok(None);
        };
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if size > self.max_frame_bytes {
            let limit = self.max_frame_bytes;
            return Err(FrameError::TooLong { size, limit });
        }
        if size < MIN_FRAME_BYTES {
            return Err(FrameError::TooShort { size });
        }
        self.check_prelude()?;
        if self.buffer.len() < size {
            return Ok(None);
        }
        Ok(Some(self.buffer.split_to(size).freeze()))
    }

    /// Checks the first checksum once it is there, so that garbage with a credible length is not waited for, and then
    /// the length of the headers.
    fn check_prelude(&self) -> Result<(), FrameError> {
        let (Some(covered), Some(mut prelude)) = (
            self.buffer.get(..PRELUDE_CHECKED_BYTES),
            self.buffer.get(..PRELUDE_BYTES),
        ) else {
            return Ok(());
        };
        prelude.advance(PRELUDE_CHECKED_BYTES);
        let (expected, found) = (crc32fast::hash(covered), prelude.get_u32());
        if expected != found {
            return Err(FrameError::Prelude { expected, found });
        }
        let headers = covered.last_chunk::<4>().map(|word| u32::from_be_bytes(*word));
        let size = headers.map_or(0, |length| usize::try_from(length).unwrap_or(usize::MAX));
        if size > MAX_HEADERS_BYTES {
            let limit = MAX_HEADERS_BYTES;
            return Err(FrameError::HeadersTooLong { size, limit });
        }
        Ok(())
    }
}

fn decode(frame: &Bytes) -> Result<Message, FrameError> {
    let raw = read_message_from(frame.as_ref()).map_err(|error| FrameError::Decode {
        source: CodecError(error),
    })?;
    Message::from_raw(&raw)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
