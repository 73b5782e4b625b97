//! What a process is, for accounting and for stopping alike.

use serde::{Deserialize, Serialize};

/// A process is its pid **and** its start time: pids are reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessId {
    /// Process number in our pid namespace.
    pub pid: u32,
    /// Clock ticks after boot, as in field 22 of `/proc/<pid>/stat`.
    pub start_ticks: u64,
}

/// A process as it was when it was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// Who.
    pub identity: ProcessId,
    /// pid of its parent.
    pub parent: u32,
    /// The kernel's command name, at most 15 bytes; the process can change it.
    pub name: String,
    /// Path of the program, also of one that was deleted since; absent for kernel threads, zombies and where it
    /// cannot be read.
    pub exe: Option<String>,
    /// cgroup v2 path; absent when there is none.
    pub cgroup: Option<String>,
}
