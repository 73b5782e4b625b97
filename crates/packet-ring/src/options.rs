//! The shape of a ring.

use std::time::Duration;

use crate::error::RingError;

/// How large the ring is and how long frames may wait in it.
#[derive(Debug, Clone)]
pub struct RingOptions {
    /// Bytes of one block; a multiple of the page size. Frames are handed over a block at a time.
    pub block_size: usize,
    /// Number of blocks.
    pub blocks: usize,
    /// A block that is not full is handed over after this time: the longest that a frame waits for its reader. The
    /// kernel runs a timer at this rate as long as the ring is open, also when nothing comes.
    pub retire: Duration,
    /// Bytes kept of each frame, from its first.
    pub snap_length: u32,
}

impl Default for RingOptions {
    /// 4 MiB: some 18,000 frames of 224 bytes, 60 ms at 300,000 frames a second. A block that is handed over by time
    /// may hold a single frame, so the number of blocks counts too: 64 of 4 ms let a reader be away for a quarter of a
    /// second at any rate below that. 128 bytes hold Ethernet, two VLAN tags, IPv6 with 40 bytes of extension headers,
    /// and the whole TCP header that says whether a connection opens; IPv4 with all its options likewise.
    fn default() -> Self {
        Self {
            block_size: 64 << 10,
            blocks: 64,
            retire: Duration::from_millis(4),
            snap_length: 128,
        }
    }
}

impl RingOptions {
    /// Bytes of the whole ring.
    ///
    /// # Errors
    /// If there is no such ring.
    pub(crate) fn size(&self) -> Result<usize, RingError> {
        /// Smaller blocks do not hold a frame of the largest snap length.
        const LEAST_BLOCK: usize = 4 << 10;
        /// More is a mistake of units, not a wish.
        const MOST: usize = 1 << 30;
        let shape = |expected| RingError::Shape {
            block_size: self.block_size,
            blocks: self.blocks,
            expected,
        };
        if !self.block_size.is_power_of_two() || self.block_size < LEAST_BLOCK {
            return Err(shape("the block size is a power of two and at least 4096 bytes"));
        }
        if self.snap_length as usize > self.block_size / 4 {
            return Err(shape("four frames of the snap length fit into a block"));
        }
        match self.block_size.checked_mul(self.blocks) {
            Some(size) if (1..=MOST).contains(&size) => Ok(size),
            _ => Err(shape("the ring has at least one block and at most 1 GiB")),
        }
    }
}
