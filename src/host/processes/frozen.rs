//! Processes that we stop: each carries a mark that the kernel keeps as long as it keeps the process, so that it can be
//! found and let go whatever becomes of our own memory of it.
//!
//! In: a [`ProcessId`], the state directory. Out: stopped and marked, running and unmarked, or the list of the
//! marked. The mark is the soft limit `RLIMIT_LOCKS`, which no kernel since 2.4 looks at: to change it
//! from outside does nothing to the process, it belongs to all its threads, and it outlives `execve`. Its value says whose
//! process it is (by the state directory) and which one: a child inherits the number, and it is none of ours by it.
//! Processes of other users cannot be marked without `CAP_SYS_RESOURCE`; those are noted ([`Unmarked`]).

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, prlimit};

use super::debugged::note_owners;
use super::doing::{
    doing, has_heard_and_goes_on, is_about_to_rest, is_held_by_cgroup, is_partly_stopped, is_stopped,
    is_stopped_by_signal, threads_of,
};
use super::process_table::{self, number, read_text};
use super::signals::{self, SignalError, is_stop_upon};
use super::unmarked::Unmarked;
use crate::host::clock;
use crate::process::{Process, ProcessId};
use crate::quarantine::orders::order::ProcessAction;
use crate::quarantine::ports::{Doing, FoundFrozen};

/// Begins what is hashed into a mark.
const PURPOSE: &str = "edgewarden froze";
/// The same for one that its owner had stopped before.
const PURPOSE_STOPPED: &str = "edgewarden froze what was stopped";
/// Marks are as wide as limits are on 32-bit kernels, without the values that mean no limit there.
const MARK_BITS: u32 = 0x7fff_ffff;
/// From one look at whom was told to stop to the next.
const LOOK_PAUSE: Duration = Duration::from_micros(300);
/// Who does not stop within so long may be held by his cgroup; that is asked then, and not of everybody.
const GRACE: Duration = Duration::from_millis(5);
/// All threads of all that are looked at are looked at within so long, or what is left counts as not looked at; a walk that
/// takes five seconds counts as one without an answer.
const THREADS_LIMIT: Duration = Duration::from_secs(2);
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

    fn value(self, id: ProcessId, stopped_before: bool) -> u64 {
        let purpose = if stopped_before { PURPOSE_STOPPED } else { PURPOSE };
        let text = format!("{purpose} {:08x} {} {}", self.place, id.pid, id.start_ticks);
        u64::from(crc32fast::hash(text.as_bytes()) & MARK_BITS)
    }

    /// Whether it carries a mark; which one says whether its owner had stopped it before.
    fn on(self, id: ProcessId) -> Option<bool> {
        let current = limit(id.pid)?.current?;
        let carries = |stopped_before: &bool| current == self.value(id, *stopped_before);
        [false, true].into_iter().find(carries)
    }

    fn put_on(self, id: ProcessId, stopped_before: bool) -> io::Result<()> {
        if self.on(id) == Some(stopped_before) {
            return Ok(());
        }
        let mark = self.value(id, stopped_before);
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
            Some(limit) if self.on(id).is_some() => {
                let current = limit.maximum;
                set_limit(id, Rlimit { current, ..limit })
            }
            _ => Ok(()),
        }
    }
}

/// Whom this agent stopped: whoever carries its mark, and those that could not be marked.
#[derive(Debug, Clone)]
pub(crate) struct Ours {
    pub(crate) marks: Marks,
    unmarked: Unmarked,
}

impl Ours {
    /// Those of that state directory's agent, which notes whom it cannot mark in that file; without one, in memory alone.
    pub(crate) fn of(state_directory: &Path, notes: Option<PathBuf>) -> Self {
        Self {
            marks: Marks::of(state_directory),
            unmarked: Unmarked::found(notes),
        }
    }

    /// Whether we stopped it.
    pub(super) fn holds(&self, id: ProcessId) -> bool {
        self.unmarked.has(id) || self.marks.on(id).is_some()
    }

    /// Whether we stopped it, and its owner had not.
    pub(super) fn stopped(&self, id: ProcessId) -> bool {
        self.unmarked.has(id) || self.marks.on(id) == Some(false)
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

/// Stops it; gives why it does not carry the mark, if so: then it is noted, and the journal knows of it. `stopped_before`: its
/// owner had stopped it, or a debugger holds it, and it is nobody's whom we must let go: nothing is sent to it unless a signal has
/// stopped it, and where it goes on all the same the next look tells.
///
/// # Errors
/// [`SignalError`].
pub(crate) fn freeze(
    id: ProcessId,
    ours: &Ours,
    stopped_before: bool,
) -> Result<io::Result<()>, SignalError> {
    // First the mark: nobody is stopped without it, also when we are killed in between.
    let marked = ours.marks.put_on(id, stopped_before);
    let is_noted = marked.is_err() && !stopped_before && ours.unmarked.note(id);
    // A debugger may hold one that nobody has stopped: the signal would be upon it when it is let go.
    if !stopped_before || is_stopped_by_signal(id) {
        signals::freeze(id).inspect_err(|_| {
            if is_noted {
                ours.unmarked.forget(id);
            }
        })?;
    }
    // Again, because it could undo that while it ran.
    let marked = ours.marks.put_on(id, stopped_before);
    if marked.is_err() && !stopped_before {
        ours.unmarked.note(id);
    }
    Ok(marked)
}

/// Ends it: nobody has to let it go any more.
///
/// # Errors
/// [`SignalError`].
pub(crate) fn kill(id: ProcessId, ours: &Ours) -> Result<(), SignalError> {
    signals::kill(id)?;
    ours.unmarked.forget(id);
    Ok(())
}

/// Takes the mark off and leaves it stopped, as its owner had it.
///
/// # Errors
/// [`SignalError::Gone`].
pub(crate) fn leave_stopped(id: ProcessId, ours: &Ours) -> Result<(), SignalError> {
    if process_table::has_ended(id) {
        return Err(SignalError::Gone(id.pid));
    }
    // One that keeps it is found again, and let go again.
    let _stays = ours.marks.take_off(id);
    ours.unmarked.forget(id);
    Ok(())
}

/// Lets it run again.
///
/// # Errors
/// [`SignalError`].
pub(crate) fn thaw(id: ProcessId, ours: &Ours) -> Result<(), SignalError> {
    signals::thaw(id)?;
    // Last, so that it is found again when we are killed in between. On one that runs it means nothing.
    let _stays = ours.marks.take_off(id);
    ours.unmarked.forget(id);
    Ok(())
}

/// The processes that carry our mark, those that we stopped and could not mark, and those among `suspected` that are stopped;
/// not those that have ended. One that waits for a disk stops only when that has answered.
///
/// # Errors
/// /proc cannot be read.
pub(crate) fn list(ours: &Ours, suspected: &[ProcessId]) -> io::Result<Vec<FoundFrozen>> {
    let all = process_table::list()?.into_iter();
    let unmarked = ours.unmarked.all();
    let found = all.filter_map(|process| {
        let id = process.identity;
        let mark = ours.marks.on(id);
        // All threads of it are looked at: not of everybody.
        let is_ours =
            mark.is_some() || unmarked.contains(&id) || (suspected.contains(&id) && is_partly_stopped(id));
        // A mark outlives its process until somebody buries it.
        let is_there = is_ours && !process_table::has_ended(id);
        is_there.then(|| FoundFrozen {
            process,
            stopped: is_stopped(id),
            stopped_before: mark == Some(true),
        })
    });
    Ok(found.collect())
}

/// What these do; those that have ended are left out. So long is waited at most until each one that is to be frozen was seen
/// to be stopped, and each one that is to be killed has ended. One that was seen to be stopped is not looked at again: others
/// may let it go on, which the next look tells. One whose cgroup is held still counts as stopped: it was told to stop. Without
/// patience nobody was told anything for this look, and one that is about to stop or to end does neither that nor go on.
pub(crate) fn look_at(
    processes: &[(ProcessId, ProcessAction)],
    patience: Duration,
    ours: &Ours,
) -> Vec<Doing> {
    let began = clock::instant();
    let (end, threads_end) = (began + patience, began + patience + THREADS_LIMIT);
    let mut left = processes.to_vec();
    // Nobody's threads may keep the others from being looked at.
    left.sort_by_cached_key(|(id, _)| threads_of(*id));
    let mut done = Vec::new();
    loop {
        let asks_cgroups = patience.is_zero() || began.elapsed() >= GRACE;
        let mut not_yet = Vec::new();
        left.retain(|(id, action)| match doing(*id, threads_end) {
            None => false,
            Some(doing) if *action == ProcessAction::Freeze => {
                let held = !doing.stopped && asks_cgroups && is_held_by_cgroup(id.pid);
                let stopped = doing.stopped || held;
                let is_told = stopped || !patience.is_zero() || !is_about_to_rest(*id);
                let reached = (doing.reached && is_told) || held;
                // What took too long once would again.
                let is_over = stopped || !reached;
                let list = if is_over { &mut done } else { &mut not_yet };
                list.push(Doing {
                    stopped,
                    reached,
                    // One that its cgroup holds stops when that lets it go.
                    by_owner: doing.by_owner || (held && is_stop_upon(id.pid) == Some(true)),
                    ..doing
                });
                !is_over
            }
            Some(doing) => {
                not_yet.push(doing);
                true
            }
        });
        if left.is_empty() || clock::instant() >= end {
            for (doing, (id, action)) in not_yet.iter_mut().zip(&left) {
                let was_told = *action == ProcessAction::Freeze && !patience.is_zero();
                doing.defies = was_told && has_heard_and_goes_on(*id, threads_end);
            }
            done.extend(not_yet);
            note_owners(&mut done, ours, patience.is_zero());
            return done;
        }
        clock::pause(LOOK_PAUSE);
    }
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
    use std::process::{Child, Command};

    fn sleeper() -> (Child, ProcessId) {
        let child = Command::new("sleep").arg("60").spawn().unwrap();
        let id = process_table::read(child.id()).unwrap().identity;
        (child, id)
    }

    fn ours_of(state: &str) -> Ours {
        Ours::of(Path::new(state), None)
    }

    fn wait(what: &str, holds: impl Fn() -> bool) {
        let end = clock::instant() + Duration::from_secs(10);
        while !holds() {
            assert!(clock::instant() < end, "{what}");
            clock::pause(Duration::from_millis(1));
        }
    }

    fn found(ours: &Ours, suspected: &[ProcessId], id: ProcessId) -> bool {
        let list = list(ours, suspected).unwrap();
        list.iter()
            .any(|found| found.process.identity == id && found.stopped)
    }

    #[test]
    fn whom_we_stopped_is_found_by_its_mark_until_it_runs_again() {
        let ours = ours_of("/nonexistent/ours");
        let ((mut child, id), (mut other, others)) = (sleeper(), sleeper());
        let before = limit(id.pid).unwrap();
        assert!(!found(&ours, &[], id), "control: it runs");
        freeze(id, &ours, false).unwrap().unwrap();
        signals::freeze(others).unwrap();
        wait("both are stopped", || is_stopped(id) && is_stopped(others));
        assert!(found(&ours, &[], id));
        assert!(
            !found(&ours, &[], others),
            "whom somebody else stopped is not ours"
        );
        assert!(found(&ours, &[others], others), "unless we remember it");
        let elsewhere = ours_of("/nonexistent/theirs");
        assert!(!found(&elsewhere, &[], id), "another agent's is not ours");
        // Twice is as once.
        freeze(id, &ours, false).unwrap().unwrap();
        assert!(found(&ours, &[], id));
        for _ in 0..2 {
            thaw(id, &ours).unwrap();
            assert_eq!(limit(id.pid), Some(before), "as it was");
            wait("it runs", || !is_stopped(id));
        }
        assert!(!found(&ours, &[id], id));
        for child in [&mut child, &mut other] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    #[test]
    fn a_mark_on_one_that_has_ended_is_no_find() {
        let ours = ours_of("/nonexistent/ours");
        let (mut child, id) = sleeper();
        let is_listed = || {
            let found = list(&ours, &[]).unwrap();
            found.iter().any(|found| found.process.identity == id)
        };
        freeze(id, &ours, false).unwrap().unwrap();
        assert!(is_listed(), "control");
        child.kill().unwrap();
        wait("it has ended", || process_table::has_ended(id));
        assert!(
            ours.marks.on(id) == Some(false),
            "control: it stays until it is buried"
        );
        assert!(!is_listed());
        child.wait().unwrap();
    }

    #[test]
    fn whom_his_owner_had_stopped_stays_so_and_the_mark_says_it() {
        let ours = ours_of("/nonexistent/ours");
        let (mut child, id) = sleeper();
        signals::freeze(id).unwrap();
        wait("it is stopped", || is_stopped(id));
        for stopped_before in [false, true] {
            freeze(id, &ours, stopped_before).unwrap().unwrap();
            let found = list(&ours, &[]).unwrap();
            let found = found.iter().find(|found| found.process.identity == id).unwrap();
            assert_eq!(found.stopped_before, stopped_before);
        }
        leave_stopped(id, &ours).unwrap();
        assert!(!found(&ours, &[], id) && is_stopped(id));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(matches!(leave_stopped(id, &ours), Err(SignalError::Gone(_))));
    }

    #[test]
    fn one_that_ran_between_two_looks_had_more_of_a_processor() {
        let (mut child, id) = sleeper();
        let ours = ours_of("/nonexistent/ours");
        let look = |patience| look_at(&[(id, ProcessAction::Freeze)], patience, &ours);
        assert!(!look(Duration::ZERO)[0].stopped, "control: it runs");
        signals::freeze(id).unwrap();
        let stopped = look(Duration::from_secs(10));
        assert!(stopped[0].stopped);
        assert_eq!(look(Duration::ZERO), stopped, "nothing happens to it");
        signals::thaw(id).unwrap();
        wait("it runs", || !is_stopped(id));
        signals::freeze(id).unwrap();
        let again = look(Duration::from_secs(10));
        assert!(again[0].stopped && again[0].ran > stopped[0].ran, "{again:?}");
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(look(Duration::ZERO), []);
    }

    #[test]
    fn one_that_others_let_go_on_before_any_look_is_told_by_the_signal_it_has_heard() {
        let (mut child, id) = sleeper();
        let ours = ours_of("/nonexistent/ours");
        let look = |patience| look_at(&[(id, ProcessAction::Freeze)], patience, &ours)[0];
        let patience = Duration::from_millis(20);
        signals::freeze(id).unwrap();
        wait("it is stopped", || is_stopped(id));
        assert!(look(patience).stopped && !look(patience).defies, "control");
        signals::thaw(id).unwrap();
        wait("it runs", || !is_stopped(id));
        assert!(!look(Duration::ZERO).defies, "it had no time");
        assert!(look(patience).defies);
        child.kill().unwrap();
        wait("it has ended", || process_table::has_ended(id));
        assert_eq!(look_at(&[(id, ProcessAction::Freeze)], patience, &ours), []);
        child.wait().unwrap();
    }

    #[test]
    fn a_mark_is_not_inherited_by_name_or_number() {
        let ours = ours_of("/nonexistent/ours");
        let (mut child, id) = sleeper();
        freeze(id, &ours, false).unwrap().unwrap();
        let copied = limit(id.pid).unwrap();
        let (mut heir, heirs) = sleeper();
        set_limit(heirs, copied).unwrap();
        signals::freeze(heirs).unwrap();
        wait("both are stopped", || is_stopped(id) && is_stopped(heirs));
        assert!(found(&ours, &[], id) && !found(&ours, &[], heirs));
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
