//! What others than root say on a link, in a restriction, besides the truth that exceptions let pass.
//!
//! In: the plan. Out: rules that cut it, in whatever shape, behind the exceptions. Whoever may make frames by hand could turn a
//! router or a switch away from this device, end its session or its lease, so that the restriction is taken for what has silenced
//! the control channel. An isolation cuts it with all the rest. What a bridge passes on has kept the socket of a virtual machine's,
//! and is others'.

use super::conditions::{Conditions, End, Named};
use super::exceptions::{ARP, LINK_KEYS, LISTENERS, PPPOE_DISCOVERY};
use super::rules::{DHCP, DHCP6, DISGUISED, HookPath, RuleWriter, on};
use super::shares::{FIRST_OTHER, FIRST_USER};
use super::{Layer, Rule};
use crate::quarantine::orders::order::{Posture, Protocol};

/// Where others are: routers and neighbours, and who says of one that another is better.
const NEIGHBOURS: &[Named] = &[
    ("nd-router-solicit", 133),
    ("nd-router-advert", 134),
    ("nd-neighbor-solicit", 135),
    ("nd-neighbor-advert", 136),
    ("nd-redirect", 137),
];

/// Which of several routers is the way out, and what is behind each: IGRP, EIGRP, OSPF, PIM, VRRP and CARP; RIP, RIPng, OLSR, HSRP,
/// GLBP, Babel; to hosts.
const ROUTERS: &[u8] = &[9, 88, 89, 103, 112];
const ROUTER_PORTS: &[u16] = &[520, 521, 698, 1985, 2029, 3222, 6696];
const ROUTER_MESSAGES: &[Named] = &[("redirect", 5), ("router-advertisement", 9)];

/// Cisco's groups of sixteen, spanning trees among them.
pub(super) const CISCO_GROUPS: [u8; 6] = [0x01, 0x00, 0x0c, 0xcc, 0xcc, 0xc0];
/// Stops what a link's other end sends for a while (IEEE 802.3).
pub(super) const PAUSE: u16 = 0x8808;
/// What switches tell each other of where frames go, and when to stop: groups of sixteen each (IS-IS, IEEE 802.1ak and GARP, 802.1ag,
/// TRILL; Cisco's CDP, VTP and spanning trees), and types (PAUSE, TRILL, B.A.T.M.A.N.).
const SWITCH_GROUPS: [[u8; 6]; 5] = [
    [0x01, 0x80, 0xc2, 0, 0, 0x10],
    [0x01, 0x80, 0xc2, 0, 0, 0x20],
    [0x01, 0x80, 0xc2, 0, 0, 0x30],
    [0x01, 0x80, 0xc2, 0, 0, 0x40],
    CISCO_GROUPS,
];
const SWITCH_TYPES: &[u16] = &[PAUSE, 0x22f3, 0x4305];

impl RuleWriter<'_> {
    /// They come behind what passes whatever is ordered.
    pub(super) fn lies(&self, way: HookPath) -> Vec<Rule> {
        if self.plan.posture == Posture::Isolate || self.guarded().is_none() {
            return Vec::new();
        }
        let by = |first: u32| {
            let sent = on(way.layer()).sent_from(first);
            if way == HookPath::Raw {
                sent.made_here()
            } else {
                sent
            }
        };
        let mut all = vec![
            by(FIRST_OTHER).icmp6(NEIGHBOURS),
            by(FIRST_USER).icmp6(LISTENERS),
            by(FIRST_USER).ports(Protocol::Udp, End::Destination, &[DHCP.1, DHCP6.1]),
            by(FIRST_USER).of_protocols(ROUTERS),
            by(FIRST_USER).ports(Protocol::Udp, End::Destination, ROUTER_PORTS),
            by(FIRST_USER).icmp(ROUTER_MESSAGES),
        ];
        if way.layer() == Layer::Netdev {
            all.extend(of_types(&|| by(FIRST_OTHER), &[ARP]));
            let control = [LINK_KEYS, &[PPPOE_DISCOVERY], SWITCH_TYPES].concat();
            all.extend(of_types(&|| by(FIRST_USER), &control));
            let by_users = || by(FIRST_USER).leaves_by_ethernet();
            all.push(by_users().link_local_group());
            all.extend(SWITCH_GROUPS.map(|first| by_users().sent_to_groups(first)));
        }
        let cut = |lie| self.cut("lie", lie, way, DISGUISED);
        all.into_iter().map(cut).collect()
    }
}

/// Frames of these types, which are behind two tags at most.
fn of_types(made: &impl Fn() -> Conditions, types: &[u16]) -> [Conditions; 3] {
    [0, 1, 2].map(|tags| made().leaves_by_ethernet().type_behind(tags, types))
}
