//! Which of the kernel's hooks the rules can use here.
//!
//! In: the interfaces of this namespace, the configuration, what the kernel refused before. Out: [`Hooks`], and for
//! people what cannot be cut and why.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use super::bearers::{self, Stack, bearers, gathers};
use super::places;
use crate::config::IsolationConfig;
use crate::observe::decode::LinkKind;
use crate::observe::link::Link;
use crate::observe::way::InterfaceKind;
use crate::quarantine::lifelines::tunnels::{Tunnel, Wrapping};
use crate::quarantine::lifelines::ways::{Bearer, InterfaceName, Ways};
use crate::quarantine::plan::Plan;
use crate::quarantine::plan::tracked::Crowd;
use crate::quarantine::ruleset::{CutAction, EgressDevice, Hooks, Lack, Layer, MAX_EGRESS_DEVICES};
use crate::{Arrange, Gather};

/// How long a refusal of the kernel is believed: it may have been about an interface that was just vanishing.
const BELIEVE: Duration = Duration::from_secs(600);

/// Interfaces below one VLAN that are followed; a bridge has some dozens of ports.
const MAX_BELOW: usize = 64;

/// Addresses of this device that rules name; a gateway with a container per service has some dozens.
const MAX_OWN: usize = 512;

/// How long it is believed that it was built without something: somebody may load a module.
const BELIEVE_MISSING: Duration = Duration::from_secs(3_600);

/// What is known of the hooks.
#[derive(Debug, Default)]
pub(in crate::agent::enforcer) struct Layers {
    /// What the kernel refused, when, for which interfaces, and in which words.
    refused: BTreeMap<Layer, (Duration, Hooks, String)>,
    /// What the kernel was found to be built without, and when.
    lacks: BTreeMap<Lack, Duration>,
    /// When it was tried last what it lacks.
    tried: Option<Duration>,
    /// What they were refused for: rules that only count ask for more than rules that cut.
    effect: Option<CutAction>,
    /// The interfaces that were last listed, and their hooks.
    links: Vec<Link>,
    seen: Hooks,
    /// Interfaces through which others send: below a VLAN or a macvlan, in a bridge or a bond.
    below: BTreeSet<u32>,
    /// How many of those are left out.
    left_out: usize,
    /// Those of them that the configuration wants, refused ones included.
    wanted: Hooks,
    /// The interfaces could not be listed.
    problem: Option<String>,
    /// Interfaces left out for their names.
    unnamed: usize,
    /// Since when the kernel is known not to tell what the IP stack has sent.
    unrouted: Option<Duration>,
    /// UDP ports at which tunnels unwrap.
    unwrapping: BTreeSet<u16>,
    /// How full connection tracking was when it was found crowded; it counts as crowded until nothing is cut any more, because
    /// whoever has filled it may do so again.
    crowd: Option<Crowd>,
    /// Why interfaces have no hook for rules, as it was tried out.
    no_hook: Option<String>,
}

impl Layers {
    /// The hooks to use now.
    pub(in crate::agent::enforcer) fn hooks(
        &mut self,
        interfaces: Result<(Vec<Link>, usize), String>,
        isolation: &IsolationConfig,
        effect: CutAction,
        now: Duration,
    ) -> Hooks {
        match interfaces {
            Ok((links, more)) => {
                self.problem = None;
                self.below = below(&links);
                let (seen, unnamed) = hooks_of(&links, more == 0);
                (self.seen, self.unnamed) = (seen, unnamed + more);
                self.links = links;
            }
            // What held goes on to hold.
            Err(why) => self.problem = Some(why),
        }
        let mut hooks = self.seen.clone();
        if isolation.bridged {
            hooks.passing.clear();
        } else {
            hooks.bridge = false;
        }
        if !isolation.raw_frames {
            hooks.egress.clear();
        }
        let all = hooks.egress.len();
        if effect == CutAction::Count {
            // A frame that was counted above comes by again below.
            hooks.egress.retain(|device| !self.below.contains(&device.index));
        }
        self.left_out = all - hooks.egress.len();
        self.unrouted
            .take_if(|since| now.saturating_sub(*since) >= BELIEVE);
        hooks.unrouted |= self.unrouted.is_some();
        if self.effect.replace(effect) != Some(effect) {
            self.refused.clear();
        }
        let same = |with: &Hooks, hooks: &Hooks| {
            (with.bridge, with.unrouted, &with.egress) == (hooks.bridge, hooks.unrouted, &hooks.egress)
        };
        self.refused
            .retain(|_, (at, with, _)| now.saturating_sub(*at) < BELIEVE && same(with, &hooks));
        self.lacks
            .retain(|_, at| now.saturating_sub(*at) < BELIEVE_MISSING);
        hooks.lacks = self.lacks.keys().copied().in_set();
        hooks.crowded = self.is_crowded();
        hooks.unwrapping.clone_from(&self.unwrapping);
        self.wanted.clone_from(&hooks);
        if let Some(why) = self.no_hook.as_ref().filter(|_| !hooks.egress.is_empty()) {
            let refused = || (now, self.wanted.clone(), why.clone());
            self.refused.entry(Layer::Netdev).or_insert_with(refused);
        }
        self.without_refused(hooks)
    }

    /// What the frames of this plan's ways leave by.
    pub(in crate::agent::enforcer) fn bearers(
        &self,
        plan: &Plan,
    ) -> BTreeMap<InterfaceName, BTreeSet<Bearer>> {
        let ways = match &plan.ways {
            Ways::Tied(ways) => ways.as_slice(),
            Ways::Any { .. } => &[],
        };
        let uppers = ways.iter().map(|way| way.interface).in_set();
        bearers(&self.links, &uppers)
    }

    /// Notes that the kernel does not take a layer. It is about all hooks that are wanted, not only those that were left
    /// after an earlier refusal: otherwise it would be forgotten at once.
    pub(in crate::agent::enforcer) fn refuse(&mut self, layer: Layer, why: &str, now: Duration) {
        self.refused
            .insert(layer, (now, self.wanted.clone(), why.to_owned()));
    }

    /// Notes whether interfaces have a hook for rules, or why not.
    pub(in crate::agent::enforcer) fn note_hook(&mut self, refusal: Option<String>) {
        self.no_hook = refusal;
    }

    /// Whether frames past the IP stack are to be cut, and the kernel does not take the rules for it.
    pub(in crate::agent::enforcer) fn lacks_egress(&self) -> bool {
        !self.wanted.egress.is_empty() && self.refused.contains_key(&Layer::Netdev)
    }

    /// Whether sessions of PPP leave in frames that cannot be looked into.
    pub(in crate::agent::enforcer) const fn has_sessions(&self) -> bool {
        self.wanted.pppoe
    }

    /// The interfaces that were last listed, and the hooks that the configuration wants of them.
    pub(in crate::agent::enforcer) fn wanted(&self) -> (&[Link], &Hooks) {
        (&self.links, &self.wanted)
    }

    /// Notes how full connection tracking is.
    pub(in crate::agent::enforcer) fn note_crowd(&mut self, crowd: Crowd) {
        if self.crowd.is_none() && crowd.is_crowded() {
            let Crowd { flows, most } = crowd;
            tracing::warn!("connection tracking is crowded: {flows} of {most} flows");
            self.crowd = Some(crowd);
        }
    }

    /// Notes which tunnels there are.
    pub(in crate::agent::enforcer) fn note_tunnels(&mut self, tunnels: &[Tunnel]) {
        let port = |tunnel: &Tunnel| match tunnel.wrapping {
            Wrapping::Udp(port) => Some(port),
            Wrapping::Protocol | Wrapping::Untold => None,
        };
        self.unwrapping = tunnels.iter().filter_map(port).in_set();
    }

    /// Nothing is cut, so nobody can gain by filling it.
    pub(in crate::agent::enforcer) const fn forget_crowd(&mut self) {
        self.crowd = None;
    }

    /// Whether connection tracking was found crowded.
    pub(in crate::agent::enforcer) const fn is_crowded(&self) -> bool {
        self.crowd.is_some()
    }

    /// Notes that the egress hook cannot tell what the IP stack has sent.
    pub(in crate::agent::enforcer) const fn tells_no_routes(&mut self, now: Duration) {
        self.unrouted = Some(now);
    }

    /// Notes what the kernel was built without.
    pub(in crate::agent::enforcer) fn lack(&mut self, lacks: &[Lack], now: Duration) {
        self.lacks.extend(lacks.iter().map(|lack| (*lack, now)));
    }

    /// Whether what the kernel lacks is to be tried; while nothing is refused once an hour.
    pub(in crate::agent::enforcer) fn wants_trial(&mut self, is_refused: bool, now: Duration) -> bool {
        let pause = if is_refused {
            Duration::from_nanos(1)
        } else {
            BELIEVE_MISSING
        };
        let wants = self.tried.is_none_or(|tried| now.saturating_sub(tried) >= pause);
        if wants {
            self.tried = Some(now);
        }
        wants
    }

    /// What an order could not cut here, as far as it is known while there is none; each a sentence.
    pub(in crate::agent::enforcer) fn foreseen(&self) -> Vec<String> {
        self.lacks.keys().map(|lack| lack.means().to_owned()).collect()
    }

    /// `hooks` without what was refused.
    pub(in crate::agent::enforcer) fn without_refused(&self, mut hooks: Hooks) -> Hooks {
        if self.refused.contains_key(&Layer::Bridge) {
            hooks.bridge = false;
        }
        if self.refused.contains_key(&Layer::Netdev) {
            hooks.egress.clear();
        }
        hooks
    }

    /// What cannot be cut, each a sentence; `raw` says it of frames past the IP stack, for that reason.
    pub(in crate::agent::enforcer) fn uncovered(&self, raw: &dyn Fn(&str) -> String) -> Vec<String> {
        let refused = self.refused.iter().map(|(layer, (_, _, why))| match layer {
            Layer::Bridge => format!("frames that a bridge passes on are not cut: {why}"),
            Layer::Netdev | Layer::Inet | Layer::Arp if self.effect == Some(CutAction::Cut) => raw(why),
            Layer::Netdev | Layer::Inet | Layer::Arp => {
                format!("frames sent past the IP stack are not counted: {why}")
            }
        });
        let problem = self.problem.iter().map(|why| {
            format!(
                "frames of new bridges and interfaces are not cut, the interfaces cannot be listed: {why}"
            )
        });
        let unnamed = (self.unnamed > 0)
            .then(|| format!("frames past the IP stack are not cut on {} interfaces with unusual names or beyond the {MAX_EGRESS_DEVICES}th", self.unnamed));
        let lower = (self.left_out > 0).then(|| {
            let count = self.left_out;
            format!("frames past the IP stack are not counted on {count} interfaces that others send through")
        });
        let tagged = self.wanted.tags && !self.wanted.egress.is_empty();
        let tags = tagged.then(|| {
            "frames past the IP stack that are called IP and are not are not told apart: an interface puts tags of its own into frames".to_owned()
        });
        let unrouted = (self.wanted.unrouted && !self.wanted.egress.is_empty()).then(|| {
            "frames made by hand pass to a lifeline's address and port by any interface: what the IP stack has sent cannot be told from them here".to_owned()
        });
        let crowd = self.crowd.map(|crowd| crowd.to_string());
        let told = refused.chain(problem).chain(unnamed).chain(lower);
        let lacks = self.lacks.keys().map(|lack| lack.means().to_owned());
        told.chain(tags)
            .chain(unrouted)
            .chain(crowd)
            .chain(lacks)
            .collect()
    }
}

/// Those of these interfaces that belong to a bridge or a bond.
fn members(links: &[Link]) -> impl Iterator<Item = &Link> {
    let masters: BTreeSet<u32> = links
        .iter()
        .filter(|link| gathers(link))
        .map(|link| link.index)
        .in_set();
    let is_member = move |link: &&Link| link.master.is_some_and(|master| masters.contains(&master));
    links.iter().filter(is_member)
}

/// Interfaces that the frames of VLANs leave by with their tags: those below them, and the members of these.
fn vlan_tags(links: &[Link]) -> BTreeSet<(InterfaceName, u16)> {
    let by_index: BTreeMap<u32, &Link> = links.iter().map(|link| (link.index, link)).in_map();
    let mut belongs: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for link in members(links) {
        belongs
            .entry(link.master.unwrap_or_default())
            .or_default()
            .push(link.index);
    }
    let mut found = BTreeSet::new();
    for link in links {
        let (InterfaceKind::Vlan(number), Some(lower)) = (link.device, link.lower) else {
            continue;
        };
        let (mut waiting, mut seen) = (vec![lower], BTreeSet::new());
        while let Some(index) = waiting.pop().filter(|_| seen.len() < MAX_BELOW) {
            let Some(below) = by_index.get(&index).filter(|_| seen.insert(index)) else {
                continue;
            };
            found.extend(InterfaceName::new(&below.name).map(|name| (name, number)));
            waiting.extend(belongs.get(&index).into_iter().flatten());
            waiting.extend(below.lower.filter(|_| below.device == InterfaceKind::Macvlan));
        }
    }
    found
}

/// Those of these interfaces through which others of them send.
fn below(links: &[Link]) -> BTreeSet<u32> {
    let members = members(links);
    let upper = |link: &&Link| matches!(link.device, InterfaceKind::Vlan(_) | InterfaceKind::Macvlan);
    let carriers = links.iter().filter(upper).filter_map(|link| link.lower);
    members.map(|link| link.index).chain(carriers).in_set()
}

/// Whether one of them may put tags of its own into frames that leave by the one below, and forgets that they had a route, as a port
/// of a switch does: it has one below that is not its peer, and is of no kind that is known not to. VLANs, macvlans, bridges and bonds
/// pass the route on.
fn tag(links: &[Link]) -> bool {
    let by_index: BTreeMap<u32, &Link> = links.iter().map(|link| (link.index, link)).in_map();
    let below = |link: &Link| by_index.get(&link.lower?).copied();
    let others = links
        .iter()
        .filter(|link| link.device == InterfaceKind::Other && link.kind == LinkKind::Ethernet);
    let mut others = others.filter_map(|link| Some((link, below(link)?)));
    others.any(|(link, lower)| lower.lower != Some(link.index))
}

/// Addresses of this device besides those that never leave it.
fn own(links: &[Link]) -> BTreeSet<IpAddr> {
    let all = links.iter().flat_map(|link| &link.addresses);
    all.filter(|address| !address.is_loopback())
        .take(MAX_OWN)
        .copied()
        .in_set()
}

/// What this device is called on the link of each interface: what its own frames leave there with.
fn hardware<'a>(links: &'a [Link], stack: &Stack<'a>) -> BTreeSet<Bearer> {
    let all = bearers::of_all(links, stack).into_iter();
    // What has none is called by none.
    all.filter(|bearer| bearer.hardware != [0; 6]).in_set()
}

/// The hooks of these interfaces, and how many interfaces have a name that is not written into rules. `all`: there are no others.
fn hooks_of(links: &[Link], all: bool) -> (Hooks, usize) {
    let plain = |name: &str| {
        name.chars()
            .all(|c| c.is_ascii_alphanumeric() || "._-@".contains(c))
    };
    // Fieldbuses and the like carry no IP: cutting them would stop machines, not connections.
    let (mut egress, unnamed): (Vec<&Link>, Vec<&Link>) = links
        .iter()
        .filter(|link| !link.loopback && !matches!(link.kind, LinkKind::Unsupported(_)))
        .partition(|link| plain(&link.name));
    egress.arrange_by_key(|link| link.index);
    let surplus = egress.len().saturating_sub(MAX_EGRESS_DEVICES);
    egress.truncate(MAX_EGRESS_DEVICES);
    let name = |link: &Link| InterfaceName::new(&link.name);
    let tags = tag(links);
    let own = own(links);
    let stack = Stack::of(links);
    let unknown = places::unknown(links, &stack);
    // Where others are not listed theirs would count as somebody else's.
    let listed = if all { links } else { &[] };
    let places = places::places(listed, &stack, &own);
    let bridges: BTreeSet<u32> = links
        .iter()
        .filter(|link| link.device == InterfaceKind::Bridge)
        .map(|link| link.index)
        .in_set();
    let is_port = |link: &Link| link.master.is_some_and(|master| bridges.contains(&master));
    let hooks = Hooks {
        bare: egress.iter().any(|link| link.kind == LinkKind::RawIp),
        vlans: vlan_tags(links),
        senders: listed.iter().filter_map(|link| link.hardware).in_set(),
        hardware: hardware(listed, &stack),
        members: members(links).filter_map(name).collect(),
        looped: unknown.looped,
        crossed: unknown.crossed,
        passing: links
            .iter()
            .filter(|link| is_port(link))
            .filter_map(name)
            .collect(),
        bearers: BTreeMap::new(),
        bridge: !bridges.is_empty(),
        pppoe: links.iter().any(|link| link.device == InterfaceKind::Ppp),
        tags,
        unrouted: tags,
        crowded: false,
        mark: None,
        unwrapping: BTreeSet::new(),
        homes: places.homes,
        called: places.called,
        own,
        lacks: BTreeSet::new(),
        egress: egress
            .into_iter()
            .map(|link| EgressDevice {
                name: link.name.clone(),
                index: link.index,
            })
            .collect(),
    };
    (hooks, unnamed.len() + surplus)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::observe::interval::Counters;

    fn link(index: u32, device: InterfaceKind, lower: Option<u32>, master: Option<u32>) -> Link {
        Link {
            name: format!("if{index}"),
            index,
            kind: LinkKind::Ethernet,
            hardware: None,
            loopback: false,
            up: true,
            running: true,
            addresses: Vec::new(),
            broadcasts: Vec::new(),
            networks: Vec::new(),
            master,
            lower,
            device,
            counters: Counters::default(),
        }
    }

    #[test]
    fn rules_that_only_count_are_where_a_frame_comes_by_once() {
        let other = InterfaceKind::Other;
        let links = vec![
            link(1, other, None, None),
            link(2, InterfaceKind::Vlan(7), Some(1), None),
            link(3, InterfaceKind::Bridge, None, None),
            link(4, other, Some(5), Some(3)),
            // Its other end is the veth above, and its master routes.
            link(5, other, Some(4), Some(6)),
            link(6, other, None, None),
        ];
        assert!(!tag(&links));
        let port = link(7, other, Some(6), None);
        assert!(tag(&[links.as_slice(), &[port]].concat()), "as a switch's");
        let mut layers = Layers::default();
        let isolation = Config::defaults().isolation;
        let mut devices = |effect| {
            let hooks = layers.hooks(Ok((links.clone(), 0)), &isolation, effect, Duration::ZERO);
            let told = layers.uncovered(&str::to_owned);
            let devices: Vec<u32> = hooks.egress.iter().map(|device| device.index).collect();
            (devices, told)
        };
        let (cutting, told) = devices(CutAction::Cut);
        assert_eq!(cutting, [1, 2, 3, 4, 5, 6]);
        assert!(told.is_empty(), "a veth in front of another one: {told:?}");
        let (counting, told) = devices(CutAction::Count);
        assert_eq!(counting, [2, 3, 5, 6]);
        assert!(told[0].contains("not counted on 2 interfaces"), "{told:?}");
    }

    #[test]
    fn what_the_kernel_refused_to_count_it_may_take_to_cut() {
        let links = vec![link(1, InterfaceKind::Other, None, None)];
        let mut layers = Layers::default();
        let isolation = Config::defaults().isolation;
        let ask = |layers: &mut Layers, effect| {
            let hooks = layers.hooks(Ok((links.clone(), 0)), &isolation, effect, Duration::ZERO);
            hooks.egress.len()
        };
        assert_eq!(ask(&mut layers, CutAction::Count), 1);
        layers.refuse(Layer::Netdev, "no realms", Duration::ZERO);
        assert_eq!(ask(&mut layers, CutAction::Count), 0, "control: it is believed");
        assert_eq!(ask(&mut layers, CutAction::Cut), 1);
    }
}
