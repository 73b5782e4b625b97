//! What this process has used, and the line that says so.
//!
//! In: nothing but the kernel's accounting of this process. Out: one line of JSON.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// User and system time of this process in microseconds.
pub(crate) fn cpu_micros() -> u128 {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)
        .map(Duration::from)
        .unwrap_or_default()
        .as_micros()
}

/// Prints how many sockets, the bytes of a report if there is one, what it cost since `before`, and the highest memory
/// in use.
#[expect(clippy::print_stdout, reason = "the line is what this program is for")]
pub(crate) fn print(sockets: usize, bytes: Option<usize>, before: u128) {
    let cpu_us = cpu_micros().saturating_sub(before);
    let peak_rss_kb = peak_rss_kb();
    let bytes = bytes.map_or_else(|| "null".to_owned(), |bytes| bytes.to_string());
    println!(r#"{{"sockets":{sockets},"bytes":{bytes},"cpu_us":{cpu_us},"peak_rss_kb":{peak_rss_kb}}}"#);
}

/// `VmHWM` of `/proc/self/status`; 0 if it cannot be read.
#[expect(
    clippy::disallowed_methods,
    reason = "the kernel's accounting of this process"
)]
fn peak_rss_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let value = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    value
        .and_then(|value| value.trim().strip_suffix("kB")?.trim().parse().ok())
        .unwrap_or(0)
}
