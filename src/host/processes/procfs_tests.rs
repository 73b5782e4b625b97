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
    index.look_again_for(Duration::from_secs(60));
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

/// Who holds the socket once nobody else does: what other tests start has all descriptors of this process until it is what it is to be.
fn is_held_by(index: &mut ProcessIndex, inode: u32, wanted: Option<u32>) -> bool {
    let end = clock::instant() + Duration::from_secs(10);
    while clock::instant() < end {
        if pid_of(&index.holder(inode, clock::instant())) == wanted {
            return true;
        }
        clock::pause(Duration::from_millis(20));
        index.look_again_for(Duration::from_secs(60));
    }
    false
}

#[test]
fn an_unknown_inode_causes_one_walk_and_then_waits() {
    let mut index = index();
    let now = clock::instant();
    assert_eq!(index.holder(0, now), HolderLookup::Nobody);
    assert_eq!(index.holder(0, now), HolderLookup::Nobody, "remembered");
    assert_eq!(index.holder(u32::MAX, now), HolderLookup::AskLater);
    let later = now + Duration::from_secs(60);
    index.unhurried = Some(WHOLE_WALK);
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
    let (socket, inode) = listen();
    let mut child = holder_of(&socket);
    assert!(is_held_by(&mut index, inode, Some(child.id())));
    child.kill().unwrap();
    child.wait().unwrap();
    index.look_again();
    assert!(is_held_by(&mut index, inode, Some(std::process::id())));
    drop(socket);
    index.look_again();
    assert!(is_held_by(&mut index, inode, None), "closed by everybody");
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
    let (socket, inode) = listen();
    // Of few files: other tests have this process hoard them.
    let mut holder = holder_of(&socket);
    drop(socket);
    let mut index = ProcessIndex {
        left: vec![holder.id(), 1],
        ..ProcessIndex::default()
    };
    // All of the slice is used up before it begins.
    while thread_time() < WALK_SLICE {
        std::hint::spin_loop();
    }
    assert!(!index.walk(Duration::ZERO));
    assert_eq!(index.left, [holder.id()]);
    assert!(
        !index.walk(Duration::ZERO),
        "the rest of a walk is not a whole one"
    );
    assert_eq!(
        index.known(inode).map(|process| process.identity.pid),
        Some(holder.id())
    );
    holder.kill().unwrap();
    holder.wait().unwrap();
}

/// So many copies of one open file, which is no socket. The limit of this process is raised for them.
fn hoard(files: usize) -> Vec<OwnedFd> {
    let limits = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit {
        current: limits.maximum,
        ..limits
    };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).unwrap();
    let one = nix::unistd::pipe().unwrap().0;
    (0..files).map(|_| one.try_clone().unwrap()).collect()
}

#[test]
fn a_process_with_very_many_files_hides_nobody_else_and_is_seen_in_the_end() {
    let (early, inode) = listen();
    let mut child = holder_of(&early);
    drop(early);
    let _hoard = hoard(FIRST_FILES + 3 * MORE_FILES);
    let (late, own) = listen();
    let _behind_the_hoard = rustix::io::fcntl_dupfd_cloexec(&late, 15_000).unwrap();
    drop(late);
    let mut index = ProcessIndex {
        left: vec![child.id(), std::process::id()],
        ..ProcessIndex::default()
    };
    // Every walk has used up its time before it begins, and takes one step all the same.
    let spent = || {
        while thread_time() < WALK_SLICE {
            std::hint::spin_loop();
        }
        Duration::ZERO
    };
    assert!(!index.walk(spent()));
    assert_eq!(index.left, [child.id()]);
    assert!(!index.has_seen_all());
    assert!(!index.walk(spent()));
    assert_eq!(
        pid_of_known(&mut index, inode),
        Some(child.id()),
        "behind the hoard"
    );
    assert_eq!(pid_of_known(&mut index, own), None, "control: not come to yet");
    let seen = (0..1_000).any(|_| {
        index.walk(thread_time());
        index.holders.contains_key(&own)
    });
    assert!(seen);
    assert_eq!(pid_of_known(&mut index, own), Some(std::process::id()));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_walk_that_is_wanted_whole_ends_when_its_time_is_over() {
    let _hoard = hoard(FIRST_FILES + 2 * MORE_FILES);
    let mut index = ProcessIndex::default();
    index.look_again_for(Duration::ZERO);
    index.left = vec![std::process::id()];
    let now = clock::instant();
    assert_eq!(
        index.holder(u32::MAX, now),
        HolderLookup::AskLater,
        "not known, not denied"
    );
    assert!(!index.has_seen_all());
    index.look_again_for(Duration::from_secs(60));
    assert_eq!(
        index.holder(u32::MAX, now),
        HolderLookup::Nobody,
        "control: all was seen"
    );
    assert!(index.has_seen_all());
}

fn pid_of_known(index: &mut ProcessIndex, inode: u32) -> Option<u32> {
    index.known(inode).map(|process| process.identity.pid)
}
