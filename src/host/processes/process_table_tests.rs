//! Processes of the test's own: frozen, ended, numbered anew; and no descriptors to look at them.

use super::super::doing::is_stopped;
use super::super::signals::{SignalError, freeze, kill, thaw};
use super::*;
use crate::host::clock;
use edgewarden_lab::lab_test;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::Duration;

fn state_of(pid: u32) -> char {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    text.rsplit_once(')')
        .unwrap()
        .1
        .trim_start()
        .chars()
        .next()
        .unwrap()
}

fn wait_for(pid: u32, states: &str) {
    let end = clock::instant() + Duration::from_secs(10);
    while !states.contains(state_of(pid)) {
        assert!(
            clock::instant() < end,
            "process {pid} is {}, expected one of {states}",
            state_of(pid)
        );
        clock::pause(Duration::from_millis(1));
    }
}

#[test]
fn a_process_is_frozen_thawed_and_killed_and_a_reused_number_is_spared() {
    let mut child = Command::new("sleep")
        .arg("60")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pid = child.id();
    let process = read(pid).unwrap();
    let other = ProcessId {
        start_ticks: process.identity.start_ticks + 1,
        ..process.identity
    };
    assert!(matches!(kill(other), Err(SignalError::Gone(_))));
    freeze(process.identity).unwrap();
    wait_for(pid, "T");
    thaw(process.identity).unwrap();
    wait_for(pid, "SR");
    kill(process.identity).unwrap();
    child.wait().unwrap();
    assert!(matches!(freeze(process.identity), Err(SignalError::Gone(_))));
}

lab_test!(without_descriptors_nobody_counts_as_gone, || {
    let own = read(std::process::id()).unwrap().identity;
    let above = ancestors(std::process::id());
    assert!(!above.is_empty(), "control: somebody started us");
    let known: Vec<ProcessId> = above.into_iter().chain([own]).collect();
    // One by one: a pair would leave the last one free.
    let mut taken: Vec<_> = std::iter::from_fn(|| UnixDatagram::unbound().ok()).collect();
    for free in 0..4 {
        assert!(!has_ended(own), "{free} are free");
        match list() {
            // Others come and go meanwhile.
            Ok(listed) => assert!(
                free > 1
                    && known
                        .iter()
                        .all(|id| listed.iter().any(|one| one.identity == *id)),
                "{free} are free: {known:?} are not in {listed:?}"
            ),
            Err(error) => assert!(free < 2 && is_want(&error), "{free} are free: {error}"),
        }
        taken.pop();
    }
});

#[test]
fn sockets_are_those_of_just_this_process() {
    let socket = UnixDatagram::unbound().unwrap();
    let own = read(std::process::id()).unwrap().identity;
    assert!(
        sockets_of(own).flatten().count() > 0,
        "control: {socket:?} is open"
    );
    let earlier = ProcessId {
        start_ticks: own.start_ticks - 1,
        ..own
    };
    assert_eq!(sockets_of(earlier).count(), 0);
}

#[test]
fn a_process_that_ended_and_was_not_buried_is_gone() {
    let mut child = Command::new("true").spawn().unwrap();
    let id = ProcessId {
        pid: child.id(),
        start_ticks: start_ticks(child.id()).unwrap(),
    };
    wait_for(child.id(), "Z");
    for outcome in [thaw(id), freeze(id), kill(id)] {
        assert!(matches!(outcome, Err(SignalError::Gone(_))), "{outcome:?}");
    }
    assert!(has_ended(id));
    child.wait().unwrap();
    assert!(has_ended(id));
    let own = read(std::process::id()).unwrap().identity;
    assert!(!has_ended(own), "control");
    let earlier = own.start_ticks - 1;
    assert!(
        has_ended(ProcessId {
            start_ticks: earlier,
            ..own
        }),
        "its number is another's"
    );
}

/// Its first thread ends; the other one sleeps on.
const HEADLESS: &str = "import threading, time, ctypes\n\
    threading.Thread(target=time.sleep, args=(60,)).start()\n\
    ctypes.CDLL(None).pthread_exit(0)";

#[test]
fn a_process_whose_first_thread_has_ended_is_still_that_program_and_is_stopped() {
    let mut child = Command::new("python3").args(["-c", HEADLESS]).spawn().unwrap();
    let pid = child.id();
    wait_for(pid, "Z");
    let process = read(pid).unwrap();
    let exe = process.exe.unwrap();
    assert!(exe.contains("python"), "{exe}");
    assert!(!is_stopped(process.identity), "control: it runs");
    freeze(process.identity).unwrap();
    let end = clock::instant() + Duration::from_secs(10);
    while !is_stopped(process.identity) {
        assert!(clock::instant() < end, "it was never stopped");
        clock::pause(Duration::from_millis(1));
    }
    kill(process.identity).unwrap();
    child.wait().unwrap();
}

#[test]
fn a_name_with_parentheses_does_not_shift_the_fields() {
    let text = "7 (a) b (c) S 3 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 0 0";
    let stat = parse_stat(text).unwrap();
    assert_eq!(
        (stat.name.as_str(), stat.parent, stat.start_ticks),
        ("a) b (c", 3, 4242)
    );
    assert!(parse_stat("garbage").is_none());
}

#[test]
fn one_that_is_about_to_end_is_known_and_one_whose_first_thread_has_ended_is_not_taken_for_it() {
    let is_ending = |state: char, flags: u64, threads: u32| {
        let text = format!("7 (a) {state} 3 7 7 0 -1 {flags} 1 0 0 0 0 0 0 0 20 0 {threads} 0 4242 0 0");
        parse_stat(&text).unwrap().is_ending()
    };
    let usual = 0x0040_0040;
    assert!(!is_ending('S', usual, 1), "control");
    assert!(is_ending('R', usual | 0x4, 1), "it gives back what it had");
    assert!(is_ending('D', usual | 0x200, 1), "it writes its memory to a file");
    assert!(!is_ending('Z', usual | 0x4, 2));
}

#[test]
fn a_thread_is_no_process() {
    let (say, told) = std::sync::mpsc::channel();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        say.send(nix::unistd::gettid().as_raw()).unwrap();
        ended.recv().unwrap();
    });
    let number = u32::try_from(told.recv().unwrap()).unwrap();
    assert!(!is_process(number));
    assert!(is_process(std::process::id()));
    assert!(!is_process(0) && !is_process(u32::MAX));
    let child = Command::new("true").spawn().unwrap();
    let newest = newest().unwrap();
    assert!(newest > 1, "{newest}");
    end.send(()).unwrap();
    thread.join().unwrap();
    drop(child.wait_with_output());
}

#[test]
fn we_are_in_the_list() {
    let own = std::process::id();
    assert!(
        list()
            .unwrap()
            .iter()
            .any(|process| process.identity.pid == own && process.exe.is_some())
    );
}

#[test]
fn a_service_of_the_nucleus_is_known_in_any_named_hierarchy() {
    let service = "/system.slice/ggl.core.iotcored.service";
    for text in [
        format!("0::{service}\n"),
        format!("2:pids:/other\n1:name=systemd:{service}\n"),
        format!("3:name=ewlab:{service}\n1:name=systemd:/\n0::/\n"),
        format!("1:name=systemd:{service}\n0::/init.scope\n"),
    ] {
        assert_eq!(cgroup(&text), Some(service), "{text}");
    }
    // A controller's hierarchy may be a user's.
    assert_eq!(
        cgroup(&format!("2:pids:{service}\n0::/user.slice\n")),
        Some("/user.slice")
    );
    assert_eq!(cgroup("1:name=systemd:/user.slice\n"), None);
}
