//! Processes of the test's own, held by a debugger or passing by one.

#![expect(clippy::disallowed_methods, reason = "processes of the test's own")]

use super::*;
use std::path::Path;
use std::process::{Child, Command};

use crate::host::processes::doing::is_stopped_by_signal;
use crate::host::processes::signals::is_stop_upon;
use crate::host::processes::{frozen, process_table, signals};
use crate::quarantine::orders::order::ProcessAction;

/// Holds the process of that number, or looks at it a thousand times a second; lives until it is killed.
const DEBUGS: &str = "import ctypes, os, sys, time\n\
    libc = ctypes.CDLL(None)\n\
    libc.ptrace.argtypes = [ctypes.c_long] * 4\n\
    pid, passes = int(sys.argv[1]), len(sys.argv) > 2\n\
    assert libc.ptrace(0x4206, pid, 0, 0) == 0\n\
    while passes:\n\
    \x20   libc.ptrace(0x4207, pid, 0, 0)\n\
    \x20   os.waitpid(pid, 0x40000000)\n\
    \x20   time.sleep(0.001)\n\
    \x20   libc.ptrace(7, pid, 0, 0)\n\
    time.sleep(60)";

/// A sleeper, and whoever debugs it.
struct Debugged {
    sleeper: Child,
    debugger: Child,
    id: ProcessId,
}

impl Debugged {
    fn start(words: &[&str], stopped: bool) -> Self {
        let sleeper = Command::new("sleep").arg("60").spawn().unwrap();
        let id = process_table::read(sleeper.id()).unwrap().identity;
        if stopped {
            signals::freeze(id).unwrap();
        }
        let pid = id.pid.to_string();
        let words = [&["-c", DEBUGS, &pid][..], words].concat();
        let debugger = Command::new("python3").args(words).spawn().unwrap();
        let end = clock::instant() + Duration::from_secs(10);
        while ran_when_debugged(id).is_none() {
            assert!(clock::instant() < end, "it is debugged");
            clock::pause(Duration::from_millis(1));
        }
        Self {
            sleeper,
            debugger,
            id,
        }
    }
}

impl Drop for Debugged {
    fn drop(&mut self) {
        for child in [&mut self.debugger, &mut self.sleeper] {
            let _ended = child.kill();
            let _buried = child.wait();
        }
    }
}

#[test]
fn who_is_held_by_a_debugger_is_told_from_whom_one_looks_at_in_passing() {
    let (held, passing) = (Debugged::start(&[], true), Debugged::start(&["passes"], false));
    let mut noted = 0;
    while noted < 5 {
        let mut looks = Held::default();
        looks.note(held.id);
        looks.note(passing.id);
        noted += usize::from(looks.looked.contains_key(&passing.id));
        assert!(looks.still().into_keys().eq([held.id]));
    }
    assert!(Held::default().still().is_empty());
}

#[test]
fn whom_a_debugger_holds_is_told_as_such_and_no_signal_is_upon_him_later() {
    let held = Debugged::start(&[], true);
    let ours = Ours::of(Path::new("/nonexistent/debugged"), None);
    let look = |patience| frozen::look_at(&[(held.id, ProcessAction::Freeze)], patience, &ours)[0];
    assert!(look(Duration::ZERO).by_owner && look(Duration::ZERO).stopped);
    assert!(!look(Duration::from_secs(1)).by_owner, "asked before alone");
    frozen::freeze(held.id, &ours, true).unwrap().unwrap();
    assert_eq!(is_stop_upon(held.id.pid), Some(false));
    frozen::leave_stopped(held.id, &ours).unwrap();
    frozen::freeze(held.id, &ours, false).unwrap().unwrap();
    assert_eq!(is_stop_upon(held.id.pid), Some(true), "control");
    assert!(!look(Duration::ZERO).by_owner, "we hold him");
}

#[test]
fn where_one_is_stays_while_he_is_stopped_whoever_stops_him_and_changes_when_he_goes_on() {
    let mut held = Debugged::start(&[], true);
    let at = place(held.id);
    assert!(at.is_some());
    assert_eq!(
        Held::default().still().get(&held.id),
        None,
        "control: nobody was noted"
    );
    held.debugger.kill().unwrap();
    held.debugger.wait().unwrap();
    let end = clock::instant() + Duration::from_secs(10);
    while !is_stopped_by_signal(held.id) {
        assert!(clock::instant() < end, "its debugger has left it");
        clock::pause(Duration::from_millis(1));
    }
    assert_eq!(place(held.id), at, "from the debugger to where its owner had it");
    signals::freeze(held.id).unwrap();
    assert_eq!(place(held.id), at);
    signals::thaw(held.id).unwrap();
    while place(held.id).is_none_or(|now| Some(now) == at) {
        assert!(clock::instant() < end, "it goes on");
        clock::pause(Duration::from_millis(1));
    }
    signals::freeze(held.id).unwrap();
    while !is_stopped_by_signal(held.id) {
        assert!(clock::instant() < end, "it is stopped");
        clock::pause(Duration::from_millis(1));
    }
    assert_ne!(place(held.id), at);
    held.sleeper.kill().unwrap();
    held.sleeper.wait().unwrap();
    assert_eq!(place(held.id), None);
}
