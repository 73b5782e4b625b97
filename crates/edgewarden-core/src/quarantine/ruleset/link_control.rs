//! What opens a link, keeps it and ends it, said in this device's name by whoever has no socket here.
//!
//! In: this device's addresses and hardware addresses. Out: conditions of frames that the kernel sends for itself only by what belongs
//! to a bridge or a bond, and that programs of this namespace send by sockets. Root of a container whose interface stands on one of ours
//! (macvlan) would end this device's session or lease with them, or have a switch close its port, so that the rules are taken for what
//! has silenced the control channel; and so would root of one on a bridge of ours, through which other hosts go on in their own names.
//! Absent: sessions of PPP, whose frames the kernel sends without a socket; leases of IPv6 by their client's identifier.

use super::conditions::{Conditions, End, TypePlace};
use super::exceptions::{LINK_KEYS, LLDP, PPPOE_DISCOVERY};
use super::false_claims::SENDERS;
use super::lies::{CISCO_GROUPS, PAUSE};
use super::rules::{DHCP, DHCP6, HookPath, RuleWriter, on};
use super::{Chain, Layer, PRIORITY, Rule};
use crate::quarantine::orders::order::Protocol;

/// Groups of sixteen: GARP and MRP (IEEE 802.1ak), faults (IEEE 802.1ag), rings (IEC 62439-2).
const REGISTRATIONS: [u8; 6] = [0x01, 0x80, 0xc2, 0, 0, 0x20];
const FAULTS: [u8; 6] = [0x01, 0x80, 0xc2, 0, 0, 0x30];
const RINGS: [u8; 6] = [0x01, 0x15, 0x4e, 0, 0, 0];
/// The name of the chain of what is said so.
pub(super) const CONTROL: &str = "control";

impl RuleWriter<'_> {
    /// The chain of what is cut of it. It is there also without rules, so that they can be changed alone.
    pub(super) fn control(&self) -> Chain {
        let known = self.sockets_are_known().filter(|_| self.knows_senders());
        let cut = |reason| {
            let all = self.control_of_links().into_iter();
            all.map(move |control| self.cut("link-control", control, HookPath::Raw, reason))
        };
        Chain {
            name: CONTROL,
            hook: "",
            priority: PRIORITY,
            devices: Vec::new(),
            policy: "",
            rules: known.into_iter().flat_map(cut).collect(),
        }
    }

    /// What a bridge of this device's passes on between others is no word of this device's either, in its name or about its lease: a
    /// container may be one of them. What switches tell each other through the bridge in their own names goes on, or they would no longer
    /// see a loop. By a pair of interfaces its own may come so.
    pub(super) fn bridged_control(&self) -> Vec<Rule> {
        let ports = self.ports_of_others();
        let known = self.sockets_are_known().is_some() && self.knows_senders();
        if !known || ports.is_empty() {
            return Vec::new();
        }
        let passed_on = || on(Layer::Netdev).passed_on_by(&ports);
        let about_a_lease = passed_on().port(Protocol::Udp, End::Destination, DHCP.1);
        let kinds = [passed_on().called_one_of(SENDERS), about_a_lease];
        kinds.map(|kind| kind.jump(CONTROL)).into()
    }

    /// What registers a VLAN with a switch, and what switches tell each other of faults, in whoever's name: by no bridge, through which
    /// switches may speak. Where there are VLANs the kernel may register them.
    pub(super) fn told_to_switches(&self) -> Vec<Conditions> {
        if !self.knows_senders() {
            return Vec::new();
        }
        let registers = self.hooks.vlans.is_empty().then_some(REGISTRATIONS);
        let groups = registers.into_iter().chain([FAULTS, RINGS]);
        let frame = || on(Layer::Netdev).leaves_by_ethernet();
        groups.map(|group| frame().sent_to_groups(group)).collect()
    }

    /// Asked where sockets and copies have passed.
    fn control_of_links(&self) -> Vec<Conditions> {
        let frame = || on(Layer::Netdev).leaves_by_ethernet();
        let ours = || frame().called_one_of(SENDERS);
        // In whoever's name: a guarded port is closed by any of it.
        let mut all = vec![
            frame()
                .link_local_group()
                .frame_type_other(TypePlace::First, &[LLDP]),
            frame().sent_to_groups(CISCO_GROUPS),
            frame().frame_type(TypePlace::First, &[PAUSE]),
        ];
        let kinds = [LINK_KEYS, &[PPPOE_DISCOVERY, LLDP]].concat();
        // Who is not of a VLAN takes off two tags of none.
        all.extend([0, 1, 2].map(|tags| ours().type_behind(tags, &kinds)));
        // From whatever port: servers do not ask.
        let to_server = || frame().port(Protocol::Udp, End::Destination, DHCP.1);
        all.push(to_server().asks_for_lease_of(SENDERS));
        // A server puts its pieces together: one that does not tell yet whose lease it is about.
        all.push(to_server().more_is_to_come().shorter_than_a_lease());
        // Options, which no client sends, make it longer without telling more.
        all.push(to_server().more_is_to_come().options());
        let own = self.own(true);
        if !own.is_empty() {
            all.push(to_server().speaks_of_lease_of(&own));
        }
        // As its own: a relay of the LAN's is passed on with our hardware address.
        let own = self.own(false);
        if !own.is_empty() {
            let as_own = ours().sent_as_one_of(false, &own);
            all.push(as_own.port(Protocol::Udp, End::Destination, DHCP6.1));
        }
        all
    }
}
