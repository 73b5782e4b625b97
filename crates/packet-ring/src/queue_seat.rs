//! A seat at a queue of an interface: while it is taken nobody else can send or receive through that queue by `AF_XDP`, past every hook
//! of the kernel's packet filter.
//!
//! In: an interface and the number of a queue. Out: whether the seat was free. The kernel gives a queue to one such socket at
//! a time, until that is closed or the interface leaves the namespace. Absent: frames. Nothing is sent or received through a seat,
//! its rings are never mapped.
#![expect(unsafe_code, reason = "nix knows no sockets of this family")]

use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;

use libc::{c_int, c_void, sockaddr_xdp, socklen_t, xdp_umem_reg};
use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use crate::error::RingError;

/// `AF_XDP`; the C libraries do not all name it.
const AF_XDP: u16 = 44;
/// The least frame that the kernel takes (`XDP_UMEM_MIN_CHUNK_SIZE`).
const FRAME: u32 = 2_048;
/// Entries of each ring: the fewest that the kernel takes.
const ENTRIES: c_int = 1;

/// A socket that has a seat, or is ready to take one without another descriptor or memory.
#[derive(Debug)]
pub struct QueueSeat {
    socket: OwnedFd,
}

impl QueueSeat {
    /// Makes one that has no seat yet. It belongs to the network namespace of the calling thread and needs `CAP_NET_RAW`.
    ///
    /// # Errors
    /// The kernel does not have the family ([`RingError::is_unsupported`]), refuses, or there is no descriptor or memory.
    pub fn prepare() -> Result<Self, RingError> {
        // SAFETY: makes a descriptor, and touches nothing else.
        let made = unsafe { libc::socket(c_int::from(AF_XDP), libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        let made = Errno::result(made).map_err(|errno| RingError::refused("open an AF_XDP socket", errno))?;
        // SAFETY: it was just made, and nobody else has it.
        let socket = unsafe { OwnedFd::from_raw_fd(made) };
        register_memory(&socket)?;
        for ring in [
            libc::XDP_UMEM_FILL_RING,
            libc::XDP_UMEM_COMPLETION_RING,
            libc::XDP_RX_RING,
        ] {
            set(&socket, ring, &ENTRIES)
                .map_err(|errno| RingError::refused("make a ring of an AF_XDP socket", errno))?;
        }
        Ok(Self { socket })
    }

    /// Takes the seat at a queue of an interface, by its index. After a refusal another one can be tried.
    ///
    /// # Errors
    /// `EBUSY`: somebody has it. `EINVAL`: there is no such queue. `ENODEV`: there is no such interface.
    pub fn take(&self, interface: u32, queue: u32) -> Result<(), Errno> {
        let address = sockaddr_xdp {
            sxdp_family: AF_XDP,
            // Without it the kernel asks the interface's driver, which may stop its queues for that.
            sxdp_flags: libc::XDP_COPY,
            sxdp_ifindex: interface,
            sxdp_queue_id: queue,
            sxdp_shared_umem_fd: 0,
        };
        // SAFETY: the pointer and the length describe `address`, which outlives the call.
        let bound = unsafe {
            libc::bind(
                self.socket.as_raw_fd(),
                (&raw const address).cast(),
                length_of::<sockaddr_xdp>(),
            )
        };
        Errno::result(bound).map(drop)
    }
}

impl AsFd for QueueSeat {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Gives the socket the memory without which it cannot be bound: one page, which the kernel keeps, and which stays mapped no
/// longer than it takes to say so.
fn register_memory(socket: &OwnedFd) -> Result<(), RingError> {
    let refused = |errno| RingError::refused("give an AF_XDP socket its memory", errno);
    let page = page_size();
    let read_write = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: a new mapping at an address that the kernel chooses; it replaces nothing.
    let memory: NonNull<c_void> =
        unsafe { mmap_anonymous(None, page, read_write, MapFlags::MAP_PRIVATE) }.map_err(refused)?;
    let registered = xdp_umem_reg {
        addr: memory.as_ptr() as u64,
        len: page.get() as u64,
        chunk_size: FRAME,
        headroom: 0,
        flags: 0,
        tx_metadata_len: 0,
    };
    let registered = set(socket, libc::XDP_UMEM_REG, &registered);
    // SAFETY: exactly what was mapped above, and nobody else knows it. The kernel has its own hold of the page.
    let unmapped = unsafe { munmap(memory, page.get()) };
    registered.and(unmapped).map_err(refused)
}

fn page_size() -> NonZeroUsize {
    const USUAL: NonZeroUsize = NonZeroUsize::new(4_096).unwrap();
    // SAFETY: asks for a number.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size)
        .ok()
        .and_then(NonZeroUsize::new)
        .unwrap_or(USUAL)
}

fn length_of<T>() -> socklen_t {
    socklen_t::try_from(size_of::<T>()).unwrap_or_default()
}

fn set<T>(socket: &OwnedFd, name: c_int, value: &T) -> Result<(), Errno> {
    // SAFETY: pointer and length describe `value`, which outlives the call; the kernel only reads it.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_XDP,
            name,
            std::ptr::from_ref(value).cast(),
            length_of::<T>(),
        )
    };
    Errno::result(set).map(drop)
}
