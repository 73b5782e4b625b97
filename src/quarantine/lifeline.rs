//! What isolation never cuts: which names must be reachable, and the addresses they were last seen at.
//!
//! In: the configuration's switches, the nucleus' endpoints, resolvers and time servers of the host, resolved
//! addresses with the time they were seen. Out: [`Target`]s to resolve and a bounded [`AddressBook`].
//! Invariant: an address book never forgets the last address of a target, so a failing resolver cannot cut a lifeline.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::order::Protocol;

/// Endpoint addresses kept for each purpose, so that none can push out another's. AWS answers with up to eight
/// addresses a name and there are four ports; this bounds the set and the journal.
pub const MAX_ENDPOINTS: usize = 128;
/// Addresses read from a journal: all that can have been written.
const MAX_JOURNALED: usize = 3 * MAX_ENDPOINTS;
/// How long an address stays usable after the last answer that named it. The IoT endpoints rotate their
/// addresses, and an open connection may live on one that is no longer in the answer.
const REMEMBER: SignedDuration = SignedDuration::from_hours(24);

/// Which lifelines are on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "four independent switches of the configuration"
)]
pub struct Lifelines {
    /// DHCPv4 and DHCPv6 client.
    pub dhcp: bool,
    /// DNS to the configured resolvers.
    pub dns: bool,
    /// NTP to the configured time servers.
    pub ntp: bool,
    /// The IoT data endpoint. Switching it off means that only a person at the device can release it.
    pub data_endpoint: bool,
}

impl Default for Lifelines {
    fn default() -> Self {
        Self {
            dhcp: true,
            dns: true,
            ntp: true,
            data_endpoint: true,
        }
    }
}

/// What a lifeline address is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Purpose {
    /// MQTT and HTTPS of the IoT data endpoint: the control channel.
    DataEndpoint,
    /// A configured resolver.
    Dns,
    /// A configured time server.
    Ntp,
}

/// A name or address that must be reachable, with its ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// What for.
    pub purpose: Purpose,
    /// Host name or address literal.
    pub host: String,
    /// Where.
    pub ports: Vec<(Protocol, u16)>,
}

/// One address of a lifeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    /// What for.
    pub purpose: Purpose,
    /// Where.
    pub address: IpAddr,
    /// How.
    pub protocol: Protocol,
    /// Which port.
    pub port: u16,
}

/// What the host and the nucleus say about the surroundings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The IoT data endpoint's name.
    pub data_endpoint: Option<String>,
    /// An MQTT port of the nucleus other than 8883, if it has one.
    pub mqtt_port: Option<u16>,
    /// Resolvers of the host.
    pub resolvers: Vec<IpAddr>,
    /// Time servers of the host.
    pub time_servers: Vec<String>,
}

/// Ports of the IoT data endpoint: MQTT, HTTPS, and both with ALPN (shadow.md 11).
pub const DATA_ENDPOINT_PORTS: [u16; 3] = [8883, 8443, 443];

/// What must be resolved, given the switches and the surroundings.
pub fn targets(lifelines: &Lifelines, around: &Surroundings) -> Vec<Target> {
    let mut targets = Vec::new();
    if let Some(host) = around.data_endpoint.as_ref().filter(|_| lifelines.data_endpoint) {
        let ports: BTreeSet<u16> = DATA_ENDPOINT_PORTS.into_iter().chain(around.mqtt_port).collect();
        let ports = ports.into_iter().map(|port| (Protocol::Tcp, port)).collect();
        targets.push(Target {
            purpose: Purpose::DataEndpoint,
            host: host.clone(),
            ports,
        });
    }
    if lifelines.dns {
        let ports = vec![(Protocol::Udp, 53), (Protocol::Tcp, 53)];
        targets.extend(around.resolvers.iter().map(|address| Target {
            purpose: Purpose::Dns,
            host: address.to_string(),
            ports: ports.clone(),
        }));
    }
    if lifelines.ntp {
        targets.extend(around.time_servers.iter().map(|host| Target {
            purpose: Purpose::Ntp,
            host: host.clone(),
            ports: vec![(Protocol::Udp, 123)],
        }));
    }
    targets
}

/// Lifeline addresses with the time each was last confirmed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(Endpoint, Timestamp)>", into = "Vec<(Endpoint, Timestamp)>")]
pub struct AddressBook {
    seen: BTreeMap<Endpoint, Timestamp>,
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

    #[test]
    fn targets_follow_the_switches() {
        let around = Surroundings {
            data_endpoint: Some("x-ats.iot.example".into()),
            mqtt_port: Some(8884),
            resolvers: vec!["192.0.2.53".parse().unwrap()],
            time_servers: vec!["ntp.example".into()],
        };
        let all = targets(&Lifelines::default(), &around);
        assert_eq!(all.len(), 3);
        assert_eq!(all[0].ports.len(), 4);
        let none = Lifelines {
            dhcp: false,
            dns: false,
            ntp: false,
            data_endpoint: false,
        };
        assert!(targets(&none, &around).is_empty());
    }
}
