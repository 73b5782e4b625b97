//! What a process does: whether all of it is stopped, by whom, and whether any of it ran since.
//!
//! In: a [`ProcessId`]. Out: a [`Doing`]. All threads are looked at: one that is stopped says nothing of the others, which a
//! debugger may let go on by themselves. So this costs as much as the process has threads, and is asked of those that are to
//! be stopped or are, never of everybody. One that waits in the kernel hears no signal: it counts as stopped once the signal is
//! upon it, because it stops before anything else that it would do. Bounded: in time; what was not come to is said to be neither stopped nor going on.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

use super::process_table::{ProcessStat, has_ended, read_text, stat, stat_at, threads};
use super::signals::{is_stop_upon, is_told_to_stop};
use crate::host::clock;
use crate::process::ProcessId;
use crate::quarantine::ports::Doing;

/// A look at the threads of one process ends after so long: some thirty thousand of them, more than a user may have on a
/// small machine.
const LIMIT: Duration = Duration::from_millis(500);
/// Threads looked at at most, where the first one does not tell and another one is enough.
pub(super) const MAX_THREADS: usize = 16;
/// Where cgroup v2 is, alone and beside v1.
const UNIFIED: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
/// Where the controller of v1 is that holds processes.
const FREEZER: &str = "/sys/fs/cgroup/freezer";

/// All threads of a process at one look.
#[derive(Default)]
struct Threads {
    /// Any that is stopped.
    any_stopped: bool,
    /// None that goes on, besides those that wait.
    all_stopped: bool,
    /// Those that wait in the kernel.
    waiting: Vec<PathBuf>,
    /// Any that a debugger has stopped.
    any_traced: bool,
}

impl Threads {
    /// None when it took too long.
    fn look(pid: u32, stat: &ProcessStat, end: Instant) -> Option<Self> {
        let mut seen = Self {
            all_stopped: true,
            ..Self::default()
        };
        if stat.threads <= 1 {
            seen.add(Path::new(&format!("/proc/{pid}")), stat);
        } else {
            for thread in threads(pid) {
                if clock::instant() >= end {
                    return None;
                }
                // One that ends meanwhile ran, and is missed in the number.
                if let Some(stat) = stat_at(&thread) {
                    seen.add(&thread, &stat);
                }
            }
        }
        Some(seen)
    }

    fn add(&mut self, thread: &Path, stat: &ProcessStat) {
        self.any_stopped |= stat.is_stopped();
        self.any_traced |= stat.is_traced();
        if stat.is_waiting() {
            self.waiting.push(thread.to_owned());
        } else {
            self.all_stopped &= !stat.is_awake();
        }
    }

    const fn is_stopped(&self) -> bool {
        self.all_stopped && self.any_stopped && self.waiting.is_empty()
    }

    /// Whether nothing of it goes on, and what waits in the kernel stops before anything else. Not where that takes too long.
    fn waits(&self, end: Instant) -> bool {
        let told = |thread: &PathBuf| clock::instant() < end && is_told_to_stop(thread, self.any_stopped);
        self.all_stopped && !self.any_traced && !self.waiting.is_empty() && self.waiting.iter().all(told)
    }
}

/// The threads of that very process, if that can be told before `end` and the first one is like that.
fn look_at_threads(id: ProcessId, end: Instant, first: impl FnOnce(&ProcessStat) -> bool) -> Option<Threads> {
    let stat = stat(id.pid).filter(|stat| stat.start_ticks == id.start_ticks && first(stat))?;
    Threads::look(id.pid, &stat, end)
}

/// Whether all of that very process is stopped, by a signal or by a debugger.
pub(crate) fn is_stopped(id: ProcessId) -> bool {
    // The first thread tells of most that they run.
    let may_be = |stat: &ProcessStat| stat.is_stopped() || stat.outlived_by_threads();
    look_at_threads(id, clock::instant() + LIMIT, may_be).is_some_and(|threads| threads.is_stopped())
}

/// Whether that very process was stopped by a signal, whoever sent it, as far as some of its threads tell: a signal stops all of them,
/// but those that wait in the kernel, and whom only a debugger lets go on by themselves. So it costs the same for everybody.
pub(super) fn is_stopped_by_signal(id: ProcessId) -> bool {
    let stopped = |stat: &ProcessStat| stat.is_stopped() && !stat.is_traced();
    let Some(first) = stat(id.pid).filter(|stat| stat.start_ticks == id.start_ticks) else {
        return false;
    };
    if first.threads <= 1 || !(first.is_waiting() || first.is_traced() || first.outlived_by_threads()) {
        return stopped(&first);
    }
    some_threads(id.pid).any(|thread| stopped(&thread))
}

/// Some threads of a process, as many as cost little.
pub(super) fn some_threads(pid: u32) -> impl Iterator<Item = ProcessStat> {
    let some = threads(pid).take(MAX_THREADS);
    some.filter_map(|thread| stat_at(&thread))
}

/// Whether any of it is, or waits: it was told to stop, and the rest may follow.
pub(super) fn is_partly_stopped(id: ProcessId) -> bool {
    let end = clock::instant() + LIMIT;
    look_at_threads(id, end, |_| true).is_some_and(|threads| threads.any_stopped || threads.waits(end))
}

/// Whether that very process has heard the signal to stop that it was told, goes on with all its threads, and is not about to end.
pub(super) fn has_heard_and_goes_on(id: ProcessId, end: Instant) -> bool {
    is_stop_upon(id.pid) == Some(false)
        && look_at_threads(id, end, |stat| !stat.is_ending()).is_some_and(|threads| !threads.any_stopped)
        && !has_ended(id)
}

/// Whether that very process is about to stop, because it has not heard the signal yet, or to end: that it goes on is nobody's doing.
pub(super) fn is_about_to_rest(id: ProcessId) -> bool {
    is_stop_upon(id.pid) == Some(true) || stat(id.pid).is_some_and(|stat| stat.is_ending())
}

/// Whether nothing of it goes on, and some of it waits in the kernel and stops before anything else.
pub(super) fn waits(id: ProcessId) -> bool {
    let end = clock::instant() + LIMIT;
    look_at_threads(id, end, |_| true).is_some_and(|threads| threads.waits(end))
}

/// How long a process had a processor, with all its threads: by its clock, which every kernel has that has clocks to set, to
/// the nanosecond and without a look at any thread. Without, as `/proc` tells it, in two numbers that go in steps of ten milliseconds.
pub(super) fn ran(pid: u32, stat: &ProcessStat) -> Duration {
    let clock = i32::try_from(pid)
        .ok()
        .and_then(|pid| ClockId::pid_cpu_clock_id(Pid::from_raw(pid)).ok());
    let time = clock.and_then(|clock| clock_gettime(clock).ok());
    time.map_or_else(|| stat.processor_time(), Duration::from)
}

/// What that very process does; none when it has ended. Of one whose threads could not be looked at before `end` it is said
/// by the first one alone whether its owner has stopped it.
pub(super) fn doing(id: ProcessId, end: Instant) -> Option<Doing> {
    if has_ended(id) {
        return None;
    }
    let stat = stat(id.pid)?;
    let threads = Threads::look(id.pid, &stat, end);
    // After its threads were looked at: what it had until it stopped is in it.
    let ran = ran(id.pid, &stat);
    let reached = threads.is_some();
    let waits = threads.as_ref().is_some_and(|threads| threads.waits(end));
    let (stopped, traced) = match threads {
        Some(threads) => (threads.is_stopped(), threads.any_traced),
        // A signal stops all threads or none.
        None => (stat.is_stopped(), stat.is_traced()),
    };
    Some(Doing {
        id,
        reached,
        stopped: reached && (stopped || waits),
        defies: false,
        // A signal that is upon it was sent before.
        by_owner: (stopped && !traced) || waits,
        ran,
    })
}

/// How many threads a process has; none when it has ended.
pub(super) fn threads_of(id: ProcessId) -> Option<u32> {
    stat(id.pid).map(|stat| stat.threads)
}

/// Whether the cgroup of a process is held still by whoever rules it, as `docker pause` does: a signal to stop waits for the
/// moment when it is let go on, and comes before anything else.
pub(super) fn is_held_by_cgroup(pid: u32) -> bool {
    let groups = read_text(&format!("/proc/{pid}/cgroup")).unwrap_or_default();
    groups.lines().any(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            return false;
        };
        // One outside of what we see.
        if path.split('/').any(|part| part == "..") {
            return false;
        }
        let says = |place: &str, file: &str, wanted: &str| {
            let text = read_text(&format!("{place}{path}/{file}")).unwrap_or_default();
            text.lines().any(|line| line == wanted)
        };
        match controllers {
            "" => UNIFIED
                .iter()
                .any(|place| says(place, "cgroup.events", "frozen 1")),
            "freezer" => says(FREEZER, "freezer.state", "FROZEN"),
            _ => false,
        }
    })
}

#[cfg(test)]
#[path = "doing_tests.rs"]
mod tests;
