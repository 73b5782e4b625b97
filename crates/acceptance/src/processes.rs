//! Who runs in the gateway: the agent and the nucleus, found by what they are, never by a name alone.
//!
//! In: /proc. Out: pids of the gateway's network namespace, which no other run on this machine shares.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::{Trouble, io};

/// The gateway's namespace, as the lab names it.
pub(crate) const GATEWAY: &str = "/run/netns/gateway";

/// A process of the gateway.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) words: Vec<String>,
}

impl Process {
    /// The program's file name.
    fn program(&self) -> &str {
        self.words
            .first()
            .map_or("", |word| word.rsplit('/').next().unwrap_or(word))
    }

    fn is_agent(&self) -> bool {
        self.program().starts_with("edgewarden-")
            && self.words.get(1).is_some_and(|word| word == "run")
            && !self.program().starts_with("edgewarden-lab")
    }
}

/// Every process of the gateway.
pub(crate) fn of_gateway() -> Vec<Process> {
    let Ok(namespace) = std::fs::metadata(GATEWAY) else {
        return Vec::new();
    };
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| {
            std::fs::metadata(format!("/proc/{pid}/ns/net")).is_ok_and(|own| own.ino() == namespace.ino())
        })
        .filter_map(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let words: Vec<String> = line
                .split(|byte| *byte == 0)
                .filter(|word| !word.is_empty())
                .map(|word| String::from_utf8_lossy(word).into_owned())
                .collect();
            // Zombies have no words.
            (!words.is_empty()).then_some(Process { pid, words })
        })
        .collect()
}

/// Agents that run, oldest first.
pub(crate) fn agents() -> Vec<i32> {
    let mut agents: Vec<_> = of_gateway()
        .into_iter()
        .filter(Process::is_agent)
        .map(|process| process.pid)
        .collect();
    agents.sort_by_key(|pid| started(*pid));
    agents
}

/// Clock ticks since boot at which a process began; pids are given out anew.
fn started(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields = stat.rsplit_once(')')?.1;
    fields.split_whitespace().nth(19)?.parse().ok()
}

/// Whether it lives, zombies left out.
pub(crate) fn lives(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')')
        .and_then(|(_, rest)| rest.trim_start().chars().next())
        .is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// Memory in use, in KB.
pub(crate) fn resident(pid: i32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The file that a process runs.
pub(crate) fn program_of(pid: i32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/exe"))
}

/// Sends a signal.
pub(crate) fn signal(pid: i32, signal: Signal) -> Result<(), Trouble> {
    kill(Pid::from_raw(pid), signal)
        .map_err(|errno| io(format!("send {signal} to process {pid}"))(errno.into()))
}
