//! What a reader may believe. In: the kept files, oldest first. Out: a [`ChainSummary`], or the first place that is not
//! as the agent wrote it.
//!
//! What a chain cannot show: records missing at its end (compare with the running agent's [`ChainHead`]), and a chain
//! that somebody wrote anew from some record on (compare with a hash that was noted elsewhere).

use super::record::{self, ChainHead, Hash, LineFault, Record};
use super::{Event, KEPT};

/// One file as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryFile {
    pub name: String,
    /// How many rotations ago it was written; 0 is the running one.
    pub age: usize,
    pub bytes: Vec<u8>,
}

/// The end of the running file that is no whole line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornLine {
    /// Where, as `file:line`.
    pub at: String,
    pub bytes: usize,
}

/// A chain that is whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChainSummary {
    /// Number of the oldest record that is kept; those before were rotated away.
    pub first: u64,
    /// The newest record; `None` when there is none.
    pub last: Option<ChainHead>,
    /// What was being written when power was lost or the agent was killed; also seen while the agent writes.
    pub torn: Option<TornLine>,
    /// Records in which the agent noted that somebody changed the history.
    pub damaged: Vec<u64>,
}

/// The first thing that is not as the agent wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainFault {
    /// A line is no record, or was changed.
    #[error("{at}: {fault}")]
    Line {
        /// Where, as `file:line`.
        at: String,
        fault: LineFault,
    },
    /// The numbers do not follow each other.
    #[error("{at}: record {found}, expected {expected}: records were removed, doubled or moved")]
    Order {
        /// As `file:line`.
        at: String,
        found: u64,
        /// What had to come.
        expected: u64,
    },
    /// The record does not know the one before.
    #[error(
        "{at}: record {seq} names {found} as the one before it, expected {expected}: one of the two was replaced"
    )]
    Link {
        /// As `file:line`.
        at: String,
        seq: u64,
        /// What it names.
        found: Hash,
        /// The hash of the record before.
        expected: Hash,
    },
    /// The beginning is missing, and it was not rotated away.
    #[error(
        "{at}: the history begins at record {found}, expected 1: only a full set of {KEPT} older files begins later"
    )]
    Beginning {
        /// As `file:line`.
        at: String,
        found: u64,
    },
}

/// One line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryLine {
    /// Where, as `file:line`.
    pub at: String,
    /// The record, or why it is none.
    pub record: Result<Record, LineFault>,
}

/// The whole lines of a file, and its torn end.
pub fn read(file: &HistoryFile) -> (impl Iterator<Item = HistoryLine>, Option<TornLine>) {
    let whole = file
        .bytes
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |end| end + 1);
    let (lines, rest) = file.bytes.split_at(whole);
    let count = lines.iter().filter(|byte| **byte == b'\n').count();
    let torn = (!rest.is_empty()).then(|| TornLine {
        at: format!("{}:{}", file.name, count + 1),
        bytes: rest.len(),
    });
    let lines = lines.strip_suffix(b"\n").unwrap_or(lines);
    // An empty file has no line, not an empty one.
    let lines = lines.split(|byte| *byte == b'\n').take(count);
    let seen = lines.enumerate().map(|(index, line)| HistoryLine {
        at: format!("{}:{}", file.name, index + 1),
        record: record::parse(line),
    });
    (seen, torn)
}

/// Follows the chain through `files`, oldest first.
///
/// # Errors
/// The first [`ChainFault`].
pub fn verify(files: &[HistoryFile]) -> Result<ChainSummary, ChainFault> {
    let mut summary = ChainSummary::default();
    for file in files {
        let (lines, torn) = read(file);
        for HistoryLine { at, record } in lines {
            let record = record.map_err(|fault| ChainFault::Line {
                at: at.clone(),
                fault,
            })?;
            follow(&mut summary, &record, at, file.age)?;
        }
        match torn {
            // The agent cuts a torn end off before it goes on, so only the running file may have one.
            Some(TornLine { at, .. }) if file.age > 0 => {
                let fault = LineFault::Form("it does not end".into());
                return Err(ChainFault::Line { at, fault });
            }
            torn => summary.torn = torn,
        }
    }
    Ok(summary)
}

fn follow(summary: &mut ChainSummary, record: &Record, at: String, age: usize) -> Result<(), ChainFault> {
    let found = record.head.seq;
    let expected = summary.last.as_ref().map(|last| last.seq.saturating_add(1));
    match expected {
        None if found != 1 && age != KEPT => return Err(ChainFault::Beginning { at, found }),
        None => summary.first = found,
        Some(expected) if found != expected => {
            return Err(ChainFault::Order { at, found, expected });
        }
        Some(_) => {}
    }
    let expected = match &summary.last {
        Some(last) => last.hash.clone(),
        None if found == 1 => Hash::none(),
        // What it names was rotated away: the anchor, which nothing here can check.
        None => record.prev.clone(),
    };
    if record.prev != expected {
        return Err(ChainFault::Link {
            at,
            seq: found,
            found: record.prev.clone(),
            expected,
        });
    }
    if matches!(record.known(), Some(Event::Damaged { .. })) {
        summary.damaged.push(found);
    }
    summary.last = Some(record.head.clone());
    Ok(())
}
