//! No turn of the agent's deciding thread may be long.
//!
//! In: the file in which the agent tells every long turn. Out: a failed test when one held the thread for longer than
//! anything should. What the thread waited for a processor is the machine's doing and not counted.

use std::path::PathBuf;

/// Milliseconds that no turn may take, on a busy machine and without optimisation.
const LIMIT_MS: u64 = 100;
/// How the agent begins such a line.
const WORDS: &str = "a long turn of";

/// Looks at the file when it is dropped.
#[derive(Debug)]
pub(super) struct TurnCheck(pub(super) PathBuf);

impl Drop for TurnCheck {
    fn drop(&mut self) {
        // One failure is enough, and the log of a stage that never ran is not there.
        let Ok(log) = std::fs::read_to_string(&self.0) else {
            return;
        };
        let long: Vec<&str> = log.lines().filter(|line| held(line) >= Some(LIMIT_MS)).collect();
        assert!(
            long.is_empty() || std::thread::panicking(),
            "the deciding thread was held for {LIMIT_MS} ms or more:\n{}",
            long.join("\n")
        );
    }
}

/// For how many milliseconds the turn of this line held the thread.
fn held(line: &str) -> Option<u64> {
    let (_, figures) = line.split_once(WORDS)?;
    let (_, held) = figures.split_once("held_ms=")?;
    held.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agents_own_line_is_read() {
        let line = "a long turn of enforcer: held_ms=120 waited_ms=3";
        assert_eq!(held(line), Some(120));
        assert_eq!(held("turns: probes=200 late_5ms=1 late_50ms=0 latest_us=5100"), None);
    }
}
