//! Processes of the test's own, with threads that a debugger lets go on.

#![expect(clippy::disallowed_methods, reason = "processes of the test's own")]

use super::*;
use std::process::Command;

use crate::host::processes::{process_table, signals};

/// Its first thread and another one sleep on.
const TWO_THREADS: &str = "import threading, time\n\
    threading.Thread(target=time.sleep, args=(60,)).start()\n\
    time.sleep(60)";

/// A thread of it works for a tenth of a second and ends, and it sleeps on.
const WORKED: &str = "import threading, time\n\
    def work():\n\
    \x20   while time.thread_time() < 0.1: pass\n\
    thread = threading.Thread(target=work)\n\
    thread.start()\n\
    thread.join()\n\
    time.sleep(60)";

fn end() -> Instant {
    clock::instant() + LIMIT
}

#[test]
fn all_threads_are_looked_at_and_a_signal_of_the_owner_is_told() {
    let mut child = Command::new("python3").args(["-c", TWO_THREADS]).spawn().unwrap();
    let pid = child.id();
    let until = |what: &str, holds: &dyn Fn() -> bool| {
        let end = clock::instant() + Duration::from_secs(10);
        while !holds() {
            assert!(clock::instant() < end, "{what}");
            clock::pause(Duration::from_millis(1));
        }
    };
    until("two threads", &|| threads(pid).count() == 2);
    let id = process_table::read(pid).unwrap().identity;
    let runs = doing(id, end()).unwrap();
    assert!(!runs.stopped && !runs.by_owner && !is_stopped(id), "control");
    signals::freeze(id).unwrap();
    until("it is stopped", &|| is_stopped(id));
    let stopped = doing(id, end()).unwrap();
    assert!(stopped.stopped && stopped.by_owner);
    assert_eq!(doing(id, end()), Some(stopped), "nothing happens to it");
    let late = doing(id, clock::instant()).unwrap();
    assert!(!late.stopped, "nothing is claimed of what was not looked at");
    assert_eq!(late.ran, stopped.ran, "and what it had is known all the same");
    assert!(!is_held_by_cgroup(pid));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(doing(id, end()), None);
}

#[test]
fn what_threads_had_that_have_ended_is_counted() {
    let mut child = Command::new("python3").args(["-c", WORKED]).spawn().unwrap();
    let id = process_table::read(child.id()).unwrap().identity;
    let ran = || doing(id, end()).unwrap().ran;
    let last = clock::instant() + Duration::from_secs(10);
    while ran() < Duration::from_millis(100) || threads(id.pid).count() > 1 {
        assert!(clock::instant() < last, "{:?}", ran());
        clock::pause(Duration::from_millis(1));
    }
    // No step of a clock of ten milliseconds: each turn shows.
    signals::freeze(id).unwrap();
    while !is_stopped(id) {
        clock::pause(Duration::from_millis(1));
    }
    let before = ran();
    signals::thaw(id).unwrap();
    while ran() == before {
        assert!(clock::instant() < last, "it has not had a turn");
        clock::pause(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}
