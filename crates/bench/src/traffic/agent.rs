//! What the running agent says about traffic, through its own command line.
//!
//! In: the agent's socket. Out: the running interval, as sums; the cost of its reading thread.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::site::Testbed;
use super::subject::Subject;
use crate::error::{self, BenchError, content};

/// The agent's thread that reads frames; the others find owners and look after interfaces.
const READER: &str = "capture ring";

/// CPU time of the reading thread so far, by the scheduler's own count.
pub(crate) fn reader_cpu(pid: u32) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten();
    let reading = tasks
        .flatten()
        .map(|task| task.path())
        .find(|task| std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == READER));
    let nanos = reading
        .and_then(|task| std::fs::read_to_string(task.join("schedstat")).ok())
        .and_then(|text| text.split_whitespace().next()?.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

/// The running interval.
pub(crate) struct Interval(Value);

impl Interval {
    /// Asks the agent.
    pub(crate) fn read(testbed: &Testbed) -> Result<Self, BenchError> {
        let program = testbed.programs.path(Subject::Agent);
        let output = Command::new(&program)
            .args(["top", "--json", "--control-socket"])
            .arg(testbed.site.directory().join("control.sock"))
            .output()
            .map_err(error::start(program.to_string_lossy()))?;
        serde_json::from_slice(&output.stdout).map(Self).map_err(|_| {
            let said = String::from_utf8_lossy(&output.stderr);
            let fault = format!("expected JSON, found: {}", said.trim());
            content("`edgewarden top --json`", fault)
        })
    }

    /// Frames and bytes the capture has seen.
    pub(crate) fn captured(&self) -> (u64, u64) {
        let total = &self.0["capturedTotal"];
        (packets(total), bytes(total))
    }

    /// Frames the kernel dropped because the agent was late.
    pub(crate) fn lost(&self) -> u64 {
        self.0["lostFrames"].as_u64().unwrap_or(0)
    }

    /// Bytes of the processes with these pids, as the capture gave them to them.
    pub(crate) fn of_processes(&self, pids: &[u32]) -> u64 {
        let wanted = |process: &&Value| {
            process["identity"]["pid"]
                .as_u64()
                .is_some_and(|pid| pids.iter().any(|wanted| u64::from(*wanted) == pid))
        };
        items(&self.0["processes"])
            .filter(wanted)
            .map(|process| bytes(&process["counters"]))
            .sum()
    }

    /// Bytes without an owner for this reason.
    pub(crate) fn unattributed(&self, reason: &str) -> u64 {
        items(&self.0["unattributedByReason"])
            .find(|item| item["reason"] == reason)
            .map_or(0, |item| bytes(&item["counters"]))
    }

    /// Bytes of an interface in and out, from the kernel's counters.
    pub(crate) fn interface(&self, name: &str) -> u64 {
        items(&self.0["interfaces"])
            .find(|interface| interface["name"] == name)
            .map_or(0, |interface| bytes(&interface["kernel"]))
    }
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn bytes(counters: &Value) -> u64 {
    sum(counters, ["bytesIn", "bytesOut"])
}

fn packets(counters: &Value) -> u64 {
    sum(counters, ["packetsIn", "packetsOut"])
}

fn sum(counters: &Value, names: [&str; 2]) -> u64 {
    names.iter().filter_map(|name| counters[*name].as_u64()).sum()
}
