//! What tells the nucleus again: its program, its cgroup, its user.
//!
//! In: the number of a nucleus that is connected, or somebody who may be one. Out: its traces, its user. Absent: who is spared
//! for it (`quarantine::plan::processes`).

use super::owners::Owner;
use super::process_table;
use crate::process::{Process, ProcessId};
use crate::quarantine::plan::processes::{Candidate, NucleusTrace};

/// Traces of one nucleus: its process, and the scripts that started it.
const MAX_TRACES: usize = 8;

/// Of the nucleus, and of those that started it in its own cgroup: `loader` is no ancestor of it before it is there.
pub(super) fn traces(nucleus: ProcessId) -> Vec<NucleusTrace> {
    let read = |id: ProcessId| process_table::read(id.pid).filter(|process| process.identity == id);
    let Some(own) = read(nucleus) else {
        return Vec::new();
    };
    let cgroup = own.cgroup.clone();
    let above = process_table::ancestors(nucleus.pid).into_iter().filter_map(read);
    let above = above.take_while(|process| process.cgroup == cgroup);
    let mut traces: Vec<NucleusTrace> = Vec::new();
    for trace in std::iter::once(own)
        .chain(above)
        .filter_map(trace)
        .take(MAX_TRACES)
    {
        if !traces.contains(&trace) {
            traces.push(trace);
        }
    }
    traces
}

fn trace(process: Process) -> Option<NucleusTrace> {
    let user = Owner::of(process.identity.pid)?.user;
    Some(NucleusTrace {
        exe: process.exe?,
        cgroup: process.cgroup,
        user,
    })
}

/// Notes whose it is, where it may be the nucleus.
pub(super) fn note_user(candidate: &mut Candidate, traces: &[NucleusTrace]) {
    if traces.iter().any(|trace| trace.may_be(&candidate.process)) {
        candidate.user = Owner::of(candidate.process.identity.pid).map(|owner| owner.user);
    }
}
