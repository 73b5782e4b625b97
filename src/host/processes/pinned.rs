//! A hold on one process: while it is kept, what is sent through it reaches that process and nobody who has its number later.
//!
//! In: a pid. Out: the nearest hold that this kernel has ([`Pinned`]), signals through it, and for people what it is less sure of.
//! Since Linux 5.3 it is a pidfd; before, the folder of the process in `/proc`, through which Linux 5.1 and 5.2 send signals; and on
//! older ones the number alone, of which whoever compares the start time right before knows all that can be known. Absent: that
//! comparison, which is [`super::signals`]'s.

use std::os::fd::OwnedFd;
use std::sync::OnceLock;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

/// What cannot be said otherwise where a number is all that there is.
const BY_NUMBER: &str = "this kernel (before Linux 5.1) sends signals by number only: whoever is given the number of a process that \
                         ends at that very moment is stopped, let go or ended in its place";

/// What this kernel has for holding a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Pidfd,
    Folder,
    Number,
}

/// A process that is held.
#[derive(Debug)]
pub(crate) enum Pinned {
    /// Through a descriptor: of the process, or of its folder.
    Descriptor(OwnedFd),
    /// Not at all.
    Number(Pid),
}

impl Pinned {
    /// Whoever has the number now.
    ///
    /// # Errors
    /// Nobody has it, or there are no descriptors.
    pub(crate) fn of(pid: Pid) -> Result<Self, Errno> {
        match kind() {
            Kind::Pidfd => pidfd_open(pid, PidfdFlags::empty()).map(Self::Descriptor),
            Kind::Folder => folder(pid).map(Self::Descriptor),
            Kind::Number => Ok(Self::Number(pid)),
        }
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// It has ended, or nobody here may.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Errno> {
        match self {
            Self::Descriptor(process) => pidfd_send_signal(process, signal),
            Self::Number(pid) => kill_process(*pid, signal),
        }
    }
}

/// A descriptor that becomes readable when the process ends; none where this kernel (before 5.3) has no such.
///
/// # Errors
/// Nobody has the number, or there are no descriptors.
pub(crate) fn end_of(pid: Pid) -> Result<Option<OwnedFd>, Errno> {
    match kind() {
        Kind::Pidfd => pidfd_open(pid, PidfdFlags::empty()).map(Some),
        Kind::Folder | Kind::Number => Ok(None),
    }
}

/// Whether a number is a process' own and neither a thread's nor free, where one call tells it; none where it does not.
pub(super) fn is_process(pid: Pid) -> Option<bool> {
    (kind() == Kind::Pidfd).then(|| pidfd_open(pid, PidfdFlags::empty()).is_ok())
}

/// What signals are less sure of on this kernel, a sentence.
pub(crate) fn less_sure() -> Option<&'static str> {
    (kind() == Kind::Number).then_some(BY_NUMBER)
}

/// Asked once: a kernel gains no calls while it runs.
fn kind() -> Kind {
    static KIND: OnceLock<Kind> = OnceLock::new();
    *KIND.get_or_init(|| {
        let own = rustix::process::getpid();
        match pidfd_open(own, PidfdFlags::empty()) {
            Err(why) if is_missing(why) => {}
            // That there are no descriptors at this moment says nothing of the kernel.
            _ => return if sends() { Kind::Pidfd } else { Kind::Number },
        }
        if sends() { Kind::Folder } else { Kind::Number }
    })
}

/// Whether the kernel sends signals through descriptors at all. What we read from is no process; it needs no descriptor more.
fn sends() -> bool {
    let none = pidfd_send_signal(std::io::stdin(), Signal::CONT);
    !none.is_err_and(is_missing)
}

/// Containers refuse calls that their makers did not know as if there were no right to them.
fn is_missing(why: Errno) -> bool {
    [Errno::NOSYS, Errno::PERM].contains(&why)
}

fn folder(pid: Pid) -> Result<OwnedFd, Errno> {
    let path = format!("/proc/{}", pid.as_raw_nonzero());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty()).map_err(|why| {
        // As the others say it.
        if why == Errno::NOENT { Errno::SRCH } else { why }
    })
}
