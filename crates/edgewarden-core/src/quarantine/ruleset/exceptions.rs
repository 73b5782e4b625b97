//! What keeps the link alive and passes whatever is ordered, each in its shape, its size and so seldom.
//!
//! In: the layer, what else is a lifeline. Out: rules. Each exception is shared out: what the kernel itself makes, root, the
//! accounts of services, and all others have a rate of their own each, so that whoever uses his up takes nobody else's. What
//! a socket sends beyond its share is cut before the kernel's share is asked. Every link has all of these shares for itself: what
//! a neighbour has the kernel answer on one link leaves those of another alone. What leaves by an interface of ours and is sent as
//! none of our hardware addresses, as another network namespace's that stands on it is, has a small share of its own. Absent:
//! shares of single accounts; whoever writes our hardware address as the sender's counts as the kernel, but where the kernel speaks
//! by what belongs to a bridge or a bond alone.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::conditions::{
    Bucket, Conditions, Detour, End, HarmlessOption, IP, IP6, Named, Rate, Sender, TypePlace,
};
use super::false_claims::SENDERS;
use super::link_shares::{
    ANSWER_SHARES, DHCP_RENEWAL_SHARES, DHCP_SHARES, DIAL_SHARES, LINK_SHARES, LISTENER_ALL_SHARES,
    LISTENER_SHARES, NEIGHBOUR_SHARES, ROUTER_SHARES, Shares, UNICAST_SHARES,
};
use super::rules::{
    DHCP, DHCP6, DHCP6_SERVERS, DISGUISED, HookPath, LINK_GROUPS, LINK_LOCAL, ON_LINK, RuleWriter, block, on,
};
use super::shares::{FIRST_OTHER, FIRST_USER};
use super::told_otherwise::{IGMP, VLAN};
use super::{Lack, Layer, Rule};
use crate::quarantine::lifelines::ways::InterfaceName;
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
/// Who looks for a router, and who answers for an address.
const SOLICIT: &[Named] = &[("nd-router-solicit", 133)];
const ADVERTISEMENT: &[Named] = &[("nd-neighbor-advert", 136)];
/// A router tells prefixes and name servers.
const ROUTER: &[Named] = &[("nd-router-advert", 134)];
const ROUTER_LENGTH: u32 = 300;
/// Neighbours are also asked and answered at their global addresses. Those could be routed away, so only what such a
/// message needs passes: 40 bytes of IPv6 header, 24 of message, 8 of link-layer option, 8 of nonce; and few of them.
const NEIGHBOUR_UNICAST: &[Named] = &[("nd-neighbor-solicit", 135), ("nd-neighbor-advert", 136)];
const NEIGHBOUR_UNICAST_LENGTH: u32 = 80;
/// What says which groups this host listens to.
pub(super) const LISTENERS: &[Named] = &[
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
pub(super) const LINK_KEYS: &[u16] = &[0x888e, 0x88c7];
/// An Ethernet frame.
const LINK_LENGTH: u32 = 1_518;
/// What a frame of the link never is.
const NOT_OF_LINK: &[u16] = &[IP, IP6, ARP, 0x8847, 0x8848, 0x8863, 0x8864];
/// What the kernel cuts one large frame of into many: IP, tags, and envelopes of both.
const CUT_APART: &[u16] = &[IP, IP6, 0x6558, 0x8847, 0x8848, 0x894f];
pub(super) const ARP: u16 = 0x0806;
/// Who is on a link and what it is, told by programs of services too.
pub(super) const LLDP: u16 = 0x88cc;
/// How an uplink by PPPoE is dialled: before it is there, and whenever it has ended.
pub(super) const PPPOE_DISCOVERY: u16 = 0x8863;
/// PPP's frames. What is inside was filtered on the PPP interface, or was made by hand.
const PPPOE_SESSION: u16 = 0x8864;
/// The first byte that both have.
const PPPOE_BEGINNING: u8 = 0x11;
/// ARP at the pace of a busy link, and small: more would be a way out to the next neighbour.
const ARP_LENGTH: u32 = 64;

/// Something that passes whatever is ordered.
struct Exception {
    what: &'static str,
    like: Conditions,
    /// How it is like where sockets of others than root's send it, who could say of an address that it is elsewhere.
    told: Option<Conditions>,
    /// What only this device itself says, in whose name nobody else speaks.
    ours: Vec<Conditions>,
    /// By which interfaces the kernel says it without a socket; none where by all.
    by: Option<Vec<InterfaceName>>,
    shares: &'static Shares,
}

impl Exception {
    fn new(what: &'static str, like: Conditions, shares: &'static Shares) -> Self {
        Self {
            what,
            like,
            told: None,
            ours: Vec::new(),
            by: None,
            shares,
        }
    }

    /// What the kernel says of it.
    fn of_kernel(&self, way: HookPath) -> Option<Conditions> {
        match self.by.as_deref().filter(|_| way == HookPath::Raw) {
            None => Some(self.like.clone()),
            Some([]) => None,
            Some(members) => Some(self.like.clone().leaves_by(members)),
        }
    }

    /// The same in a tag of a VLAN of ours: a tag of none says nothing of another link.
    fn tagged(&self) -> Self {
        let tagged = |like: &Conditions| {
            like.clone()
                .leaves_by_ethernet()
                .frame_type(TypePlace::First, VLAN)
                .tagged_as("tags")
        };
        Self {
            like: tagged(&self.like),
            told: self.told.as_ref().map(tagged),
            ours: self.ours.iter().map(tagged).collect(),
            // Below a VLAN that belongs to a bridge its copies leave by what does not.
            by: None,
            ..*self
        }
    }

    /// What such a sender's must be like.
    fn told_by(&self, sender: Sender) -> &Conditions {
        let told = self.told.as_ref().filter(|_| sender != Sender::Root);
        told.unwrap_or(&self.like)
    }
}

impl RuleWriter<'_> {
    /// One exception, shared out.
    fn shared(&self, exception: &Exception, way: HookPath) -> Vec<Rule> {
        let plain = self.shared_by(exception, way, Bucket::Departure);
        if way != HookPath::Raw || self.elements.tags.is_empty() {
            return plain;
        }
        let tagged = exception.tagged();
        let mut rules = self.shared_by(&tagged, way, Bucket::Tagged);
        if self.plan.posture == Posture::Isolate {
            rules.push(self.cut(exception.what, tagged.like, way, "isolated"));
        }
        rules.extend(plain);
        rules
    }

    fn shared_by(&self, exception: &Exception, way: HookPath, bucket: Bucket) -> Vec<Rule> {
        let Exception {
            what, like, shares, ..
        } = exception;
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
        let own = senders.into_iter().filter_map(|(sender, name, rate)| {
            let told = exception.told_by(sender).clone();
            Some(few(told.of_sender(sender), name, rate?))
        });
        let mut rules: Vec<Rule> = own.collect();
        let isolates = self.plan.posture == Posture::Isolate;
        let cut = |like: Conditions| self.cut(what, like, way, if isolates { "isolated" } else { DISGUISED });
        if isolates {
            rules.push(cut(like.clone().of_sender(Sender::Socket)));
        } else if self.guarded().is_some() {
            // A restriction lets it pass all the same, but for what could silence the control channel.
            let lies = |rate: &Option<Rate>| exception.told.is_some() || rate.is_none();
            let others = senders.iter().filter(|(sender, ..)| *sender != Sender::Root);
            let others = others.filter(|(.., rate)| lies(rate));
            let made = |sent: Conditions| {
                if way == HookPath::Raw {
                    sent.made_here()
                } else {
                    sent
                }
            };
            rules.extend(others.map(|(sender, ..)| cut(made(like.clone().of_sender(*sender)))));
        }
        let kernel = exception.of_kernel(way).zip(shares.kernel);
        let kernel = kernel.map(|(like, rate)| few(like, "kernel", rate));
        let mut kernel: Vec<Rule> = kernel.into_iter().collect();
        if exception.by.is_some() {
            // A slave of a bond may speak as what it was made as, which the bond is not sent as.
            rules.append(&mut kernel);
        }
        if way == HookPath::Raw && self.knows_senders() {
            if self.guarded().is_some() {
                let ours = exception.ours.iter();
                rules.extend(ours.map(|said| cut(said.clone().sent_as_none_of(SENDERS))));
            }
            let foreign = like.clone().sent_as_none_of(SENDERS);
            let theirs = shares.others;
            rules.extend(theirs.map(|rate| few(foreign.clone(), "others", rate)));
            if isolates {
                rules.push(cut(foreign));
            }
        }
        rules.extend(kernel);
        rules
    }

    /// The same, said without a socket by what belongs to a bridge or a bond alone: the kernel's own, and copies of what a socket has sent.
    /// Not where what is sent without a socket is not known.
    fn by_members(&self, exception: Exception) -> Exception {
        let knows = self.knows_senders() && self.sockets_are_known().is_some();
        let by = knows.then(|| self.hooks.members.clone());
        Exception { by, ..exception }
    }

    /// Whether what is sent as none of this device's hardware addresses is somebody else's. What puts tags of its own into frames
    /// may put them before the sender.
    pub(super) fn knows_senders(&self) -> bool {
        !self.elements.senders.is_empty() && !self.hooks.tags
    }

    /// Frames that programs of others than root's make in the name of somebody else on the link: a switch believes that he is here, and
    /// sends what is meant for him here.
    pub(super) fn sent_as_others(&self) -> Vec<Rule> {
        let Some(reason) = self.guarded().filter(|_| self.knows_senders()) else {
            return Vec::new();
        };
        let made = |first| on(Layer::Netdev).sent_from(first).made_here();
        let mut others = vec![made(FIRST_OTHER).sent_as_none_of(SENDERS)];
        if !self.elements.hardware.is_empty() {
            // Services that ask for a lease may do so by an interface of which it is not known what it leaves by; and a nucleus must
            // not be cut off by that, whoever it runs as.
            let nucleus = self.plan.nucleus_users.iter();
            let users = nucleus.fold(made(FIRST_USER), Conditions::not_sent_by);
            others.push(users.called_none_of("hardware"));
        }
        let cut = |others| self.cut("sent-as-others", others, HookPath::Raw, reason);
        others.into_iter().map(cut).collect()
    }

    /// Addresses of this device, of one family.
    pub(super) fn own(&self, v4: bool) -> Vec<IpAddr> {
        let own = self.hooks.own.iter().copied();
        own.filter(|address| address.is_ipv4() == v4).collect()
    }

    /// Frames that only links know.
    pub(super) fn of_links(&self) -> Vec<Rule> {
        let ethernet = || on(Layer::Netdev).leaves_by_ethernet();
        let small = |frame: Conditions| {
            let whole = [CUT_APART, VLAN].concat();
            frame.declared_other(&whole).at_most(LINK_LENGTH)
        };
        let none = [NOT_OF_LINK, VLAN].concat();
        let groups = || ethernet().link_local_group();
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
        let own = self.own(true);
        let knows = self.knows_senders() && !self.elements.hardware.is_empty();
        [
            self.by_members(Exception {
                // Spanning tree and link aggregation say which way a link is used.
                told: Some(small(groups().frame_type(TypePlace::First, &[LLDP]))),
                ..Exception::new(
                    "link-groups",
                    small(groups().frame_type_other(TypePlace::First, &none)),
                    &LINK_SHARES,
                )
            }),
            self.by_members(Exception::new("link-keys", keys, &LINK_SHARES)),
            Exception {
                told: knows.then(|| arp.clone().arp_of_ours("hardware", &own)),
                ours: (!own.is_empty())
                    .then(|| arp.clone().arp_speaks_of(&own))
                    .into_iter()
                    .collect(),
                ..Exception::new("arp", arp, &NEIGHBOUR_SHARES)
            },
            Exception::new("pppoe-discovery", dial, &DIAL_SHARES),
        ]
        .iter()
        .flat_map(|exception| self.shared(exception, HookPath::Raw))
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
            Layer::Inet | Layer::Bridge | Layer::Arp => (0, HookPath::Out),
        };
        let mut all = vec![
            self.neighbours(layer, header),
            self.routers(layer, header),
            Exception::new(
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
            let leases = leases(layer, header).into_iter();
            all.extend(leases.map(|lease| self.by_members(lease)));
        }
        let rules = all.iter();
        rules.flat_map(|exception| self.shared(exception, way)).collect()
    }

    /// Services look for routers (systemd-networkd), and of neighbours only the kernel and root speak.
    fn neighbours(&self, layer: Layer, header: u32) -> Exception {
        let near = |kinds| {
            near(layer)
                .icmp6(kinds)
                .hop_limit(ON_LINK)
                .at_most(NEIGHBOUR_LENGTH + header)
        };
        let told = self.told_as_ours(layer, near(SOLICIT));
        let knows = self.knows_senders() && !self.elements.hardware.is_empty();
        let told = if layer == Layer::Netdev && knows {
            told.solicits_as_ours("hardware")
        } else {
            told
        };
        // The hook of interfaces alone asks for it.
        let ours = |kinds| {
            let all = (layer == Layer::Netdev).then(|| self.by_links(near(kinds), false));
            all.into_iter().flatten()
        };
        let in_our_name = ours(NEIGHBOURS).map(|(frame, own, _)| frame.sent_as_one_of(false, &own));
        let of_ours = ours(ADVERTISEMENT).map(|(frame, own, _)| frame.advertises(&own));
        Exception {
            told: Some(told),
            ours: in_our_name.chain(of_ours).collect(),
            ..Exception::new("neighbours", near(NEIGHBOURS), &NEIGHBOUR_SHARES)
        }
    }

    fn routers(&self, layer: Layer, header: u32) -> Exception {
        let router = near(layer)
            .icmp6(ROUTER)
            .hop_limit(ON_LINK)
            .at_most(ROUTER_LENGTH + header);
        Exception {
            told: Some(self.told_as_ours(layer, router.clone())),
            ..Exception::new("router", router, &ROUTER_SHARES)
        }
    }

    /// In the name of an address of ours. The hook of interfaces cannot ask whose an address is.
    fn told_as_ours(&self, layer: Layer, like: Conditions) -> Conditions {
        let own = self.own(false);
        match layer {
            Layer::Netdev if own.is_empty() => like,
            Layer::Netdev => like.sent_as_one_of(false, &own),
            Layer::Inet | Layer::Bridge | Layer::Arp if self.hooks.lacks.contains(&Lack::Fib) => like,
            Layer::Inet | Layer::Bridge | Layer::Arp => like.sent_from_here(),
        }
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
        let others = if isolates || self.hooks.lacks.contains(&Lack::IpOption) {
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

/// What stays on its link.
fn near(layer: Layer) -> Conditions {
    on(layer).destined6(&[block(LINK_LOCAL), block(LINK_GROUPS)])
}

fn leases(layer: Layer, header: u32) -> [Exception; 3] {
    let everybody = IpNet::from(IpAddr::V4(Ipv4Addr::BROADCAST));
    let broadcast = on(layer)
        .in_block(End::Destination, everybody)
        .udp_between(DHCP.0, DHCP.1);
    let renewal = on(layer).udp_between(DHCP.0, DHCP.1);
    let servers = on(layer)
        .destined6(&[block(LINK_LOCAL), block(DHCP6_SERVERS)])
        .udp_between(DHCP6.0, DHCP6.1);
    [
        Exception::new("dhcp", broadcast.at_most(DHCP_LENGTH + header), &DHCP_SHARES),
        Exception::new(
            "dhcp-renewal",
            renewal.at_most(DHCP_RENEWAL_LENGTH + header),
            &DHCP_RENEWAL_SHARES,
        ),
        Exception::new("dhcp6", servers.at_most(DHCP_LENGTH + header), &DHCP_SHARES),
    ]
}

/// What the kernel says of the groups that it listens to.
fn groups(layer: Layer, header: u32) -> [Exception; 3] {
    let listeners = || {
        let groups = on(layer).in_block(End::Destination, block(GROUPS));
        groups.icmp6(LISTENERS).hop_limit(LISTENER_HOPS)
    };
    let long = || listeners().longer_than(LISTENER_LENGTH + header);
    [
        Exception::new(
            "multicast-listener",
            listeners().at_most(LISTENER_LENGTH + header),
            &LISTENER_SHARES,
        ),
        Exception::new(
            "multicast-answer",
            long()
                .answers_listener_query()
                .at_most(LISTENER_ALL_LENGTH + header),
            &ANSWER_SHARES,
        ),
        Exception::new(
            "multicast-listener-all",
            long().at_most(LISTENER_ALL_LENGTH + header),
            &LISTENER_ALL_SHARES,
        ),
    ]
}
