//! What keeps the link alive and passes whatever is ordered, each in its shape, its size and so seldom.
//!
//! In: the layer, what else is a lifeline. Out: rules. Each exception is shared out: what the kernel itself makes, root, the
//! accounts of services, and all others have a rate of their own each, so that whoever uses his up takes nobody else's. What
//! a socket sends beyond its share is cut before the kernel's share is asked. Every link has all of these shares for itself: what
//! a neighbour has the kernel answer on one link leaves those of another alone. What leaves by an interface of ours and is sent as
//! none of our hardware addresses, as another network namespace's that stands on it is, has a small share of its own. Absent:
//! shares of single accounts; whoever writes our hardware address as the sender's counts as the kernel.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::conditions::{
    Bucket, Conditions, Detour, End, HarmlessOption, IP, IP6, Named, Rate, Sender, TypePlace,
};
use super::rules::{
    DHCP, DHCP6, DHCP6_SERVERS, HookPath, LINK_GROUPS, LINK_LOCAL, ON_LINK, RuleWriter, block, on,
    per_minute, per_second,
};
use super::told_otherwise::{IGMP, VLAN};
use super::{Layer, Rule};
use crate::quarantine::orders::order::Posture;

/// What an Ethernet frame has before its IP header, with one VLAN tag.
pub(super) const FRAME_HEADER: u32 = 18;
/// Whom one asks for and who answers, and who looks for a router: 40 bytes of IPv6 header, 24 of message, options.
const NEIGHBOURS: &[Named] = &[
    ("nd-router-solicit", 133),
    ("nd-neighbor-solicit", 135),
    ("nd-neighbor-advert", 136),
];
const NEIGHBOUR_LENGTH: u32 = 128;
/// A router tells prefixes and name servers.
const ROUTER: &[Named] = &[("nd-router-advert", 134)];
const ROUTER_LENGTH: u32 = 300;
/// Neighbours are also asked and answered at their global addresses. Those could be routed away, so only what such a
/// message needs passes: 40 bytes of IPv6 header, 24 of message, 8 of link-layer option, 8 of nonce; and few of them.
const NEIGHBOUR_UNICAST: &[Named] = &[("nd-neighbor-solicit", 135), ("nd-neighbor-advert", 136)];
const NEIGHBOUR_UNICAST_LENGTH: u32 = 80;
/// What says which groups this host listens to.
const LISTENERS: &[Named] = &[
    ("mld-listener-report", 131),
    ("mld2-listener-report", 143),
    ("mld-listener-done", 132),
];
/// Such a message does not leave its link. The kernel sends one when anybody joins a group, whose address he chooses: one
/// group each, and seldom all of them together, as a switch asks for.
const LISTENER_HOPS: u8 = 1;
const LISTENER_LENGTH: u32 = 96;
const LISTENER_ALL_LENGTH: u32 = 1_500;
const GROUPS: (std::net::Ipv6Addr, u8) = (std::net::Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8);
/// The client speaks seldom; the limits keep its ports from being a way out or in.
const DHCP_LENGTH: u32 = 1_500;
/// A renewal goes to the lease's server, wherever that is.
const DHCP_RENEWAL_LENGTH: u32 = 620;
/// Frames are told by their own bytes, and `ether` asks for the interface of arrival, which a frame that leaves does not have.
/// The groups that no bridge passes on (IEEE 802.1D) are spanning tree, link aggregation, and LLDP, which some switches
/// power ports by. They speak some frames a second; 802.1X and the keys of a wireless network, without which the link
/// itself goes down, as seldom.
const LINK_KEYS: &[u16] = &[0x888e, 0x88c7];
/// An Ethernet frame.
const LINK_LENGTH: u32 = 1_518;
/// What a frame of the link never is.
const NOT_OF_LINK: &[u16] = &[IP, IP6, ARP, 0x8847, 0x8848, 0x8863, 0x8864];
/// What the kernel cuts one large frame of into many: IP, tags, and envelopes of both.
const CUT_APART: &[u16] = &[IP, IP6, 0x6558, 0x8847, 0x8848, 0x894f];
const ARP: u16 = 0x0806;
/// How an uplink by PPPoE is dialled: before it is there, and whenever it has ended.
const PPPOE_DISCOVERY: u16 = 0x8863;
/// PPP's frames. What is inside was filtered on the PPP interface, or was made by hand.
const PPPOE_SESSION: u16 = 0x8864;
/// The first byte that both have.
const PPPOE_BEGINNING: u8 = 0x11;
/// ARP at the pace of a busy link, and small: more would be a way out to the next neighbour.
const ARP_LENGTH: u32 = 64;

/// How often each sender may on one link; who has no rate may not.
struct Shares {
    kernel: Option<Rate>,
    root: Option<Rate>,
    services: Option<Rate>,
    users: Option<Rate>,
    /// What leaves by an interface of ours and is sent as somebody else: another namespace's that stands on it.
    others: Option<Rate>,
}

/// Programs speak for themselves (address conflicts, router discovery), the kernel for all of them.
const NEIGHBOUR_SHARES: Shares = Shares {
    kernel: Some(per_second(100, 200)),
    root: Some(per_second(20, 40)),
    services: Some(per_second(20, 40)),
    users: Some(per_second(2, 4)),
    others: Some(per_second(2, 4)),
};
const UNICAST_SHARES: Shares = Shares {
    kernel: Some(per_second(10, 20)),
    root: Some(per_second(2, 4)),
    services: Some(per_second(2, 4)),
    users: None,
    others: None,
};
const ROUTER_SHARES: Shares = Shares {
    kernel: None,
    root: Some(per_second(1, 4)),
    services: Some(per_second(1, 4)),
    users: None,
    others: None,
};
const LISTENER_SHARES: Shares = Shares {
    kernel: Some(per_second(2, 40)),
    root: None,
    services: None,
    users: None,
    others: Some(per_minute(4, 4)),
};
const LISTENER_ALL_SHARES: Shares = Shares {
    kernel: Some(per_minute(4, 4)),
    root: None,
    services: None,
    users: None,
    others: None,
};
/// What the kernel says of its groups when a router, or a switch, asks for all of them: whoever joins some makes it longer.
const ANSWER_SHARES: Shares = Shares {
    kernel: Some(per_second(1, 64)),
    root: None,
    services: None,
    users: None,
    others: None,
};
const LINK_SHARES: Shares = Shares {
    kernel: Some(per_second(100, 200)),
    root: Some(per_second(100, 200)),
    services: Some(per_second(100, 200)),
    users: None,
    others: None,
};
/// A client that dials asks four times within a minute, and ends each session with one.
const DIAL_SHARES: Shares = Shares {
    kernel: None,
    root: Some(per_minute(20, 20)),
    services: Some(per_minute(20, 20)),
    users: None,
    others: None,
};
const DHCP_SHARES: Shares = Shares {
    kernel: Some(per_minute(20, 20)),
    root: Some(per_minute(20, 20)),
    services: Some(per_minute(20, 20)),
    users: Some(per_minute(2, 2)),
    others: Some(per_minute(2, 2)),
};
const DHCP_RENEWAL_SHARES: Shares = Shares {
    kernel: Some(per_minute(4, 4)),
    root: Some(per_minute(4, 4)),
    services: Some(per_minute(4, 4)),
    users: Some(per_minute(1, 1)),
    others: None,
};

impl RuleWriter<'_> {
    /// One exception, shared out.
    fn shared(&self, what: &str, like: &Conditions, way: HookPath, shares: &Shares) -> Vec<Rule> {
        let plain = self.shared_by(what, like, way, (shares, Bucket::Departure));
        if way != HookPath::Raw || self.elements.tags.is_empty() {
            return plain;
        }
        // A tag of no VLAN of ours says nothing of another link.
        let tagged = like
            .clone()
            .leaves_by_ethernet()
            .frame_type(TypePlace::First, VLAN)
            .tagged_as("tags");
        let mut rules = self.shared_by(what, &tagged, way, (shares, Bucket::Tagged));
        if self.plan.posture == Posture::Isolate {
            rules.push(self.cut(what, tagged, way, "isolated"));
        }
        rules.extend(plain);
        rules
    }

    fn shared_by(
        &self,
        what: &str,
        like: &Conditions,
        way: HookPath,
        (shares, bucket): (&Shares, Bucket),
    ) -> Vec<Rule> {
        let suffix = if bucket == Bucket::Tagged { "-tagged" } else { "" };
        let few = |sent: Conditions, sender: &str, rate| {
            let sent = sent.at_rate(bucket, &format!("{what}-{sender}{suffix}"), rate);
            sent.accept(what)
        };
        let senders = [
            (Sender::Root, "root", shares.root),
            (Sender::Service, "services", shares.services),
            (Sender::User, "users", shares.users),
        ];
        let own = senders
            .into_iter()
            .filter_map(|(sender, name, rate)| Some(few(like.clone().of_sender(sender), name, rate?)));
        let mut rules: Vec<Rule> = own.collect();
        // A restriction lets it pass all the same.
        if self.plan.posture == Posture::Isolate {
            let beyond = like.clone().of_sender(Sender::Socket);
            rules.push(self.cut(what, beyond, way, "isolated"));
        }
        if way == HookPath::Raw && self.knows_senders() {
            let foreign = like.clone().sent_as_none_of("senders");
            let theirs = shares.others;
            rules.extend(theirs.map(|rate| few(foreign.clone(), "others", rate)));
            if self.plan.posture == Posture::Isolate {
                rules.push(self.cut(what, foreign, way, "isolated"));
            }
        }
        rules.extend(shares.kernel.map(|rate| few(like.clone(), "kernel", rate)));
        rules
    }

    /// Whether what is sent as none of this device's hardware addresses is somebody else's. What puts tags of its own into frames
    /// may put them before the sender.
    fn knows_senders(&self) -> bool {
        !self.elements.senders.is_empty() && !self.hooks.tags
    }

    /// Frames that only links know.
    pub(super) fn of_links(&self) -> Vec<Rule> {
        let ethernet = || on(Layer::Netdev).leaves_by_ethernet();
        let small = |frame: Conditions| {
            let whole = [CUT_APART, VLAN].concat();
            frame.declared_other(&whole).at_most(LINK_LENGTH)
        };
        let none = [NOT_OF_LINK, VLAN].concat();
        let groups = ethernet().link_local_group();
        let groups = small(groups.frame_type_other(TypePlace::First, &none));
        let keys = small(ethernet().frame_type(TypePlace::First, LINK_KEYS));
        let arp = ethernet()
            .frame_type(TypePlace::First, &[&[ARP], VLAN].concat())
            .arp()
            .at_most(ARP_LENGTH);
        let dial = ethernet()
            .frame_type(TypePlace::First, &[&[PPPOE_DISCOVERY], VLAN].concat())
            .declared(&[PPPOE_DISCOVERY])
            .begins_with(PPPOE_BEGINNING)
            .at_most(LINK_LENGTH);
        [
            ("link-groups", groups, &LINK_SHARES),
            ("link-keys", keys, &LINK_SHARES),
            ("arp", arp, &NEIGHBOUR_SHARES),
            ("pppoe-discovery", dial, &DIAL_SHARES),
        ]
        .into_iter()
        .flat_map(|(what, like, shares)| self.shared(what, &like, HookPath::Raw, shares))
        .collect()
    }

    /// What a PPP session over Ethernet is made of, also in tags of a VLAN, where there is an interface of that kind. While no way to
    /// any lifeline is known, as at boot before the uplink is dialled, nobody may be there to follow it.
    pub(super) fn sessions(&self) -> Option<Rule> {
        let is_cut_off = self.plan.posture == Posture::Isolate && self.plan.ties().is_none();
        let frames = on(Layer::Netdev).declared(&[PPPOE_SESSION]);
        let may_be = self.hooks.pppoe || is_cut_off;
        may_be.then(|| frames.begins_with(PPPOE_BEGINNING).accept("pppoe"))
    }

    /// What the IP stack's links need: neighbours, routers, groups, leases.
    pub(super) fn of_neighbours(&self, layer: Layer) -> Vec<Rule> {
        let (header, way) = match layer {
            Layer::Netdev => (FRAME_HEADER, HookPath::Raw),
            Layer::Inet | Layer::Bridge => (0, HookPath::Out),
        };
        let near = || on(layer).destined6(&[block(LINK_LOCAL), block(LINK_GROUPS)]);
        let mut all = vec![
            (
                "neighbours",
                near()
                    .icmp6(NEIGHBOURS)
                    .hop_limit(ON_LINK)
                    .at_most(NEIGHBOUR_LENGTH + header),
                &NEIGHBOUR_SHARES,
            ),
            (
                "router",
                near()
                    .icmp6(ROUTER)
                    .hop_limit(ON_LINK)
                    .at_most(ROUTER_LENGTH + header),
                &ROUTER_SHARES,
            ),
            (
                "neighbour-unicast",
                on(layer)
                    .icmp6(NEIGHBOUR_UNICAST)
                    .hop_limit(ON_LINK)
                    .at_most(NEIGHBOUR_UNICAST_LENGTH + header),
                &UNICAST_SHARES,
            ),
        ];
        all.extend(groups(layer, header));
        if self.plan.lifelines.dhcp {
            all.extend(leases(layer, header));
        }
        let rules = all.into_iter();
        rules
            .flat_map(|(what, like, shares)| self.shared(what, &like, way, shares))
            .collect()
    }

    /// Packets that name other places to come by than their destination, which is all that other rules know, and those that may:
    /// the kernel tells no option of a packet of which it takes one for wrong, and a source route of which a part is done is wrong to it.
    /// Who is on the way reads it all the same.
    pub(super) fn detours(&self, way: HookPath) -> Vec<Rule> {
        let Some(reason) = self.unreadable() else {
            return Vec::new();
        };
        let cut = |like| self.cut("detour", like, way, reason);
        let leads = |detour| cut(on(way.layer()).leads_elsewhere(detour));
        let isolates = self.plan.posture == Posture::Isolate;
        // A host that listens to a group says so with an option.
        let options = on(way.layer()).options();
        let others = options.clone().not_of(IGMP);
        if way == HookPath::Raw {
            // The hook of interfaces looks for options where the frame begins, and what has a route was judged with its options.
            let by_hand = if isolates { options } else { others };
            let by_hand = (!self.asks_for_routes()).then(|| cut(by_hand));
            return std::iter::once(leads(Detour::Routing)).chain(by_hand).collect();
        }
        let others = if isolates {
            others
        } else {
            others
                // What the kernel finds one of is right to it, and has no source route then.
                .without(HarmlessOption::Alert)
                .without(HarmlessOption::Record)
        };
        let all = Detour::ALL.into_iter().map(leads);
        all.chain(std::iter::once(cut(others))).collect()
    }
}

fn leases(layer: Layer, header: u32) -> [(&'static str, Conditions, &'static Shares); 3] {
    let everybody = IpNet::from(IpAddr::V4(Ipv4Addr::BROADCAST));
    let broadcast = on(layer)
        .in_block(End::Destination, everybody)
        .udp_between(DHCP.0, DHCP.1);
    let renewal = on(layer).udp_between(DHCP.0, DHCP.1);
    let servers = on(layer)
        .destined6(&[block(LINK_LOCAL), block(DHCP6_SERVERS)])
        .udp_between(DHCP6.0, DHCP6.1);
    [
        ("dhcp", broadcast.at_most(DHCP_LENGTH + header), &DHCP_SHARES),
        (
            "dhcp-renewal",
            renewal.at_most(DHCP_RENEWAL_LENGTH + header),
            &DHCP_RENEWAL_SHARES,
        ),
        ("dhcp6", servers.at_most(DHCP_LENGTH + header), &DHCP_SHARES),
    ]
}

/// What the kernel says of the groups that it listens to.
fn groups(layer: Layer, header: u32) -> [(&'static str, Conditions, &'static Shares); 3] {
    let listeners = || {
        let groups = on(layer).in_block(End::Destination, block(GROUPS));
        groups.icmp6(LISTENERS).hop_limit(LISTENER_HOPS)
    };
    [
        (
            "multicast-listener",
            listeners().at_most(LISTENER_LENGTH + header),
            &LISTENER_SHARES,
        ),
        (
            "multicast-answer",
            listeners()
                .longer_than(LISTENER_LENGTH + header)
                .answers_listener_query()
                .at_most(LISTENER_ALL_LENGTH + header),
            &ANSWER_SHARES,
        ),
        (
            "multicast-listener-all",
            listeners()
                .longer_than(LISTENER_LENGTH + header)
                .at_most(LISTENER_ALL_LENGTH + header),
            &LISTENER_ALL_SHARES,
        ),
    ]
}
