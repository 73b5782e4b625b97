//! Properties of the codec boundary, on arbitrary messages and arbitrary bytes.
//!
//! In: what proptest invents; a failure prints the smallest case and how to repeat it. Out: verdicts on the public
//! decoder and encoder. What the decoder allocates is measured in `codec_memory.rs`, alone in its process.

use greengrass_ipc::frame::{Decoder, FrameError, Message, MessageKind, encode};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// Above every frame the strategies make.
const LIMIT: usize = 64 * 1024;

fn kind() -> impl Strategy<Value = MessageKind> {
    (0..8).prop_map(|number| MessageKind::try_from(number).unwrap())
}

prop_compose! {
    fn message()(
        kind in kind(),
        flags in any::<i32>(),
        stream_id in any::<i32>(),
        texts in proptest::array::uniform5(option::of(".{0,40}")),
        payload in vec(any::<u8>(), 0..2_000),
    ) -> Message {
        let [operation, service_model_type, content_type, version, svcuid] = texts;
        let mut message = Message::new(kind, stream_id).with_flags(flags).with_payload(payload);
        message.operation = operation;
        message.service_model_type = service_model_type;
        message.content_type = content_type;
        message.version = version;
        message.svcuid = svcuid;
        message
    }
}

/// Bytes of several frames, with their messages.
fn conversation() -> impl Strategy<Value = (Vec<Message>, Vec<u8>)> {
    vec(message(), 1..5).prop_map(|messages| {
        let bytes = messages.iter().flat_map(|message| encode(message).unwrap());
        let bytes = bytes.collect();
        (messages, bytes)
    })
}

/// What a stream of bytes becomes: its messages, and how it ended.
#[derive(Debug, PartialEq)]
struct Decoded {
    messages: Vec<Message>,
    error: Option<String>,
    partial: bool,
}

/// Decodes bytes that come in pieces of the given lengths, over and over.
fn decode(mut bytes: &[u8], lengths: &[usize], limit: usize) -> Decoded {
    let mut decoder = Decoder::new(limit);
    let (mut messages, mut error) = (Vec::new(), None);
    let mut lengths = lengths.iter().cycle();
    while !bytes.is_empty() && error.is_none() {
        let length = (*lengths.next().unwrap()).clamp(1, bytes.len());
        let (piece, rest) = bytes.split_at(length);
        bytes = rest;
        decoder.push(piece);
        loop {
            match decoder.next() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(refused) => {
                    error = Some(refused.to_string());
                    break;
                }
            }
        }
    }
    Decoded {
        messages,
        error,
        partial: decoder.has_partial_frame(),
    }
}

/// Bytes with the layout of a frame and a valid prelude, so that damage reaches the header parser.
fn plausible_frame() -> impl Strategy<Value = Vec<u8>> {
    (vec(any::<u8>(), 0..300), any::<prop::sample::Index>()).prop_map(|(body, headers)| {
        let total = u32::try_from(body.len() + 16).unwrap();
        let mut frame = total.to_be_bytes().to_vec();
        let headers = u32::try_from(headers.index(body.len() + 8)).unwrap();
        frame.extend(headers.to_be_bytes());
        frame.extend(crc32fast::hash(&frame).to_be_bytes());
        frame.extend(body);
        frame.extend(crc32fast::hash(&frame).to_be_bytes());
        frame
    })
}

/// Bytes of all sorts: noise, frames with damage, whole frames followed by noise.
fn hostile_bytes() -> impl Strategy<Value = Vec<u8>> {
    let damaged =
        (conversation(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|((_, bytes), at, mask)| {
            let mut bytes = bytes;
            let at = at.index(bytes.len());
            bytes[at] ^= mask;
            bytes
        });
    let followed = (conversation(), vec(any::<u8>(), 0..64)).prop_map(|((_, mut bytes), noise)| {
        bytes.extend(noise);
        bytes
    });
    prop_oneof![vec(any::<u8>(), 0..400), plausible_frame(), damaged, followed]
}

proptest! {
    #[test]
    fn messages_survive_the_round_trip_in_any_pieces(
        (messages, bytes) in conversation(),
        lengths in vec(1..3_000_usize, 1..20),
    ) {
        let decoded = decode(&bytes, &lengths, LIMIT);
        prop_assert_eq!(decoded, Decoded { messages, error: None, partial: false });
    }

    #[test]
    fn any_split_of_any_bytes_decodes_the_same(
        bytes in hostile_bytes(),
        lengths in vec(1..200_usize, 1..20),
        limit in 16..LIMIT,
    ) {
        let whole = decode(&bytes, &[bytes.len()], limit);
        prop_assert_eq!(&decode(&bytes, &lengths, limit), &whole);
        prop_assert_eq!(&decode(&bytes, &[1], limit), &whole);
    }

    #[test]
    fn a_frame_that_is_decoded_is_the_frame_of_its_message(bytes in plausible_frame()) {
        let decoded = decode(&bytes, &[bytes.len()], LIMIT);
        // Other headers are skipped, so the frame of the message may be shorter, but it must mean the same.
        for message in decoded.messages {
            let again = encode(&message).unwrap();
            prop_assert_eq!(decode(&again, &[again.len()], LIMIT).messages, [message]);
        }
    }

    #[test]
    fn a_frame_beyond_the_limit_is_refused_before_its_end(
        message in message(),
        share in 0.0..1.0_f64,
    ) {
        let frame = encode(&message).unwrap();
        prop_assert_eq!(decode(&frame, &[frame.len()], frame.len()).messages, [message]);
        let mut decoder = Decoder::new(frame.len() - 1);
        let pieces = frame.split_at(4 + (share * (frame.len() - 4) as f64) as usize);
        decoder.push(pieces.0);
        let refused = matches!(decoder.next(), Err(FrameError::TooLong { .. }));
        prop_assert!(refused && !decoder.has_partial_frame());
        decoder.push(pieces.1);
        prop_assert!(matches!(decoder.next(), Err(FrameError::OutOfStep)));
        prop_assert!(!decoder.has_partial_frame(), "nothing is kept after an error");
    }
}
