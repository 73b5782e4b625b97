//! Processes: who runs, and stopping them without ever hitting the wrong one.
//!
//! In: a [`ProcessId`] (pid and start time). Out: the process list; signals through a pidfd whose start time was
//! compared after it was opened, so a reused pid cannot be hit.

#![expect(clippy::disallowed_methods, reason = "host is a door: /proc and signals")]

use std::fs;
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::quarantine::processes::{Process, ProcessId};

/// Processes listed at most; the kernel's default pid_max is 32,768 on small machines and 4 million on large ones.
const MAX_PROCESSES: usize = 65_536;

/// Why a process could not be signalled.
#[derive(Debug, thiserror::Error)]
pub enum SignalError {
    /// It has ended, or its number belongs to another process.
    #[error("process {0} has ended")]
    Gone(i32),
    /// The kernel refused.
    #[error("could not signal process {pid}")]
    Refused {
        /// Its number.
        pid: i32,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
}

/// All processes that could be read. Those that end meanwhile are left out.
pub fn list() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .take(MAX_PROCESSES)
        .filter_map(read)
        .collect()
}

/// One process, if it runs.
pub fn read(pid: i32) -> Option<Process> {
    let directory = Path::new("/proc").join(pid.to_string());
    let stat = parse_stat(&fs::read_to_string(directory.join("stat")).ok()?)?;
    let exe = fs::read_link(directory.join("exe"))
        .ok()
        .and_then(|path| path.to_str().map(str::to_owned));
    let cgroup = fs::read_to_string(directory.join("cgroup")).unwrap_or_default();
    let cgroup = cgroup
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .unwrap_or_default()
        .to_owned();
    Some(Process {
        id: ProcessId {
            pid,
            start: stat.start,
        },
        parent: stat.parent,
        name: stat.name,
        exe,
        cgroup,
    })
}

/// Stops it (SIGSTOP); it keeps its memory and runs again after [`thaw`].
///
/// # Errors
/// [`SignalError`].
pub fn freeze(id: ProcessId) -> Result<(), SignalError> {
    signal(id, Signal::STOP)
}

/// Lets it run again (SIGCONT).
///
/// # Errors
/// [`SignalError`].
pub fn thaw(id: ProcessId) -> Result<(), SignalError> {
    signal(id, Signal::CONT)
}

/// Ends it (SIGKILL).
///
/// # Errors
/// [`SignalError`].
pub fn kill(id: ProcessId) -> Result<(), SignalError> {
    signal(id, Signal::KILL)
}

fn signal(id: ProcessId, signal: Signal) -> Result<(), SignalError> {
    let refused = |source: rustix::io::Errno| match source {
        rustix::io::Errno::SRCH => SignalError::Gone(id.pid),
        other => SignalError::Refused {
            pid: id.pid,
            source: other.into(),
        },
    };
    let pid = Pid::from_raw(id.pid).ok_or(SignalError::Gone(id.pid))?;
    let handle = pidfd_open(pid, PidfdFlags::empty()).map_err(refused)?;
    // The handle pins the process; if its start time is the one we know, the signal reaches it and nobody else.
    let stat = fs::read_to_string(format!("/proc/{}/stat", id.pid))
        .ok()
        .and_then(|text| parse_stat(&text));
    if stat.is_none_or(|stat| stat.start != id.start) {
        return Err(SignalError::Gone(id.pid));
    }
    pidfd_send_signal(&handle, signal).map_err(refused)
}

struct Stat {
    name: String,
    parent: i32,
    start: u64,
}

/// Reads `/proc/<pid>/stat`. The name may hold spaces and parentheses, so it ends at the last one.
fn parse_stat(text: &str) -> Option<Stat> {
    let (before, after) = text.rsplit_once(')')?;
    let name = before
        .split_once('(')?
        .1
        .chars()
        .filter(|c| !c.is_control())
        .collect();
    let fields: Vec<&str> = after.split_ascii_whitespace().collect();
    Some(Stat {
        name,
        parent: fields.get(1)?.parse().ok()?,
        start: fields.get(19)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::files;
    use std::process::{Command, Stdio};

    fn state_of(pid: i32) -> char {
        let stat = files::read(Path::new(&format!("/proc/{pid}/stat")))
            .unwrap()
            .unwrap();
        let text = String::from_utf8(stat).unwrap();
        text.rsplit_once(')')
            .unwrap()
            .1
            .trim_start()
            .chars()
            .next()
            .unwrap()
    }

    fn wait_for(pid: i32, states: &str) {
        for _ in 0..2000 {
            if states.contains(state_of(pid)) {
                return;
            }
            std::thread::yield_now();
        }
        panic!(
            "process {pid} is in state {}, expected one of {states}",
            state_of(pid)
        );
    }

    #[test]
    fn a_process_is_frozen_thawed_and_killed_and_a_reused_number_is_spared() {
        let mut child = Command::new("sleep")
            .arg("60")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let process = read(pid).unwrap();
        let other = ProcessId {
            start: process.id.start + 1,
            ..process.id
        };
        assert!(matches!(kill(other), Err(SignalError::Gone(_))));
        freeze(process.id).unwrap();
        wait_for(pid, "T");
        thaw(process.id).unwrap();
        wait_for(pid, "SR");
        kill(process.id).unwrap();
        child.wait().unwrap();
        assert!(matches!(freeze(process.id), Err(SignalError::Gone(_))));
    }

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let text = "7 (a) b (c) S 3 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 0 0";
        let stat = parse_stat(text).unwrap();
        assert_eq!(
            (stat.name.as_str(), stat.parent, stat.start),
            ("a) b (c", 3, 4242)
        );
        assert!(parse_stat("garbage").is_none());
    }

    #[test]
    fn we_are_in_the_list() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(
            list()
                .iter()
                .any(|process| process.id.pid == own && process.exe.is_some())
        );
    }
}
