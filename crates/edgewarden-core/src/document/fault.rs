//! One fault of a document: where it is and what is wrong with it.
//!
//! In: nothing. Out: [`Fault`], shown to operators in the log, the CLI and the shadow.
//! Documents are checked whole, so faults come in lists.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Faults kept of one document. A hostile document could have thousands; an operator reads the first few.
pub const MAX_FAULTS: usize = 16;

/// Longest piece of a hostile value that is repeated in a message, in characters.
const MAX_QUOTE: usize = 40;

/// What is wrong, and at which path of the document (`reporting.intervalSeconds`, `allow[2].remote`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Dotted path; empty for the document as a whole.
    pub path: String,
    /// What was found and what was expected.
    pub problem: String,
}

impl Fault {
    pub fn new(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            problem: problem.into(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.problem)
        } else {
            write!(f, "{}: {}", self.path, self.problem)
        }
    }
}

/// All faults in one line, for a log or an error text.
pub fn join(faults: &[Fault]) -> String {
    faults.iter().map(Fault::to_string).collect::<Vec<_>>().join("; ")
}

/// A short, printable rendering of a value somebody else wrote.
pub fn quote(value: &serde_json::Value) -> String {
    let text = value.to_string();
    let mut short: String = text.chars().filter(|c| !c.is_control()).take(MAX_QUOTE).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_fault_names_its_path_and_a_quote_is_bounded() {
        assert_eq!(
            Fault::new("a.b", "is 3, expected 4").to_string(),
            "a.b: is 3, expected 4"
        );
        assert_eq!(Fault::new("", "not an object").to_string(), "not an object");
        let long = quote(&json!("x".repeat(500)));
        assert!(long.chars().count() <= MAX_QUOTE + 1, "{long}");
    }
}
