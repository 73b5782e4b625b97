//! What to measure. In: words of the command line. Out: [`Arguments`], or a text that says what was expected.

use std::time::Duration;

/// The operation that is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// `GetConfiguration` of one leaf.
    Get,
    /// `PublishToIoTCore`, QoS 0.
    Publish,
}

/// One measurement; it ends with the calls or with the time, whichever is first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arguments {
    /// Which operation.
    pub case: Case,
    /// Calls that wait for an answer at any time.
    pub in_flight: u64,
    /// Most calls.
    pub calls: u64,
    /// Most time.
    pub time: Duration,
}

impl Arguments {
    /// From `<get|publish> <in flight> <most calls> <most seconds>`.
    ///
    /// # Errors
    /// When there are other words.
    pub fn parse(words: impl Iterator<Item = String>) -> Result<Self, String> {
        let words: Vec<_> = words.collect();
        let [case, in_flight, calls, seconds] = words.as_slice() else {
            return Err("expected <get|publish> <in flight> <most calls> <most seconds>".to_owned());
        };
        let case = match case.as_str() {
            "get" => Case::Get,
            "publish" => Case::Publish,
            other => return Err(format!("the case is {other:?}; expected get or publish")),
        };
        Ok(Self {
            case,
            in_flight: number("calls in flight", in_flight)?,
            calls: number("most calls", calls)?,
            time: Duration::from_secs(number("most seconds", seconds)?),
        })
    }
}

fn number(what: &str, word: &str) -> Result<u64, String> {
    word.parse()
        .ok()
        .filter(|number| *number > 0)
        .ok_or_else(|| format!("{what} is {word:?}; expected a whole number above 0"))
}
