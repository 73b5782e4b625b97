//! The floor of a socket snapshot: asks the kernel for the same sockets and counts messages, nothing else.
//!
//! In: nothing. Out: one line of JSON, `{sockets, cpu_us, peak_rss_kb}`; `sockets` are all answers. `cargo xtask bench`
//! runs it beside `sock_diag_snapshot`. Absent: reading the answers.

#[path = "support/usage.rs"]
mod usage;

use netlink_packet_core::{Emitable as _, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NetlinkHeader};
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP, SOCK_DIAG_BY_FAMILY};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use netlink_sys::{Socket, SocketAddr};

/// Bytes of a message header.
const HEADER: usize = 16;

fn main() -> std::io::Result<()> {
    let before = usage::cpu_micros();
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut buffer = Vec::with_capacity(65_536);
    let mut count = 0;
    for protocol in [IPPROTO_TCP, IPPROTO_UDP] {
        for family in [AF_INET, AF_INET6] {
            socket.send(&request(family, protocol), 0)?;
            while !receive(&socket, &mut buffer, &mut count)? {}
        }
    }
    usage::print(count, None, before);
    Ok(())
}

/// Counts the messages of one datagram; true after the last.
fn receive(socket: &Socket, buffer: &mut Vec<u8>, count: &mut usize) -> std::io::Result<bool> {
    buffer.clear();
    socket.recv(buffer, 0)?;
    let mut rest = buffer.as_slice();
    while let Some((header, _)) = rest.split_at_checked(HEADER) {
        let word = |at: usize| header.get(at..at + 2).and_then(|two| two.try_into().ok());
        if word(4).map(u16::from_ne_bytes) == Some(NLMSG_DONE) {
            return Ok(true);
        }
        *count += 1;
        // Answers of this kind are far below 64 KiB, so the low half of the length is the length.
        let low = word(if cfg!(target_endian = "little") { 0 } else { 2 });
        let length = usize::from(low.map_or(0, u16::from_ne_bytes)).max(HEADER);
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok(false)
}

fn request(family: u8, protocol: u8) -> Vec<u8> {
    let request = InetRequest {
        family,
        protocol,
        extensions: ExtensionFlags::empty(),
        states: if protocol == IPPROTO_TCP {
            StateFlags::ESTABLISHED | StateFlags::LISTEN
        } else {
            StateFlags::all()
        },
        socket_id: if family == AF_INET {
            SocketId::new_v4()
        } else {
            SocketId::new_v6()
        },
    };
    let mut bytes = vec![0; HEADER + request.buffer_len()];
    let mut header = NetlinkHeader::default();
    header.length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    header.message_type = SOCK_DIAG_BY_FAMILY;
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    header.emit(&mut bytes);
    if let Some(payload) = bytes.get_mut(HEADER..) {
        request.emit(payload);
    }
    bytes
}
