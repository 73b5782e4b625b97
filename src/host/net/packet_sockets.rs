//! Programs that read frames past the rules: a packet socket gets what arrives before any hook of the packet filter does.
//!
//! In: an open socket of `NETLINK_SOCK_DIAG`. Out: who does, in one sentence. Our own are left out, and those that are there for a moment only. Not all of them
//! are attackers: clients of DHCP, of 802.1X and of LLDP read so too.

use std::collections::{BTreeMap, BTreeSet};

use netlink_packet_sock_diag::constants::SOCK_DIAG_BY_FAMILY;

use super::holders::holders;
use super::netlink::{Netlink, NetlinkError, NetlinkRequest, word};
use crate::Gather;
use crate::host::processes::process_table;

/// Sockets looked at.
const MAX_SOCKETS: usize = 1_024;
/// Holders that are named.
const MAX_NAMED: usize = 4;
/// `AF_PACKET`.
const FAMILY: u8 = 17;
/// Bytes of a `packet_diag_req`.
const REQUEST: usize = 20;

/// The sockets of the last look, with who holds them.
#[derive(Default)]
pub(super) struct PacketSockets {
    known: BTreeMap<u32, Option<String>>,
    /// Seen once.
    new: BTreeSet<u32>,
    /// Our own.
    own: BTreeSet<u32>,
}

/// What a look found.
#[derive(Debug, Default)]
pub(super) struct Readers {
    pub(super) uncovered: Option<String>,
    /// Somebody was seen for the first time.
    pub(super) waits: bool,
}

impl PacketSockets {
    /// Forgets who was seen, and knows our own again.
    pub(super) fn forget(&mut self, diag: &mut Netlink) {
        self.look(diag);
        self.known.clear();
        self.new.clear();
    }

    /// Looks once more. While nobody is new no descriptor is opened: there may be one left, for the operator.
    pub(super) fn look(&mut self, diag: &mut Netlink) -> Readers {
        // A kernel that cannot list them names nobody.
        let mut sockets = receiving(diag).unwrap_or_default();
        let is_known = |inode: &u32| self.known.contains_key(inode) || self.own.contains(inode);
        if !sockets.iter().all(is_known) {
            let own = process_table::read(std::process::id()).into_iter();
            let own: BTreeSet<u32> = own
                .flat_map(|own| process_table::sockets_of(own.identity))
                .flatten()
                .in_set();
            if own.is_empty() {
                // We have some: there is no descriptor to look with, and nobody is told for ours.
                return Readers::default();
            }
            self.own.extend(own);
        }
        self.own.retain(|inode| sockets.contains(inode));
        sockets.retain(|inode| !self.own.contains(inode));
        self.known.retain(|inode, _| sockets.contains(inode));
        let unknown: BTreeSet<u32> = sockets
            .into_iter()
            .filter(|inode| !self.known.contains_key(inode))
            .in_set();
        let stay: BTreeSet<u32> = unknown.intersection(&self.new).copied().in_set();
        if !stay.is_empty() {
            let mut names = holders(stay.clone());
            self.known
                .extend(stay.iter().map(|inode| (*inode, names.remove(inode))));
        }
        self.new = unknown.difference(&stay).copied().in_set();
        let names: BTreeSet<&str> = self
            .known
            .values()
            .map(|holder| holder.as_deref().unwrap_or("somebody"))
            .in_set();
        let mut named: Vec<&str> = names.iter().copied().take(MAX_NAMED).collect();
        if names.len() > MAX_NAMED {
            named.push("others");
        }
        Readers {
            uncovered: (!named.is_empty()).then(|| {
                format!(
                    "what arrives is read past the rules, through packet sockets: by {}",
                    named.join(", ")
                )
            }),
            waits: !self.new.is_empty(),
        }
    }
}

/// Those that receive, by inode.
fn receiving(diag: &mut Netlink) -> Result<BTreeSet<u32>, NetlinkError> {
    let mut request = [0; REQUEST];
    request[0] = FAMILY;
    let question = NetlinkRequest {
        message_type: SOCK_DIAG_BY_FAMILY,
        dump: true,
        payload: &request,
    };
    let mut found = BTreeSet::new();
    diag.ask(question, &mut |message| {
        // Family, type and protocol: without one nothing is received.
        let receives = message.get(2..4).is_some_and(|protocol| protocol != [0, 0]);
        if receives && found.len() < MAX_SOCKETS {
            found.extend(word(message, 4));
        }
        Ok(())
    })?;
    Ok(found)
}
