//! When the process at the other end of the socket was started.
//!
//! In: its process id. Out: field 22 of `/proc/<pid>/stat`, if it can be read: not for a process of another pid namespace,
//! nor where `/proc` is hidden or not mounted. Reading it does not wait for the process.

use std::fs::File;
use std::io::Read as _;

/// The file is one line; its longest field, the name, has 64 bytes at most.
const MAX_BYTES: u64 = 4_096;
/// Place of the start time behind the name, which is the last field in parentheses.
const FIELD: usize = 19;

#[expect(
    clippy::disallowed_methods,
    reason = "this crate has no door to the kernel: it is used alone as well"
)]
pub(super) fn start_ticks(pid: i32) -> Option<u64> {
    let mut bytes = Vec::new();
    let file = File::open(format!("/proc/{pid}/stat")).ok()?;
    file.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
    parse(&String::from_utf8_lossy(&bytes))
}

fn parse(text: &str) -> Option<u64> {
    // The name may hold spaces and parentheses.
    let (_, fields) = text.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(FIELD)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_time_of_just_this_process() {
        let own = i32::try_from(std::process::id()).unwrap();
        let text = "7 (a) b (c) S 3 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 0 0";
        assert_eq!(parse(text), Some(4242));
        assert_eq!(parse("garbage"), None);
        assert!(start_ticks(own) > start_ticks(1) && start_ticks(1).is_some());
        assert_eq!(start_ticks(i32::MAX), None);
    }
}
