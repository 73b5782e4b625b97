//! The writer of the history on real files: rotation, other hands, a disk that is full.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::quarantine::history::{ChainFault, ChainSummary, FILE, HistoryFile, Record, read, verify};
use crate::quarantine::orders::order::{Authority, Order};

fn files(directory: &Path) -> Vec<HistoryFile> {
    let path = directory.join(FILE);
    let kept = (0..=KEPT).rev().filter_map(|age| {
        let path = append_file::aged(&path, age);
        let bytes = fs::read(&path).ok()?;
        let name = path.file_name()?.to_str()?.to_owned();
        Some(HistoryFile { name, age, bytes })
    });
    kept.collect()
}

fn check(directory: &Path) -> Result<ChainSummary, ChainFault> {
    verify(&files(directory))
}

fn records(directory: &Path) -> Vec<Record> {
    let files = files(directory);
    let seen = files.iter().flat_map(|file| read(file).0);
    seen.filter_map(|seen| seen.record.ok()).collect()
}

fn kinds(directory: &Path) -> Vec<String> {
    let kind = |record: &Record| record.event["kind"].as_str().unwrap().to_owned();
    records(directory).iter().map(kind).collect()
}

fn ordered(reason: &str) -> Event {
    let at = clock::now().wall;
    Event::ordered(&Order::isolate(Authority::Shadow, "s", Some(reason.into()), at))
}

/// Notes and writes one order.
fn write(log: &mut HistoryLog, reason: &str) {
    log.note(clock::now(), ordered(reason));
    log.flush(clock::now());
}

#[test]
fn a_new_life_goes_on_with_the_chain() {
    let directory = tempfile::tempdir().unwrap();
    for _ in 0..3 {
        let mut log = HistoryLog::new(directory.path());
        write(&mut log, "x");
        assert_eq!(log.fault(), None);
    }
    assert_eq!(kinds(directory.path()), ["ordered", "stopped"].repeat(3));
    assert_eq!(check(directory.path()).unwrap().last.unwrap().seq, 6);
}

#[test]
fn it_is_rotated_and_stays_one_chain() {
    let directory = tempfile::tempdir().unwrap();
    let long = "x".repeat(250);
    let mut log = HistoryLog::new(directory.path());
    for _ in 0..80 {
        // As many at once as may wait.
        for _ in 0..MAX_WAITING {
            log.note(clock::now(), ordered(&long));
        }
        log.flush(clock::now());
    }
    assert_eq!(log.fault(), None);
    drop(log);
    let summary = check(directory.path()).unwrap();
    assert!(summary.first > 1, "the oldest are gone");
    assert_eq!(summary.last.unwrap().seq, 80 * MAX_WAITING as u64 + 1);
    let files = files(directory.path());
    assert_eq!(files.len(), KEPT + 1);
    assert!(files.iter().all(|file| file.bytes.len() as u64 <= MAX_FILE));
    // A rotation that crashed before the new file was made.
    fs::rename(directory.path().join(FILE), directory.path().join("aside")).unwrap();
    let end = check(directory.path()).unwrap().last.unwrap();
    let mut log = HistoryLog::new(directory.path());
    write(&mut log, "x");
    assert_eq!(check(directory.path()).unwrap().last.unwrap().seq, end.seq + 1);
}

#[test]
fn other_hands_are_noticed_and_leave_a_fault_for_the_reader() {
    let removed = |path: &Path| fs::remove_file(path).unwrap();
    let cut = |path: &Path| {
        let text = fs::read_to_string(path).unwrap();
        let first = text.split_inclusive('\n').next().unwrap();
        fs::write(path, first).unwrap();
    };
    let written = |path: &Path| {
        let mut text = fs::read_to_string(path).unwrap();
        text.push_str("{}\n");
        fs::write(path, text).unwrap();
    };
    let hands: [&dyn Fn(&Path); 3] = [&removed, &cut, &written];
    for hand in hands {
        let directory = tempfile::tempdir().unwrap();
        let mut log = HistoryLog::new(directory.path());
        write(&mut log, "one");
        write(&mut log, "two");
        check(directory.path()).unwrap();
        hand(&directory.path().join(FILE));
        write(&mut log, "three");
        assert!(kinds(directory.path()).contains(&"damaged".to_owned()));
        check(directory.path()).unwrap_err();
        assert_eq!(log.fault(), None, "it goes on");
    }
}

#[test]
fn what_cannot_be_written_waits_and_what_does_not_fit_is_counted() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("later");
    let mut log = HistoryLog::new(&missing);
    for _ in 0..MAX_WAITING + 5 {
        write(&mut log, "x");
    }
    let fault = log.fault().unwrap();
    assert!(
        fault.contains("later/history") && fault.contains("is not recorded"),
        "{fault}"
    );
    fs::create_dir(&missing).unwrap();
    log.flush(clock::now());
    assert_eq!(log.fault(), None);
    let records = records(&missing);
    assert_eq!(records.len(), MAX_WAITING + 1);
    let last = records.last().unwrap().known().unwrap();
    assert!(matches!(last, Event::Missed { count: 5, .. }), "{last:?}");
    check(&missing).unwrap();
}

#[test]
fn a_torn_end_is_cut_off_and_told() {
    let directory = tempfile::tempdir().unwrap();
    drop(HistoryLog::new(directory.path()));
    let path = directory.path().join(FILE);
    let mut bytes = fs::read(&path).unwrap();
    bytes.extend(b"{\"seq\":2,\"at\"");
    fs::write(&path, bytes).unwrap();
    assert!(check(directory.path()).unwrap().torn.is_some());
    drop(HistoryLog::new(directory.path()));
    assert_eq!(kinds(directory.path()), ["stopped", "torn", "stopped"]);
    assert_eq!(check(directory.path()).unwrap().torn, None);
}

#[test]
fn a_loop_of_somebody_elses_leaves_room_for_the_rest() {
    let directory = tempfile::tempdir().unwrap();
    let mut log = HistoryLog::new(directory.path());
    for _ in 0..1_000 {
        let what = "the table was flushed".into();
        log.note(clock::now(), Event::Reasserted { by: None, what });
        log.flush(clock::now());
    }
    write(&mut log, "still told");
    let kinds = kinds(directory.path());
    assert!((61..70).contains(&kinds.len()), "{}", kinds.len());
    assert_eq!(kinds.last().map(String::as_str), Some("ordered"));
    let mut later = clock::now();
    later.uptime += Duration::from_secs(61);
    log.flush(later);
    let last = records(directory.path()).pop().unwrap().known().unwrap();
    assert!(matches!(last, Event::Missed { count: 900.., .. }), "{last:?}");
    check(directory.path()).unwrap();
}
