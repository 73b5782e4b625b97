//! Waiting with a limit.

#![expect(clippy::disallowed_methods, reason = "a wait is measured where it is waited")]

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// When a wait ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline(Option<Instant>);

impl Deadline {
    pub(super) fn after(limit: Duration) -> Self {
        Self(Instant::now().checked_add(limit))
    }

    /// What is left; nothing when it is over, an hour where it is beyond what a clock can tell.
    fn left(self) -> Duration {
        const HOUR: Duration = Duration::from_secs(3_600);
        self.0
            .map_or(HOUR, |end| end.saturating_duration_since(Instant::now()))
    }

    pub(super) fn is_over(self) -> bool {
        self.left().is_zero()
    }

    /// Waits until there is something to read; false when there is nothing in time.
    pub(super) fn readable(self, socket: &impl AsFd) -> io::Result<bool> {
        loop {
            let left = self.left();
            // Rounded up to the poll's milliseconds, or the last one would be spent in a loop.
            let wait = left.saturating_add(Duration::from_micros(999));
            let wait = PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], wait) {
                Ok(0) if self.is_over() => return Ok(false),
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return Ok(true),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}
