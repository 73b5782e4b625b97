//! Tasks that panic on purpose, in paused time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

fn supervisor() -> (Supervisor, Board) {
    let board = Board::default();
    (Supervisor::new(board.clone()), board)
}

fn task(board: &Board, name: &str) -> TaskStatus {
    let tasks = board.read().tasks;
    tasks.into_iter().find(|task| task.name == name).unwrap()
}

/// Counts its starts and panics each time.
async fn fails(starts: Arc<AtomicU64>) {
    starts.fetch_add(1, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(1)).await;
    panic!("on purpose");
}

async fn for_a_while(supervisor: &mut Supervisor, time: Duration) {
    let _ = tokio::time::timeout(time, supervisor.run()).await;
}

#[tokio::test(start_paused = true)]
async fn control_a_task_that_nobody_joins_stays_gone() {
    let starts = Arc::new(AtomicU64::new(0));
    let mut unjoined = JoinSet::new();
    unjoined.spawn(fails(Arc::clone(&starts)));
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(starts.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_panics_is_told_and_started_again() {
    let (mut supervisor, board) = supervisor();
    let starts = Arc::new(AtomicU64::new(0));
    let shared = Arc::clone(&starts);
    supervisor.start("unlucky", move || fails(Arc::clone(&shared)));
    supervisor.start("steady", std::future::pending::<()>);
    for_a_while(&mut supervisor, Duration::from_millis(100)).await;
    let ended = task(&board, "unlucky");
    assert_eq!((ended.restarts, starts.load(Ordering::SeqCst)), (0, 1));
    assert_eq!(ended.why.as_deref(), Some("it panicked: on purpose"));
    assert!(ended.ended.is_some());
    for_a_while(&mut supervisor, Duration::from_millis(200)).await;
    assert_eq!(task(&board, "unlucky").restarts, 1);
    assert_eq!(starts.load(Ordering::SeqCst), 2);
    let steady = task(&board, "steady");
    assert_eq!((steady.restarts, steady.ended, steady.why), (0, None, None));
}

#[tokio::test(start_paused = true)]
async fn a_fault_that_stays_costs_one_start_a_minute_and_is_never_given_up() {
    let (mut supervisor, board) = supervisor();
    let starts = Arc::new(AtomicU64::new(0));
    let shared = Arc::clone(&starts);
    supervisor.start("unlucky", move || fails(Arc::clone(&shared)));
    for_a_while(&mut supervisor, Duration::from_secs(3600)).await;
    let first = starts.load(Ordering::SeqCst);
    assert!((60..80).contains(&first), "{first} starts in the first hour");
    for_a_while(&mut supervisor, Duration::from_secs(3600)).await;
    let second = starts.load(Ordering::SeqCst) - first;
    assert!((59..=61).contains(&second), "{second} starts in the second hour");
    assert_eq!(task(&board, "unlucky").restarts, first + second - 1);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_recovered_is_started_again_soon() {
    let (mut supervisor, board) = supervisor();
    let mut lives = [1, 1, 1, 1, 600, 1, 1].into_iter();
    supervisor.start("moody", move || {
        let life = Duration::from_secs(lives.next().unwrap_or(u64::MAX >> 32));
        tokio::time::sleep(life)
    });
    // Four short lives with pauses of 0.2 to 1.6 s, and the long one.
    for_a_while(&mut supervisor, Duration::from_secs(4 + 3 + 600 + 1)).await;
    let after_long = task(&board, "moody");
    assert_eq!(after_long.why.as_deref(), Some("it came to its end"));
    assert_eq!(
        after_long.restarts, 5,
        "started again at once after the long life"
    );
}

#[tokio::test(start_paused = true)]
async fn a_task_that_knows_why_it_ends_is_quoted() {
    let (mut supervisor, board) = supervisor();
    supervisor.start("watch", || async { "the kernel refuses: no right".to_owned() });
    supervisor.start("long", || async { "x".repeat(10_000) });
    for_a_while(&mut supervisor, Duration::from_millis(100)).await;
    assert_eq!(
        task(&board, "watch").why.as_deref(),
        Some("the kernel refuses: no right")
    );
    assert_eq!(task(&board, "long").why.unwrap().chars().count(), MAX_WHY);
}
