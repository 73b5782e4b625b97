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
