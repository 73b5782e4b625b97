//! The `AF_XDP` sockets of this network namespace, and the queues that they have.
//!
//! In: nothing. Out: [`XdpSocket`]s, as the kernel lists them over `NETLINK_SOCK_DIAG`. Absent: who holds them
//! (`holders`).

use netlink_packet_sock_diag::constants::SOCK_DIAG_BY_FAMILY;
use netlink_sys::protocols::NETLINK_SOCK_DIAG;

use super::netlink::{Netlink, NetlinkError, NetlinkRequest, attributes, word};

/// Sockets that are looked at; a queue has one, or as many as share one memory.
const MAX_SOCKETS: usize = 1_024;
/// `AF_XDP`.
const FAMILY: u8 = 44;
/// `XDP_SHOW_INFO` of `linux/xdp_diag.h`: interface and queue.
const SHOW_INFO: u32 = 1;
/// `XDP_DIAG_INFO`.
const INFO: u16 = 1;
/// Bytes of an `xdp_diag_msg`.
const HEADER: usize = 16;

/// A socket at a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct XdpSocket {
    /// By which its holders are found.
    pub(super) inode: u32,
    /// Index of the interface.
    pub(super) interface: u32,
    pub(super) queue: u32,
}

/// Those that have a queue.
///
/// # Errors
/// If the kernel cannot list them.
pub(super) fn xdp_sockets() -> Result<Vec<XdpSocket>, NetlinkError> {
    // An `xdp_diag_req`: family, protocol, padding, any inode, what to show, any cookie.
    let mut request = vec![FAMILY, 0, 0, 0];
    for number in [0, SHOW_INFO, 0, 0] {
        request.extend(number.to_ne_bytes());
    }
    let question = NetlinkRequest {
        message_type: SOCK_DIAG_BY_FAMILY,
        dump: true,
        payload: &request,
    };
    let mut found = Vec::new();
    Netlink::open(NETLINK_SOCK_DIAG)?.ask(question, &mut |message| {
        if found.len() < MAX_SOCKETS {
            found.extend(socket_of(message));
        }
        Ok(())
    })?;
    Ok(found)
}

fn socket_of(message: &[u8]) -> Option<XdpSocket> {
    let inode = word(message, 4)?;
    let (_, info) = attributes(message.get(HEADER..)?).find(|(number, _)| *number == INFO)?;
    let interface = word(info, 0).filter(|interface| *interface != 0)?;
    Some(XdpSocket {
        inode,
        interface,
        queue: word(info, 4)?,
    })
}
