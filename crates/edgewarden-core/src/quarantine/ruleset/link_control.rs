//! What opens a link, keeps it and ends it, said in this device's name by whoever has no socket here.
//!
//! In: this device's addresses and hardware addresses. Out: conditions of frames that the kernel sends for itself only by what belongs
//! to a bridge or a bond, and that programs of this namespace send by sockets. Root of a container whose interface stands on one of ours
//! (macvlan) would end this device's session or lease with them, or have a switch close its port, so that the rules are taken for what
//! has silenced the control channel. Absent: sessions of PPP, whose frames the kernel sends without a socket; leases of IPv6 by their
//! client's identifier.

use super::Layer;
use super::conditions::{Conditions, End, TypePlace};
use super::exceptions::{LINK_KEYS, LLDP, PPPOE_DISCOVERY};
use super::false_claims::SENDERS;
use super::lies::{CISCO_GROUPS, PAUSE};
use super::rules::{DHCP, DHCP6, RuleWriter, on};
use super::told_otherwise::VLAN;
use crate::quarantine::orders::order::Protocol;

impl RuleWriter<'_> {
    /// Asked where sockets and copies have passed; none where not all hardware addresses of this device are known.
    pub(super) fn control_of_links(&self) -> Vec<Conditions> {
        if !self.knows_senders() {
            return Vec::new();
        }
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
        all.push(ours().frame_type(TypePlace::First, &kinds));
        let tagged = ours().frame_type(TypePlace::First, VLAN);
        all.push(tagged.frame_type(TypePlace::BehindTag, &kinds));
        // From whatever port: servers do not ask.
        let to_server = || frame().port(Protocol::Udp, End::Destination, DHCP.1);
        all.push(to_server().asks_for_lease_of(SENDERS));
        // A server puts its pieces together.
        all.push(to_server().more_is_to_come());
        let own = self.own(true);
        if !own.is_empty() {
            all.push(to_server().speaks_of_lease_of(&own));
        }
        all.push(ours().port(Protocol::Udp, End::Destination, DHCP6.1));
        all
    }
}
