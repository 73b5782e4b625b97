//! Who holds sockets: names for people.
//!
//! In: the inodes of sockets, or that those are meant which send by `AF_XDP`. Out: the program and process that holds each, as
//! far as that was found within a bounded time. Not for the thread that decides: the walk grows with the processes of others.

#![expect(clippy::disallowed_methods, reason = "host is a door: /proc")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::time::Duration;

use crate::Arrange;
use crate::host::processes::pace::thread_time;
use crate::host::processes::process_table;
use crate::process::Process;

/// Processor time for a walk; one over 100 processes takes about 2 ms.
const LIMIT: Duration = Duration::from_millis(200);
/// Letters of a program's path that are told: its holder chooses them.
const MAX_NAME: usize = 64;

/// Bytes looked at of the list of what a process has mapped; most have some kilobytes.
const MAX_MAPPED: u64 = 1 << 20;
/// Where the ring through which an `AF_XDP` socket sends lies in it (`XDP_PGOFF_TX_RING`), as that list writes it.
const SENDING_RING: &str = "80000000";

/// The newest holder of each of these sockets, which does the work with what it inherited; those whose holder is not found are
/// not in it.
pub(super) fn holders(mut inodes: BTreeSet<u32>) -> BTreeMap<u32, String> {
    let (mut found, began) = (BTreeMap::new(), thread_time());
    let Ok(mut processes) = process_table::list() else {
        return found;
    };
    processes.arrange_by_key(|process| std::cmp::Reverse(process.identity.start_ticks));
    for process in &processes {
        for inode in process_table::sockets_of(process.identity).flatten() {
            if inodes.remove(&inode) {
                found.insert(inode, name(process));
            }
        }
        if inodes.is_empty() || thread_time().saturating_sub(began) >= LIMIT {
            break;
        }
    }
    found
}

fn name(process: &Process) -> String {
    let program = process.exe.as_ref().unwrap_or(&process.name);
    let program: String = program.chars().take(MAX_NAME).collect();
    format!("{program} (process {})", process.identity.pid)
}

/// Who sends by `AF_XDP`, at most `limit`: whoever has mapped the ring for that. For kernels that do not list such sockets.
pub(super) fn xdp_senders(limit: usize) -> Vec<String> {
    let began = thread_time();
    let processes = process_table::list().unwrap_or_default();
    processes
        .iter()
        .take_while(|_| thread_time().saturating_sub(began) < LIMIT)
        .filter(|process| maps_sending_ring(process.identity.pid))
        .take(limit)
        .map(name)
        .collect()
}

fn maps_sending_ring(pid: u32) -> bool {
    let Ok(maps) = File::open(format!("/proc/{pid}/maps")) else {
        return false;
    };
    let lines = BufReader::new(maps.take(MAX_MAPPED)).lines();
    lines.map_while(Result::ok).any(|line| {
        // Addresses, rights, offset, device, inode, path.
        let mut words = line.split_ascii_whitespace().skip(2);
        words.next() == Some(SENDING_RING) && words.nth(2).is_some_and(|path| path.starts_with("socket:["))
    })
}
