//! Which process holds which socket, from `/proc/<pid>/fd`.
//!
//! In: an inode. Out: the [`Process`] that holds it. A socket held by several processes belongs to the one that started
//! last: whoever inherits a socket does the work with it (a worker of a server, a session of sshd). Processes that have
//! exited stay known until the interval closes.
//!
//! Absent: other pid namespaces' own numbering; processes are named as this namespace sees them.

#![expect(clippy::disallowed_methods, reason = "host is a door")]

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::process_table::{read, socket_inode, start_ticks};
use crate::observe::sockets::{Holder, ProcessTable};
use crate::process::{Process, ProcessId};

/// Shortest pause between two walks of `/proc`; a walk over 100 processes takes about 2 ms.
const RESCAN_PAUSE: Duration = Duration::from_millis(100);
/// Between walks the processes that had traffic last are looked at again this often: a running process opens
/// connections all the time, and one look costs some 50 microseconds.
const RECENT_PAUSE: Duration = Duration::from_millis(2);
/// How many of them.
const MAX_RECENT: usize = 8;
/// Files of each; a process with more is left to the walk.
const MAX_RECENT_FILES: usize = 1_024;
/// Processes looked at in one walk.
const MAX_PROCESSES: usize = 32_768;
/// Open files looked at per process.
const MAX_FILES: usize = 262_144;
/// Sockets in the index: 10 MiB.
const MAX_INODES: usize = 131_072;
/// Inodes without holder that are remembered, so that they do not cause a walk each.
const MAX_ORPHANS: usize = 4_096;
/// How long "nobody holds it" is believed; a socket just accepted has its inode a moment before its file descriptor.
const ORPHAN_LIFE: Duration = Duration::from_secs(1);

/// The index.
#[derive(Default)]
pub struct ProcessIndex {
    holders: HashMap<u32, Arc<Process>>,
    orphans: HashMap<u32, Instant>,
    last_walk: Option<Instant>,
    /// Processes that were asked for last, latest first.
    recent: VecDeque<u32>,
    last_recent: Option<Instant>,
}

impl ProcessTable for ProcessIndex {
    fn holder(&mut self, inode: u32, now: Instant) -> Holder {
        if let Some(process) = self.known(inode) {
            return Holder::Process(process);
        }
        if self
            .orphans
            .get(&inode)
            .is_some_and(|seen| now.duration_since(*seen) < ORPHAN_LIFE)
        {
            return Holder::Nobody;
        }
        if has_passed(self.last_recent, RECENT_PAUSE, now) {
            self.last_recent = Some(now);
            for pid in self.recent.clone() {
                self.look_into(pid, MAX_RECENT_FILES);
            }
            if let Some(process) = self.known(inode) {
                return Holder::Process(process);
            }
        }
        if !has_passed(self.last_walk, RESCAN_PAUSE, now) {
            return Holder::AskLater;
        }
        self.last_walk = Some(now);
        self.walk();
        if let Some(process) = self.known(inode) {
            return Holder::Process(process);
        }
        if self.orphans.len() < MAX_ORPHANS {
            self.orphans.insert(inode, now);
        }
        Holder::Nobody
    }

    fn look_again(&mut self) {
        self.last_walk = None;
        self.orphans.clear();
    }

    fn forget_gone(&mut self, _now: Instant) {
        let mut alive: HashMap<ProcessId, bool> = HashMap::new();
        self.holders.retain(|_, process| {
            *alive
                .entry(process.identity)
                .or_insert_with(|| start_ticks(process.identity.pid) == Some(process.identity.start_ticks))
        });
        self.orphans.clear();
    }
}

impl ProcessIndex {
    fn known(&mut self, inode: u32) -> Option<Arc<Process>> {
        let process = Arc::clone(self.holders.get(&inode)?);
        let pid = process.identity.pid;
        if self.recent.front() != Some(&pid) {
            self.recent.retain(|other| *other != pid);
            self.recent.truncate(MAX_RECENT - 1);
            self.recent.push_front(pid);
        }
        Some(process)
    }

    fn walk(&mut self) {
        let Ok(entries) = fs::read_dir("/proc") else {
            return;
        };
        let pids = entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        for pid in pids.take(MAX_PROCESSES) {
            self.look_into(pid, MAX_FILES);
        }
    }

    fn look_into(&mut self, pid: u32, limit: usize) {
        let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else {
            return;
        };
        let inodes: Vec<u32> = files
            .flatten()
            .take(limit)
            .filter_map(|file| socket_inode(&file.path()))
            .collect();
        if inodes.is_empty() {
            return;
        }
        let Some(process) = read(pid).map(Arc::new) else {
            return;
        };
        for inode in inodes {
            let room = self.holders.len() < MAX_INODES;
            match self.holders.get(&inode) {
                Some(known) if known.identity == process.identity => {}
                Some(known) if !is_later(&process, known) && still_there(known) => {}
                None if !room => {}
                Some(_) | None => {
                    self.holders.insert(inode, Arc::clone(&process));
                }
            }
        }
    }
}

fn has_passed(last: Option<Instant>, pause: Duration, now: Instant) -> bool {
    last.is_none_or(|last| now.duration_since(last) >= pause)
}

fn is_later(process: &Process, known: &Process) -> bool {
    (process.identity.start_ticks, process.identity.pid) > (known.identity.start_ticks, known.identity.pid)
}

fn still_there(process: &Process) -> bool {
    start_ticks(process.identity.pid) == Some(process.identity.start_ticks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_inode_causes_one_walk_and_then_waits() {
        let mut index = ProcessIndex::default();
        let now = crate::host::clock::instant();
        assert_eq!(index.holder(0, now), Holder::Nobody);
        assert_eq!(index.holder(0, now), Holder::Nobody, "remembered");
        assert_eq!(index.holder(u32::MAX, now), Holder::AskLater);
        assert_eq!(index.holder(u32::MAX, now + RESCAN_PAUSE), Holder::Nobody);
    }
}
