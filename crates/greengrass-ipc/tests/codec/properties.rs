//! What must hold for every message and for all bytes.
//!
//! In: what proptest invents; a failure prints the smallest case and how to repeat it. Out: verdicts on the public
//! decoder and encoder.

use aws_smithy_eventstream::frame::{read_message_from, write_message_to};
use aws_smithy_types::DateTime;
use aws_smithy_types::event_stream::{Header, HeaderValue, Message as RawMessage};
use greengrass_ipc::frame::{Decoder, FrameError, Message, MessageKind, encode, encoded_len};
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

/// A header the IPC gives no meaning to, of any type the format has.
fn other_header() -> impl Strategy<Value = Header> {
    let value = prop_oneof![
        any::<bool>().prop_map(HeaderValue::Bool),
        any::<i8>().prop_map(HeaderValue::Byte),
        any::<i16>().prop_map(HeaderValue::Int16),
        any::<i32>().prop_map(HeaderValue::Int32),
        any::<i64>().prop_map(HeaderValue::Int64),
        vec(any::<u8>(), 0..50).prop_map(|bytes| HeaderValue::ByteArray(bytes.into())),
        ".{0,50}".prop_map(|text| HeaderValue::String(text.into())),
        any::<i32>().prop_map(|seconds| HeaderValue::Timestamp(DateTime::from_secs(seconds.into()))),
        any::<u128>().prop_map(HeaderValue::Uuid),
    ];
    ("x-[a-z]{0,20}", value).prop_map(|(name, value)| Header::new(name, value))
}

/// The frame of a message with other headers before, between and after its own.
fn with_other_headers(message: &Message, others: Vec<Header>) -> Vec<u8> {
    let raw = read_message_from(encode(message).unwrap()).unwrap();
    let mut headers = raw.headers().to_vec();
    for (place, other) in others.into_iter().enumerate() {
        headers.insert((place * 2).min(headers.len()), other);
    }
    let mut frame = Vec::new();
    let raw = RawMessage::new_from_parts(headers, raw.payload().clone());
    write_message_to(&raw, &mut frame).unwrap();
    frame
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
    fn the_length_is_known_without_encoding(message in message()) {
        prop_assert_eq!(encoded_len(&message), encode(&message).unwrap().len());
    }

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
    fn headers_of_other_names_change_nothing(message in message(), others in vec(other_header(), 0..8)) {
        let frame = with_other_headers(&message, others);
        let decoded = decode(&frame, &[frame.len()], LIMIT);
        prop_assert_eq!(decoded, Decoded { messages: vec![message], error: None, partial: false });
    }

    #[test]
    fn a_frame_beyond_the_limit_is_refused_before_its_end(
        message in message(),
        cut in any::<prop::sample::Index>(),
    ) {
        let frame = encode(&message).unwrap();
        prop_assert_eq!(decode(&frame, &[frame.len()], frame.len()).messages, [message]);
        let mut decoder = Decoder::new(frame.len() - 1);
        let pieces = frame.split_at(4 + cut.index(frame.len() - 4));
        decoder.push(pieces.0);
        let refused = matches!(decoder.next(), Err(FrameError::TooLong { .. }));
        prop_assert!(refused && !decoder.has_partial_frame());
        decoder.push(pieces.1);
        prop_assert!(matches!(decoder.next(), Err(FrameError::OutOfStep)));
        prop_assert!(!decoder.has_partial_frame(), "nothing is kept after an error");
    }
}
