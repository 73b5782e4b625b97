//! Reads the frames of many interfaces from one `TPACKET_V3` ring of the Linux kernel.
//!
//! In: the interfaces to watch ([`RingControl::watch`]). Out: [`Frame`]s, without a copy and a block of them at a time
//! ([`PacketRing::read_block`]), with what pnet's own receiver does not tell: the true length on the wire, whether the
//! frame was sent or received, the VLAN tag the kernel took off, and how many frames were lost.
//! [`PacketRing`] is also a [`pnet_datalink::DataLinkReceiver`], for programs written against that.
//!
//! One socket serves all interfaces: each frame costs one tap however many are watched, and the ring's memory is spent
//! once. A filter in the kernel lets nothing else into the ring and cuts each frame to its headers.
//!
//! [`FilteredSocket`] is the small sister: the UDP datagrams of one port on all interfaces, by ordinary reads.
//!
//! [`QueueSeat`] keeps others from sending through a queue of an interface by `AF_XDP`.
//!
//! Absent: sending, copying, decoding. Linux only. The capability `CAP_NET_RAW` is needed.

#![warn(missing_docs, rustdoc::private_intra_doc_links)]

mod error;
mod filter;
mod filtered;
mod frame;
mod mapping;
mod options;
mod queue_seat;
mod receiver;
mod ring;
mod socket;

pub use error::RingError;
pub use filter::MAX_INTERFACES;
pub use filtered::{FilteredSocket, Seen};
pub use frame::{Frame, FrameKind, Vlan};
pub use options::RingOptions;
pub use queue_seat::QueueSeat;
pub use ring::PacketRing;
pub use socket::{RingControl, Statistics};
