//! The packet socket below a ring, and its handle for other threads.
#![expect(unsafe_code, reason = "nix has no safe setsockopt for packet sockets")]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use libc::{c_int, packet_mreq, sock_filter, sock_fprog, socklen_t, tpacket_req3, tpacket_stats_v3};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::error::RingError;
use crate::filter::program;
use crate::options::RingOptions;

/// What a ring has seen since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Frames that passed the filter, lost ones included.
    pub frames: u64,
    /// Frames lost because the ring was full.
    pub lost: u64,
    /// Times the ring was full.
    pub freezes: u64,
}

/// Changes what a ring watches, from any thread.
#[derive(Debug, Clone)]
pub struct RingControl {
    socket: Arc<OwnedFd>,
    snap_length: u32,
    totals: Arc<Mutex<Statistics>>,
}

impl RingControl {
    /// A socket with an empty ring that watches nothing yet.
    pub(crate) fn open(options: &RingOptions) -> Result<Self, RingError> {
        let refused = RingError::refused;
        let size = options.size()?;
        // Without protocol the socket receives nothing until `start`.
        let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)
            .map_err(|errno| refused("open a packet socket", errno))?;
        let control = Self {
            socket: Arc::new(socket),
            snap_length: options.snap_length,
            totals: Arc::default(),
        };
        control
            .set(
                libc::SOL_PACKET,
                libc::PACKET_VERSION,
                &(libc::tpacket_versions::TPACKET_V3 as c_int),
            )
            .map_err(|errno| refused("choose version 3 of the packet ring", errno))?;
        control.watch(&[])?;
        let shape = RingError::Shape {
            block_size: options.block_size,
            blocks: options.blocks,
            expected: "sizes fit into 32 bits",
        };
        let (Ok(block_size), Ok(blocks), Ok(size)) = (
            u32::try_from(options.block_size),
            u32::try_from(options.blocks),
            u32::try_from(size),
        ) else {
            return Err(shape);
        };
        // Version 3 packs frames of any length into a block; the kernel still wants a frame size that divides it.
        const FRAME_SIZE: u32 = 2_048;
        let request = tpacket_req3 {
            tp_block_size: block_size,
            tp_block_nr: blocks,
            tp_frame_size: FRAME_SIZE,
            tp_frame_nr: size / FRAME_SIZE,
            // At least one: zero lets the kernel choose by the speed of a network card.
            tp_retire_blk_tov: u32::try_from(options.retire.as_millis())
                .unwrap_or(u32::MAX)
                .max(1),
            tp_sizeof_priv: 0,
            tp_feature_req_word: 0,
        };
        control
            .set(libc::SOL_PACKET, libc::PACKET_RX_RING, &request)
            .map_err(|errno| refused("make a packet ring", errno))?;
        Ok(control)
    }

    /// Begins to receive, on every interface that the filter lets through.
    pub(crate) fn start(&self) -> Result<(), RingError> {
        bind_to_all(&self.socket)
    }

    /// Watches exactly these interfaces (by index) from now on; frames of others that are in the ring already stay
    /// there.
    ///
    /// # Errors
    /// If there are more than [`crate::MAX_INTERFACES`], or the kernel refuses; then nothing changes.
    pub fn watch(&self, interfaces: &[u32]) -> Result<(), RingError> {
        attach(&self.socket, program(interfaces, self.snap_length)?)
    }

    /// Lets an interface receive frames for other hardware too, or no longer. Ends with the ring.
    ///
    /// # Errors
    /// If there is no such interface or the kernel refuses.
    pub fn set_promiscuous(&self, interface: u32, promiscuous: bool) -> Result<(), RingError> {
        let request = packet_mreq {
            mr_ifindex: c_int::try_from(interface).unwrap_or(-1),
            mr_type: u16::try_from(libc::PACKET_MR_PROMISC).unwrap_or_default(),
            mr_alen: 0,
            mr_address: [0; 8],
        };
        let name = if promiscuous {
            libc::PACKET_ADD_MEMBERSHIP
        } else {
            libc::PACKET_DROP_MEMBERSHIP
        };
        self.set(libc::SOL_PACKET, name, &request)
            .map_err(|errno| RingError::refused("change the promiscuous mode of an interface", errno))
    }

    /// What the ring has seen since it was opened.
    ///
    /// # Errors
    /// If the kernel does not answer.
    pub fn statistics(&self) -> Result<Statistics, RingError> {
        // The kernel's counters begin again at zero with each reading, so only one may read at a time.
        let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: a struct of integers; all zero is a valid value.
        let mut since: tpacket_stats_v3 = unsafe { std::mem::zeroed() };
        let mut length = length_of::<tpacket_stats_v3>();
        // SAFETY: pointer and length describe `since`, which outlives the call; the kernel writes at most that much.
        let read = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut since).cast(),
                &raw mut length,
            )
        };
        Errno::result(read).map_err(|errno| RingError::refused("read the ring's statistics", errno))?;
        totals.frames = totals.frames.saturating_add(u64::from(since.tp_packets));
        totals.lost = totals.lost.saturating_add(u64::from(since.tp_drops));
        totals.freezes = totals.freezes.saturating_add(u64::from(since.tp_freeze_q_cnt));
        Ok(*totals)
    }

    fn set<T>(&self, level: c_int, name: c_int, value: &T) -> Result<(), Errno> {
        set(&self.socket, level, name, value)
    }
}

impl AsFd for RingControl {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn length_of<T>() -> socklen_t {
    socklen_t::try_from(size_of::<T>()).unwrap_or_default()
}

/// Lets through only what `filter` keeps.
pub(crate) fn attach(socket: &OwnedFd, mut filter: Vec<sock_filter>) -> Result<(), RingError> {
    let program = sock_fprog {
        len: u16::try_from(filter.len()).unwrap_or(u16::MAX),
        filter: filter.as_mut_ptr(),
    };
    set(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
        .map_err(|errno| RingError::refused("attach a filter to the packet socket", errno))
}

/// Begins to receive, sent and received packets of every interface.
pub(crate) fn bind_to_all(socket: &OwnedFd) -> Result<(), RingError> {
    let protocol = u16::try_from(libc::ETH_P_ALL).unwrap_or_default().to_be();
    // SAFETY: an all-zero sockaddr_ll is a valid value: interface 0, "all".
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).unwrap_or_default();
    address.sll_protocol = protocol;
    // SAFETY: the pointer and the length describe `address`, which outlives the call.
    let bound = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            length_of::<libc::sockaddr_ll>(),
        )
    };
    Errno::result(bound)
        .map(drop)
        .map_err(|errno| RingError::refused("bind the packet socket", errno))
}

fn set<T>(socket: &OwnedFd, level: c_int, name: c_int, value: &T) -> Result<(), Errno> {
    // SAFETY: pointer and length describe `value`, which outlives the call; the kernel only reads it (and what a
    // `sock_fprog` points to, which the caller keeps alive).
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            length_of::<T>(),
        )
    };
    Errno::result(set).map(drop)
}
