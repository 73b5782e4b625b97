//! Real processes and sockets; the index is asked as attribution asks it.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, Command, Stdio};

use super::*;
use crate::host::clock;

/// A process that holds a copy of `socket` as its standard input, and has said so.
fn holder_of(socket: &TcpListener) -> Child {
    let copy = OwnedFd::from(socket.try_clone().unwrap());
    let mut child = Command::new("sh")
        .args(["-c", "echo ready; exec sleep 60"])
        .stdin(copy)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    child
}

/// An index whose first walk is not cut short: the machine may run many processes.
fn index() -> ProcessIndex {
    let mut index = ProcessIndex::default();
    index.look_again();
    index
}

fn listen() -> (TcpListener, u32) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let inode = nix::sys::stat::fstat(socket.as_fd()).unwrap().st_ino;
    (socket, u32::try_from(inode).unwrap())
}

fn pid_of(holder: &HolderLookup) -> Option<u32> {
    match holder {
        HolderLookup::Process(process) => Some(process.identity.pid),
        HolderLookup::Nobody | HolderLookup::AskLater => None,
    }
}

#[test]
fn an_unknown_inode_causes_one_walk_and_then_waits() {
    let mut index = index();
    let now = clock::instant();
    assert_eq!(index.holder(0, now), HolderLookup::Nobody);
    assert_eq!(index.holder(0, now), HolderLookup::Nobody, "remembered");
    assert_eq!(index.holder(u32::MAX, now), HolderLookup::AskLater);
    let later = now + Duration::from_secs(60);
    index.unhurried = true;
    assert_eq!(index.holder(u32::MAX, later), HolderLookup::Nobody);
}

#[test]
fn a_new_process_is_found_while_no_walk_is_allowed() {
    let mut index = index();
    let now = clock::instant();
    index.walks.done(now, Duration::from_secs(60));
    let (socket, inode) = listen();
    let mut child = holder_of(&socket);
    drop(socket);
    assert_eq!(pid_of(&index.holder(inode, now)), Some(child.id()));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn of_two_holders_the_later_is_named_and_the_other_once_that_one_ended() {
    let mut index = index();
    let now = clock::instant();
    let (socket, inode) = listen();
    let mut child = holder_of(&socket);
    assert_eq!(pid_of(&index.holder(inode, now)), Some(child.id()));
    child.kill().unwrap();
    child.wait().unwrap();
    index.look_again();
    assert_eq!(pid_of(&index.holder(inode, now)), Some(std::process::id()));
    drop(socket);
    index.look_again();
    assert_eq!(pid_of(&index.holder(inode, now)), None, "closed by everybody");
}

#[test]
fn a_number_that_changed_hands_names_nobody() {
    let mut index = index();
    let now = clock::instant();
    let (_socket, inode) = listen();
    assert_eq!(pid_of(&index.holder(inode, now)), Some(std::process::id()));
    // As if an earlier process with our number had held the socket under the same descriptor.
    let held = index.holders.get_mut(&inode).unwrap();
    let mut earlier = Process::clone(&held.process);
    earlier.identity.start_ticks -= 1;
    held.process = Arc::new(earlier.clone());
    index.look_again();
    let HolderLookup::Process(found) = index.holder(inode, now) else {
        panic!("we hold it");
    };
    assert_eq!(found.identity.start_ticks, earlier.identity.start_ticks + 1);
}

#[test]
fn a_walk_that_takes_long_goes_on_later() {
    let mut index = ProcessIndex {
        left: vec![std::process::id(), 1],
        ..ProcessIndex::default()
    };
    let (_socket, inode) = listen();
    // All of the slice is used up before it begins.
    while thread_time() < WALK_SLICE {
        std::hint::spin_loop();
    }
    assert!(!index.walk(Duration::ZERO));
    assert_eq!(index.left, [std::process::id()]);
    assert!(
        !index.walk(Duration::ZERO),
        "the rest of a walk is not a whole one"
    );
    assert_eq!(
        index.known(inode).map(|process| process.identity.pid),
        Some(std::process::id())
    );
}
