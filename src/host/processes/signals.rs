//! Signals to the right process and to nobody else.
//!
//! In: a [`ProcessId`] (pid and start time). Out: signals through a hold on the process ([`Pinned`]) whose start time was compared after
//! it was taken, so a reused pid cannot be hit where the kernel has such a hold; whether one to stop has been heard.

use std::fs;
use std::io;
use std::path::Path;

use rustix::io::Errno;
use rustix::process::{Signal, test_kill_process};

use super::doing::waits;
use super::pinned::Pinned;
use super::process_table::{is_over, is_shown, number, read_status, read_status_at, stat};
use crate::process::ProcessId;

/// Threads that the signal to stop is handed on to at once; the next look goes on.
const MAX_UNHEARD: u32 = 8;

/// Why a process could not be signalled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignalError {
    /// It has ended, or its number belongs to another process.
    #[error("process {0} has ended")]
    Gone(u32),
    #[error("could not signal process {pid}")]
    Refused {
        pid: u32,
        #[source]
        source: io::Error,
    },
}

/// Whether a thread that hears no signal stops when it does, before anything else: the signal to stop waits for it, or
/// (`others_stopped`) has stopped other threads of its process, and nobody traces it, who could take that back.
pub(super) fn is_told_to_stop(thread: &Path, others_stopped: bool) -> bool {
    let Some(status) = read_status_at(thread) else {
        return false;
    };
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let is_traced = field("TracerPid:").is_none_or(|tracer| tracer.trim() != "0");
    !is_traced && (others_stopped || is_stop_pending(&status))
}

/// Whether the signal to stop has come and nobody has heard it.
fn is_stop_pending(status: &str) -> bool {
    let stop = 1 << (Signal::STOP.as_raw() - 1);
    let signals = status.lines().filter_map(|line| {
        let signals = line.strip_prefix("SigPnd:").or(line.strip_prefix("ShdPnd:"))?;
        u64::from_str_radix(signals.trim(), 16).ok()
    });
    signals.into_iter().any(|signals| signals & stop != 0)
}

/// Whether a signal to stop has come to a process, and nobody in it has heard it; none when it cannot be asked.
pub(super) fn is_stop_upon(pid: u32) -> Option<bool> {
    Some(is_stop_pending(&read_status(pid)?))
}

/// Whether a process of several threads was told to stop, has not heard it, and goes on. Where nothing of it goes on, taking
/// the signal back would let the stopped ones run for a moment at each look.
fn is_unheard(id: ProcessId) -> bool {
    let stat = stat(id.pid).filter(|stat| stat.start_ticks == id.start_ticks);
    stat.is_some_and(|stat| stat.threads > 1 && !stat.is_stopped())
        && is_stop_upon(id.pid) == Some(true)
        && !waits(id)
}

/// Stops it (SIGSTOP); it keeps its memory and runs again after [`thaw`]. The kernel has one thread hear the signal for all: where
/// that one waits for something else the others go on, and a signal that is there already is not sent again. It is taken back
/// then, and another thread hears the next one.
///
/// # Errors
/// [`SignalError`].
pub(crate) fn freeze(id: ProcessId) -> Result<(), SignalError> {
    for _ in 0..MAX_UNHEARD {
        if !is_unheard(id) {
            break;
        }
        signal(id, Signal::CONT)?;
        signal(id, Signal::STOP)?;
    }
    signal(id, Signal::STOP)
}

/// Lets it run again (SIGCONT).
///
/// # Errors
/// [`SignalError`].
pub(crate) fn thaw(id: ProcessId) -> Result<(), SignalError> {
    signal(id, Signal::CONT)
}

/// Asks it to end (SIGTERM). A stopped one hears that when it goes on.
///
/// # Errors
/// [`SignalError`].
pub(crate) fn terminate(id: ProcessId) -> Result<(), SignalError> {
    signal(id, Signal::TERM)
}

/// Ends it (SIGKILL), also a stopped one.
///
/// # Errors
/// [`SignalError`].
pub(crate) fn kill(id: ProcessId) -> Result<(), SignalError> {
    signal(id, Signal::KILL)
}

fn signal(id: ProcessId, signal: Signal) -> Result<(), SignalError> {
    let refused = |source: Errno| match source {
        Errno::SRCH => SignalError::Gone(id.pid),
        other => SignalError::Refused {
            pid: id.pid,
            source: other.into(),
        },
    };
    let pid = number(id.pid).ok_or(SignalError::Gone(id.pid))?;
    if !is_shown() {
        return Err(refused(Errno::AGAIN));
    }
    let process = Pinned::of(pid).map_err(refused)?;
    // It is held; if its start time is the one we know, the signal reaches it and nobody else.
    match stat(id.pid) {
        // One that nobody has buried yet takes signals, and nothing comes of them.
        Some(stat) if stat.start_ticks == id.start_ticks && !is_over(id.pid, &stat) => {}
        // It is there, and cannot be looked at.
        None if !fs::exists(format!("/proc/{}", id.pid)).is_ok_and(|there| !there) => {
            return Err(refused(Errno::AGAIN));
        }
        Some(_) | None => return Err(SignalError::Gone(id.pid)),
    }
    process.signal(signal).map_err(refused)
}

/// Whether we have the right to signal it.
pub(super) fn may_signal(pid: u32) -> bool {
    number(pid).is_some_and(|pid| test_kill_process(pid).is_ok())
}
