//! What this process holds: descriptors, tasks, memory.

use std::time::Duration;

use edgewarden_lab::site::wait_until;
use tokio::runtime::Handle;

/// For sockets to close and threads that read from killed programs to end.
const LIMIT: Duration = Duration::from_secs(10);

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub struct Holdings {
    pub descriptors: usize,
    pub tasks: usize,
}

impl Holdings {
    pub fn now(runtime: &Handle) -> Self {
        Self {
            // The listing holds one of its own, every time.
            descriptors: std::fs::read_dir("/proc/self/fd").unwrap().count(),
            tasks: runtime.metrics().num_alive_tasks(),
        }
    }

    /// Waits until this is all there is again.
    pub fn expect_again(self, runtime: &Handle) {
        let mut last = self;
        let again = wait_until(LIMIT, "what was held before", || {
            last = Self::now(runtime);
            last == self
        });
        assert!(again.is_ok(), "held {last:?}; before it was {self:?}");
    }
}

/// Resident memory of this process, in KiB.
pub fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
