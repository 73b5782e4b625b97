//! Several programs that write at once: each transaction is whole or refused, tried again within a bound, and none is lost.

use std::sync::Barrier;

use crate::namespaces::{CHAINS, LIMITS, connect, in_namespace, loading};
use crate::rulesets::{Shape, build};
use edgewarden_lab::lab_test;
use nf_tables::socket::{AskError, CommitError, Connection};
use nf_tables::{Batch, Element, Family, KeyType, Set, SetFlags, Table, TableProperties, Value};

/// Transactions of each writer.
const ROUNDS: u8 = 60;
/// Tries of one transaction for the generation that was read just before; the other writer's are as short.
const TRIES: usize = 1_000;

fn table() -> Table {
    Table::new(Family::Inet, "shared")
}

fn element(writer: u8, round: u8, half: u8) -> Element {
    Element::new(Value::new(&[10, writer, round, half]).unwrap())
}

/// Adds two elements in one transaction for the generation of this moment; gives how often somebody else came first. All
/// writers have read it when the first one writes.
fn add_pair(connection: &mut Connection, writer: u8, round: u8, all: &Barrier) -> usize {
    for outdated in 0..TRIES {
        let generation = connection.generation().unwrap().id;
        if outdated == 0 {
            all.wait();
        }
        let mut batch = Batch::for_generation(generation);
        batch.add_new_elements(&table(), "pairs", [element(writer, round, 0)]);
        batch.add_new_elements(&table(), "pairs", [element(writer, round, 1)]);
        match connection.commit(&mut batch) {
            Ok(()) => return outdated,
            Err(error @ CommitError::Refused { .. }) if error.is_outdated() => {}
            Err(error) => panic!("{error}"),
        }
    }
    panic!("{TRIES} times somebody else came first");
}

lab_test!(
    of_writers_who_each_want_the_generation_none_is_lost_and_none_is_half,
    || {
        in_namespace(|| {
            let mut connection = connect();
            let mut batch = Batch::new();
            batch.add_table(&table(), &TableProperties::default());
            batch.add_set(&table(), &Set::new("pairs", KeyType::IPV4, 4, SetFlags::NONE));
            connection.commit(&mut batch).unwrap();
            let first = connection.generation().unwrap().id;
            let pairs = |connection: &mut Connection| {
                let listed = connection.elements(&table(), "pairs", 10_000, Vec::new, Vec::<Element>::push);
                match listed {
                    Ok(listed) => {
                        let (pairs, during) = listed.unwrap();
                        during.is_one().then_some(pairs.len())
                    }
                    // Given up within its bound.
                    Err(AskError::Changing) => None,
                    Err(error) => panic!("{error}"),
                }
            };
            let all_read = &Barrier::new(3);
            let outdated: usize = std::thread::scope(|scope| {
                let writers = [1, 2, 3].map(|writer| {
                    scope.spawn(move || {
                        let mut own = connect();
                        (0..ROUNDS)
                            .map(|round| add_pair(&mut own, writer, round, all_read))
                            .sum::<usize>()
                    })
                });
                while !writers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
                    let seen = pairs(&mut connection);
                    assert!(
                        seen.is_none_or(|count| count.is_multiple_of(2)),
                        "a half: {seen:?}"
                    );
                }
                writers.map(|writer| writer.join().unwrap()).into_iter().sum()
            });
            assert!(
                outdated >= 2,
                "control: {outdated} times somebody else came first"
            );
            let all = 3 * usize::from(ROUNDS);
            assert_eq!(pairs(&mut connection), Some(2 * all));
            let last = connection.generation().unwrap().id;
            assert_eq!(last.wrapping_sub(first) as usize, all, "one for each");
        });
    }
);

lab_test!(a_whole_load_is_whole_whoever_writes_between_its_steps, || {
    in_namespace(|| {
        let ruleset = build(Shape::Closed, "t");
        let mut connection = connect();
        let mut other = connect();
        connection.commit(&mut loading(&ruleset)).unwrap();
        let ours = &ruleset.tables[0].contents;
        // Somebody takes it away, makes an empty one of it, or adds something: before a load and after it.
        let edits: [fn(&mut Batch, &Table); 3] = [
            |batch, table| batch.delete_table(table),
            |batch, table| {
                batch.clear_table(table);
                batch.add_table(table, &TableProperties::default());
            },
            |batch, table| batch.add_set(table, &Set::new("theirs", KeyType::IPV4, 4, SetFlags::NONE)),
        ];
        let whole = || {
            let mut batch = Batch::new();
            for loaded in &ruleset.tables {
                batch.clear_table(&loaded.contents.table);
                batch.add_contents(&loaded.contents);
            }
            batch
        };
        for edit in edits {
            connection.commit(&mut whole()).unwrap();
            let mut theirs = Batch::new();
            edit(&mut theirs, &ours.table);
            other.commit(&mut theirs).unwrap();
            // Whole, whatever there was.
            let mut batch = whole();
            let before = connection.generation().unwrap().id;
            connection.commit(&mut batch).unwrap();
            let after = connection.generation().unwrap().id;
            assert_eq!(after, before.wrapping_add(1), "nobody else");
            let listing = connection.table(&ours.table, CHAINS, LIMITS).unwrap().unwrap();
            assert_eq!(&listing.contents, ours);
            assert_eq!((listing.during.began, listing.during.ended), (after, after));
            // And what comes after it is no part of it.
            let mut theirs = Batch::new();
            edit(&mut theirs, &ours.table);
            other.commit(&mut theirs).unwrap();
            let now = connection.generation().unwrap().id;
            assert_eq!(now, after.wrapping_add(1), "somebody else");
            let listing = connection.table(&ours.table, CHAINS, LIMITS).unwrap();
            assert_ne!(listing.as_ref().map(|listing| &listing.contents), Some(ours));
        }
    });
});
