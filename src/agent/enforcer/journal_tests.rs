//! What is written when, by a store that counts.

use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::quarantine::orders::document::Wish;
use crate::quarantine::orders::order::Authority;

#[derive(Default)]
struct CountingStore {
    bytes: Option<Vec<u8>>,
    written: usize,
    time: Option<KeptTime>,
}

impl JournalStore for &mut CountingStore {
    async fn read(&mut self) -> Result<Option<Vec<u8>>, String> {
        Ok(self.bytes.clone())
    }

    async fn replace(&mut self, journal: Arc<Journal<'static>>) -> WriteOutcome {
        self.bytes = Some(journal::encode(&journal));
        self.written += 1;
        WriteOutcome::Done
    }

    fn late_outcome(&mut self) -> WriteOutcome {
        WriteOutcome::Failed("nothing is late".into())
    }

    async fn set_aside(&mut self) -> Result<PathBuf, String> {
        Err("nothing is damaged".into())
    }

    async fn read_time(&mut self) -> Option<KeptTime> {
        self.time.clone()
    }

    fn keep_time(&mut self, time: &KeptTime) {
        self.time = Some(time.clone());
    }
}

fn minute(number: i64) -> KeptTime {
    KeptTime {
        time: Timestamp::from_second(1_800_000_000 + 60 * number).unwrap(),
        uptime: 0,
        boot: "boot".into(),
    }
}

/// A journal with an isolation, at that minute.
fn isolated(until: Option<Timestamp>, at: i64) -> Journal<'static> {
    let mut journal = Journal::default();
    let mut order = Order::isolate(Authority::Operator, "test", None, minute(0).time);
    order.expires = until;
    let wish = Wish::Order(Box::new(order));
    journal.book.to_mut().set(Authority::Operator, wish);
    journal.clock = Some(minute(at));
    journal
}

/// Saves an hour of minutes; gives how often the journal was written, and the time kept beside it.
async fn an_hour(until: Option<Timestamp>) -> (usize, Option<KeptTime>) {
    let mut store = CountingStore::default();
    let (mut keeper, _) = JournalKeeper::open(&mut store).await;
    for number in 0..60 {
        keeper.save(isolated(until, number)).await.unwrap();
    }
    (store.written, store.time)
}

#[tokio::test]
async fn that_time_goes_by_does_not_write_the_journal() {
    assert_eq!(an_hour(None).await, (1, None), "nothing ends by time");
    let end = minute(0).time + SignedDuration::from_hours(9);
    assert_eq!(an_hour(Some(end)).await, (1, Some(minute(59))));
}

#[tokio::test]
async fn a_time_that_was_set_back_is_in_both_places() {
    let mut store = CountingStore::default();
    let (mut keeper, _) = JournalKeeper::open(&mut store).await;
    let end = minute(0).time + SignedDuration::from_hours(9);
    for at in [100, 101, 3] {
        keeper.save(isolated(Some(end), at)).await.unwrap();
    }
    drop(keeper);
    assert_eq!(store.time, Some(minute(3)));
    let (_, JournalFound::Whole(journal)) = JournalKeeper::open(&mut store).await else {
        panic!("it was written whole");
    };
    assert_eq!(journal.clock, Some(minute(3)));
}

#[tokio::test]
async fn the_newer_of_both_times_is_found_again() {
    for (beside, found) in [(None, 1), (Some(minute(0)), 1), (Some(minute(7)), 7)] {
        let mut store = CountingStore {
            bytes: Some(journal::encode(&isolated(None, 1))),
            written: 0,
            time: beside,
        };
        let (_, opened) = JournalKeeper::open(&mut store).await;
        let JournalFound::Whole(journal) = opened else {
            panic!("it was written whole");
        };
        assert_eq!(journal.clock, Some(minute(found)));
    }
}
