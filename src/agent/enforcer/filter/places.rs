//! Where this device's addresses are on their links, and where its frames may leave though nothing tells it.
//!
//! In: the interfaces of this namespace. Out: for each address by which interfaces what is said of it is about itself, and what it is
//! called there; members of bridges and of other switches by which nobody knows what leaves. Absent: what others say of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::bearers::{MAX_DEPTH, Stack, gathers};
use crate::Gather;
use crate::observe::link::Link;
use crate::observe::way::InterfaceKind;
use crate::quarantine::lifelines::ways::InterfaceName;

/// Pairs of an interface and an address that is at home there; three hundred ports of a bridge with five addresses are 1,500.
const MAX_PLACES: usize = 4_096;

/// Where this device's addresses are.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Places {
    /// Interfaces, each with the addresses that it carries itself or for what stands on it.
    pub(super) homes: BTreeSet<(InterfaceName, IpAddr)>,
    /// These addresses, each with the hardware addresses that it is at.
    pub(super) called: BTreeSet<(IpAddr, [u8; 6])>,
}

/// Of the addresses that interfaces of Ethernet have, those which `own` are; of none where they are too many. Of IPv6 the kernel speaks of
/// an address by its interface alone. In the name of one of IPv4 it also asks by any other that it sends by, as a packet from there
/// leaves: by those of that link that are up and have an address.
pub(super) fn places<'a>(links: &'a [Link], stack: &Stack<'a>, own: &BTreeSet<IpAddr>) -> Places {
    let below: Vec<Vec<&Link>> = links.iter().map(|link| stack.below(link)).collect();
    let mut asking: BTreeMap<u32, BTreeSet<[u8; 6]>> = BTreeMap::new();
    for (link, below) in links.iter().zip(&below) {
        let sends = link.up && link.addresses.iter().any(IpAddr::is_ipv4);
        for lower in below.iter().filter(|lower| sends || lower.index == link.index) {
            asking.entry(lower.index).or_default().extend(link.hardware);
        }
    }
    let mut places = Places::default();
    for (link, below) in links.iter().zip(&below) {
        let Some(hardware) = link.hardware else { continue };
        let mut called = BTreeSet::from([hardware]);
        called.extend(below.iter().flat_map(|lower| stack.of_bond(lower)));
        let mut of_v4 = called.clone();
        // A bridge answers for what its port has.
        of_v4.extend(stack.master(link).and_then(|master| master.hardware));
        let by_themselves = below.iter().filter(|lower| !stack.sends_for_another(lower));
        let asks = by_themselves.filter_map(|lower| asking.get(&lower.index));
        of_v4.extend(asks.flatten());
        let names: Vec<InterfaceName> = below
            .iter()
            .filter_map(|lower| InterfaceName::new(&lower.name))
            .collect();
        for address in link.addresses.iter().filter(|address| own.contains(address)) {
            let called = if address.is_ipv4() { &of_v4 } else { &called };
            places
                .homes
                .extend(names.iter().map(|interface| (*interface, *address)));
            places
                .called
                .extend(called.iter().map(|hardware| (*address, *hardware)));
        }
        if places.homes.len().max(places.called.len()) > MAX_PLACES {
            return Places::default();
        }
    }
    places
}

/// Where frames of this device's own may leave though nothing above tells it.
#[derive(Debug, Default)]
pub(super) struct UnknownWays {
    /// Members of bridges and bonds to which they come by a pair of interfaces.
    pub(super) looped: BTreeSet<InterfaceName>,
    /// These, members of other switches, and what both leave by.
    pub(super) crossed: Vec<InterfaceName>,
}

/// A pair counts that is in use at its other end: the one that a container is given lies there bare and down before it is moved. What
/// belongs to a VRF leaves by itself.
pub(super) fn unknown<'a>(links: &'a [Link], stack: &Stack<'a>) -> UnknownWays {
    let mut uppers: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for link in links {
        uppers
            .entry(link.lower.unwrap_or_default())
            .or_default()
            .push(link.index);
    }
    let is_pair_in_use = |link: &Link| {
        let peer = link.lower.and_then(|lower| stack.by_index.get(&lower));
        let peer = peer.filter(|peer| peer.lower == Some(link.index));
        // Each is the other's lower one.
        let is_below = |peer: &Link| {
            uppers
                .get(&peer.index)
                .is_some_and(|above| above.iter().any(|above| *above != link.index))
        };
        peer.is_some_and(|peer| {
            peer.up && (!peer.addresses.is_empty() || peer.master.is_some() || is_below(peer))
        })
    };
    let members = || links.iter().filter(|link| stack.sends_for_another(link));
    let mut looped: BTreeSet<u32> = members()
        .filter(|link| is_pair_in_use(link))
        .filter_map(|link| link.master)
        .in_set();
    // What comes to a bridge goes on by a bridge whose port stands on it.
    for _ in 0..MAX_DEPTH {
        let before = looped.len();
        for port in members() {
            let mut reaches = false;
            stack.walk(port, &mut Vec::new(), &mut |path| {
                reaches |= path.last().is_some_and(|lowest| looped.contains(&lowest.index));
            });
            looped.extend(port.master.filter(|_| reaches));
        }
        if looped.len() == before {
            break;
        }
    }
    let is_looped = |link: &&Link| link.master.is_some_and(|master| looped.contains(&master));
    let is_known = |master: &Link| gathers(master) || master.device == InterfaceKind::Vrf;
    let is_switched = |link: &&Link| link.master.is_some() && !stack.master(link).is_some_and(is_known);
    let mut crossed = BTreeSet::new();
    for link in links.iter().filter(|link| is_looped(link) || is_switched(link)) {
        stack.walk(link, &mut Vec::new(), &mut |path| {
            crossed.extend(path.last().and_then(|lowest| InterfaceName::new(&lowest.name)));
        });
    }
    let ports = links.iter().filter(is_looped);
    UnknownWays {
        looped: ports.filter_map(|link| InterfaceName::new(&link.name)).in_set(),
        crossed: crossed.into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::bearers::tests::link;
    use super::*;

    fn placed(links: &[Link], of: &str) -> (Vec<String>, Vec<String>) {
        let address: IpAddr = of.parse().unwrap();
        let own = links
            .iter()
            .flat_map(|link| link.addresses.iter().copied())
            .collect();
        let places = places(links, &Stack::of(links), &own);
        let homes = places.homes.iter().filter(|(_, home)| *home == address);
        let called = places.called.iter().filter(|(called, _)| *called == address);
        (
            homes.map(|(interface, _)| interface.to_string()).collect(),
            called.map(|(_, hardware)| hardware[5].to_string()).collect(),
        )
    }

    fn having(address: &str, link: Link) -> Link {
        Link {
            addresses: vec![address.parse().unwrap()],
            ..link
        }
    }

    fn as_a(device: InterfaceKind, link: Link) -> Link {
        Link { device, ..link }
    }

    #[test]
    fn an_address_is_at_home_where_it_is_carried_and_on_what_that_stands() {
        let links = [
            having("198.51.100.2", link(1, "wan0", None, None)),
            having("198.51.100.8", link(2, "own0", Some(1), None)),
            having("192.0.2.1", link(3, "lan0", None, None)),
        ];
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            placed(&links, "198.51.100.2"),
            (words(&["wan0"]), words(&["1", "2"]))
        );
        assert_eq!(
            placed(&links, "198.51.100.8"),
            (words(&["own0", "wan0"]), words(&["1", "2"]))
        );
        assert_eq!(placed(&links, "192.0.2.1"), (words(&["lan0"]), words(&["3"])));
        // The kernel sends by none that is down, or without an address, and speaks of IPv6 by one alone.
        let standing = |own: Link| placed(&[links[0].clone(), own], "198.51.100.2").1;
        let down = Link {
            up: false,
            ..links[1].clone()
        };
        let bare = Link {
            addresses: Vec::new(),
            ..links[1].clone()
        };
        assert_eq!([standing(down), standing(bare)], [words(&["1"]), words(&["1"])]);
        let of_v6 = [having("2001:db8::2", links[0].clone()), links[1].clone()];
        assert_eq!(placed(&of_v6, "2001:db8::2").1, words(&["1"]));
        // Members of a bond say it of each other; a bridge says it of its port, and what belongs to a VRF itself.
        let with = |device, address_of_port: bool| {
            let port = link(1, "eth0", None, Some(2));
            let above = as_a(device, link(2, "top0", None, None));
            if address_of_port {
                [having("192.0.2.1", port), above]
            } else {
                [port, having("192.0.2.1", above)]
            }
        };
        let at = |device, port| placed(&with(device, port), "192.0.2.1");
        let (both, port) = (words(&["eth0", "top0"]), words(&["eth0"]));
        assert_eq!(at(InterfaceKind::Bond, false), (both.clone(), words(&["1", "2"])));
        assert_eq!(at(InterfaceKind::Bridge, false), (both, words(&["2"])));
        assert_eq!(at(InterfaceKind::Bridge, true), (port, words(&["1", "2"])));
        assert_eq!(at(InterfaceKind::Vrf, false), (words(&["top0"]), words(&["2"])));
    }

    #[test]
    fn frames_come_round_by_a_pair_that_is_in_use_and_by_no_other() {
        let bridge = as_a(InterfaceKind::Bridge, link(1, "br0", None, None));
        let uplink = link(2, "wan0", None, Some(1));
        let (near, far) = (link(3, "v0", Some(4), Some(1)), link(4, "v1", Some(3), None));
        let found = |links: &[Link]| {
            let UnknownWays { looped, crossed } = unknown(links, &Stack::of(links));
            let text = |names: Vec<InterfaceName>| {
                let all: Vec<String> = names.iter().map(ToString::to_string).collect();
                all.join(" ")
            };
            (text(looped.into_iter().collect()), text(crossed))
        };
        let all = |far: Link| [bridge.clone(), uplink.clone(), near.clone(), far];
        let nothing = (String::new(), String::new());
        assert_eq!(found(&all(far.clone())), nothing, "up and bare");
        let addressed = having("192.0.2.1", far.clone());
        let down = Link {
            up: false,
            ..addressed.clone()
        };
        assert_eq!(found(&all(down)), nothing, "down");
        let ways = ("v0 wan0".to_owned(), "v0 wan0".to_owned());
        assert_eq!(found(&all(addressed.clone())), ways);
        let above = [all(far).as_slice(), &[link(5, "mv0", Some(4), None)]].concat();
        assert_eq!(found(&above), ways, "something stands on it");
        // Another bridge is left alone, unless a port of it stands on this one.
        let second = |lower| {
            let port = link(7, "in0", lower, Some(6));
            let second = as_a(InterfaceKind::Bridge, link(6, "br1", None, None));
            [all(addressed.clone()).as_slice(), &[second, port]].concat()
        };
        assert_eq!(found(&second(None)), ways);
        assert_eq!(found(&second(Some(1))).0, "in0 v0 wan0");
        // By a switch of another kind it is not known what leaves where.
        let member = |device| {
            [
                as_a(device, link(1, "top0", None, None)),
                link(2, "eth0", None, Some(1)),
            ]
        };
        assert_eq!(
            found(&member(InterfaceKind::Other)),
            (String::new(), "eth0".to_owned())
        );
        assert_eq!(found(&member(InterfaceKind::Vrf)), nothing);
    }
}
