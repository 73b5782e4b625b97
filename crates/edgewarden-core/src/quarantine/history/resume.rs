//! Where a writer goes on. In: the end of a file. Out: the newest record in it, and what has to be cut off.

use super::Event;
use super::record::{self, ChainHead};

/// Bytes that have to be read of a file's end; see [`resume`].
pub const TAIL: u64 = 4 * super::MAX_LINE as u64;

/// How to go on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResumePoint {
    /// The newest readable record.
    pub head: Option<ChainHead>,
    /// Bytes at the end that have to be cut off: a line without its newline.
    pub cut: u64,
    /// Whether a newline has to come first, because the file ends within something that is not ours.
    pub newline: bool,
    /// What has to be told in the history itself.
    pub told: Option<Event>,
}

/// Looks at the last [`TAIL`] bytes of a file, or at all of it (`from_start`).
///
/// Lines that are no records stay where they are: they are what [`super::verify`] must show. The chain goes on from the
/// newest record before them.
pub fn resume(tail: &[u8], from_start: bool) -> ResumePoint {
    if !from_start && !tail.contains(&b'\n') {
        return ResumePoint {
            newline: true,
            told: Some(Event::Damaged {
                what: "it ends with a line that is longer than any record".into(),
            }),
            ..ResumePoint::default()
        };
    }
    let whole = tail
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |end| end + 1);
    let (lines, torn) = tail.split_at(whole);
    let mut lines = lines
        .strip_suffix(b"\n")
        .unwrap_or(lines)
        .rsplit(|byte| *byte == b'\n');
    let newest = lines.next().map(record::parse);
    let (head, problem) = match newest {
        None => (None, None),
        Some(Ok(record)) => (Some(record.head), None),
        // Nothing at all is no fault.
        Some(Err(_)) if whole == 0 => (None, None),
        Some(Err(fault)) => {
            let older = lines.find_map(|line| record::parse(line).ok());
            (older.map(|record| record.head), Some(fault))
        }
    };
    let told = match problem {
        Some(fault) => Some(Event::Damaged {
            what: format!("its last line: {fault}"),
        }),
        None => (!torn.is_empty()).then(|| Event::Torn {
            bytes: torn.len() as u64,
            begin: String::from_utf8_lossy(torn).into_owned(),
        }),
    };
    ResumePoint {
        head,
        cut: torn.len() as u64,
        newline: false,
        told,
    }
}
