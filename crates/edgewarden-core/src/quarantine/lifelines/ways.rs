//! By which interfaces and next hops a lifeline's address is reached: the address alone is also that of whoever takes it on
//! another link.
//!
//! In: the host's routes ([`Route`]), which rules of routing lead to which tables, the addresses of the lifelines. Out:
//! [`Way`]s: every interface and next hop by which a route of the host leads to an address, so that an uplink that stands by
//! counts too; what has no route does not. [`KnownWays`] remembers: an address that has no route at the moment keeps the ways
//! that it had, and of more ways than are kept those stay that were known, and the one that the kernel takes. Deliberately
//! absent: which of them the kernel takes for a packet; it asks its own routing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::crosswise::crosswise;
use crate::Arrange;

/// Bytes that the kernel has for an interface's name, with the zero behind it.
pub(crate) const NAME_LENGTH: usize = 16;
/// Ways kept of one address: a gateway has some uplinks, of which some have several routers.
pub(super) const MAX_WAYS: usize = 32;
/// Ways looked at of one address, in the order in which the kernel tells routes: of two alike the older one comes first.
const MAX_FOUND: usize = 256;

/// An interface's name that can be written into rules.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InterfaceName([u8; NAME_LENGTH]);

impl InterfaceName {
    /// None where it has other characters than rules are written with.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-@".contains(byte);
        let bytes = name.as_bytes();
        if bytes.is_empty() || bytes.len() >= NAME_LENGTH || !bytes.iter().all(plain) {
            return None;
        }
        let mut own = [0; NAME_LENGTH];
        own.iter_mut().zip(bytes).for_each(|(own, byte)| *own = *byte);
        Some(Self(own))
    }

    /// As the kernel compares it, with zeros behind it; none where that is no such name.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let end = bytes.iter().position(|byte| *byte == 0)?;
        let name = Self::new(std::str::from_utf8(bytes.get(..end)?).ok()?)?;
        (name.0 == bytes).then_some(name)
    }

    /// As the kernel compares it.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; NAME_LENGTH] {
        &self.0
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.0.iter().position(|byte| *byte == 0).unwrap_or(NAME_LENGTH);
        f.write_str(&String::from_utf8_lossy(self.0.get(..end).unwrap_or_default()))
    }
}

impl fmt::Debug for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<InterfaceName> for String {
    fn from(name: InterfaceName) -> Self {
        name.to_string()
    }
}

impl TryFrom<String> for InterfaceName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        Self::new(&name).ok_or_else(|| format!("{name:?} is no interface's name"))
    }
}

/// One way to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Way {
    /// Of a lifeline.
    pub address: IpAddr,
    /// By which it is reached.
    pub interface: InterfaceName,
    /// Whom the packets are handed to: a gateway, or the address itself where it is on the link.
    pub next_hop: IpAddr,
}

/// An interface, and the hardware address that frames of ours leave it with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bearer {
    /// By which frames leave.
    pub interface: InterfaceName,
    /// Their sender.
    pub hardware: [u8; 6],
}

/// How the lifelines of a plan are tied to their ways.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Ways {
    /// To these, sorted.
    Tied(Vec<Way>),
    /// To none: the address may be reached by any interface. With the reason, which is told.
    Any { why: String },
}

impl Default for Ways {
    fn default() -> Self {
        Self::Any {
            why: "no route has been read".to_owned(),
        }
    }
}

/// A route of the host to one next hop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The table that it is in.
    pub table: u32,
    pub to: IpNet,
    pub interface: InterfaceName,
    /// None where the destination is on the link, or its gateway has an address of the other family.
    pub gateway: Option<IpAddr>,
}

impl Route {
    /// In place of a table: what the kernel takes at this moment, which is in none.
    pub const TAKEN: u32 = 0;
}

/// The ways that were found to some addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FoundWays {
    /// All.
    pub ways: BTreeSet<Way>,
    /// Those of them that the kernel takes at this moment.
    pub taken: BTreeSet<Way>,
    /// What of the routes could not be kept, each a sentence.
    pub gaps: Vec<String>,
}

/// By which links each address of a link alone (`fe80::/10`) is reached, as those say who name it; none where nobody says.
pub type LinksOf = BTreeMap<IpAddr, BTreeSet<InterfaceName>>;

/// Whether every link may have a host of that address.
pub(crate) fn is_of_a_link(address: &IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

impl FoundWays {
    /// Without the ways to addresses of a link by other links: every link has a route to all of them. Where nobody says which one
    /// is meant, it is the one that the kernel takes.
    #[must_use]
    pub fn by_their_links(mut self, links: &LinksOf) -> Self {
        let Self { ways, taken, gaps } = &mut self;
        let mut unsaid = BTreeSet::new();
        ways.retain(|way| {
            if !is_of_a_link(&way.address) {
                return true;
            }
            let is_meant = match links.get(&way.address) {
                Some(links) if !links.is_empty() => links.contains(&way.interface),
                _ => {
                    unsaid.insert(way.address);
                    taken.contains(way)
                }
            };
            is_meant && way.next_hop == way.address
        });
        let tell = |address: IpAddr| format!("nobody says by which interface {address} is reached");
        gaps.extend(unsaid.into_iter().map(tell));
        self
    }
}

/// What is read of the host's routing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routing {
    pub routes: Vec<Route>,
    /// Tables that some rule leads packets of this device to; others are of what is forwarded, or of nobody.
    pub tables: BTreeSet<u32>,
    /// Some rule goes by a packet's mark.
    pub by_mark: bool,
}

impl Routing {
    /// Every way to these addresses.
    #[must_use]
    pub fn ways(&self, addresses: &BTreeSet<IpAddr>) -> FoundWays {
        let mut found = FoundWays::default();
        for address in addresses {
            let leading = self.routes.iter().filter(|route| route.to.contains(address));
            let mut count = 0;
            for route in leading {
                let way = route.way_to(*address);
                if route.table == Route::TAKEN {
                    found.taken.insert(way);
                } else if self.tables.contains(&route.table) && count < MAX_FOUND {
                    count += usize::from(found.ways.insert(way));
                }
            }
        }
        found.ways.extend(found.taken.iter().copied());
        if self.by_mark {
            let crossed: Vec<Way> = addresses
                .iter()
                .flat_map(|address| crosswise(&found.ways, *address))
                .collect();
            found.ways.extend(crossed);
        }
        found
    }
}

impl Route {
    fn way_to(&self, address: IpAddr) -> Way {
        let of_family = |gateway: &IpAddr| gateway.is_ipv4() == address.is_ipv4();
        Way {
            address,
            interface: self.interface,
            next_hop: self.gateway.filter(of_family).unwrap_or(address),
        }
    }
}

/// The ways as they were last seen, for each address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownWays {
    of: BTreeMap<IpAddr, BTreeSet<Way>>,
    fault: Option<String>,
    gaps: Vec<String>,
}

impl KnownWays {
    /// Notes what was found of these addresses; others are forgotten. One to which nothing leads any more keeps what it had: its
    /// link is down, and no other one leads there. Whoever can have the host take routes must not push out what is known.
    pub fn note(&mut self, addresses: &BTreeSet<IpAddr>, found: Result<FoundWays, String>) {
        self.gaps.clear();
        self.of.retain(|address, _| addresses.contains(address));
        let found = match found {
            Ok(found) => found,
            Err(why) => {
                self.fault = Some(why);
                return;
            }
        };
        self.fault = None;
        self.gaps = found.gaps;
        let mut fresh: BTreeMap<IpAddr, BTreeSet<Way>> = BTreeMap::new();
        for way in found
            .ways
            .into_iter()
            .filter(|way| addresses.contains(&way.address))
        {
            fresh.entry(way.address).or_default().insert(way);
        }
        for (address, ways) in &mut fresh {
            if ways.len() > MAX_WAYS {
                let count = ways.len();
                self.gaps.push(format!(
                    "{count} ways lead to {address}, of which {MAX_WAYS} are kept"
                ));
                let known = self.of.get(address);
                let rank = |way: &Way| match known {
                    _ if found.taken.contains(way) => 0,
                    Some(known) if known.contains(way) => 1,
                    _ => 2,
                };
                let mut all: Vec<Way> = ways.iter().copied().collect();
                all.arrange_by_key(rank);
                all.truncate(MAX_WAYS);
                *ways = all.into_iter().collect();
            }
        }
        self.of.extend(fresh);
    }

    /// What of the ways is not kept, each a sentence.
    #[must_use]
    pub fn gaps(&self) -> &[String] {
        &self.gaps
    }

    /// What lifelines are tied to. While nothing at all is known, as at boot, they are not: the network may come up while nobody
    /// is there to follow it.
    #[must_use]
    pub fn ties(&self) -> Ways {
        let because = |why: &str| Ways::Any { why: why.to_owned() };
        match &self.fault {
            Some(why) => because(why),
            None if self.of.is_empty() => because("no route leads to any of them"),
            None => Ways::Tied(self.of.values().flatten().copied().collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(table: u32, to: &str, interface: &str, gateway: Option<&str>) -> Route {
        Route {
            table,
            to: to.parse().unwrap(),
            interface: InterfaceName::new(interface).unwrap(),
            gateway: gateway.map(|gateway| gateway.parse().unwrap()),
        }
    }

    fn addresses(all: &[&str]) -> BTreeSet<IpAddr> {
        all.iter().map(|address| address.parse().unwrap()).collect()
    }

    fn shown(ways: &Ways) -> Vec<String> {
        let Ways::Tied(ways) = ways else {
            return vec!["any".to_owned()];
        };
        let show = |way: &Way| format!("{} {} {}", way.address, way.interface, way.next_hop);
        ways.iter().map(show).collect()
    }

    fn routing(routes: Vec<Route>) -> Routing {
        Routing {
            routes,
            tables: BTreeSet::from([254, 100]),
            by_mark: false,
        }
    }

    #[test]
    fn every_uplink_counts_and_a_link_without_a_route_does_not() {
        let routing = routing(vec![
            route(254, "0.0.0.0/0", "wan0", Some("198.51.100.1")),
            route(100, "0.0.0.0/0", "wan1", Some("203.0.113.1")),
            route(254, "192.0.2.0/24", "lan0", None),
            // A table that no rule of this device's own packets leads to.
            route(7, "0.0.0.0/0", "vrf0", Some("10.0.0.1")),
            route(254, "::/0", "wan0", Some("fe80::1")),
        ]);
        let asked = addresses(&["8.8.8.8", "192.0.2.9", "2001:db8::1"]);
        let mut known = KnownWays::default();
        known.note(&asked, Ok(routing.ways(&asked)));
        assert_eq!(
            shown(&known.ties()),
            [
                "8.8.8.8 wan0 198.51.100.1",
                "8.8.8.8 wan1 203.0.113.1",
                "192.0.2.9 lan0 192.0.2.9",
                "192.0.2.9 wan0 198.51.100.1",
                "192.0.2.9 wan1 203.0.113.1",
                "2001:db8::1 wan0 fe80::1",
            ]
        );
    }

    #[test]
    fn what_has_no_route_keeps_its_ways_and_what_cannot_be_read_ties_nothing() {
        let asked = addresses(&["8.8.8.8"]);
        let up = routing(vec![route(254, "0.0.0.0/0", "wan0", None)]);
        let mut known = KnownWays::default();
        known.note(&asked, Ok(routing(Vec::new()).ways(&asked)));
        assert_eq!(shown(&known.ties()), ["any"], "nothing is known yet");
        known.note(&asked, Ok(up.ways(&asked)));
        known.note(&asked, Ok(routing(Vec::new()).ways(&asked)));
        assert_eq!(shown(&known.ties()), ["8.8.8.8 wan0 8.8.8.8"]);
        known.note(&asked, Err("broken".to_owned()));
        assert_eq!(
            known.ties(),
            Ways::Any {
                why: "broken".to_owned()
            }
        );
        known.note(&asked, Ok(routing(Vec::new()).ways(&asked)));
        assert_eq!(shown(&known.ties()), ["8.8.8.8 wan0 8.8.8.8"]);
        let other = addresses(&["9.9.9.9"]);
        known.note(&other, Ok(routing(Vec::new()).ways(&other)));
        assert_eq!(shown(&known.ties()), ["any"], "what is no lifeline is forgotten");
    }

    #[test]
    fn a_gateway_of_the_other_family_is_told_by_the_destination() {
        let asked = addresses(&["8.8.8.8"]);
        let routing = routing(vec![route(254, "0.0.0.0/0", "wan0", Some("fe80::1"))]);
        let ways: Vec<Way> = routing.ways(&asked).ways.into_iter().collect();
        assert_eq!(ways[0].next_hop, ways[0].address);
    }

    #[test]
    fn an_address_of_a_link_is_reached_by_its_own_link_alone() {
        let asked = addresses(&["fe80::53", "fe80::54", "2001:db8::1"]);
        let mut routes = vec![
            route(254, "fe80::/64", "wan0", None),
            route(254, "fe80::/64", "lan0", None),
            route(254, "::/0", "wan0", Some("fe80::1")),
        ];
        routes.extend(["fe80::53/128", "fe80::54/128"].map(|of| route(Route::TAKEN, of, "lan0", None)));
        let found = routing(routes).ways(&asked);
        let links = BTreeMap::from([(
            "fe80::53".parse().unwrap(),
            [InterfaceName::new("wan0").unwrap()].into(),
        )]);
        let mut known = KnownWays::default();
        known.note(&asked, Ok(found.by_their_links(&links)));
        assert_eq!(
            shown(&known.ties()),
            [
                "2001:db8::1 wan0 fe80::1",
                "fe80::53 wan0 fe80::53",
                "fe80::54 lan0 fe80::54",
            ]
        );
        assert_eq!(
            known.gaps(),
            ["nobody says by which interface fe80::54 is reached"]
        );
    }

    #[test]
    fn of_very_many_ways_the_known_one_and_the_one_that_is_taken_stay() {
        let asked = addresses(&["8.8.8.8", "9.9.9.9"]);
        let to = |table: u32, n: u8| route(table, "0.0.0.0/0", "wan0", Some(&format!("10.0.0.{n}")));
        let mut known = KnownWays::default();
        let mut note = |routes: Vec<Route>| {
            known.note(&asked, Ok(routing(routes).ways(&asked)));
            (shown(&known.ties()), known.gaps().len())
        };
        assert_eq!(note(vec![to(254, 250)]).1, 0);
        let mut many: Vec<Route> = (1..=40).chain([250]).map(|n| to(254, n)).collect();
        many.push(route(Route::TAKEN, "8.8.8.8/32", "wan1", Some("10.0.0.240")));
        let (ways, gaps) = note(many);
        assert_eq!((ways.len(), gaps), (2 * MAX_WAYS, 2));
        for way in [
            "8.8.8.8 wan0 10.0.0.250",
            "9.9.9.9 wan0 10.0.0.250",
            "8.8.8.8 wan1 10.0.0.240",
        ] {
            assert!(ways.iter().any(|kept| kept == way), "{way} of {ways:?}");
        }
        assert_eq!(
            note(vec![to(254, 250)]),
            (
                vec!["8.8.8.8 wan0 10.0.0.250".into(), "9.9.9.9 wan0 10.0.0.250".into()],
                0
            )
        );
    }

    #[test]
    fn names_are_those_that_rules_are_written_with() {
        for name in ["", "sixteen-letters-", "a b", "a\"b", "ü"] {
            assert_eq!(InterfaceName::new(name), None, "{name}");
        }
        let name = InterfaceName::new("wwan0.7@x").unwrap();
        assert_eq!(InterfaceName::from_bytes(name.bytes()), Some(name));
        assert_eq!(InterfaceName::from_bytes(&[b'a'; NAME_LENGTH]), None);
    }
}
