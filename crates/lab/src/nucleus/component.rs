//! The component as others may steer it: what is wished of it and which process it is.
//!
//! In: restart, stop, pause and resume of the IPC; starts and ends of the launcher. Out: wishes for the launcher,
//! signals to the process group. A component that the nucleus did not launch counts as running, and what is asked of
//! it has no effect. Deliberately absent: the freezer cgroup of the classic nucleus; SIGSTOP does here.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::sync::watch;

/// What the component shall do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Run; every restart asked for raises the number.
    Run(u64),
    /// Rest until a restart is asked for.
    Rest,
    /// End, with the nucleus.
    End,
}

/// Where the component runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Process {
    /// Started by somebody else, or not at all.
    Foreign,
    /// Launched by the nucleus, and between two runs.
    Absent,
    /// Launched by the nucleus: its process group.
    Group(Pid),
}

/// The one component of this nucleus.
#[derive(Debug)]
pub(super) struct Component {
    wish: watch::Sender<Wish>,
    restarts: AtomicU64,
    process: Mutex<Process>,
    /// Ends with the run it is about.
    paused: AtomicBool,
    broken: AtomicBool,
}

impl Component {
    /// `launched`: the nucleus runs it.
    pub(super) fn new(launched: bool) -> Self {
        let process = if launched {
            Process::Absent
        } else {
            Process::Foreign
        };
        Self {
            wish: watch::Sender::new(Wish::Run(0)),
            restarts: AtomicU64::new(0),
            process: Mutex::new(process),
            paused: AtomicBool::new(false),
            broken: AtomicBool::new(false),
        }
    }

    /// What is wished, now and from now on.
    pub(super) fn wishes(&self) -> watch::Receiver<Wish> {
        self.wish.subscribe()
    }

    /// Ends the run that there is, if any, and begins another.
    pub(super) fn restart(&self) {
        let earlier = self.restarts.fetch_add(1, Ordering::Relaxed);
        self.paused.store(false, Ordering::Relaxed);
        self.wish.send_replace(Wish::Run(earlier + 1));
    }

    /// Whether it may not be started any more, until somebody asks for a restart.
    pub(super) fn set_broken(&self, broken: bool) {
        self.broken.store(broken, Ordering::Relaxed);
    }

    /// Begins another run of one that is broken.
    pub(super) fn revive(&self) {
        if self.broken.swap(false, Ordering::Relaxed) {
            self.restart();
        }
    }

    /// Ends the run that there is.
    pub(super) fn stop(&self) {
        self.paused.store(false, Ordering::Relaxed);
        self.wish.send_replace(Wish::Rest);
    }

    /// Ends it for good.
    pub(super) fn end(&self) {
        self.wish.send_replace(Wish::End);
    }

    /// Freezes it; false when it does not run.
    pub(super) fn pause(&self) -> bool {
        let done = self.signal(Signal::SIGSTOP);
        self.paused.fetch_or(done, Ordering::Relaxed);
        done
    }

    /// Lets it go on; false when it does not run or is not paused.
    pub(super) fn resume(&self) -> bool {
        self.paused.swap(false, Ordering::Relaxed) && self.signal(Signal::SIGCONT)
    }

    /// The launcher has started it as leader of a process group.
    pub(super) fn started(&self, group: Pid) {
        *self.process() = Process::Group(group);
    }

    /// The launcher has seen it end.
    pub(super) fn ended(&self) {
        *self.process() = Process::Absent;
        self.paused.store(false, Ordering::Relaxed);
    }

    /// Whether a process of it runs that the nucleus launched.
    pub(super) fn is_there(&self) -> bool {
        matches!(*self.process(), Process::Group(_))
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn signal(&self, signal: Signal) -> bool {
        match *self.process() {
            Process::Foreign => true,
            Process::Absent => false,
            Process::Group(group) => killpg(group, signal).is_ok(),
        }
    }
}
