//! The clock. The only place of the agent that asks what time it is.
//!
//! Out: [`Now`], which every decision takes as an argument.

#![expect(
    clippy::disallowed_methods,
    reason = "host is a door: this is where time comes from"
)]

use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use jiff::Timestamp;
use nix::time::{ClockId, clock_gettime};

use crate::moment::Now;
use crate::quarantine::ports::Clock;

/// The number of the time namespace that every boot begins with (`PROC_TIME_INIT_INO`).
const MACHINES_TIME: u64 = 0xEFFF_FFFA;

/// The machine's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct HostClock;

impl Clock for HostClock {
    fn now(&self) -> Now {
        now()
    }

    fn boot(&self) -> String {
        counted_from()
    }
}

pub(crate) fn now() -> Now {
    let uptime = clock_gettime(ClockId::CLOCK_BOOTTIME)
        .map(Duration::from)
        .unwrap_or_default();
    Now {
        wall: Timestamp::now(),
        uptime,
    }
}

/// Names this boot of the machine, to which uptimes belong; empty when the kernel does not tell.
pub(crate) fn boot() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

/// What uptimes are counted from: this boot, and in another time namespace than the machine's own whatever that one counts from.
fn counted_from() -> String {
    let namespace = std::fs::metadata("/proc/self/ns/time").map(|found| found.ino());
    match namespace {
        Ok(number) if number != MACHINES_TIME => format!("{}, time namespace {number}", boot()),
        // A kernel without knows one time.
        Ok(_) | Err(_) => boot(),
    }
}

/// The time that it is while something is done which was decided at `then`: by the same clock, however it was set.
pub(crate) fn since(then: Now) -> Timestamp {
    let passed = now().uptime.saturating_sub(then.uptime);
    then.wall.saturating_add(passed).unwrap_or(then.wall)
}

/// The monotonic clock as the runtime's timers count it (without suspend); for intervals between reports.
pub(crate) fn instant() -> std::time::Instant {
    std::time::Instant::now()
}

/// Waits, in a command that refreshes its screen. The agent itself never sleeps on a thread.
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}
