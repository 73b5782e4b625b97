//! The kernel's table of connections that all subjects read.
//!
//! In: how many. Out: that many established sockets in this namespace, for as long as [`Table`] lives.

use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::error::BenchError;
use crate::machine::temporary_folder;
use crate::program::Program;
use xtask::workspace;

/// Sockets in one process: below the limit of open files that distributions give.
const A_PROCESS: u32 = 16_000;
/// Until a process has opened them on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Processes that hold connections; they end when it is dropped.
pub(crate) struct Table {
    _holders: Vec<Program>,
    _logs: TempDir,
}

impl Table {
    pub(crate) fn hold(sockets: u32) -> Result<Self, BenchError> {
        let logs = temporary_folder()?;
        let mut holders = Vec::new();
        let mut left = sockets;
        while left > 0 {
            let some = left.min(A_PROCESS);
            let mut command = Command::new("python3");
            command
                .arg(workspace::root().join("bench/report/connections.py"))
                .arg(some.to_string());
            let log = logs.path().join(format!("{left}.log"));
            let mut holder = Program::start("connections.py", &mut command, log)?;
            holder.expect("ready", PATIENCE)?;
            holders.push(holder);
            left -= some;
        }
        Ok(Self {
            _holders: holders,
            _logs: logs,
        })
    }
}
