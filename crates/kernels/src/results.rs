//! What a guest's console says, read into what became of each test.
//!
//! In: lines of the serial line. Out: [`Progress`] as they come, and in the end a [`Run`], which is kept beside the console.
//! Deliberately absent: judgement; a verdict is [`super::verdict`]'s.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What every line of ours begins with; a kernel's own lines come between them.
const MARK: &str = "EDGEWARDEN ";
/// Characters of a failure's message that are kept.
const KEPT: usize = 400;

/// What became of a test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// It holds.
    Ok,
    /// It does not, and says this.
    Failed(String),
    /// It was not tried, for this reason.
    Skipped(String),
}

/// One boot of a kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    /// As `uname -r` has it.
    pub(crate) release: String,
    /// What the suite's `nft` calls itself.
    pub(crate) nft: String,
    /// What ran the guest's processor.
    pub(crate) accelerator: String,
    /// The day, in UTC.
    pub(crate) day: String,
    /// How long it took.
    pub(crate) seconds: u64,
    /// By check, then by test.
    pub(crate) outcomes: BTreeMap<usize, BTreeMap<String, Outcome>>,
    /// What the kernel complained of.
    pub(crate) complaints: Vec<String>,
    /// Why the guest did not come to its end, where it did not.
    pub(crate) broken: Option<String>,
}

/// What a line tells whoever waits.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The first process runs.
    Booted,
    /// A check has begun.
    Begun(usize),
    /// A check has ended.
    Ended(usize),
    /// All is done.
    Done,
    /// A line of a check.
    Line,
}

/// Reads lines as they come.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    pub(crate) run: Run,
    current: Option<usize>,
    lines: Vec<String>,
}

impl Reader {
    /// Takes a line of the console; none when it is not one of ours.
    pub(crate) fn take(&mut self, line: &str) -> Option<Progress> {
        let at = line.find(MARK)?;
        let (word, rest) = line[at + MARK.len()..]
            .split_once(' ')
            .unwrap_or((line[at + MARK.len()..].trim_end(), ""));
        let rest = rest.trim_end();
        match word {
            "kernel" => {
                rest.clone_into(&mut self.run.release);
                Some(Progress::Booted)
            }
            "nft" => {
                self.run.nft = rest.trim_start_matches("nftables ").to_owned();
                Some(Progress::Line)
            }
            "begin" => {
                let number = rest.parse().ok()?;
                self.current = Some(number);
                self.lines.clear();
                self.run.outcomes.entry(number).or_default();
                Some(Progress::Begun(number))
            }
            "|" => Some(self.take_test_line(rest)),
            "dmesg" => {
                self.run.complaints.push(rest.to_owned());
                Some(Progress::Line)
            }
            "done" => Some(Progress::Done),
            _ => None,
        }
    }

    fn take_test_line(&mut self, line: &str) -> Progress {
        let Some(end) = line.strip_prefix("=end ") else {
            self.lines.push(line.to_owned());
            return Progress::Line;
        };
        let (number, status) = end.split_once(' ').unwrap_or((end, ""));
        let Ok(number) = number.parse() else {
            return Progress::Line;
        };
        let outcomes = outcomes(&self.lines, status);
        self.run.outcomes.insert(number, outcomes);
        self.current = None;
        self.lines.clear();
        Progress::Ended(number)
    }

    /// What was seen until a guest ended, or was ended: the check that ran then has what it said by then.
    pub(crate) fn end(mut self) -> Run {
        if let Some(number) = self.current {
            let seen = outcomes(&self.lines, "");
            self.run.outcomes.insert(number, seen);
        }
        self.run
    }
}

/// What became of each test that these lines of a test program name.
fn outcomes(lines: &[String], status: &str) -> BTreeMap<String, Outcome> {
    let mut outcomes = BTreeMap::new();
    for line in lines {
        let Some((name, result)) = line
            .strip_prefix("test ")
            .and_then(|line| line.split_once(" ... "))
        else {
            continue;
        };
        let outcome = match result {
            "ok" => Outcome::Ok,
            "ignored" => Outcome::Skipped("it is marked to be ignored".to_owned()),
            _ => Outcome::Failed("no message".to_owned()),
        };
        outcomes.insert(name.to_owned(), outcome);
    }
    for (name, output) in outputs(lines) {
        let Some(outcome) = outcomes.get_mut(name) else {
            continue;
        };
        match outcome {
            Outcome::Ok => {
                if let Some(reason) = skipped(name, &output) {
                    *outcome = Outcome::Skipped(reason);
                }
            }
            Outcome::Failed(message) => *message = complaint(&output),
            Outcome::Skipped(_) => {}
        }
    }
    // 124 and 137 are what `timeout` ends with.
    if matches!(status, "124" | "137") {
        let message = "the check was ended at its limit".to_owned();
        outcomes.insert(String::new(), Outcome::Failed(message));
    }
    outcomes
}

/// What each test printed: behind `---- name stdout ----`, until the next one.
fn outputs(lines: &[String]) -> Vec<(&str, Vec<&str>)> {
    let mut outputs: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in lines {
        let name = line
            .strip_prefix("---- ")
            .and_then(|line| line.strip_suffix(" stdout ----"));
        if let Some(name) = name {
            outputs.push((name, Vec::new()));
        } else if let Some((_, output)) = outputs.last_mut() {
            output.push(line);
        }
    }
    outputs
}

/// The reason of a test that says that it was skipped.
fn skipped(name: &str, output: &[&str]) -> Option<String> {
    let line = output.iter().find_map(|line| line.strip_prefix("SKIPPED "))?;
    let reason = line
        .strip_prefix(name)
        .map_or(line, |rest| rest.trim_start_matches([':', ' ']));
    Some(reason.to_owned())
}

/// What a failed test complains of: behind the first `panicked at`, on one line.
fn complaint(output: &[&str]) -> String {
    let from = output.iter().position(|line| line.contains("panicked at"));
    let said = output.get(from.unwrap_or_default()..).unwrap_or_default();
    let words: Vec<&str> = said
        .iter()
        .take_while(|line| !line.starts_with("note: run with"))
        .flat_map(|line| line.split_whitespace())
        .collect();
    let text = words.join(" ");
    let text = text
        .find("panicked at ")
        .map_or(text.as_str(), |at| &text[at + "panicked at ".len()..]);
    match text.char_indices().nth(KEPT) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Run {
        let mut reader = Reader::default();
        for line in lines {
            reader.take(line);
        }
        reader.end()
    }

    #[test]
    fn a_console_is_read_whatever_stands_around_our_lines() {
        let run = read(&[
            "[    0.0] Linux version",
            "EDGEWARDEN kernel 5.10.0-32-amd64\r",
            "EDGEWARDEN nft nftables v0.9.8 (E.D.S.)\r",
            "EDGEWARDEN begin 3\r",
            "EDGEWARDEN | running 3 tests\r",
            "EDGEWARDEN | test a::holds ... ok\r",
            "[   12.0] something of the kernel's",
            "EDGEWARDEN | test a::breaks ... FAILED\r",
            "EDGEWARDEN | test a::lacks ... ok\r",
            "EDGEWARDEN | successes:\r",
            "EDGEWARDEN | ---- a::lacks stdout ----\r",
            "EDGEWARDEN | SKIPPED a::lacks: no such device\r",
            "EDGEWARDEN | failures:\r",
            "EDGEWARDEN | ---- a::breaks stdout ----\r",
            "EDGEWARDEN | thread 'a' (7) panicked at tests/x.rs:1:2:\r",
            "EDGEWARDEN | left: 1\r",
            "EDGEWARDEN | note: run with `RUST_BACKTRACE=1`\r",
            "EDGEWARDEN | =end 3 101\r",
            "EDGEWARDEN done\r",
        ]);
        assert_eq!(run.release, "5.10.0-32-amd64");
        assert_eq!(run.nft, "v0.9.8 (E.D.S.)");
        let check = &run.outcomes[&3];
        assert_eq!(check["a::holds"], Outcome::Ok);
        assert_eq!(
            check["a::breaks"],
            Outcome::Failed("tests/x.rs:1:2: left: 1".into())
        );
        assert_eq!(check["a::lacks"], Outcome::Skipped("no such device".into()));
    }

    #[test]
    fn what_a_guest_said_before_it_hung_counts() {
        let run = read(&["EDGEWARDEN begin 1", "EDGEWARDEN | test a ... ok"]);
        assert_eq!(run.outcomes[&1]["a"], Outcome::Ok);
    }

    #[test]
    fn a_check_that_reached_its_limit_has_failed() {
        let run = read(&[
            "EDGEWARDEN begin 1",
            "EDGEWARDEN | test a ... ok",
            "EDGEWARDEN | =end 1 124",
        ]);
        assert!(matches!(run.outcomes[&1][""], Outcome::Failed(_)));
    }
}
