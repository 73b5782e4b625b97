//! Processes that we stop: each carries a mark that the kernel keeps as long as it keeps the process, so that it can be
//! found and let go whatever becomes of our own memory of it.
//!
//! In: a [`ProcessId`], the state directory. Out: stopped and marked, running and unmarked, or the list of the
//! marked. The mark is the soft limit `RLIMIT_LOCKS`, which no kernel since 2.4 looks at: to change it
//! from outside does nothing to the process, it belongs to all its threads, and it outlives `execve`. Its value says whose
//! process it is (by the state directory) and which one: a child inherits the number, and it is none of ours by it.
//! Processes of other users cannot be marked without `CAP_SYS_RESOURCE`; those only the journal knows.

use std::io;
use std::path::Path;

use rustix::process::{Resource, Rlimit, prlimit};

use super::process_table::{self, SignalError, is_stopped, number, read_text};
use crate::process::{Process, ProcessId};

/// Begins what is hashed into a mark.
const PURPOSE: &str = "edgewarden froze";
/// Marks are as wide as limits are on 32-bit kernels, without the values that mean no limit there.
const MARK_BITS: u32 = 0x7fff_ffff;
/// How the line begins in `/proc/<pid>/limits`.
const LINE: &str = "Max file locks";

/// The marks of one state directory's agent: whoever enforces another one leaves its processes alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marks {
    place: u32,
}

impl Marks {
    /// The directory need not be there.
    pub(crate) fn of(state_directory: &Path) -> Self {
        let above = state_directory
            .parent()
            .and_then(|above| above.canonicalize().ok());
        let place = match (above, state_directory.file_name()) {
            (Some(above), Some(name)) => above.join(name),
            _ => std::path::absolute(state_directory).unwrap_or_else(|_| state_directory.to_owned()),
        };
        let place = crc32fast::hash(place.as_os_str().as_encoded_bytes());
        Self { place }
    }

    fn value(self, id: ProcessId) -> u64 {
        let text = format!("{PURPOSE} {:08x} {} {}", self.place, id.pid, id.start_ticks);
        u64::from(crc32fast::hash(text.as_bytes()) & MARK_BITS)
    }

    fn is_on(self, id: ProcessId) -> bool {
        limit(id.pid).is_some_and(|limit| limit.current == Some(self.value(id)))
    }

    fn put_on(self, id: ProcessId) -> io::Result<()> {
        if self.is_on(id) {
            return Ok(());
        }
        let mark = self.value(id);
        let ceiling = limit(id.pid).and_then(|limit| limit.maximum);
        let limit = Rlimit {
            current: Some(mark),
            maximum: ceiling.filter(|ceiling| *ceiling >= mark),
        };
        set_limit(id, limit)
    }

    /// As a process has it that never touched it.
    fn take_off(self, id: ProcessId) -> io::Result<()> {
        match limit(id.pid) {
            Some(limit) if limit.current == Some(self.value(id)) => {
                let current = limit.maximum;
                set_limit(id, Rlimit { current, ..limit })
            }
            _ => Ok(()),
        }
    }
}

/// Should the number have changed hands a moment ago, a stranger gets a limit that nobody looks at and that is no mark on
/// it.
fn set_limit(id: ProcessId, limit: Rlimit) -> io::Result<()> {
    let is_there = process_table::start_ticks(id.pid) == Some(id.start_ticks);
    // No number would mean ourselves.
    let pid = number(id.pid)
        .filter(|_| is_there)
        .ok_or(io::ErrorKind::NotFound)?;
    prlimit(Some(pid), Resource::Locks, limit)?;
    Ok(())
}

fn limit(pid: u32) -> Option<Rlimit> {
    parse_limit(&read_text(&format!("/proc/{pid}/limits"))?)
}

/// Anything that is no number is no limit.
fn parse_limit(text: &str) -> Option<Rlimit> {
    let line = text.lines().find_map(|line| line.strip_prefix(LINE))?;
    let mut words = line.split_ascii_whitespace();
    Some(Rlimit {
        current: words.next()?.parse().ok(),
        maximum: words.next()?.parse().ok(),
    })
}

/// Stops it; gives why it does not carry the mark, if so: then only the journal knows of it.
///
/// # Errors
/// [`SignalError`].
pub(crate) fn freeze(id: ProcessId, marks: Marks) -> Result<io::Result<()>, SignalError> {
    // First the mark: nobody is stopped without it, also when we are killed in between.
    let _told_below = marks.put_on(id);
    process_table::freeze(id)?;
    // Again, because it could undo that while it ran.
    Ok(marks.put_on(id))
}

/// Lets it run again.
///
/// # Errors
/// [`SignalError`].
pub(crate) fn thaw(id: ProcessId, marks: Marks) -> Result<(), SignalError> {
    process_table::thaw(id)?;
    // Last, so that it is found again when we are killed in between. On one that runs it means nothing.
    let _stays = marks.take_off(id);
    Ok(())
}

/// The processes that carry our mark, and those among `suspected` that are stopped; each with whether it is stopped. One
/// that waits for a disk stops only when that has answered.
///
/// # Errors
/// /proc cannot be read.
pub(crate) fn list(marks: Marks, suspected: &[ProcessId]) -> io::Result<Vec<(Process, bool)>> {
    let all = process_table::list()?.into_iter();
    let found = all.filter_map(|process| {
        let id = process.identity;
        let stopped = is_stopped(id);
        (marks.is_on(id) || (stopped && suspected.contains(&id))).then_some((process, stopped))
    });
    Ok(found.collect())
}

/// All processes that are stopped, by whomever.
///
/// # Errors
/// /proc cannot be read.
pub(crate) fn stopped() -> io::Result<Vec<Process>> {
    let mut all = process_table::list()?;
    all.retain(|process| is_stopped(process.identity));
    Ok(all)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "stops programs of its own")]

    use super::*;
    use crate::host::clock;
    use std::process::{Child, Command};
    use std::time::Duration;

    fn sleeper() -> (Child, ProcessId) {
        let child = Command::new("sleep").arg("60").spawn().unwrap();
        let id = process_table::read(child.id()).unwrap().identity;
        (child, id)
    }

    fn wait(what: &str, holds: impl Fn() -> bool) {
        let end = clock::instant() + Duration::from_secs(10);
        while !holds() {
            assert!(clock::instant() < end, "{what}");
            clock::pause(Duration::from_millis(1));
        }
    }

    fn found(marks: Marks, suspected: &[ProcessId], id: ProcessId) -> bool {
        let list = list(marks, suspected).unwrap();
        list.iter()
            .any(|(process, stopped)| process.identity == id && *stopped)
    }

    #[test]
    fn whom_we_stopped_is_found_by_its_mark_until_it_runs_again() {
        let marks = Marks::of(Path::new("/nonexistent/ours"));
        let ((mut child, id), (mut other, others)) = (sleeper(), sleeper());
        let before = limit(id.pid).unwrap();
        assert!(!found(marks, &[], id), "control: it runs");
        freeze(id, marks).unwrap().unwrap();
        process_table::freeze(others).unwrap();
        wait("both are stopped", || is_stopped(id) && is_stopped(others));
        assert!(found(marks, &[], id));
        assert!(
            !found(marks, &[], others),
            "whom somebody else stopped is not ours"
        );
        assert!(found(marks, &[others], others), "unless we remember it");
        let elsewhere = Marks::of(Path::new("/nonexistent/theirs"));
        assert!(!found(elsewhere, &[], id), "another agent's is not ours");
        // Twice is as once.
        freeze(id, marks).unwrap().unwrap();
        assert!(found(marks, &[], id));
        for _ in 0..2 {
            thaw(id, marks).unwrap();
            assert_eq!(limit(id.pid), Some(before), "as it was");
            wait("it runs", || !is_stopped(id));
        }
        assert!(!found(marks, &[id], id));
        for child in [&mut child, &mut other] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    #[test]
    fn a_mark_is_not_inherited_by_name_or_number() {
        let marks = Marks::of(Path::new("/nonexistent/ours"));
        let (mut child, id) = sleeper();
        freeze(id, marks).unwrap().unwrap();
        let copied = limit(id.pid).unwrap();
        let (mut heir, heirs) = sleeper();
        set_limit(heirs, copied).unwrap();
        process_table::freeze(heirs).unwrap();
        wait("both are stopped", || is_stopped(id) && is_stopped(heirs));
        assert!(found(marks, &[], id) && !found(marks, &[], heirs));
        for child in [&mut child, &mut heir] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    #[test]
    fn one_place_has_one_kind_of_marks_however_it_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let plain = Marks::of(&dir.path().join("state"));
        std::fs::create_dir(dir.path().join("other")).unwrap();
        assert_eq!(plain, Marks::of(&dir.path().join("other/../state/")));
        std::os::unix::fs::symlink(dir.path(), dir.path().join("link")).unwrap();
        assert_eq!(plain, Marks::of(&dir.path().join("link/state")));
        assert_ne!(plain, Marks::of(&dir.path().join("other")));
    }

    #[test]
    fn a_limit_is_read_as_the_kernel_writes_it() {
        let text = "Max address space         unlimited            unlimited            bytes\n\
                    Max file locks            123456789            unlimited            locks     \n";
        let wanted = Rlimit {
            current: Some(123_456_789),
            maximum: None,
        };
        assert_eq!(parse_limit(text), Some(wanted));
        assert_eq!(parse_limit("garbage"), None);
    }
}
