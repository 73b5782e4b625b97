//! The addresses that lifelines were last seen at: a bounded memory.
//!
//! In: addresses with the time they were seen. Out: the addresses that may be used. In the journal, so that isolation
//! can be restored before any name resolves. Invariants: a purpose's last address is never forgotten, so a failing
//! resolver cannot cut a lifeline; no purpose pushes out another's addresses.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::lifeline::{Endpoint, Purpose};
use crate::quarantine::orders::order::Protocol;

/// Endpoint addresses kept for each purpose, so that none can push out another's. AWS answers with up to eight
/// addresses a name and there are four ports; this bounds the set and the journal.
pub(crate) const MAX_ENDPOINTS: usize = 128;
/// Addresses read from a journal: all that can have been written.
const MAX_JOURNALED: usize = Purpose::ALL.len() * MAX_ENDPOINTS;
/// How long an address stays usable after the last answer that named it. The IoT endpoints rotate their
/// addresses, and an open connection may live on one that is no longer in the answer.
const REMEMBER: SignedDuration = SignedDuration::from_hours(24);

/// Lifeline addresses with the time each was last confirmed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(Endpoint, Timestamp)>", into = "Vec<(Endpoint, Timestamp)>")]
pub struct AddressBook {
    seen: BTreeMap<Endpoint, Timestamp>,
}

/// What is left of a purpose when the nucleus is seen to go another way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confinement {
    pub purpose: Purpose,
    /// Where its names lead.
    pub kept: Vec<Endpoint>,
    /// Ports of its names that have not resolved: what is known there may be theirs.
    pub ports: Vec<(Protocol, u16)>,
}

impl From<Vec<(Endpoint, Timestamp)>> for AddressBook {
    fn from(list: Vec<(Endpoint, Timestamp)>) -> Self {
        Self {
            seen: list.into_iter().take(MAX_JOURNALED).collect(),
        }
    }
}

impl From<AddressBook> for Vec<(Endpoint, Timestamp)> {
    fn from(book: AddressBook) -> Self {
        book.seen.into_iter().collect()
    }
}

impl AddressBook {
    /// Notes that `endpoints` were seen at `now`, and forgets old ones; gives whether the set of addresses changed.
    pub fn note(&mut self, endpoints: impl IntoIterator<Item = Endpoint>, now: Timestamp) -> bool {
        let before: Vec<Endpoint> = self.seen.keys().copied().collect();
        for endpoint in endpoints {
            self.seen.insert(endpoint, now);
        }
        self.forget(now);
        !self.seen.keys().eq(before.iter())
    }

    /// Forgets purposes that are switched off.
    pub fn keep_purposes(&mut self, keep: impl Fn(Purpose) -> bool) {
        self.seen.retain(|endpoint, _| keep(endpoint.purpose));
    }

    /// Forgets the addresses of a purpose that are not within `to`.
    pub fn confine(&mut self, to: &Confinement) {
        self.seen.retain(|endpoint, _| {
            endpoint.purpose != to.purpose
                || to.kept.contains(endpoint)
                || to.ports.contains(&(endpoint.protocol, endpoint.port))
        });
    }

    fn forget(&mut self, now: Timestamp) {
        let mut newest: BTreeMap<Purpose, Timestamp> = BTreeMap::new();
        for (endpoint, seen) in &self.seen {
            let entry = newest.entry(endpoint.purpose).or_insert(*seen);
            *entry = (*entry).max(*seen);
        }
        self.seen.retain(|endpoint, seen| {
            now.duration_since(*seen) < REMEMBER || newest.get(&endpoint.purpose) == Some(seen)
        });
        for purpose in newest.into_keys() {
            let mut held: Vec<(Timestamp, Endpoint)> = self
                .seen
                .iter()
                .filter(|(e, _)| e.purpose == purpose)
                .map(|(e, seen)| (*seen, *e))
                .collect();
            held.sort_unstable();
            let surplus = held.len().saturating_sub(MAX_ENDPOINTS);
            for (_, endpoint) in held.into_iter().take(surplus) {
                self.seen.remove(&endpoint);
            }
        }
    }

    /// The addresses, sorted.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.seen.keys().copied().collect()
    }

    /// Whether the control channel has an address.
    pub fn knows_data_endpoint(&self) -> bool {
        self.seen
            .keys()
            .any(|endpoint| endpoint.purpose == Purpose::DataEndpoint)
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn endpoint(address: &str) -> Endpoint {
        let address = address.parse().unwrap();
        Endpoint {
            purpose: Purpose::DataEndpoint,
            address,
            protocol: Protocol::Tcp,
            port: 8883,
        }
    }

    #[test]
    fn the_last_known_address_is_never_forgotten() {
        let mut book = AddressBook::default();
        assert!(book.note([endpoint("192.0.2.1")], at("2026-01-01T00:00:00Z")));
        assert!(
            !book.note([], at("2027-01-01T00:00:00Z")),
            "a dead resolver changes nothing"
        );
        assert!(book.note([endpoint("192.0.2.2")], at("2027-01-01T00:00:01Z")));
        assert_eq!(
            book.endpoints(),
            [endpoint("192.0.2.2")],
            "the old address goes once there is a new one"
        );
    }

    #[test]
    fn rotating_answers_add_up_within_a_day_and_are_bounded() {
        let mut book = AddressBook::default();
        for n in 0..600u32 {
            let address = IpAddr::from(std::net::Ipv4Addr::from(0xC000_0200 + n));
            book.note(
                [Endpoint {
                    address,
                    ..endpoint("192.0.2.1")
                }],
                at("2026-01-01T00:00:00Z"),
            );
        }
        assert_eq!(book.endpoints().len(), MAX_ENDPOINTS);
    }

    #[test]
    fn what_is_on_another_way_is_forgotten() {
        let mut book = AddressBook::default();
        let logs = Endpoint {
            purpose: Purpose::Logs,
            ..endpoint("192.0.2.3")
        };
        let known = [endpoint("192.0.2.1"), endpoint("192.0.2.2"), logs];
        book.note(known, at("2026-01-01T00:00:00Z"));
        let mut confinement = Confinement {
            purpose: Purpose::DataEndpoint,
            kept: vec![endpoint("192.0.2.1")],
            ports: vec![(Protocol::Tcp, 8883)],
        };
        book.confine(&confinement);
        assert_eq!(book.endpoints().len(), 3, "they may be an unresolved name's");
        confinement.ports.clear();
        book.confine(&confinement);
        assert_eq!(book.endpoints(), [endpoint("192.0.2.1"), logs]);
    }

    #[test]
    fn no_purpose_pushes_out_another() {
        let mut book = AddressBook::default();
        let servers = (0..600u32).map(|n| Endpoint {
            purpose: Purpose::Ntp,
            address: std::net::Ipv4Addr::from(0xC000_0200 + n).into(),
            protocol: Protocol::Udp,
            port: 123,
        });
        book.note(servers.chain([endpoint("192.0.2.1")]), at("2026-01-01T00:00:00Z"));
        assert!(book.knows_data_endpoint());
        assert_eq!(book.endpoints().len(), MAX_ENDPOINTS + 1);
    }
}
