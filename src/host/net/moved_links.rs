//! Interfaces that are moved to another network namespace, where no rule of ours is.
//!
//! In: the kernel's notifications, the interfaces that are here. Out: the names of those that left and have not come back. One
//! whose other end or lower interface stays here (a container's) is none of them: what it sends comes by here. Absent: who left
//! before this began to listen.

use std::collections::BTreeSet;

use netlink_packet_core::NetlinkBuffer;
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;

use super::netlink::{attributes, receive, subscribe};
use crate::observe::link::Link;

/// `RTNLGRP_LINK`.
const GROUPS: [u32; 1] = [1];
/// Room for one message; the kernel's own limit for one interface.
const BUFFER: usize = 32_768;
/// Messages read at a look; the socket holds fewer.
const MAX_READ: usize = 4_096;
/// Interfaces remembered.
const MAX_LEFT: usize = 64;
/// Bytes of an `ifinfomsg`.
const HEADER: usize = 16;

/// Numbers of `linux/rtnetlink.h` and `linux/if_link.h`.
mod numbers {
    pub(super) const RTM_DELLINK: u16 = 17;
    pub(super) const IFLA_IFNAME: u16 = 3;
    pub(super) const IFLA_LINK: u16 = 5;
    pub(super) const IFLA_LINK_NETNSID: u16 = 37;
    pub(super) const IFLA_NEW_NETNSID: u16 = 45;
}

/// Who has left.
#[derive(Default)]
pub(super) struct MovedLinks {
    socket: Option<Socket>,
    left: BTreeSet<String>,
}

impl MovedLinks {
    /// Begins to listen; the socket stays.
    pub(super) fn listen(&mut self) {
        let listening = subscribe(NETLINK_ROUTE, &GROUPS).ok();
        self.socket = listening.filter(|socket| socket.set_non_blocking(true).is_ok());
    }

    /// Forgets who left until now.
    pub(super) fn forget(&mut self) {
        self.look(&[]);
        self.left.clear();
    }

    /// Those that are not back, each a sentence.
    pub(super) fn look(&mut self, links: &[Link]) -> Vec<String> {
        let mut buffer = Vec::with_capacity(BUFFER);
        for _ in 0..MAX_READ {
            let Some(socket) = &self.socket else { break };
            match receive(socket, &mut buffer) {
                Ok(_) if self.left.len() < MAX_LEFT => self.left.extend(moved(&buffer)),
                Ok(_) => {}
                Err(_) => break,
            }
        }
        self.left
            .retain(|name| links.iter().all(|link| link.name != *name));
        let sentence = |name: &String| {
            format!("what leaves by {name} is not cut: it was moved to another network namespace")
        };
        self.left.iter().map(sentence).collect()
    }
}

/// The name of an interface that was moved away with all that it leads to.
fn moved(message: &[u8]) -> Option<String> {
    use numbers as n;
    let message = NetlinkBuffer::new_checked(message).ok()?;
    if message.message_type() != n::RTM_DELLINK {
        return None;
    }
    let (mut name, mut new, mut linked, mut elsewhere) = (None, false, false, false);
    for (number, value) in attributes(message.payload().get(HEADER..)?) {
        match number {
            n::IFLA_IFNAME => {
                let end = value.iter().position(|byte| *byte == 0)?;
                name = Some(String::from_utf8_lossy(value.get(..end)?).into_owned());
            }
            n::IFLA_LINK => linked = true,
            n::IFLA_LINK_NETNSID => elsewhere = true,
            n::IFLA_NEW_NETNSID => new = true,
            _ => {}
        }
    }
    name.filter(|_| new && (elsewhere || !linked))
}
