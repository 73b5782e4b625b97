//! What a running process has cost so far.
//!
//! In: a process id. Out: its CPU time over all threads, those that have ended included, to the nanosecond (POSIX's
//! process CPU clock), and its memory from /proc. Read from outside, so that programs in any language are measured
//! with the same instrument. Its children's time is asked for apart ([`children`]).

use std::path::PathBuf;
use std::time::Duration;

use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;

use crate::error::BenchError;

/// Cost of a process since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usage {
    /// User and system time of all threads.
    pub(crate) cpu: Duration,
    /// Resident memory, in bytes.
    pub(crate) rss: u64,
    /// The most it ever had, in bytes.
    pub(crate) peak_rss: u64,
}

impl Usage {
    /// Of a process that runs.
    pub(crate) fn of(pid: u32) -> Result<Self, BenchError> {
        let failed = |source| BenchError::Usage { pid, source };
        let cpu = clock_getcpuclockid(Pid::from_raw(pid.cast_signed()))
            .and_then(nix::time::ClockId::now)
            .map_err(|errno| failed(errno.into()))?;
        let path = PathBuf::from(format!("/proc/{pid}/status"));
        let status = std::fs::read_to_string(&path).map_err(failed)?;
        Ok(Self {
            cpu: Duration::from(cpu),
            rss: bytes_of(&status, "VmRSS:").unwrap_or(0),
            peak_rss: bytes_of(&status, "VmHWM:").unwrap_or(0),
        })
    }

    /// CPU time since an earlier look.
    pub(crate) fn cpu_since(&self, earlier: &Self) -> Duration {
        self.cpu.saturating_sub(earlier.cpu)
    }
}

/// Bytes as a report shows them, in units of a million.
pub(crate) fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// Ticks of /proc/PID/stat in a second (`USER_HZ`), the same on every architecture we build for.
const TICKS: u64 = 100;

/// CPU time of the children a process has waited for, in steps of ten milliseconds.
pub(crate) fn children(pid: u32) -> Result<Duration, BenchError> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .map_err(|source| BenchError::Usage { pid, source })?;
    Ok(children_of(&stat).unwrap_or_default())
}

/// The name stands in parentheses and may hold anything; `cutime` and `cstime` are the 16th and 17th field.
fn children_of(stat: &str) -> Option<Duration> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(13);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some(Duration::from_millis((ticks()? + ticks()?) * 1000 / TICKS))
}

/// A memory line of /proc/PID/status, which is in kB.
fn bytes_of(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_work_shows() {
        let before = Usage::of(std::process::id()).unwrap();
        let mut sum = 0_u64;
        while Usage::of(std::process::id()).unwrap().cpu_since(&before) < Duration::from_millis(5) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        let after = Usage::of(std::process::id()).unwrap();
        assert!(after.rss > 0 && after.peak_rss >= after.rss, "{after:?}");
    }

    #[test]
    fn a_process_that_is_not_there_is_named() {
        let error = Usage::of(i32::MAX.cast_unsigned()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "could not read the usage of process 2147483647"
        );
    }

    #[test]
    fn time_of_children_stands_behind_the_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 0 1 2 3 4 50 60 7 8 20 0 1";
        assert_eq!(children_of(stat), Some(Duration::from_millis(150)));
        assert_eq!(children_of("7 (a) S 1"), None);
    }

    #[test]
    fn memory_lines_are_kilobytes() {
        let status = "Name:\tx\nVmHWM:\t    2032 kB\nVmRSS:\t 12 kB\n";
        assert_eq!(bytes_of(status, "VmHWM:"), Some(2032 * 1024));
        assert_eq!(bytes_of(status, "VmSwap:"), None);
    }
}
