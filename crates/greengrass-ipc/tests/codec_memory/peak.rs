//! Frames that are made to cost memory.
//!
//! In: lengths that lie, headers without end, noise. Out: the peak of what was allocated meanwhile.

use greengrass_ipc::DEFAULT_MAX_INBOUND_FRAME_BYTES;
use greengrass_ipc::frame::{Decoder, Message, MessageKind, encode};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::MEMORY;

const LIMIT: usize = 10_012;

/// Bytes read at a time.
const PIECE: usize = 1_024;

/// What the decoder may hold at a time: a buffer that grew by doubling while the old half is still there, and the
/// message taken out of it.
const ALLOWED: usize = 4 * (LIMIT + PIECE);

/// The same for a frame of nothing but the shortest headers. One of three bytes becomes a structure of about a hundred,
/// in a list that grows by doubling.
const ALLOWED_FOR_HEADERS: usize = ALLOWED + 2 * (LIMIT / 3) * 112;

/// Bytes allocated at most beyond what was there before, while a decoder works through the bytes.
fn peak(bytes: &[u8], limit: usize) -> usize {
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let mut decoder = Decoder::new(limit);
    for piece in bytes.chunks(PIECE) {
        decoder.push(piece);
        while let Ok(Some(message)) = decoder.next() {
            drop(message);
        }
    }
    MEMORY.peak_usage().saturating_sub(before)
}

#[test]
fn no_bytes_make_the_decoder_allocate_beyond_its_limit() {
    // A length of 4 GiB, of 24 MiB and just beyond the limit cost nothing, however much follows.
    for announced in [u32::MAX, 24 << 20, 10_013] {
        let mut bytes = announced.to_be_bytes().to_vec();
        bytes.resize(1 << 20, 0);
        let used = peak(&bytes, LIMIT);
        assert!(used <= 2 * PIECE, "{announced}: {used} bytes");
    }
    // A control: what is within the limit is buffered.
    let empty = encode(&Message::new(MessageKind::ApplicationMessage, 1)).unwrap();
    let payload = vec![0; LIMIT - empty.len()];
    let largest = encode(&Message::new(MessageKind::ApplicationMessage, 1).with_payload(payload)).unwrap();
    let used = peak(&largest, LIMIT);
    assert!((LIMIT..=ALLOWED).contains(&used), "{used} bytes");
    // Many frames need no more than one.
    let many: Vec<u8> = (0..100).flat_map(|_| largest.clone()).collect();
    let used = peak(&many, LIMIT);
    assert!(used <= ALLOWED, "{used} bytes for many frames");

    let used = peak(&shortest_headers(LIMIT), LIMIT);
    assert!(used <= ALLOWED_FOR_HEADERS, "{used} bytes for headers");

    // With the largest frames of a client they would cost fifty times the frame, and are refused.
    let headers = shortest_headers(DEFAULT_MAX_INBOUND_FRAME_BYTES);
    let used = peak(&headers, DEFAULT_MAX_INBOUND_FRAME_BYTES);
    assert!(used <= 2 * PIECE, "{used} bytes for 1 MiB of headers");

    let config = Config {
        failure_persistence: None,
        ..Config::default()
    };
    let hostile = (
        16..=LIMIT,
        any::<prop::sample::Index>(),
        vec(any::<u8>(), 0..40_000),
    );
    TestRunner::new(config)
        .run(&hostile, |(total, headers, noise)| {
            let bytes = frame(total, headers.index(total), &noise);
            let used = peak(&bytes, LIMIT);
            prop_assert!(used <= ALLOWED_FOR_HEADERS, "{used} bytes");
            Ok(())
        })
        .unwrap();
}

/// A frame whose checksums are right, filled with bytes and zeros, and all the bytes once more behind it.
fn frame(total: usize, headers: usize, filling: &[u8]) -> Vec<u8> {
    let word = |number: usize| u32::try_from(number).unwrap().to_be_bytes();
    let mut frame = [word(total), word(headers)].concat();
    frame.extend(crc32fast::hash(&frame).to_be_bytes());
    frame.extend(filling.iter().chain(std::iter::repeat(&0)).take(total - 16));
    frame.extend(crc32fast::hash(&frame).to_be_bytes());
    frame.extend(filling);
    frame
}

/// The largest frame within a limit, full of headers with a name of one letter and the value true.
fn shortest_headers(limit: usize) -> Vec<u8> {
    let headers: Vec<u8> = (0..(limit - 16) / 3).flat_map(|_| *b"\x01x\0").collect();
    frame(headers.len() + 16, headers.len(), &headers)
}
