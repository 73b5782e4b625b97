//! The addresses that lifelines were last seen at: a bounded memory.
//!
//! In: addresses with the time they were seen and who says so. Out: the addresses that may be used. In the journal, so that
//! isolation can be restored before any name resolves. Invariants: a purpose's last address is never forgotten, so a failing
//! resolver cannot cut a lifeline; no purpose pushes out another's addresses; where the nucleus is connected is pushed out by
//! nothing, and what a look-up of a lifeline's own name gave by nothing of less weight.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::lifeline::{Endpoint, EndpointKey, Purpose};
use super::origin::{LifelineAddress, Origin, OriginKind, Sighting};
use crate::quarantine::orders::order::Protocol;
use crate::{Arrange, Gather};

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
#[serde(from = "Vec<Kept>", into = "Vec<Kept>")]
pub struct AddressBook {
    seen: BTreeMap<Endpoint, Seen>,
    /// Whether the nucleus' sockets were looked at since the start: until then an address of before may be in use.
    knows_sockets: bool,
}

/// As it is written: agents of before read the address and pass over the rest.
type Kept = (LifelineAddress, Timestamp);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    at: Timestamp,
    origin: Origin,
    used: bool,
}

impl Seen {
    /// What counts when there is no room for all: what the nucleus uses, then who said it, then the newest.
    fn rank(&self) -> (bool, bool, Timestamp) {
        (self.used, self.origin.by.is_of_a_lifeline(), self.at)
    }
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

impl From<Vec<Kept>> for AddressBook {
    fn from(list: Vec<Kept>) -> Self {
        let read = |(kept, at): Kept| {
            let LifelineAddress {
                endpoint,
                origin,
                used,
            } = kept;
            (endpoint, Seen { at, origin, used })
        };
        Self {
            seen: list.into_iter().take(MAX_JOURNALED).map(read).in_map(),
            knows_sockets: false,
        }
    }
}

impl From<AddressBook> for Vec<Kept> {
    fn from(book: AddressBook) -> Self {
        let times: Vec<Timestamp> = book.seen.values().map(|seen| seen.at).collect();
        book.addresses().into_iter().zip(times).collect()
    }
}

impl AddressBook {
    /// Notes that these were seen at `now`, and forgets old ones; gives whether the set of addresses changed.
    pub fn note(&mut self, sightings: impl IntoIterator<Item = Sighting>, now: Timestamp) -> bool {
        let before = self.endpoints();
        for Sighting { endpoint, origin } in sightings {
            self.see(endpoint, origin, now);
        }
        self.forget(now);
        before != self.endpoints()
    }

    /// Notes where the nucleus is connected; gives whether the set of addresses changed. While it is connected nowhere, where
    /// it last was still counts.
    pub fn note_connected(&mut self, connected: &[Endpoint], now: Timestamp) -> bool {
        let before = self.endpoints();
        self.knows_sockets = true;
        for endpoint in connected {
            self.see(*endpoint, Origin::nucleus(), now);
        }
        if !connected.is_empty() {
            let ends: BTreeSet<_> = connected.iter().map(Endpoint::key).in_set();
            for (endpoint, seen) in &mut self.seen {
                seen.used = ends.contains(&endpoint.key());
            }
        }
        self.forget(now);
        before != self.endpoints()
    }

    fn see(&mut self, endpoint: Endpoint, origin: Origin, at: Timestamp) {
        let seen = self.seen.entry(endpoint).or_insert_with(|| Seen {
            at,
            origin: origin.clone(),
            used: false,
        });
        seen.at = at;
        // A socket says where the nucleus went, and the look-up that led it there says more.
        if origin.by != OriginKind::Nucleus || !seen.origin.by.is_vouched() {
            seen.origin = origin;
        }
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
        self.doubt_remembered();
        let mut newest: BTreeMap<Purpose, Timestamp> = BTreeMap::new();
        for (endpoint, seen) in &self.seen {
            let entry = newest.entry(endpoint.purpose).or_insert(seen.at);
            *entry = (*entry).max(seen.at);
        }
        self.seen.retain(|endpoint, seen| {
            now.duration_since(seen.at) < REMEMBER || newest.get(&endpoint.purpose) == Some(&seen.at)
        });
        for purpose in newest.into_keys() {
            let of_purpose = self.seen.iter().filter(|(end, _)| end.purpose == purpose);
            let mut held: Vec<_> = of_purpose.map(|(end, seen)| (seen.rank(), *end)).collect();
            held.arrange();
            let surplus = held.len().saturating_sub(MAX_ENDPOINTS);
            for (_, endpoint) in held.into_iter().take(surplus) {
                self.seen.remove(&endpoint);
            }
        }
    }

    /// Forgets what an earlier agent may have believed of the wire, once there is an address of the same purpose that somebody
    /// vouches for, and it is known where the nucleus is.
    fn doubt_remembered(&mut self) {
        if !self.knows_sockets {
            return;
        }
        let vouched: BTreeSet<Purpose> = self
            .seen
            .iter()
            .filter(|(_, seen)| seen.origin.by.is_vouched())
            .map(|(endpoint, _)| endpoint.purpose)
            .in_set();
        self.seen.retain(|endpoint, seen| {
            seen.used || seen.origin.by != OriginKind::Remembered || !vouched.contains(&endpoint.purpose)
        });
    }

    /// The addresses, sorted.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.seen.keys().copied().collect()
    }

    /// The same with who says so.
    pub fn addresses(&self) -> Vec<LifelineAddress> {
        let told = |(endpoint, seen): (&Endpoint, &Seen)| LifelineAddress {
            endpoint: *endpoint,
            origin: seen.origin.clone(),
            used: seen.used,
        };
        self.seen.iter().map(told).collect()
    }

    /// Those that nothing but the nucleus' own sockets name. It may have been led there by whoever answered its question first,
    /// so they are nobody else's to use.
    pub fn of_the_nucleus_alone(&self) -> BTreeSet<EndpointKey> {
        let named = |by_nucleus: bool| {
            let of = self
                .seen
                .iter()
                .filter(move |(_, seen)| (seen.origin.by == OriginKind::Nucleus) == by_nucleus);
            of.map(|(endpoint, _)| endpoint.key()).in_set()
        };
        named(true).difference(&named(false)).copied().collect()
    }

    /// Whether the control channel has an address.
    pub fn knows_data_endpoint(&self) -> bool {
        self.seen
            .keys()
            .any(|endpoint| endpoint.purpose == Purpose::DataEndpoint)
    }
}

#[cfg(test)]
#[path = "address_book_tests.rs"]
mod tests;
