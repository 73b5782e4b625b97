//! Which process holds which socket, from `/proc/<pid>/fd`.
//!
//! In: an inode. Out: the [`Process`] that holds it. For an unknown inode three looks are taken, each only if the one
//! before found nothing: at the newest processes (one that has just begun and may end at once), at those that had
//! traffic last, at all.
//!
//! Promise: the process named held the socket at a moment within this call or, for one named before, still holds it now
//! under the same file descriptor. Of several that hold it when it is first looked for, the one that started last:
//! whoever inherits a socket does the work with it (a worker of a server, a session of sshd). A socket that is passed
//! on stays with the old holder while that keeps it open too; nobody outside can tell which of the two uses it.
//!
//! Cost, whatever happens: looks at few processes take at most 100 ms of processor time a second and walks at most 50
//! ms, and 100 ms more of each after a quiet time (`host::processes::pace`); a walk that is wanted whole, as when an
//! interval closes, ends after a time of its own. Both only for unknown inodes; to confirm a known one takes some 10
//! microseconds. Files are looked at in pieces, large processes after all others, so that one with very many files
//! hides only itself. What was not come to has no holder: never a guessed one.
//!
//! Absent: other pid namespaces' own numbering; processes are named as this namespace sees them.

#![expect(clippy::disallowed_methods, reason = "host is a door")]

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::descriptors::{piece, socket_at};
use super::pace::{Pace, thread_time};
use super::process_table::{is_process, newest, read, start_ticks};
use crate::Arrange;
use crate::observe::sockets::{HolderLookup, ProcessTable};
use crate::process::{Process, ProcessId};

/// Shortest pause between two walks of `/proc`; a walk over 100 processes takes about 2 ms.
const WALK_PAUSE: Duration = Duration::from_millis(100);
/// One part in this many of one core's time is for walks.
const WALK_SHARE: u32 = 20;
/// A walk that takes longer on the processor goes on at a later question: other new flows wait behind it, and their
/// processes may end meanwhile.
const WALK_SLICE: Duration = Duration::from_millis(3);
/// Shortest pause between two looks at few processes: new flows come at most once in 4 ms (the ring's block timer).
const FEW_PAUSE: Duration = Duration::from_millis(2);
/// As [`WALK_SHARE`], for these looks.
const FEW_SHARE: u32 = 10;
/// Process numbers looked at downwards from the newest: threads have numbers too, and to find that there is no process
/// takes about a microsecond.
const NEWEST_NUMBERS: u32 = 256;
/// Processes among them that are remembered; to look into one takes some 20 microseconds.
const MAX_YOUNG: usize = 64;
/// Numbers looked at again: a number is given away a moment before its process can be seen.
const UNSETTLED_NUMBERS: u32 = 8;
/// How many of those that had traffic last are looked at.
const MAX_RECENT: usize = 8;
/// Files looked at of each of these few; a process with more is left to the walk.
const MAX_FEW_FILES: usize = 1_024;
/// A look at few processes that takes longer on the processor ends: each may have as many files as are looked at.
const FEW_SLICE: Duration = Duration::from_millis(20);
/// Processes looked at in one walk.
const MAX_PROCESSES: usize = 32_768;
/// Files of a process looked at before others have their turn: more than a busy server has, some 8 ms.
const FIRST_FILES: usize = 4_096;
/// Files of a large process looked at from one look at the time to the next, some 2 ms.
const MORE_FILES: usize = 1_024;
/// A walk wanted whole when an interval closes ends after so long on the processor: some 100,000 files, and the
/// accounts wait for it, while others may open as many files as they like.
pub(crate) const WHOLE_WALK: Duration = Duration::from_millis(200);
/// Sockets in the index: 10 MiB.
const MAX_INODES: usize = 131_072;
/// Inodes without holder that are remembered, so that they do not cause a walk each.
const MAX_ORPHANS: usize = 4_096;
/// How long no walk is made for an inode that nobody held.
const ORPHAN_LIFE: Duration = Duration::from_secs(1);

/// Who holds a socket, and under which file descriptor.
struct SocketDescriptor {
    process: Arc<Process>,
    descriptor: u32,
}

impl SocketDescriptor {
    /// One link is read: the descriptor of a process that ended leads nowhere. The start time then tells a child that
    /// inherited both the socket and the process number.
    fn is_true(&self, inode: u32) -> bool {
        let ProcessId {
            pid,
            start_ticks: start,
        } = self.process.identity;
        socket_at(pid, self.descriptor) == Some(inode) && start_ticks(pid) == Some(start)
    }
}

/// What was seen of a process.
#[derive(Default)]
struct Look {
    /// Whether it holds any socket, among the files looked at.
    any: bool,
    /// Where the files begin that were not looked at.
    more: Option<u64>,
}

/// Who holds which socket, by inode.
pub(crate) struct ProcessIndex {
    holders: HashMap<u32, SocketDescriptor>,
    orphans: HashMap<u32, Instant>,
    walks: Pace,
    /// Processes that the walk under way has not come to, newest last.
    left: Vec<u32>,
    /// Processes with more files than are looked at first, with where to go on.
    large: VecDeque<(u32, u64)>,
    /// The next slice is for the large ones alone, however many others there are.
    turn_of_large: bool,
    /// The next walk is not to be cut into slices, and may take so long.
    unhurried: Option<Duration>,
    few: Pace,
    /// Processes that were asked for last, latest first.
    recent: VecDeque<u32>,
    /// The newest processes, newest last, each with whether a socket of it was found.
    young: VecDeque<(u32, bool)>,
    /// The newest number of the last look.
    newest: u32,
}

impl Default for ProcessIndex {
    fn default() -> Self {
        Self {
            holders: HashMap::new(),
            orphans: HashMap::new(),
            walks: Pace::new(WALK_PAUSE, WALK_SHARE),
            few: Pace::new(FEW_PAUSE, FEW_SHARE),
            left: Vec::new(),
            large: VecDeque::new(),
            turn_of_large: false,
            unhurried: None,
            recent: VecDeque::new(),
            young: VecDeque::new(),
            newest: 0,
        }
    }
}

impl ProcessTable for ProcessIndex {
    fn holder(&mut self, inode: u32, now: Instant) -> HolderLookup {
        if let Some(process) = self.known(inode) {
            return HolderLookup::Process(process);
        }
        if self.few.is_due(now) {
            let began = thread_time();
            let found = self.look_at_newest(inode).or_else(|| self.look_at_recent(inode));
            self.few.done(now, thread_time().saturating_sub(began));
            if let Some(process) = found {
                return HolderLookup::Process(process);
            }
        }
        let walked = |seen: &Instant| now.duration_since(*seen) < ORPHAN_LIFE;
        if self.orphans.get(&inode).is_some_and(walked) {
            return HolderLookup::Nobody;
        }
        if !self.walks.is_due(now) {
            return HolderLookup::AskLater;
        }
        let began = thread_time();
        let complete = self.walk(began);
        self.walks.done(now, thread_time().saturating_sub(began));
        if let Some(process) = self.known(inode) {
            return HolderLookup::Process(process);
        }
        if !complete {
            return HolderLookup::AskLater;
        }
        if self.orphans.len() < MAX_ORPHANS {
            self.orphans.insert(inode, now);
        }
        HolderLookup::Nobody
    }

    fn look_again(&mut self) {
        self.look_again_for(WHOLE_WALK);
    }

    fn forget_gone(&mut self, _now: Instant) {
        let mut alive: HashMap<ProcessId, bool> = HashMap::new();
        self.holders.retain(|_, held| {
            let identity = held.process.identity;
            *alive
                .entry(identity)
                .or_insert_with(|| start_ticks(identity.pid) == Some(identity.start_ticks))
        });
        self.orphans.clear();
        self.unhurried = None;
    }
}

impl ProcessIndex {
    /// As [`ProcessTable::look_again`]; the next walk may take so long on the processor.
    pub(crate) fn look_again_for(&mut self, limit: Duration) {
        self.walks = Pace::new(WALK_PAUSE, WALK_SHARE);
        self.few = Pace::new(FEW_PAUSE, FEW_SHARE);
        self.unhurried = Some(limit);
        self.orphans.clear();
    }

    /// Whether no walk was cut before it had looked into every process and all of its files.
    pub(crate) fn has_seen_all(&self) -> bool {
        self.left.is_empty() && self.large.is_empty()
    }

    /// The holder in the index, if it holds the socket still.
    fn known(&mut self, inode: u32) -> Option<Arc<Process>> {
        let held = self.holders.get(&inode)?;
        if !held.is_true(inode) {
            self.holders.remove(&inode);
            return None;
        }
        let process = Arc::clone(&held.process);
        let pid = process.identity.pid;
        if self.recent.front() != Some(&pid) {
            self.recent.retain(|other| *other != pid);
            self.recent.truncate(MAX_RECENT - 1);
            self.recent.push_front(pid);
        }
        Some(process)
    }

    /// First those of which no socket is known yet, all of them: where one has begun, others have, and the next
    /// question is about them. Then the others.
    fn look_at_newest(&mut self, inode: u32) -> Option<Arc<Process>> {
        self.note_newest();
        let began = thread_time();
        for had_sockets in [false, true] {
            let mut young = std::mem::take(&mut self.young);
            for (pid, has_sockets) in young.iter_mut().rev().filter(|(_, has)| *has == had_sockets) {
                *has_sockets |= self.look_into(*pid, 0, MAX_FEW_FILES).any;
                if thread_time().saturating_sub(began) >= FEW_SLICE {
                    break;
                }
            }
            self.young = young;
            if let Some(process) = self.known(inode) {
                return Some(process);
            }
        }
        None
    }

    /// Adds the processes that began since the last look, drops those that ended.
    fn note_newest(&mut self) {
        let Some(last) = newest() else {
            return;
        };
        let oldest = last.saturating_sub(NEWEST_NUMBERS);
        // Numbers begin again at the top; then all are new.
        let seen = if self.newest > last { 0 } else { self.newest };
        let first = seen.saturating_sub(UNSETTLED_NUMBERS).max(oldest);
        self.newest = last;
        self.young
            .retain(|(pid, _)| (oldest..=last).contains(pid) && is_process(*pid));
        for pid in (first..=last).filter(|pid| is_process(*pid)) {
            if !self.young.iter().any(|(known, _)| *known == pid) {
                self.young.push_back((pid, false));
            }
        }
        let surplus = self.young.len().saturating_sub(MAX_YOUNG);
        self.young.drain(..surplus);
    }

    fn look_at_recent(&mut self, inode: u32) -> Option<Arc<Process>> {
        for pid in self.recent.clone() {
            self.look_into(pid, 0, MAX_FEW_FILES);
        }
        self.known(inode)
    }

    /// Looks into all processes, newest first, or into those that the last walk did not come to; true if into all.
    fn walk(&mut self, began: Duration) -> bool {
        let unhurried = self.unhurried.take();
        if unhurried.is_some() {
            self.left.clear();
            self.large.clear();
        }
        let large_only =
            std::mem::take(&mut self.turn_of_large) && self.left.is_empty() && !self.large.is_empty();
        let whole = self.left.is_empty() && self.large.is_empty();
        if self.left.is_empty() && !large_only {
            self.left = list();
        }
        loop {
            if let Some(pid) = self.left.pop() {
                let more = self.look_into(pid, 0, FIRST_FILES).more;
                let more = more.filter(|_| self.large.iter().all(|(known, _)| *known != pid));
                self.large.extend(more.map(|place| (pid, place)));
            } else if let Some((pid, place)) = self.large.pop_front() {
                let more = self.look_into(pid, place, MORE_FILES).more;
                self.large.extend(more.map(|place| (pid, place)));
            } else {
                break;
            }
            if thread_time().saturating_sub(began) >= unhurried.unwrap_or(WALK_SLICE) {
                break;
            }
        }
        self.turn_of_large = !large_only;
        whole && self.left.is_empty() && self.large.is_empty()
    }

    /// Enters the sockets, among so many files from a place on, that the process is not known to hold.
    fn look_into(&mut self, pid: u32, place: u64, limit: usize) -> Look {
        // A kernel thread has no files and is cheap to pass over.
        let Some(piece) = piece(pid, place, limit).filter(|piece| piece.files > 0) else {
            return Look::default();
        };
        let more = piece.next;
        if piece.sockets.is_empty() {
            return Look { any: false, more };
        }
        let all = Look { any: true, more };
        let Some(start_ticks) = start_ticks(pid) else {
            return Look::default();
        };
        let identity = ProcessId { pid, start_ticks };
        let is_unknown = |inode: &u32| {
            let known = self.holders.get(inode);
            known.is_none_or(|held| held.process.identity != identity)
        };
        let unknown = piece.sockets.iter().filter(|(_, inode)| is_unknown(inode));
        let unknown: Vec<(u32, u32)> = unknown.copied().collect();
        if unknown.is_empty() {
            return all;
        }
        // The number may have changed hands since the links were read.
        let is_same = |process: &Process| process.identity == identity && piece.is_of_living();
        let Some(process) = read(pid).filter(is_same) else {
            return Look::default();
        };
        let process = Arc::new(process);
        for (descriptor, inode) in unknown {
            self.enter(inode, descriptor, &process);
        }
        all
    }

    fn enter(&mut self, inode: u32, descriptor: u32, process: &Arc<Process>) {
        let keep = match self.holders.get(&inode) {
            Some(known) => !is_later(process, &known.process) && known.is_true(inode),
            None => self.holders.len() >= MAX_INODES,
        };
        if !keep {
            let process = Arc::clone(process);
            self.holders
                .insert(inode, SocketDescriptor { process, descriptor });
        }
    }
}

/// All process numbers, ascending.
fn list() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids: Vec<u32> = entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .take(MAX_PROCESSES)
        .collect();
    pids.arrange();
    pids
}

fn is_later(process: &Process, known: &Process) -> bool {
    let order = |process: &Process| (process.identity.start_ticks, process.identity.pid);
    order(process) > order(known)
}

#[cfg(test)]
#[path = "procfs_tests.rs"]
mod tests;
