//! What says of an address of this device that it is where none of its interfaces is on that link: false, whoever says it.
//!
//! In: this device's addresses and hardware addresses. Out: rules that cut it at the hook of interfaces, before anything that keeps
//! the link alive is let pass. A router that believes it sends what is meant for this device elsewhere, and the control channel is
//! silent. Root of a container whose interface stands on one of ours (macvlan) may send as our hardware address, and has no socket
//! here, so that he counts as the kernel; what he says of others' addresses has a share (`exceptions`). Absent: routers'
//! advertisements, which the kernel does not send and an isolation cuts.

use super::conditions::{Conditions, Named, Ours, ToldHardware, TypePlace, Wrong};
use super::exceptions::ARP;
use super::rules::{HookPath, RuleWriter, on};
use super::told_otherwise::VLAN;
use super::{Layer, Rule};

/// Bytes of a VLAN's tag.
const TAG: u32 = 4;
/// Who looks for a router or a neighbour, and where each tells its own hardware address; and who answers for an address.
const ROUTER_SOLICIT: (&[Named], ToldHardware) = (
    &[("nd-router-solicit", 133)],
    ToldHardware {
        body: 8,
        option: [1, 1],
    },
);
const SOLICIT: (&[Named], ToldHardware) = (
    &[("nd-neighbor-solicit", 135)],
    ToldHardware {
        body: 24,
        option: [1, 1],
    },
);
const ADVERTISE: (&[Named], ToldHardware) = (
    &[("nd-neighbor-advert", 136)],
    ToldHardware {
        body: 24,
        option: [2, 1],
    },
);
/// The set of hardware addresses of this device.
pub(super) const SENDERS: &str = "senders";
/// The same, each with the interfaces that it is sent by.
const HARDWARE: &str = "hardware";

impl RuleWriter<'_> {
    /// None where not all hardware addresses of this device are known.
    pub(super) fn false_claims(&self) -> Vec<Rule> {
        let Some(reason) = self.guarded().filter(|_| self.knows_senders()) else {
            return Vec::new();
        };
        let claims = self.of_arp().into_iter().chain(self.of_neighbour_messages());
        claims
            .map(|claim| self.cut("false-claim", claim, HookPath::Raw, reason))
            .collect()
    }

    /// What is called otherwise on another link of ours is elsewhere on this one.
    fn ours(&self) -> Ours<'static> {
        if self.hooks.crossed || self.elements.hardware.is_empty() {
            Ours::Anywhere(SENDERS)
        } else {
            Ours::There(HARDWARE)
        }
    }

    /// Behind two tags at most, which are among the bytes or shown in their place, and whatever its sender calls it: he may call it
    /// tagged where it is not.
    fn of_arp(&self) -> Vec<Conditions> {
        let own = self.own(true);
        if own.is_empty() {
            return Vec::new();
        }
        let ethernet = || on(Layer::Netdev).leaves_by_ethernet();
        let tagged = || ethernet().frame_type(TypePlace::First, VLAN);
        let twice = tagged().frame_type(TypePlace::BehindTag, VLAN);
        [
            ethernet().frame_type(TypePlace::First, &[ARP]),
            tagged().frame_type(TypePlace::BehindTag, &[ARP]),
            twice.frame_type(TypePlace::BehindTwo, &[ARP]),
        ]
        .into_iter()
        .zip([0, TAG, 2 * TAG])
        .map(|(arp, tags)| arp.arp_places_elsewhere(&own, self.ours(), tags))
        .collect()
    }

    fn of_neighbour_messages(&self) -> Vec<Conditions> {
        let own = self.own(false);
        if own.is_empty() {
            return Vec::new();
        }
        let ethernet = |kind| on(Layer::Netdev).leaves_by_ethernet().icmp6(kind);
        let mut all = Vec::new();
        for wrong in [Wrong::Length, Wrong::Kind, Wrong::Address(self.ours())] {
            for (kind, told) in [ROUTER_SOLICIT, SOLICIT] {
                let of_ours = ethernet(kind).sent_as_one_of(false, &own);
                all.push(of_ours.option_is_false(told, wrong));
            }
            let (kind, told) = ADVERTISE;
            all.push(ethernet(kind).advertises(&own).option_is_false(told, wrong));
        }
        all
    }
}
