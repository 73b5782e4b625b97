//! Whom a debugger holds still: his owner may have stopped him before, which nothing tells while the debugger looks at him.
//!
//! In: processes, before anybody is signalled. Out: who of them stays as he is for a while and does nothing. One at whom a debugger
//! looks in passing, as `strace` does at each call, has had a processor by then; one that has not did not stop himself with
//! anybody below him either. He may do that once he is let go: then he has gone on, and is elsewhere in his program.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::doing::{MAX_THREADS, ran, some_threads};
use super::frozen::Ours;
use super::process_table::{ProcessStat, read_text, start_ticks, stat, threads};
use crate::Gather;
use crate::host::clock;
use crate::process::ProcessId;
use crate::quarantine::ports::Doing;

/// Whoever does nothing for so long is held still. A debugger that looks in passing takes some microseconds, or as long as others
/// keep it from a processor.
const A_WHILE: Duration = Duration::from_millis(30);
/// What `/proc` says of one whose registers are in use.
const HAS_A_PROCESSOR: &str = "running";

/// Whom a debugger has stopped, each with what he had had of a processor at the first look.
#[derive(Debug, Default)]
pub(super) struct Held {
    looked: BTreeMap<ProcessId, Duration>,
    last: Option<Instant>,
}

impl Held {
    /// Looks at it, if it was not looked at before: costs the same for everybody, and waits for nothing.
    pub(super) fn note(&mut self, id: ProcessId) {
        if self.looked.contains_key(&id) {
            return;
        }
        if let Some(ran) = ran_when_debugged(id) {
            self.looked.insert(id, ran);
            self.last = Some(clock::instant());
        }
    }

    /// Who has done nothing since he was noted, a while ago, each with his [`place`]: that is waited for, once for all.
    pub(super) fn still(&self) -> BTreeMap<ProcessId, Option<u32>> {
        let Some(last) = self.last else {
            return BTreeMap::new();
        };
        clock::pause((last + A_WHILE).saturating_duration_since(clock::instant()));
        let looked = self.looked.iter();
        let placed = looked.map(|(id, ran)| (*id, *ran, place(*id)));
        // After he was looked for: he was there all the while.
        let still = placed.filter(|(id, ran, _)| ran_when_debugged(*id) == Some(*ran));
        still.map(|(id, _, place)| (id, place)).in_map()
    }
}

/// Where that very process is in its program, with some of its threads: a number for their registers and for what they ask of the
/// kernel. Whoever stops for a signal or for a debugger, or goes from one to the other, is where he was, and whoever has gone on is
/// elsewhere. None where one of them has a processor, or the kernel does not tell.
pub(super) fn place(id: ProcessId) -> Option<u32> {
    let mut places = crc32fast::Hasher::new();
    for thread in threads(id.pid).take(MAX_THREADS) {
        let registers = read_text(thread.join("syscall").to_str()?)?;
        if registers.trim_end() == HAS_A_PROCESSOR {
            return None;
        }
        places.update(registers.as_bytes());
    }
    (start_ticks(id.pid) == Some(id.start_ticks)).then(|| places.finalize())
}

/// What that very process has had of a processor, if a debugger has stopped it and, as far as some of its threads tell, nothing of
/// it goes on.
fn ran_when_debugged(id: ProcessId) -> Option<Duration> {
    let first = stat(id.pid).filter(|stat| stat.start_ticks == id.start_ticks)?;
    if first.is_awake() {
        return None;
    }
    let is_debugged = if first.threads <= 1 {
        first.is_traced()
    } else {
        let some: Vec<ProcessStat> = some_threads(id.pid).collect();
        some.iter().any(ProcessStat::is_traced) && !some.iter().any(ProcessStat::is_awake)
    };
    is_debugged.then(|| ran(id.pid, &first))
}

/// Says of each whether its owner had stopped it, or somebody holds it still as he does. Whom we stopped was not stopped by his owner.
/// Only `before` anybody is told to stop those tell who are held by a debugger.
pub(super) fn note_owners(done: &mut [Doing], ours: &Ours, before: bool) {
    let mut held = Held::default();
    for doing in done.iter_mut().filter(|doing| doing.stopped || doing.by_owner) {
        if doing.by_owner {
            doing.by_owner = !ours.stopped(doing.id);
        } else if before && !ours.holds(doing.id) {
            held.note(doing.id);
        }
    }
    let still = held.still();
    for doing in done.iter_mut().filter(|doing| still.contains_key(&doing.id)) {
        doing.by_owner = true;
    }
}

#[cfg(test)]
#[path = "debugged_tests.rs"]
mod tests;
