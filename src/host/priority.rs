//! Which thread runs before which when processors are short.
//!
//! In: a role. Out: the calling thread's niceness; threads that it starts inherit it. Without the right to a higher priority
//! everything works, only later.

/// What a thread is for. The deciding thread and those it waits for come first, or traffic could keep an order waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Priority {
    /// Decides.
    Deciding,
    /// Does what an order waits for; what it computes must not keep the one that decides from its next turn.
    Serving,
    /// Finds a process that lives for 20 ms while it lives. Its work is bounded, so nobody starves.
    Accounting,
    /// Everything else.
    Ordinary,
}

impl Priority {
    const fn niceness(self) -> i32 {
        match self {
            Self::Deciding => -15,
            Self::Serving => -12,
            Self::Accounting => -10,
            Self::Ordinary => 0,
        }
    }

    /// Gives the calling thread this priority.
    pub(crate) fn take(self) {
        if let Err(errno) = rustix::process::setpriority_process(None, self.niceness()) {
            tracing::debug!(%errno, role = ?self, "no right to a higher priority");
        }
    }
}
