//! Totals by peer, bounded.
//!
//! In: bytes of a peer. Out: the totals that changed since they were last taken.
//! What does not fit is counted under the peer `other`, never lost.

use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Peers kept apart. Bounds memory and output against spoofed UDP sources.
const MAX_PEERS: usize = 512;

/// Who sent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Peer {
    pub(super) protocol: &'static str,
    /// Address and port, or `other`.
    pub(super) address: String,
}

#[derive(Debug, Default)]
struct Count {
    total: u64,
    changed: bool,
    closed: bool,
}

/// Totals by peer.
#[derive(Debug, Default)]
pub(super) struct Tally {
    peers: BTreeMap<Peer, Count>,
}

impl Tally {
    pub(super) fn count(&mut self, protocol: &'static str, peer: SocketAddr, bytes: u64) {
        let mut peer = Peer {
            protocol,
            address: peer.to_string(),
        };
        if self.peers.len() >= MAX_PEERS && !self.peers.contains_key(&peer) {
            peer.address = "other".to_owned();
        }
        let count = self.peers.entry(peer).or_default();
        count.total = count.total.saturating_add(bytes);
        count.changed = true;
        count.closed = false;
    }

    /// The peer sends no more; it is forgotten once its last total has been taken.
    pub(super) fn closed(&mut self, protocol: &'static str, peer: SocketAddr) {
        if let Some(count) = self.peers.get_mut(&Peer {
            protocol,
            address: peer.to_string(),
        }) {
            count.closed = true;
        }
    }

    pub(super) fn take_changed(&mut self) -> Vec<(Peer, u64)> {
        let mut changed = Vec::new();
        self.peers.retain(|peer, count| {
            if count.changed {
                changed.push((peer.clone(), count.total));
                count.changed = false;
            }
            !count.closed
        });
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    fn totals(tally: &mut Tally) -> Vec<(String, u64)> {
        tally
            .take_changed()
            .into_iter()
            .map(|(peer, total)| (peer.address, total))
            .collect()
    }

    #[test]
    fn only_changed_totals_are_taken_and_a_closed_peer_is_told_once_more() {
        let mut tally = Tally::default();
        tally.count("tcp", peer(1), 10);
        tally.count("tcp", peer(1), 5);
        tally.count("tcp", peer(2), 1);
        assert_eq!(
            totals(&mut tally),
            [("192.0.2.1:1".to_owned(), 15), ("192.0.2.1:2".to_owned(), 1)]
        );
        assert_eq!(totals(&mut tally), []);
        tally.count("tcp", peer(1), 5);
        tally.closed("tcp", peer(1));
        assert_eq!(totals(&mut tally), [("192.0.2.1:1".to_owned(), 20)]);
        tally.count("tcp", peer(1), 7);
        assert_eq!(
            totals(&mut tally),
            [("192.0.2.1:1".to_owned(), 7)],
            "forgotten after it closed"
        );
    }

    #[test]
    fn beyond_the_bound_bytes_go_to_other() {
        let mut tally = Tally::default();
        let senders = u16::try_from(MAX_PEERS + 10).unwrap_or(u16::MAX);
        for port in 1..=senders {
            tally.count("udp", peer(port), 1);
        }
        let all = totals(&mut tally);
        assert_eq!(all.len(), MAX_PEERS + 1);
        assert_eq!(
            all.iter()
                .find(|(address, _)| address == "other")
                .map(|(_, total)| *total),
            Some(10)
        );
    }
}
