//! Lists that fail for the moment, or during which somebody else writes: read again, so often and no more.

use std::cell::Cell;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use edgewarden_lab::lab_test;

use super::super::refusal::Refusal;
use super::*;
use crate::{Batch, Family, TableProperties};

fn connect() -> Connection {
    Connection::open(Duration::from_secs(20)).unwrap()
}

/// Another program that makes a table, or removes it: one generation more.
struct Other(Connection, bool);

impl Other {
    fn writes(&mut self) {
        let table = Table::new(Family::Inet, "theirs");
        let mut batch = Batch::new();
        if self.1 {
            batch.delete_table(&table);
        } else {
            batch.add_table(&table, &TableProperties::default());
        }
        self.0.commit(&mut batch).unwrap();
        self.1 = !self.1;
    }
}

fn refused() -> AskError {
    AskError::Refused(Refusal {
        errno: 2,
        text: None,
        place: Vec::new(),
        expression: None,
        step: None,
    })
}

type Fault = fn() -> AskError;

/// Faults that say nothing about the table.
const PASSING: [Fault; 2] = [|| AskError::Changing, || AskError::Lost];
/// Faults that are a word about the table as long as nobody changes anything.
const ABOUT: [Fault; 2] = [refused, || AskError::Decode(DecodeError::Cut)];
/// Faults that no other reading mends.
const LASTING: [Fault; 2] = [|| AskError::Late, || AskError::TooMany { limit: 1 }];

lab_test!(
    what_fails_for_the_moment_is_read_again_and_what_lasts_is_told,
    || {
        let mut connection = connect();
        let calls = Cell::new(0);
        let mut read = |failures: usize, fault: Fault| {
            calls.set(0);
            let read = connection.unchanged(|_| {
                calls.set(calls.get() + 1);
                if calls.get() <= failures {
                    Err(fault())
                } else {
                    Ok(calls.get())
                }
            });
            (read, calls.get())
        };
        for fault in PASSING {
            for failures in 0..ATTEMPTS {
                assert!(matches!(read(failures, fault), (Ok(call), _) if call == failures + 1));
            }
            assert!(matches!(
                read(usize::MAX, fault),
                (Err(AskError::Changing), ATTEMPTS)
            ));
        }
        for fault in ABOUT.into_iter().chain(LASTING) {
            let (read, calls) = read(1, fault);
            assert!(read.is_err(), "{read:?}");
            assert_eq!(calls, 1);
        }
    }
);

lab_test!(nothing_is_believed_during_which_somebody_wrote, || {
    let mut connection = connect();
    let mut other = Other(connect(), false);
    let outcomes: [fn() -> Result<(), AskError>; 3] = [
        || Ok(()),
        || Err(refused()),
        || Err(AskError::Decode(DecodeError::Cut)),
    ];
    for outcome in outcomes {
        for writes in 0..=ATTEMPTS {
            let mut calls = 0;
            let read = connection.unchanged(|_| {
                calls += 1;
                if calls <= writes {
                    other.writes();
                    return outcome();
                }
                Ok(())
            });
            if writes < ATTEMPTS {
                read.unwrap();
                assert_eq!(calls, writes + 1);
            } else {
                assert!(matches!(read, Err(AskError::Changing)), "{read:?}");
                assert_eq!(calls, ATTEMPTS);
            }
        }
    }
});

lab_test!(where_an_empty_transaction_counts_none_is_sent_again, || {
    let mut connection = connect();
    let mut other = Other(connect(), false);
    let before = connection.generation().unwrap().id;
    assert_eq!(connection.settle(before).unwrap(), before);
    assert_eq!(connection.waits, Waits::Empty, "control: not counted here");
    // As it is seen where it is counted: another generation than before.
    connection.waits = Waits::Unknown;
    other.writes();
    let now = connection.generation().unwrap().id;
    assert_eq!(connection.settle(before).unwrap(), now);
    assert_eq!(connection.waits, Waits::Refused);
    for writes in 0..3 {
        (0..writes).for_each(|_| other.writes());
        let now = connection.generation().unwrap().id;
        let ((), during) = connection.reading(|_| Ok(())).unwrap();
        assert_eq!((during.began, during.ended), (now, now), "no wait is a change");
        assert!(connection.generation().is_ok(), "its refusal is passed over");
    }
});

lab_test!(a_reading_tells_how_far_others_came_meanwhile, || {
    let mut connection = connect();
    let mut other = Other(connect(), false);
    for writes in 0..3 {
        let before = connection.generation().unwrap().id;
        let ((), during) = connection
            .reading(|_| {
                (0..writes).for_each(|_| other.writes());
                Ok(())
            })
            .unwrap();
        assert_eq!((during.began, during.ended), (before, before + writes));
        assert_eq!(during.is_one(), writes == 0);
    }
});

lab_test!(a_writer_between_any_two_questions_of_a_list_is_noticed, || {
    let mut connection = connect();
    let mut other = Other(connect(), false);
    let ours = Table::new(Family::Inet, "ours");
    let mut batch = Batch::new();
    batch.add_table(&ours, &TableProperties::default());
    connection.commit(&mut batch).unwrap();
    let kinds = [
        (MessageType::GetTable, false),
        (MessageType::GetObject, true),
        (MessageType::GetSet, true),
        (MessageType::GetRule, true),
    ];
    // Before the first of them, between any two, after the last; at each reading but the last one, or at all.
    for place in 0..=kinds.len() {
        for writes in [1, ATTEMPTS - 1, ATTEMPTS] {
            let mut readings = 0;
            let read = connection.unchanged(|connection| {
                readings += 1;
                for (step, (kind, list)) in kinds.into_iter().enumerate() {
                    if step == place && readings <= writes {
                        other.writes();
                    }
                    connection.ask_about(&ours, kind, list, |_| {}, &mut |_| Ok(()))?;
                }
                if place == kinds.len() && readings <= writes {
                    other.writes();
                }
                Ok(())
            });
            assert_eq!(read.is_ok(), writes < ATTEMPTS, "{place} {writes}: {read:?}");
            assert_eq!(readings, ATTEMPTS.min(writes + 1), "{place} {writes}");
        }
    }
});

lab_test!(a_list_that_is_given_up_leaves_nothing_behind, || {
    let mut connection = connect();
    let table = Table::new(Family::Inet, "ours");
    let mut batch = Batch::new();
    batch.add_table(&table, &TableProperties::default());
    let many = 3_000;
    for number in 0..many {
        batch.add_object(
            &table,
            &Object::new(format!("c{number}"), crate::Counter::default()),
        );
    }
    connection.commit(&mut batch).unwrap();
    let mut give_up = || {
        assert!(matches!(
            connection.objects(&table, 10),
            Err(AskError::TooMany { limit: 10 })
        ));
        assert!(connection.has_table(&table).unwrap());
        assert!(matches!(
            connection.objects(&table, 10),
            Err(AskError::TooMany { limit: 10 })
        ));
        assert_eq!(connection.objects(&table, many).unwrap().len(), many);
    };
    give_up();
    // The same where there is no descriptor for another socket.
    let files: Vec<_> = std::iter::from_fn(|| UnixDatagram::unbound().ok()).collect();
    assert!(
        Connection::open(Duration::ZERO).is_err(),
        "control: {} are open",
        files.len()
    );
    give_up();
});

#[test]
fn an_element_that_comes_twice_is_noticed_wherever_it_comes() {
    let element = |number: u8| Element::new(crate::Value::new(&[10, 0, 0, number]).unwrap());
    for second in 1..=20 {
        let mut seen = Seen::default();
        (0..20).for_each(|number| seen.note(&element(number)));
        assert!(!seen.anything_twice(), "control");
        seen.note(&element(second - 1));
        assert!(seen.anything_twice());
    }
}
