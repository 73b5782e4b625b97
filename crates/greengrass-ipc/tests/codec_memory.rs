//! What the decoder allocates for hostile bytes, measured by the allocator of this process, which does nothing else:
//! one test, so that no other one allocates meanwhile.

use greengrass_ipc::frame::{Decoder, Message, MessageKind, encode};
use peak_alloc::PeakAlloc;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const LIMIT: usize = 10_012;

/// Bytes read at a time.
const PIECE: usize = 1_024;

/// What the decoder may hold at a time: a buffer that grew to a frame and a piece by doubling, while the old half is
/// still there; the message taken out of it; and its headers, which cost a few words for each of their bytes at most.
const ALLOWED: usize = 3 * (LIMIT + PIECE) + LIMIT + 64 * LIMIT;

/// Bytes allocated at most beyond what was there before, while a decoder works through the bytes.
fn peak(bytes: &[u8]) -> usize {
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let mut decoder = Decoder::new(LIMIT);
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
        let used = peak(&bytes);
        assert!(used <= 2 * PIECE, "{announced}: {used} bytes");
    }
    // A control: what is within the limit is buffered.
    let empty = encode(&Message::new(MessageKind::ApplicationMessage, 1)).unwrap();
    let payload = vec![0; LIMIT - empty.len()];
    let largest = encode(&Message::new(MessageKind::ApplicationMessage, 1).with_payload(payload)).unwrap();
    let used = peak(&largest);
    assert!((LIMIT..=ALLOWED).contains(&used), "{used} bytes");
    // Many frames need no more than one.
    let many: Vec<u8> = (0..100).flat_map(|_| largest.clone()).collect();
    let used = peak(&many);
    assert!(used <= ALLOWED, "{used} bytes for many frames");

    let noise = vec(any::<u8>(), 0..40_000);
    let mut runner = TestRunner::default();
    let headers_then_noise = (0..LIMIT, noise).prop_map(|(total, mut bytes)| {
        let mut frame = u32::try_from(total).unwrap().to_be_bytes().to_vec();
        frame.extend(u32::try_from(total.saturating_sub(16)).unwrap().to_be_bytes());
        frame.extend(crc32fast::hash(&frame).to_be_bytes());
        frame.append(&mut bytes);
        frame
    });
    runner
        .run(&headers_then_noise, |bytes| {
            let used = peak(&bytes);
            prop_assert!(used <= ALLOWED, "{used} bytes");
            Ok(())
        })
        .unwrap();
}
