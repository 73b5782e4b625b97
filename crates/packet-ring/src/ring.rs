//! The ring: blocks of frames in the order the kernel fills them.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt};

use crate::error::RingError;
use crate::frame::Frame;
use crate::mapping::Mapping;
use crate::options::RingOptions;
use crate::socket::RingControl;

/// An open ring. It is read by one thread; [`PacketRing::control`] is for the others.
pub struct PacketRing {
    mapping: Mapping,
    control: RingControl,
    /// The block that is read, or that comes next.
    block: usize,
    blocks: usize,
    cursor: Option<Cursor>,
}

/// Where the reader stands in the current block.
struct Cursor {
    left: u32,
    offset: usize,
}

impl PacketRing {
    /// Opens a ring in the network namespace of the calling thread. It watches nothing yet.
    ///
    /// # Errors
    /// If the options make no ring, the capability `CAP_NET_RAW` is missing ([`RingError::is_permission`]), or the
    /// kernel refuses.
    pub fn open(options: &RingOptions) -> Result<Self, RingError> {
        let control = RingControl::open(options)?;
        let mapping = Mapping::new(&control, options.block_size, options.blocks)?;
        control.start()?;
        Ok(Self {
            mapping,
            control,
            block: 0,
            blocks: options.blocks,
            cursor: None,
        })
    }

    /// The handle that chooses the interfaces and reads the statistics.
    #[must_use]
    pub fn control(&self) -> &RingControl {
        &self.control
    }

    /// Waits at most `wait` for a block and calls `each` for every frame in it. `false`: none came in time.
    ///
    /// # Errors
    /// If the socket has failed.
    pub fn read_block(&mut self, wait: Duration, mut each: impl FnMut(&Frame<'_>)) -> io::Result<bool> {
        if self.cursor.is_none() && !self.take_block(wait)? {
            return Ok(false);
        }
        while let Some(frame) = self.next_in_block() {
            each(&frame);
        }
        self.release();
        Ok(true)
    }

    /// Makes the next block the current one, if it comes within `wait`.
    pub(crate) fn take_block(&mut self, wait: Duration) -> io::Result<bool> {
        if !self.mapping.is_ready(self.block) && !self.wait(wait)? {
            return Ok(false);
        }
        let (left, offset) = self.mapping.contents(self.block);
        self.cursor = Some(Cursor { left, offset });
        Ok(true)
    }

    /// True while the current block has frames left.
    pub(crate) fn has_frame(&self) -> bool {
        self.cursor.as_ref().is_some_and(|cursor| cursor.left > 0)
    }

    /// The next frame of the current block; `None` at its end.
    pub(crate) fn next_in_block(&mut self) -> Option<Frame<'_>> {
        let cursor = self.cursor.as_mut()?;
        cursor.left = cursor.left.checked_sub(1)?;
        let (frame, next) = self.mapping.frame(self.block, cursor.offset)?;
        cursor.offset = next;
        Some(frame)
    }

    /// Gives the current block back to the kernel.
    pub(crate) fn release(&mut self) {
        if self.cursor.take().is_some() {
            self.mapping.release(self.block);
            self.block = (self.block + 1) % self.blocks;
        }
    }

    /// True once the block that comes next is there.
    fn wait(&self, limit: Duration) -> io::Result<bool> {
        let limit = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        let mut polled = [PollFd::new(
            self.control.as_fd(),
            PollFlags::POLLIN | PollFlags::POLLERR,
        )];
        match poll(&mut polled, limit) {
            // A signal: the caller looks at its own affairs and comes back.
            Err(Errno::EINTR) => return Ok(false),
            Err(errno) => return Err(errno.into()),
            Ok(_) => {}
        }
        let [polled] = polled;
        if polled
            .revents()
            .is_some_and(|events| events.contains(PollFlags::POLLERR))
        {
            let pending = getsockopt(&self.control, sockopt::SocketError)?;
            if pending != 0 {
                return Err(io::Error::from_raw_os_error(pending));
            }
        }
        Ok(self.mapping.is_ready(self.block))
    }
}
