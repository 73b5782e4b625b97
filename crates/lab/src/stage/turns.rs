//! No turn of the agent's deciding thread may be long.
//!
//! In: the file in which the agent tells every long turn. Out: a failed test when one held the thread for longer than
//! anything should. What the thread waited for a processor is the machine's doing and not counted.

use std::path::PathBuf;

use crate::site::is_slow_machine;

/// Milliseconds that no turn may take, on a busy machine and without optimisation.
const LIMIT_MS: u64 = 100;
/// And the one that the agent starts with, in which it makes its threads and nobody can ask it anything yet.
const START_LIMIT_MS: u64 = 1_000;
/// What the agent calls that one.
const START: &str = " start:";
/// How the agent begins such a line.
const WORDS: &str = "a long turn of";

/// What becomes of the agent's turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turns {
    /// They are not measured: that costs some processor time.
    Unmeasured,
    /// The agent tells the long ones in [`super::Stage::turns_file`].
    Told,
    /// And the stage fails when one was too long.
    Checked,
}

/// Looks at the file when it is dropped.
#[derive(Debug)]
pub(super) struct TurnCheck(pub(super) PathBuf);

impl Drop for TurnCheck {
    fn drop(&mut self) {
        // A machine that is emulated is stopped by its host without a word, and everything that runs on it seems to be held.
        if is_slow_machine() {
            return;
        }
        // One failure is enough, and the log of a stage that never ran is not there.
        let Ok(log) = std::fs::read_to_string(&self.0) else {
            return;
        };
        let long: Vec<&str> = log.lines().filter(|line| is_long(line)).collect();
        assert!(
            long.is_empty() || std::thread::panicking(),
            "the deciding thread was held for {LIMIT_MS} ms or more ({START_LIMIT_MS} at its start):\n{}",
            long.join("\n")
        );
    }
}

fn is_long(line: &str) -> bool {
    let limit = if line.contains(START) {
        START_LIMIT_MS
    } else {
        LIMIT_MS
    };
    held(line) >= Some(limit)
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
        assert!(is_long(line));
        let start = |held: u64| format!("a long turn of start: held_ms={held} waited_ms=0");
        assert_eq!([142, 1_000].map(|held| is_long(&start(held))), [false, true]);
        assert_eq!(
            held("turns: probes=200 late_5ms=1 late_50ms=0 latest_us=5100"),
            None
        );
    }
}
