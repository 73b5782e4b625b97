//! What is written when, into real files.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;

use super::*;
use crate::host::files::journal_file::JournalFile;
use crate::host::files::shelter::Shelter;
use crate::quarantine::orders::document::Wish;
use crate::quarantine::orders::order::Authority;

fn kept(time: &str, uptime: u64) -> KeptTime {
    KeptTime {
        time: time.parse().unwrap(),
        uptime,
        boot: "boot".into(),
    }
}

/// With an order that ends, of this name.
fn journal(id: &str, clock: KeptTime) -> Journal<'static> {
    let mut order = Order::isolate(Authority::Shadow, id, None, Timestamp::UNIX_EPOCH);
    order.expires = Some(Timestamp::UNIX_EPOCH + Duration::from_secs(3600));
    let mut journal = Journal::default();
    journal
        .book
        .to_mut()
        .set(Authority::Shadow, Wish::Order(Box::new(order)));
    journal.clock = Some(clock);
    journal
}

/// What a restart finds.
async fn found(directory: &Path) -> (JournalKeeper<JournalFile>, Option<KeptTime>) {
    let disk = JournalFile::disk();
    let (keeper, found) = JournalKeeper::open(JournalFile::new(directory, disk, Shelter::default())).await;
    let JournalFound::Whole(found) = found else {
        panic!("it was written whole");
    };
    (keeper, found.clock)
}

#[tokio::test]
async fn the_time_that_was_kept_last_counts_whatever_it_says() {
    let directory = tempfile::tempdir().unwrap();
    let (forged, later) = (kept("2030-01-01T00:00:00Z", 1), kept("2030-01-01T00:01:00Z", 2));
    let (honest, minute) = (kept("2026-01-01T00:00:00Z", 3), kept("2026-01-01T00:01:00Z", 4));
    // Beside the journal, then in it, then beside it again.
    let kept = [("a", &forged), ("a", &later), ("b", &honest), ("b", &minute)];
    let (mut keeper, none) = found(directory.path()).await;
    assert_eq!(none, None);
    for (id, clock) in kept {
        keeper.save(journal(id, clock.clone())).await.unwrap();
        // Whatever was begun is on disk when the next thing is.
        keeper.store.read_time().await;
        let (restarted, clock_found) = found(directory.path()).await;
        assert_eq!(clock_found.as_ref(), Some(clock), "{id}");
        drop(restarted);
    }
    // The service moves time back, and nothing else changes.
    keeper.save(journal("b", honest.clone())).await.unwrap();
    keeper.store.read_time().await;
    let (mut restarted, clock_found) = found(directory.path()).await;
    assert_eq!(clock_found, Some(honest));
    restarted.save(journal("b", minute.clone())).await.unwrap();
    restarted.store.read_time().await;
    assert_eq!(found(directory.path()).await.1, Some(minute));
}

#[tokio::test]
async fn that_time_goes_by_does_not_write_the_journal() {
    use std::os::unix::fs::MetadataExt as _;
    let directory = tempfile::tempdir().unwrap();
    // Each writing makes another file.
    let file = || directory.path().join("journal").metadata().unwrap().ino();
    let (mut keeper, _) = found(directory.path()).await;
    keeper
        .save(journal("a", kept("2026-01-01T00:00:00Z", 0)))
        .await
        .unwrap();
    let first = file();
    let mut last = None;
    for minute in 1..60 {
        let clock = kept(&format!("2026-01-01T00:{minute:02}:00Z"), minute);
        keeper.save(journal("a", clock.clone())).await.unwrap();
        keeper.store.read_time().await;
        last = Some(clock);
    }
    assert_eq!(file(), first);
    assert_eq!(found(directory.path()).await.1, last);
    keeper
        .save(journal("b", kept("2026-01-01T01:00:00Z", 60)))
        .await
        .unwrap();
    assert_ne!(file(), first, "control: an order is news");
}

#[tokio::test]
async fn a_time_that_was_set_back_is_remembered_while_nothing_ends_by_it() {
    let directory = tempfile::tempdir().unwrap();
    let (mut keeper, _) = found(directory.path()).await;
    let lasting = |clock: &KeptTime| {
        let mut journal = Journal::default();
        let order = Order::isolate(Authority::Shadow, "a", None, Timestamp::UNIX_EPOCH);
        let wish = Wish::Order(Box::new(order));
        journal.book.to_mut().set(Authority::Shadow, wish);
        journal.clock = Some(clock.clone());
        journal
    };
    let (forged, honest) = (kept("2030-01-01T00:00:00Z", 1), kept("2026-01-01T00:00:00Z", 2));
    keeper.save(lasting(&forged)).await.unwrap();
    keeper.save(lasting(&honest)).await.unwrap();
    assert_eq!(found(directory.path()).await.1, Some(honest));
}

#[expect(clippy::disallowed_methods, reason = "a test puts a folder in the disk's way")]
#[tokio::test]
async fn what_was_kept_in_memory_is_told_as_forgettable_until_it_is_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let socket = folder.path().join("run/control.sock");
    std::fs::create_dir_all(folder.path().join("run")).unwrap();
    // The disk takes nothing: a folder is in the way.
    let wall = state.join("journal.new");
    std::fs::create_dir_all(&wall).unwrap();
    let ordered = || journal("second", kept("2026-01-01T00:00:00Z", 1));
    let store = |shelter: &Shelter| JournalFile::new(&state, JournalFile::disk(), shelter.clone());

    let shelter = Shelter::beside(&socket);
    let (mut first, _) = JournalKeeper::open(store(&shelter)).await;
    assert!(
        first.save(ordered()).await.is_err(),
        "control: told as forgettable"
    );
    drop(first);
    assert!(shelter.keep().unwrap(), "control: kept in memory");

    let shelter = Shelter::beside(&socket);
    let (mut second, found) = JournalKeeper::open(store(&shelter)).await;
    assert!(
        matches!(found, JournalFound::Whole(found) if found.book.orders().len() == 1),
        "control: found there"
    );
    assert!(
        second.save(ordered()).await.is_err(),
        "a reboot would still forget it"
    );
    std::fs::remove_dir(&wall).unwrap();
    second.save(ordered()).await.unwrap();
    drop(second);
    assert!(!shelter.keep().unwrap(), "nothing is late");
    let (_, found) = JournalKeeper::open(store(&Shelter::default())).await;
    assert!(
        matches!(found, JournalFound::Whole(found) if found.book.orders().len() == 1),
        "on disk"
    );
}
