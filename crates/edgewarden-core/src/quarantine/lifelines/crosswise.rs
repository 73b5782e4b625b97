//! Ways of packets that are marked only once they have one.
//!
//! In: the ways to an address, where rules of routing go by marks. Out: those by which the hooks see such a packet: the interface of
//! the way that it had, with the next hop of the one that the mark leads it by.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::ways::{MAX_WAYS, Way};
use crate::Gather;

/// None of them pushes out a way. A next hop that is the address itself is not crossed: on another link it is whoever has taken the
/// address there.
pub(super) fn crosswise(ways: &BTreeSet<Way>, address: IpAddr) -> Vec<Way> {
    let own: Vec<Way> = ways
        .iter()
        .filter(|way| way.address == address)
        .copied()
        .collect();
    let hops: BTreeSet<IpAddr> = own.iter().map(|way| way.next_hop).in_set();
    let gateways = hops.into_iter().filter(|hop| *hop != address);
    let pairs = gateways.flat_map(|next_hop| own.iter().map(move |way| Way { next_hop, ..*way }));
    let new: BTreeSet<Way> = pairs.filter(|way| !ways.contains(way)).in_set();
    let room = MAX_WAYS.saturating_sub(own.len());
    new.into_iter().take(room).collect()
}

#[cfg(test)]
mod tests {
    use super::super::ways::InterfaceName;
    use super::*;

    const ADDRESS: &str = "198.51.100.9";

    fn way(interface: &str, next_hop: &str) -> Way {
        Way {
            address: ADDRESS.parse().unwrap(),
            interface: InterfaceName::new(interface).unwrap(),
            next_hop: next_hop.parse().unwrap(),
        }
    }

    fn crossed(ways: &[Way]) -> Vec<Way> {
        crosswise(&ways.iter().copied().collect(), ADDRESS.parse().unwrap())
    }

    #[test]
    fn a_gateway_is_crossed_with_every_interface_and_the_address_itself_with_none() {
        let both = [way("wan0", ADDRESS), way("wan1", "203.0.113.1")];
        assert_eq!(crossed(&both), [way("wan0", "203.0.113.1")]);
        assert_eq!(crossed(&both[1..]), [], "one alone");
    }

    #[test]
    fn no_way_is_pushed_out() {
        let many: Vec<Way> = (1..=8)
            .map(|n| way(&format!("wan{n}"), &format!("10.0.0.{n}")))
            .collect();
        let crossed = crossed(&many);
        assert_eq!(crossed.len() + many.len(), MAX_WAYS);
        assert!(many.iter().all(|way| !crossed.contains(way)));
    }
}
