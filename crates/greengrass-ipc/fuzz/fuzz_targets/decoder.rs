//! The frame decoder under any bytes in any chunks.
//!
//! In: the first byte says how the rest is used: its low bit whether checksums are made true first, so that damage
//! reaches the header parser; the others how long the chunks are. Checked: no panic; the same messages whatever the
//! chunks; an error is final; what was decoded can be encoded, and decodes to the same.
#![no_main]

use greengrass_ipc::frame::{Decoder, FrameError, MIN_FRAME_BYTES, Message, encode};
use libfuzzer_sys::fuzz_target;

/// As for a nucleus lite, small enough for the fuzzer to reach.
const MAX_FRAME_BYTES: usize = 10_012;

fuzz_target!(|data: &[u8]| {
    let Some((mode, bytes)) = data.split_first() else {
        return;
    };
    let mut bytes = bytes.to_vec();
    if mode & 1 == 1 {
        make_checksums_true(&mut bytes);
    }
    let chunk = usize::from(mode >> 1) + 1;
    let (whole, end) = decode(&bytes, bytes.len().max(1));
    let (chunked, chunked_end) = decode(&bytes, chunk);
    assert_eq!(whole, chunked, "chunks of {chunk} changed what was decoded");
    assert_eq!(
        end.is_some(),
        chunked_end.is_some(),
        "chunks of {chunk} changed the end"
    );
    for message in whole {
        let frame = encode(&message).expect("what was decoded fits a frame");
        let (again, end) = decode(&frame, frame.len());
        // Headers that were skipped are gone, so the frame only gets shorter.
        assert!(end.is_none() && again == [message], "another message came back");
    }
});

/// All messages before the first error, and that error.
fn decode(bytes: &[u8], chunk: usize) -> (Vec<Message>, Option<FrameError>) {
    let mut decoder = Decoder::new(MAX_FRAME_BYTES);
    let mut messages = Vec::new();
    for part in bytes.chunks(chunk) {
        decoder.push(part);
        loop {
            match decoder.next() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => {
                    decoder.push(bytes);
                    assert!(
                        matches!(decoder.next(), Err(FrameError::OutOfStep)),
                        "an error is final"
                    );
                    assert!(!decoder.has_partial_frame(), "nothing is kept after an error");
                    return (messages, Some(error));
                }
            }
        }
    }
    (messages, None)
}

/// Walks from frame to frame as their lengths say and corrects both checksums of each.
fn make_checksums_true(bytes: &mut [u8]) {
    let mut rest = bytes;
    while rest.len() >= MIN_FRAME_BYTES {
        let prelude = crc32fast::hash(&rest[..8]).to_be_bytes();
        rest[8..12].copy_from_slice(&prelude);
        let length = u32::from_be_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
        if length < MIN_FRAME_BYTES || length > rest.len() {
            return;
        }
        let (frame, behind) = rest.split_at_mut(length);
        let (covered, checksum) = frame.split_at_mut(length - 4);
        checksum.copy_from_slice(&crc32fast::hash(covered).to_be_bytes());
        rest = behind;
    }
}
