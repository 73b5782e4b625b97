//! What says of an address of this device that it is where none of its interfaces is on that link: false, whoever says it.
//!
//! In: this device's addresses and hardware addresses, and which address is carried where. Out: rules that cut it at the hook of
//! interfaces, before anything that keeps the link alive is let pass. A router that believes it sends what is meant for this device
//! elsewhere, and the control channel is silent. Root of a container whose interface stands on one of ours (macvlan) may send as our
//! hardware address, and has no socket here, so that he counts as the kernel; what he says of others' addresses has a share
//! (`exceptions`). By a link where an address is at home, it is at the hardware address of the interface that carries it, or (of IPv4) of one of that
//! link's by which the kernel asks in its name, and nowhere else, though this device has others there (a virtual router's in reserve).
//! By other links it may be at any that this device has there. Absent: routers' advertisements, which the kernel does not send and an
//! isolation cuts.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::conditions::{Claim, Conditions, Ours};
use super::elements::{Content, OwnSet};
use super::rules::{HookPath, RuleWriter, on};
use super::{Layer, Rule};
use crate::Gather;
use crate::quarantine::orders::order::Posture;

/// The set of hardware addresses of this device.
pub(super) const SENDERS: &str = "senders";
/// The same, each with the interfaces that it is sent by.
pub(super) const HARDWARE: &str = "hardware";

impl RuleWriter<'_> {
    /// None where not all hardware addresses of this device are known.
    pub(super) fn false_claims(&self) -> Vec<Rule> {
        let Some(reason) = self.guarded().filter(|_| self.knows_senders()) else {
            return Vec::new();
        };
        let all = Claim::ALL.into_iter().flat_map(|claim| self.false_in(claim));
        all.map(|lie| self.cut("false-claim", lie, HookPath::Raw, reason))
            .collect()
    }

    fn false_in(&self, claim: Claim) -> Vec<Conditions> {
        let homes = OwnSet {
            content: Content::Homes,
            v4: claim.is_of_v4(),
        };
        let mut all = Vec::new();
        let homes_are_known = self.elements.has(homes);
        if homes_are_known {
            let frame = on(Layer::Netdev).leaves_by_ethernet();
            let spoken = claim.of_home(frame);
            all.extend(claim.shapes_of_no_kernel(&spoken));
            // It may be at home on two links, at another hardware address on each.
            all.extend(self.none_of_ours(claim, &spoken));
            all.push(claim.misplaces(spoken));
            all.extend(self.strange(claim));
        }
        let frame = on(Layer::Netdev).leaves_by_ethernet();
        for (frame, own, by_ports) in self.by_links(frame, claim.is_of_v4()) {
            let spoken = claim.of_one_of(frame, &own);
            all.extend(claim.shapes_of_no_kernel(&spoken));
            let lies = self.none_of_ours(claim, &spoken).into_iter();
            // What is true of it may come round from its own link.
            let round = by_ports && homes_are_known;
            all.extend(lies.map(|lie| if round { claim.called_otherwise(lie) } else { lie }));
        }
        all
    }

    /// In isolation, of an address that is at home elsewhere, by a link where no lifeline is: what came there for it would not be taken.
    /// Where it is on the same switch as the address' own, others would believe that the address is there.
    fn strange(&self, claim: Claim) -> Option<Conditions> {
        // Who is allowed may have come by such a link, and is asked for by it.
        let isolates = self.plan.posture == Posture::Isolate && self.plan.allow.is_empty();
        let isolates = isolates && self.plan.ties().is_some();
        let ways = self.hooks.bearers.iter();
        let ways = ways.flat_map(|(way, below)| below.iter().map(|below| below.interface).chain([*way]));
        // What bridges pass on is others', and where the own frames leave is not always known.
        let unknown = self.hooks.crossed.iter().chain(&self.hooks.members).copied();
        let ways: Vec<_> = ways.chain(unknown).in_set().into_iter().collect();
        let homes = self.elements.homes.iter().map(|(_, address)| *address);
        let own = homes.filter(|address| address.is_ipv4() == claim.is_of_v4());
        let own: Vec<IpAddr> = own.in_set().into_iter().collect();
        let frame = || on(Layer::Netdev).leaves_by_ethernet().leaves_by_none_of(&ways);
        let is_known = isolates && !self.hooks.bearers.is_empty() && !own.is_empty();
        is_known.then(|| claim.at_home(claim.of_one_of(frame(), &own), false))
    }

    /// Such a frame, with the addresses of one family in whose name nobody else speaks, and whether it leaves by a port of a bridge: by
    /// those all of them count but the link-local ones of links where no lifeline is, which others may have on theirs.
    pub(super) fn by_links(&self, frame: Conditions, v4: bool) -> Vec<(Conditions, Vec<IpAddr>, bool)> {
        let below = self.hooks.bearers.values().flatten();
        let ways: BTreeSet<_> = below.map(|below| below.interface).in_set();
        let homes = self.elements.homes.iter();
        let (of_ways, elsewhere): (Vec<_>, Vec<_>) =
            homes.partition(|(interface, _)| ways.contains(interface));
        let addresses = |homes: Vec<&(_, IpAddr)>| homes.iter().map(|(_, address)| *address).in_set();
        let (of_ways, elsewhere) = (addresses(of_ways), addresses(elsewhere));
        let own = self.own(v4);
        let others_may = |address: &IpAddr| {
            is_of_link(*address) && elsewhere.contains(address) && !of_ways.contains(address)
        };
        let by_ports = own
            .iter()
            .copied()
            .filter(|address| !others_may(address))
            .collect();
        let ports = &self.hooks.members;
        let mut all = vec![(frame.clone().leaves_by_none_of(ports), own, false)];
        all.extend((!ports.is_empty()).then(|| (frame.leaves_by(ports), by_ports, true)));
        all.retain(|(_, own, _)| !own.is_empty());
        all
    }

    /// What is called otherwise on another link of ours is elsewhere on this one.
    fn none_of_ours(&self, claim: Claim, spoken: &Conditions) -> Vec<Conditions> {
        let crossed = &self.hooks.crossed;
        let knows = !self.elements.hardware.is_empty();
        let anywhere = || claim.none_of(spoken.clone(), Ours::Anywhere(SENDERS));
        let there = || claim.none_of(spoken.clone().leaves_by_none_of(crossed), Ours::There(HARDWARE));
        let unknown = (!knows || !crossed.is_empty()).then(anywhere);
        unknown.into_iter().chain(knows.then(there)).collect()
    }

    /// What is sent as this device where none of its interfaces sends as that: a switch to which both belong takes that one's port
    /// for this one. Virtual routers of one number are on many links.
    pub(super) fn as_another(&self, frame: Conditions) -> Option<Conditions> {
        let knows = self.knows_senders() && !self.elements.hardware.is_empty();
        let as_ours = || frame.called_one_of(SENDERS).sent_as_no_virtual_router();
        let elsewhere = || as_ours().leaves_by_none_of(&self.hooks.crossed);
        knows.then(|| elsewhere().called_none_of(HARDWARE))
    }
}

/// Whether an address is one of a link's alone (`fe80::/10`).
const fn is_of_link(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}
