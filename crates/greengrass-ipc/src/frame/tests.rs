//! Unit tests of the codec: what is put in comes out, and damage of every kind is refused at once.

use aws_smithy_eventstream::frame::write_message_to;
use aws_smithy_types::DateTime;
use aws_smithy_types::event_stream::{Header, HeaderValue, Message as RawMessage};

use super::super::{CONNECTION_ACCEPTED, FrameError, MessageKind, encode};
use super::*;

const LIMIT: usize = 10_012;

fn full_message() -> Message {
    Message::new(MessageKind::ApplicationMessage, 7)
        .with_flags(CONNECTION_ACCEPTED)
        .with_operation("aws.greengrass#PublishToIoTCore")
        .with_service_model_type("aws.greengrass#PublishToIoTCoreRequest")
        .with_version("0.1.0")
        .with_svcuid("abcdefgh12345678")
        .with_json(r#"{"topicName":"a/b"}"#)
}

fn raw_frame(headers: Vec<Header>, payload: &'static [u8]) -> BytesMut {
    let mut frame = BytesMut::new();
    write_message_to(&RawMessage::new_from_parts(headers, payload), &mut frame).unwrap();
    frame
}

fn int(name: &'static str, value: i32) -> Header {
    Header::new(name, HeaderValue::Int32(value))
}

fn decode_all(bytes: &[u8], chunk: usize) -> Result<Vec<Message>, FrameError> {
    let mut decoder = Decoder::new(LIMIT);
    let mut messages = Vec::new();
    for part in bytes.chunks(chunk) {
        decoder.push(part);
        while let Some(message) = decoder.next()? {
            messages.push(message);
        }
    }
    assert!(!decoder.has_partial_frame(), "everything was consumed");
    Ok(messages)
}

#[test]
fn messages_survive_any_chunking() {
    let messages = [
        full_message(),
        Message::new(MessageKind::ConnectAck, 0),
        full_message(),
    ];
    let bytes: Vec<u8> = messages
        .iter()
        .flat_map(|message| encode(message).unwrap())
        .collect();
    for chunk in 1..=bytes.len() {
        assert_eq!(decode_all(&bytes, chunk).unwrap(), messages, "chunks of {chunk}");
    }
}

#[test]
fn the_layout_is_the_documented_one() {
    let frame = encode(&Message::new(MessageKind::Connect, 0).with_payload("{}")).unwrap();
    let mut expected = vec![0, 0, 0, 73, 0, 0, 0, 55];
    expected.extend(crc32fast::hash(&expected).to_be_bytes());
    expected.extend(b"\x0d:message-type\x04\0\0\0\x04");
    expected.extend(b"\x0e:message-flags\x04\0\0\0\0");
    expected.extend(b"\x0a:stream-id\x04\0\0\0\0{}");
    expected.extend(crc32fast::hash(&expected).to_be_bytes());
    assert_eq!(frame, expected);
}

#[test]
fn unknown_headers_of_every_type_are_skipped() {
    let frame = raw_frame(
        vec![
            Header::new("a", HeaderValue::Bool(true)),
            Header::new("b", HeaderValue::Bool(false)),
            Header::new("c", HeaderValue::Byte(-1)),
            Header::new("d", HeaderValue::Int16(2)),
            int(":message-type", 5),
            Header::new("e", HeaderValue::Int64(3)),
            Header::new("f", HeaderValue::ByteArray(Bytes::from_static(b"xy"))),
            int(":message-flags", 1),
            Header::new("g", HeaderValue::String("text".into())),
            Header::new("h", HeaderValue::Timestamp(DateTime::from_secs(1))),
            Header::new("i", HeaderValue::Uuid(9)),
            Header::new("operation", HeaderValue::Bool(true)),
            int(":stream-id", 0),
        ],
        b"",
    );
    let expected = Message::new(MessageKind::ConnectAck, 0).with_flags(CONNECTION_ACCEPTED);
    assert_eq!(decode_all(&frame, LIMIT).unwrap(), [expected]);
}

#[test]
fn every_flipped_bit_is_noticed() {
    let frame = encode(&full_message()).unwrap();
    for bit in 0..frame.len() * 8 {
        let mut damaged = frame.to_vec();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let mut decoder = Decoder::new(LIMIT);
        decoder.push(&damaged);
        assert!(
            !matches!(decoder.next(), Ok(Some(_))),
            "bit {bit} was flipped and the frame still decoded"
        );
    }
}

#[test]
fn a_length_beyond_the_limit_is_refused_from_four_bytes() {
    let mut decoder = Decoder::new(LIMIT);
    decoder.push(&10_013_u32.to_be_bytes());
    assert!(matches!(
        decoder.next(),
        Err(FrameError::TooLong {
            size: 10_013,
            limit: LIMIT
        })
    ));
    decoder.push(&encode(&full_message()).unwrap());
    assert!(
        matches!(decoder.next(), Err(FrameError::OutOfStep)),
        "the error is final"
    );
    assert!(!decoder.has_partial_frame(), "nothing is kept after an error");
}

#[test]
fn the_limit_itself_is_accepted() {
    let empty = encode(&Message::new(MessageKind::ApplicationMessage, 1))
        .unwrap()
        .len();
    let message = Message::new(MessageKind::ApplicationMessage, 1).with_payload(vec![b'x'; LIMIT - empty]);
    let frame = encode(&message).unwrap();
    assert_eq!(frame.len(), LIMIT);
    assert_eq!(decode_all(&frame, 4096).unwrap(), [message]);
}

#[test]
fn garbage_with_a_credible_length_is_refused_at_the_prelude() {
    let mut decoder = Decoder::new(LIMIT);
    decoder.push(&[0, 0, 1, 0, 0, 0, 0, 55, 1, 2, 3, 4]);
    assert!(matches!(
        decoder.next(),
        Err(FrameError::Prelude {
            found: 0x0102_0304,
            ..
        })
    ));
}

#[test]
fn headers_beyond_their_limit_are_refused_at_the_prelude() {
    let long = Message::new(MessageKind::Connect, 0).with_version("x".repeat(MAX_HEADERS_BYTES));
    let frame = encode(&long).unwrap();
    let mut decoder = Decoder::new(1024 * 1024);
    decoder.push(&frame[..12]);
    assert!(matches!(
        decoder.next(),
        Err(FrameError::HeadersTooLong {
            limit: MAX_HEADERS_BYTES,
            ..
        })
    ));
    let own = encode(&Message::new(MessageKind::Connect, 0).with_version(""))
        .unwrap()
        .len()
        - MIN_FRAME_BYTES;
    let longest = Message::new(MessageKind::Connect, 0).with_version("x".repeat(MAX_HEADERS_BYTES - own));
    let mut decoder = Decoder::new(1024 * 1024);
    decoder.push(&encode(&longest).unwrap());
    assert_eq!(decoder.next().unwrap(), Some(longest));
}

#[test]
fn impossible_lengths_are_refused() {
    let mut decoder = Decoder::new(LIMIT);
    decoder.push(&15_u32.to_be_bytes());
    assert!(matches!(decoder.next(), Err(FrameError::TooShort { size: 15 })));

    let mut prelude = [0, 0, 0, 20, 0, 0, 0, 5].to_vec();
    prelude.extend(crc32fast::hash(&prelude).to_be_bytes());
    prelude.extend([0; 8]);
    let mut decoder = Decoder::new(LIMIT);
    decoder.push(&prelude);
    assert!(
        matches!(decoder.next(), Err(FrameError::Decode { .. })),
        "headers longer than the frame"
    );
}

#[test]
fn the_three_headers_are_required_as_int32() {
    let frame = raw_frame(vec![int(":message-type", 0), int(":stream-id", 1)], b"");
    let missing = decode_all(&frame, LIMIT).unwrap_err();
    assert!(matches!(
        missing,
        FrameError::MissingHeader {
            name: ":message-flags"
        }
    ));

    let text = Header::new(":stream-id", HeaderValue::String("1".into()));
    let frame = raw_frame(vec![int(":message-type", 0), int(":message-flags", 0), text], b"");
    let missing = decode_all(&frame, LIMIT).unwrap_err();
    assert!(matches!(
        missing,
        FrameError::MissingHeader { name: ":stream-id" }
    ));

    let frame = raw_frame(vec![int(":message-type", 8)], b"");
    let unknown = decode_all(&frame, LIMIT).unwrap_err();
    assert!(matches!(unknown, FrameError::UnknownKind { value: 8 }));
}

#[test]
fn random_bytes_never_panic_and_never_become_a_message() {
    let mut random = fastrand::Rng::with_seed(20_261_124);
    for _ in 0..20_000 {
        let mut bytes = vec![0; random.usize(0..200)];
        random.fill(&mut bytes);
        // A true length and prelude checksum let the damage reach the header parser.
        if bytes.len() >= MIN_FRAME_BYTES {
            let size = u32::try_from(bytes.len()).unwrap();
            bytes[..4].copy_from_slice(&size.to_be_bytes());
            bytes[4..8].copy_from_slice(&random.u32(0..size).to_be_bytes());
            let prelude = crc32fast::hash(&bytes[..8]);
            bytes[8..12].copy_from_slice(&prelude.to_be_bytes());
        }
        let mut decoder = Decoder::new(LIMIT);
        decoder.push(&bytes);
        assert!(!matches!(decoder.next(), Ok(Some(_))), "{bytes:?}");
    }
}

#[test]
fn a_header_value_that_cannot_be_carried_is_an_error() {
    let message = Message::new(MessageKind::Connect, 0).with_version("x".repeat(32_768));
    assert!(matches!(encode(&message), Err(FrameError::Encode { .. })));
}
