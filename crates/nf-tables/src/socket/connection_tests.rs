//! Answers that are late, cut, interrupted or refused, without a kernel.

use super::super::protocol::{DONE, DUMP_INTERRUPTED, ERROR};
use super::*;

/// One message with this header and payload.
pub(in crate::socket) fn message(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + payload.len()).unwrap();
    let mut bytes = [
        &length.to_ne_bytes()[..],
        &kind.to_ne_bytes(),
        &flags.to_ne_bytes(),
        &sequence.to_ne_bytes(),
        &[0; 4],
        payload,
    ]
    .concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn answer(list: bool) -> Answer {
    Answer {
        sequence: 7,
        list,
        interrupted: false,
    }
}

fn read(answer: &mut Answer, datagram: &[u8]) -> (usize, Result<Option<Result<(), AskError>>, AskError>) {
    let mut count = 0;
    let end = answer.read(datagram, &mut |_| {
        count += 1;
        Ok(())
    });
    (count, end)
}

fn item(sequence: u32, flags: u16) -> Vec<u8> {
    message(MessageType::NewRule.kind(), flags, sequence, &[1, 0, 0, 0])
}

#[test]
fn a_list_ends_with_its_end() {
    let mut answer = answer(true);
    let datagram = [item(7, 2), item(7, 2)].concat();
    assert!(matches!(read(&mut answer, &datagram), (2, Ok(None))));
    let datagram = [item(7, 2), message(DONE, 2, 7, &[0; 4]), item(7, 2)].concat();
    assert!(matches!(read(&mut answer, &datagram), (1, Ok(Some(Ok(()))))));
}

#[test]
fn what_belongs_to_another_question_is_passed_over() {
    let mut list = answer(true);
    let datagram = [item(6, 2), message(DONE, 2, 6, &[0; 4]), item(7, 2)].concat();
    assert!(matches!(read(&mut list, &datagram), (1, Ok(None))));
    let mut one = answer(false);
    let datagram = [message(ERROR, 0, 6, &(-2_i32).to_ne_bytes()), item(7, 0)].concat();
    assert!(matches!(read(&mut one, &datagram), (1, Ok(Some(Ok(()))))));
}

#[test]
fn a_list_that_was_changed_meanwhile_says_so() {
    for datagram in [
        [item(7, 2 | DUMP_INTERRUPTED), message(DONE, 2, 7, &[0; 4])].concat(),
        [item(7, 2), message(DONE, 2 | DUMP_INTERRUPTED, 7, &[0; 4])].concat(),
    ] {
        let (_, end) = read(&mut answer(true), &datagram);
        assert!(matches!(end, Ok(Some(Err(AskError::Changing)))), "{end:?}");
    }
}

#[test]
fn a_refusal_has_its_number() {
    for kind in [ERROR, DONE] {
        let payload = [&(-16_i32).to_ne_bytes()[..], &[0; 16]].concat();
        let (_, end) = read(&mut answer(true), &message(kind, 0, 7, &payload));
        let Ok(Some(Err(error))) = end else {
            panic!("{end:?}")
        };
        assert_eq!(error.errno(), Some(16));
    }
    let (_, end) = read(&mut answer(true), &message(ERROR, 0, 7, &[1, 2]));
    assert!(matches!(end, Ok(Some(Err(AskError::Decode(_))))), "{end:?}");
}

#[test]
fn a_cut_datagram_is_an_error() {
    let datagram = [item(7, 2), item(7, 2)].concat();
    let (count, end) = read(&mut answer(true), &datagram[..datagram.len() - 3]);
    assert!(matches!(end, Err(AskError::Decode(DecodeError::Cut))), "{end:?}");
    assert_eq!(count, 1);
}

#[test]
fn nobody_but_the_kernel_is_heard() {
    let connection = Connection::open(Duration::ZERO).unwrap();
    let mut place = SocketAddr::new(0, 0);
    connection.socket.get_address(&mut place).unwrap();
    let stranger = Socket::new(NETLINK_NETFILTER).unwrap();
    let forged = item(1, 0);
    let refused = stranger.send_to(&forged, &place, 0).unwrap_err();
    let kinds = [io::ErrorKind::ConnectionRefused, io::ErrorKind::PermissionDenied];
    assert!(kinds.contains(&refused.kind()), "{refused:?}");
}

#[test]
fn a_wait_ends_in_time() {
    let mut connection = Connection::open(Duration::from_millis(20)).unwrap();
    let deadline = Deadline::after(connection.limit);
    let nothing = receive(&connection.socket, &mut connection.buffer, deadline);
    assert!(matches!(nothing, Err(AskError::Late)), "{nothing:?}");
}

#[test]
fn a_list_that_is_cut_anywhere_is_no_whole_list() {
    let whole = [item(7, 2), item(7, 2), message(DONE, 2, 7, &[0; 4])].concat();
    let (count, end) = read(&mut answer(true), &whole);
    assert!(matches!((count, end), (2, Ok(Some(Ok(()))))), "control");
    for length in 0..whole.len() {
        let (_, end) = read(&mut answer(true), &whole[..length]);
        assert!(
            matches!(end, Ok(None) | Err(AskError::Decode(_))),
            "{length}: {end:?}"
        );
    }
}

#[test]
fn what_comes_twice_or_in_another_order_is_given_as_it_came() {
    let done = || message(DONE, 2, 7, &[0; 4]);
    // Twice: whoever puts them together sees both.
    let (count, end) = read(&mut answer(true), &[item(7, 2), item(7, 2), done()].concat());
    assert!(matches!((count, end), (2, Ok(Some(Ok(()))))));
    // Nothing behind the end is heard, also not as a part of the next answer.
    let (count, end) = read(&mut answer(true), &[done(), item(7, 2)].concat());
    assert!(matches!((count, end), (0, Ok(Some(Ok(()))))));
    let mut next = Answer {
        sequence: 8,
        ..answer(true)
    };
    assert!(matches!(
        read(&mut next, &[item(7, 2), done()].concat()),
        (0, Ok(None))
    ));
    // That it was changed meanwhile is not forgotten, wherever that was said.
    let parts = [item(7, 2 | DUMP_INTERRUPTED), item(7, 2), item(7, 2)];
    for first in 0..parts.len() {
        let mut turned = parts.clone();
        turned.rotate_left(first);
        let mut list = answer(true);
        for part in &turned {
            assert!(matches!(read(&mut list, part), (1, Ok(None))));
        }
        let (_, end) = read(&mut list, &done());
        assert!(
            matches!(end, Ok(Some(Err(AskError::Changing)))),
            "{first}: {end:?}"
        );
    }
}
