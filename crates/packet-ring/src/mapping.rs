//! The memory shared with the kernel: everything unsafe about the ring.
//!
//! In: a socket that has a ring. Out: plain values and slices, every offset that was read from the ring checked against
//! the block it must lie in.
#![expect(
    unsafe_code,
    reason = "memory shared with the kernel cannot be mapped or read by safe code"
)]

use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use libc::{c_void, sockaddr_ll, tpacket_block_desc, tpacket_hdr_v1, tpacket3_hdr};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use crate::error::RingError;
use crate::frame::{Frame, FrameKind, Vlan};

/// Frame headers begin at multiples of this (`TPACKET_ALIGNMENT`), and the address after one.
const ALIGNMENT: usize = 16;

/// A mapped ring; unmapped when dropped.
pub(crate) struct Mapping {
    memory: NonNull<c_void>,
    block_size: usize,
    blocks: usize,
}

// SAFETY: the memory belongs to this value alone (the kernel aside), and nothing in it is bound to a thread.
unsafe impl Send for Mapping {}

impl Mapping {
    pub(crate) fn new(socket: impl AsFd, block_size: usize, blocks: usize) -> Result<Self, RingError> {
        let size = block_size.saturating_mul(blocks);
        let length = NonZeroUsize::new(size).ok_or(RingError::Shape {
            block_size,
            blocks,
            expected: "the ring is not empty",
        })?;
        // SAFETY: a new mapping at an address the kernel chooses; it replaces nothing.
        let memory = unsafe {
            mmap(
                None,
                length,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_SHARED,
                socket,
                0,
            )
        };
        Ok(Self {
            memory: memory.map_err(|errno| RingError::refused("map the packet ring", errno))?,
            block_size,
            blocks,
        })
    }

    /// Where a block begins; `index` is taken modulo their number, so it always lies in the mapping.
    fn block(&self, index: usize) -> NonNull<u8> {
        let offset = (index % self.blocks) * self.block_size;
        // SAFETY: the offset is less than the size of the mapping.
        unsafe { self.memory.cast::<u8>().add(offset) }
    }

    fn status(&self, index: usize) -> &AtomicU32 {
        let place = std::mem::offset_of!(tpacket_block_desc, hdr)
            + std::mem::offset_of!(tpacket_hdr_v1, block_status);
        // SAFETY: the status is an aligned word within the first bytes of the block (blocks are pages), valid as long
        // as the mapping, and both sides touch it only as an atomic while the block changes hands.
        unsafe { AtomicU32::from_ptr(self.block(index).add(place).cast::<u32>().as_ptr()) }
    }

    /// True if the kernel has handed the block over.
    pub(crate) fn is_ready(&self, index: usize) -> bool {
        // Acquire: what the kernel wrote before is seen after this.
        self.status(index).load(Ordering::Acquire) & libc::TP_STATUS_USER != 0
    }

    /// Gives the block back to the kernel.
    pub(crate) fn release(&mut self, index: usize) {
        // Release: nothing is read from the block after this.
        self.status(index)
            .store(libc::TP_STATUS_KERNEL, Ordering::Release);
    }

    /// Number of frames in a ready block, and where the first one begins.
    pub(crate) fn contents(&self, index: usize) -> (u32, usize) {
        debug_assert!(self.is_ready(index), "the kernel may be writing");
        let place = std::mem::offset_of!(tpacket_block_desc, hdr);
        // SAFETY: the descriptor is at the begin of every block and smaller than a page; the block is ours, so nobody
        // writes; any bytes make a valid value of this struct of integers.
        let header: tpacket_hdr_v1 = unsafe {
            self.block(index)
                .add(place)
                .cast::<tpacket_hdr_v1>()
                .read_unaligned()
        };
        (header.num_pkts, header.offset_to_first_pkt as usize)
    }

    /// The frame whose header begins at `offset` in a ready block, and where the next one begins. `None` if anything
    /// would lie outside the block.
    pub(crate) fn frame(&self, index: usize, offset: usize) -> Option<(Frame<'_>, usize)> {
        let header: tpacket3_hdr = self.read(index, offset)?;
        let address_at = offset.checked_add(size_of::<tpacket3_hdr>().next_multiple_of(ALIGNMENT))?;
        let address: sockaddr_ll = self.read(index, address_at)?;
        let begin = offset.checked_add(usize::from(header.tp_mac))?;
        let length = header.tp_snaplen as usize;
        if begin.checked_add(length)? > self.block_size {
            return None;
        }
        // SAFETY: begin and length lie within the block (checked above), the block is ours until `release`, which needs
        // `&mut self` and so waits for this borrow.
        let bytes = unsafe { std::slice::from_raw_parts(self.block(index).add(begin).as_ptr(), length) };
        let status = header.tp_status;
        let vlan = (status & libc::TP_STATUS_VLAN_VALID != 0).then_some(Vlan {
            tpid: if status & libc::TP_STATUS_VLAN_TPID_VALID != 0 {
                header.hv1.tp_vlan_tpid
            } else {
                0
            },
            // The kernel keeps sixteen bits in this word.
            tci: (header.hv1.tp_vlan_tci & 0xffff) as u16,
        });
        let frame = Frame {
            bytes,
            wire_length: header.tp_len,
            vlan,
            kind: FrameKind::from_number(address.sll_pkttype),
            interface: u32::try_from(address.sll_ifindex).unwrap_or_default(),
            hardware_type: address.sll_hatype,
        };
        Some((frame, offset.checked_add(header.tp_next_offset as usize)?))
    }

    /// Reads a struct of integers at `offset` of a ready block.
    fn read<T: Integers>(&self, index: usize, offset: usize) -> Option<T> {
        if offset.checked_add(size_of::<T>())? > self.block_size {
            return None;
        }
        // SAFETY: it lies within the block (checked above), nobody writes to a block that is ours, and any bytes make a
        // valid value of `T`.
        Some(unsafe { self.block(index).add(offset).cast::<T>().read_unaligned() })
    }
}

/// Structs for which any bytes are a valid value.
trait Integers: Copy {}
impl Integers for tpacket3_hdr {}
impl Integers for sockaddr_ll {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly what was mapped, and nobody borrows it any more. A failure leaves the memory mapped, which
        // harms nobody.
        let _unmapped = unsafe { munmap(self.memory, self.block_size * self.blocks) };
    }
}
