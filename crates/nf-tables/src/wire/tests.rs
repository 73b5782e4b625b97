//! Attributes and messages that are cut, doubled, foreign or too long.

use proptest::prelude::*;

use super::message::{Family, Message, MessageType, number_messages};
use super::*;

attributes! {
    #[derive(Debug, Clone, PartialEq, Eq)]
    struct Sample as "a sample" ignore 9 keep unknown {
        number: u32 = 1,
        name: Option<String> = 2,
        list: Vec<String> = 3,
        quiet: u64 = 4 or 7,
    }
}

fn encode(write: impl FnOnce(&mut Encoder)) -> Vec<u8> {
    let mut out = Encoder::default();
    write(&mut out);
    assert_eq!(out.take_fault(), None);
    out.bytes().to_vec()
}

fn sample() -> Sample {
    Sample {
        number: 1,
        name: Some("eth0".into()),
        list: vec!["a".into(), "bc".into()],
        quiet: 7,
        unknown: Vec::new(),
    }
}

#[test]
fn bytes_are_as_netlink_wants_them() {
    let bytes = encode(|out| sample().put_all(out));
    let expected: &[&[u8]] = &[
        &[8, 0, 1, 0, 0, 0, 0, 1],
        &[9, 0, 2, 0, b'e', b't', b'h', b'0', 0, 0, 0, 0],
        &[
            20, 0, 3, 0x80, 6, 0, 1, 0, b'a', 0, 0, 0, 7, 0, 1, 0, b'b', b'c', 0, 0,
        ],
    ];
    assert_eq!(bytes, expected.concat());
    assert_eq!(Sample::get_all(&bytes), Ok(sample()));
}

#[test]
fn what_is_missing_doubled_or_cut_is_an_error() {
    let whole = encode(|out| sample().put_all(out));
    let number = &whole[..8];
    let missing = DecodeError::Missing {
        what: "a sample",
        number: 1,
    };
    assert_eq!(Sample::get_all(&whole[8..]), Err(missing));
    let twice = DecodeError::Twice {
        what: "a sample",
        number: 1,
    };
    assert_eq!(Sample::get_all(&[number, number].concat()), Err(twice));
    assert_eq!(Sample::get_all(&whole[..whole.len() - 5]), Err(DecodeError::Cut));
    assert_eq!(
        Sample::get_all(&[number, &[3, 0, 1, 0]].concat()),
        Err(DecodeError::Cut)
    );
    let long = encode(|out| out.attribute(1, &[0; 5]));
    assert!(matches!(
        Sample::get_all(&long),
        Err(DecodeError::Length { found: 5, .. })
    ));
    let zero = encode(|out| out.attribute(2, b"e\0th0\0"));
    assert_eq!(Sample::get_all(&[number, &zero].concat()), Err(DecodeError::Text));
}

#[test]
fn what_is_not_known_is_kept_and_makes_it_another() {
    let more = encode(|out| {
        sample().put_all(out);
        out.attribute(9, b"the kernel's own");
        out.nest(200, |out| out.attribute(1, b"new"));
    });
    let decoded = Sample::get_all(&more).unwrap();
    assert_ne!(decoded, sample());
    assert_eq!(decoded.unknown[0].number, 200 | NESTED);
    let again = Sample::get_all(&encode(|out| decoded.put_all(out))).unwrap();
    assert_eq!(again, decoded);
}

#[test]
fn what_cannot_be_written_is_noticed() {
    let mut out = Encoder::default();
    out.attribute(1, &vec![0; 65_532]);
    assert_eq!(out.take_fault(), Some(EncodeFault::TooLong));
    out.text(1, "a\0b");
    assert_eq!(out.take_fault(), Some(EncodeFault::ZeroByte));
    out.attribute(1, &vec![0; 65_531]);
    assert_eq!(out.take_fault(), None);
}

#[test]
fn messages_are_numbered_and_told_apart() {
    let mut bytes = encode(|out| {
        out.message(MessageType::NewTable, 1, Some(Family::Netdev), |out| {
            out.text(1, "t");
        });
        out.message(MessageType::GetGeneration, 1, None, |_| {});
        out.message(MessageType::DeleteTable, 1, Some(Family::Inet), |out| {
            out.text(1, "u");
        });
    });
    number_messages(&mut bytes, u32::MAX, Some((1, 4)));
    let messages: Vec<_> = Message::all(&bytes).map(Result::unwrap).collect();
    let seen: Vec<_> = messages
        .iter()
        .map(|message| {
            (
                message.message_type(),
                message.family(),
                message.flags,
                message.sequence,
            )
        })
        .collect();
    let expected = [
        (Some(MessageType::NewTable), Some(Family::Netdev), 1, u32::MAX),
        (Some(MessageType::GetGeneration), None, 5, 0),
        (Some(MessageType::DeleteTable), Some(Family::Inet), 1, 1),
    ];
    assert_eq!(seen, expected);
    assert_eq!(find(messages[2].attributes(), 1), Some(&b"u\0"[..]));
    let cut: Vec<_> = Message::all(&bytes[..bytes.len() - 1]).collect();
    assert_eq!(cut.len(), 3);
    assert_eq!(cut[2], Err(DecodeError::Cut));
}

proptest! {
    #[test]
    fn any_bytes_end(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(attributes_of(&bytes).count() <= 50);
        prop_assert!(Message::all(&bytes).count() <= 13);
        let _ = Sample::get_all(&bytes);
        let mut numbered = bytes.clone();
        number_messages(&mut numbered, 1, Some((0, 4)));
        prop_assert_eq!(numbered.len(), bytes.len());
    }
}
