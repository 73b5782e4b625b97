//! Which process holds which socket, from `/proc/<pid>/fd`.
//!
//! In: an inode. Out: the [`Process`] that holds it. For an unknown inode three looks are taken, each only if the one
//! before found nothing: at the newest processes (one that has just begun and may end at once), at those that had
//! traffic last, at all.
//!
//! Promise: the process named held the socket at a moment within this call or, for one named before, still holds it now
//! under the same file descriptor. Of several that hold it when it is first looked for, the one that started last: whoever
//! inherits a socket does the work with it (a worker of a server, a session of sshd). A socket that is passed on stays
//! with the old holder while that keeps it open too; nobody outside can tell which of the two uses it.
//!
//! Cost: looks at few processes take at most a tenth of one core's time and walks at most a twentieth, whatever
//! happens, because each look is followed by a pause in proportion to what it took ([`Pace`]).
//!
//! Absent: other pid namespaces' own numbering; processes are named as this namespace sees them.

#![expect(clippy::disallowed_methods, reason = "host is a door")]

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use super::process_table::{is_process, newest, read, socket_inode, start_ticks};
use crate::observe::sockets::{Holder, ProcessTable};
use crate::process::{Process, ProcessId};

/// Shortest pause between two walks of `/proc`; a walk over 100 processes takes about 2 ms.
const WALK_PAUSE: Duration = Duration::from_millis(100);
/// A walk is followed by a pause of as many times what it took.
const WALK_SHARE: u32 = 19;
/// Shortest pause between two looks at few processes: new flows come at most once in 4 ms (the ring's block timer).
const FEW_PAUSE: Duration = Duration::from_millis(2);
/// A walk that takes longer on the processor goes on at a later question: other new flows wait behind it, and their
/// processes may end meanwhile.
const WALK_SLICE: Duration = Duration::from_millis(3);
/// As [`WALK_SHARE`].
const FEW_SHARE: u32 = 9;
/// Process numbers looked at downwards from the newest: threads have numbers too, and to find that there is no process
/// takes about a microsecond.
const NEWEST_NUMBERS: u32 = 256;
/// Processes among them that are looked into; one takes some 20 microseconds.
const MAX_NEWEST: usize = 64;
/// How many of those that had traffic last are looked at.
const MAX_RECENT: usize = 8;
/// Files looked at of each of these few; a process with more is left to the walk.
const MAX_FEW_FILES: usize = 1_024;
/// Processes looked at in one walk.
const MAX_PROCESSES: usize = 32_768;
/// Open files looked at per process.
const MAX_FILES: usize = 262_144;
/// Sockets in the index: 10 MiB.
const MAX_INODES: usize = 131_072;
/// Inodes without holder that are remembered, so that they do not cause a walk each.
const MAX_ORPHANS: usize = 4_096;
/// How long no walk is made for an inode that nobody held.
const ORPHAN_LIFE: Duration = Duration::from_secs(1);

/// When something may be done again: after a pause that grows with what it took, so that it never takes more than
/// `1 / (share + 1)` of the time.
#[derive(Default)]
struct Pace {
    next: Option<Instant>,
}

impl Pace {
    fn is_due(&self, now: Instant) -> bool {
        self.next.is_none_or(|next| now >= next)
    }

    /// `took` is time on the processor: on a busy machine the look itself waits, and must not wait for that again.
    fn done(&mut self, began: Instant, took: Duration, shortest: Duration, share: u32) {
        self.next = Some(began + shortest.max(took.saturating_mul(share.saturating_add(1))));
    }
}

/// Who holds a socket, and under which file descriptor.
struct Held {
    process: Arc<Process>,
    descriptor: u32,
}

impl Held {
    /// One link is read: the descriptor of a process that ended leads nowhere. The start time then tells a child that
    /// inherited both the socket and the process number.
    fn is_true(&self, inode: u32) -> bool {
        let ProcessId { pid, start_ticks: start } = self.process.identity;
        socket_inode(&descriptor_path(pid, self.descriptor)) == Some(inode) && start_ticks(pid) == Some(start)
    }
}

/// The index.
#[derive(Default)]
pub struct ProcessIndex {
    holders: HashMap<u32, Held>,
    orphans: HashMap<u32, Instant>,
    walks: Pace,
    /// Processes that the walk under way has not come to, newest last.
    left: Vec<u32>,
    /// The next walk is not to be cut into slices.
    unhurried: bool,
    few: Pace,
    /// Processes that were asked for last, latest first.
    recent: VecDeque<u32>,
}

impl ProcessTable for ProcessIndex {
    fn holder(&mut self, inode: u32, now: Instant) -> Holder {
        if let Some(process) = self.known(inode) {
            return Holder::Process(process);
        }
        if self.few.is_due(now) {
            let began = thread_time();
            let found = self.look_at_newest(inode).or_else(|| self.look_at_recent(inode));
            self.few.done(now, thread_time().saturating_sub(began), FEW_PAUSE, FEW_SHARE);
            if let Some(process) = found {
                return Holder::Process(process);
            }
        }
        let walked = |seen: &Instant| now.duration_since(*seen) < ORPHAN_LIFE;
        if self.orphans.get(&inode).is_some_and(walked) {
            return Holder::Nobody;
        }
        if !self.walks.is_due(now) {
            return Holder::AskLater;
        }
        let began = thread_time();
        let complete = self.walk(began);
        let took = thread_time().saturating_sub(began);
        self.walks.done(now, took, WALK_PAUSE, WALK_SHARE);
        if let Some(process) = self.known(inode) {
            return Holder::Process(process);
        }
        if !complete {
            return Holder::AskLater;
        }
        if self.orphans.len() < MAX_ORPHANS {
            self.orphans.insert(inode, now);
        }
        Holder::Nobody
    }

    fn look_again(&mut self) {
        self.walks = Pace::default();
        self.unhurried = true;
        self.few = Pace::default();
        self.orphans.clear();
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
    }
}

impl ProcessIndex {
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

    /// All of the newest are looked at, not only until `inode` is found: where one has begun, others have, and the next
    /// question is about them.
    fn look_at_newest(&mut self, inode: u32) -> Option<Arc<Process>> {
        let last = newest()?;
        let numbers = (last.saturating_sub(NEWEST_NUMBERS)..=last).rev();
        for pid in numbers.filter(|pid| is_process(*pid)).take(MAX_NEWEST) {
            self.look_into(pid, MAX_FEW_FILES);
        }
        self.known(inode)
    }

    fn look_at_recent(&mut self, inode: u32) -> Option<Arc<Process>> {
        for pid in self.recent.clone() {
            self.look_into(pid, MAX_FEW_FILES);
        }
        self.known(inode)
    }

    /// Looks into all processes, newest first, or into those that the last walk did not come to; true if into all.
    fn walk(&mut self, began: Duration) -> bool {
        let unhurried = std::mem::take(&mut self.unhurried);
        let whole = unhurried || self.left.is_empty();
        if whole {
            self.left = list();
        }
        while let Some(pid) = self.left.pop() {
            self.look_into(pid, MAX_FILES);
            if !unhurried && thread_time().saturating_sub(began) >= WALK_SLICE {
                break;
            }
        }
        whole && self.left.is_empty()
    }

    /// Enters the sockets that the process is not known to hold.
    fn look_into(&mut self, pid: u32, limit: usize) {
        let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else {
            return;
        };
        let mut descriptors = files
            .flatten()
            .take(limit)
            .filter_map(|file| file.file_name().to_str()?.parse::<u32>().ok())
            .peekable();
        // A kernel thread has none and is cheap to pass over.
        if descriptors.peek().is_none() {
            return;
        }
        let Some(start_ticks) = start_ticks(pid) else {
            return;
        };
        let identity = ProcessId { pid, start_ticks };
        let unknown: Vec<(u32, u32)> = descriptors
            .filter_map(|descriptor| Some((descriptor, socket_inode(&descriptor_path(pid, descriptor))?)))
            .filter(|(_, inode)| {
                let known = self.holders.get(inode);
                known.is_none_or(|held| held.process.identity != identity)
            })
            .collect();
        if unknown.is_empty() {
            return;
        }
        // The links were read between two looks at the start time; the number may have changed hands.
        let Some(process) = read(pid).filter(|process| process.identity == identity) else {
            return;
        };
        let process = Arc::new(process);
        for (descriptor, inode) in unknown {
            self.enter(inode, descriptor, &process);
        }
    }

    fn enter(&mut self, inode: u32, descriptor: u32, process: &Arc<Process>) {
        let keep = match self.holders.get(&inode) {
            Some(known) => !is_later(process, &known.process) && known.is_true(inode),
            None => self.holders.len() >= MAX_INODES,
        };
        if !keep {
            let process = Arc::clone(process);
            self.holders.insert(inode, Held { process, descriptor });
        }
    }
}

/// Time this thread has had on the processor.
fn thread_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .map(Duration::from)
        .unwrap_or_default()
}

/// All process numbers, ascending.
fn list() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut pids: Vec<u32> = entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .take(MAX_PROCESSES)
        .collect();
    pids.sort_unstable();
    pids
}

fn descriptor_path(pid: u32, descriptor: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/fd/{descriptor}"))
}

fn is_later(process: &Process, known: &Process) -> bool {
    let order = |process: &Process| (process.identity.start_ticks, process.identity.pid);
    order(process) > order(known)
}

#[cfg(test)]
#[path = "procfs_tests.rs"]
mod tests;
