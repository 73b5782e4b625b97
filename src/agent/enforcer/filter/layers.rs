//! Which of the kernel's hooks the rules can use here.
//!
//! In: the interfaces of this namespace, the configuration, what the kernel refused before. Out: [`Hooks`], and for
//! people what cannot be cut and why.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::config::IsolationConfig;
use crate::observe::decode::LinkKind;
use crate::observe::link::Link;
use crate::observe::way::InterfaceKind;
use crate::quarantine::ruleset::{CutAction, EgressDevice, Hooks, Layer};

/// Interfaces whose egress is filtered; a gateway with a container per service has some dozens.
const MAX_DEVICES: usize = 256;
/// How long a refusal of the kernel is believed: it may have been about an interface that was just vanishing.
const BELIEVE: Duration = Duration::from_secs(600);

/// What is known of the hooks.
#[derive(Debug, Default)]
pub(in crate::agent::enforcer) struct Layers {
    /// What the kernel refused, when, for which interfaces, and in which words.
    refused: BTreeMap<Layer, (Duration, Hooks, String)>,
    /// What they were refused for: rules that only count ask for more than rules that cut.
    effect: Option<CutAction>,
    /// The hooks of the interfaces that were last listed.
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
}

impl Layers {
    /// The hooks to use now.
    pub(in crate::agent::enforcer) fn hooks(
        &mut self,
        interfaces: Result<Vec<Link>, String>,
        isolation: &IsolationConfig,
        effect: CutAction,
        now: Duration,
    ) -> Hooks {
        match interfaces {
            Ok(links) => {
                self.problem = None;
                self.below = below(&links);
                (self.seen, self.unnamed) = hooks_of(&links);
            }
            // What held goes on to hold.
            Err(why) => self.problem = Some(why),
        }
        let mut hooks = self.seen.clone();
        if !isolation.bridged {
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
        if self.effect.replace(effect) != Some(effect) {
            self.refused.clear();
        }
        self.refused
            .retain(|_, (at, with, _)| now.saturating_sub(*at) < BELIEVE && *with == hooks);
        self.wanted.clone_from(&hooks);
        self.without_refused(hooks)
    }

    /// Notes that the kernel does not take a layer. It is about all hooks that are wanted, not only those that were left
    /// after an earlier refusal: otherwise it would be forgotten at once.
    pub(in crate::agent::enforcer) fn refuse(&mut self, layer: Layer, why: &str, now: Duration) {
        self.refused
            .insert(layer, (now, self.wanted.clone(), why.to_owned()));
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

    /// What cannot be cut, each a sentence.
    pub(in crate::agent::enforcer) fn uncovered(&self) -> Vec<String> {
        let refused = self.refused.iter().map(|(layer, (_, _, why))| {
            let what = match layer {
                Layer::Bridge => "frames that a bridge passes on",
                Layer::Netdev | Layer::Inet => "frames sent past the IP stack",
            };
            format!("{what} are not cut: {why}")
        });
        let problem = self.problem.iter().map(|why| {
            format!(
                "frames of new bridges and interfaces are not cut, the interfaces cannot be listed: {why}"
            )
        });
        let unnamed = (self.unnamed > 0)
            .then(|| format!("frames past the IP stack are not cut on {} interfaces with unusual names or beyond the {MAX_DEVICES}th", self.unnamed));
        let lower = (self.left_out > 0).then(|| {
            let count = self.left_out;
            format!("frames past the IP stack are not counted on {count} interfaces that others send through")
        });
        refused.chain(problem).chain(unnamed).chain(lower).collect()
    }
}

/// Those of these interfaces through which others of them send.
fn below(links: &[Link]) -> BTreeSet<u32> {
    let gathers = |link: &Link| matches!(link.device, InterfaceKind::Bridge | InterfaceKind::Bond);
    let masters: BTreeSet<u32> = links
        .iter()
        .filter(|link| gathers(link))
        .map(|link| link.index)
        .collect();
    let members = links
        .iter()
        .filter(|link| link.master.is_some_and(|master| masters.contains(&master)));
    let upper = |link: &&Link| matches!(link.device, InterfaceKind::Vlan(_) | InterfaceKind::Macvlan);
    let carriers = links.iter().filter(upper).filter_map(|link| link.lower);
    members.map(|link| link.index).chain(carriers).collect()
}

/// The hooks of these interfaces, and how many interfaces have a name that is not written into rules.
fn hooks_of(links: &[Link]) -> (Hooks, usize) {
    let plain = |name: &str| {
        name.chars()
            .all(|c| c.is_ascii_alphanumeric() || "._-@".contains(c))
    };
    // Fieldbuses and the like carry no IP: cutting them would stop machines, not connections.
    let (mut egress, unnamed): (Vec<&Link>, Vec<&Link>) = links
        .iter()
        .filter(|link| !link.loopback && !matches!(link.kind, LinkKind::Unsupported(_)))
        .partition(|link| plain(&link.name));
    egress.sort_by_key(|link| link.index);
    let surplus = egress.len().saturating_sub(MAX_DEVICES);
    egress.truncate(MAX_DEVICES);
    let hooks = Hooks {
        bridge: links.iter().any(|link| link.device == InterfaceKind::Bridge),
        pppoe: links
            .iter()
            .any(|link| link.kind == LinkKind::RawIp && link.name.starts_with("ppp")),
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
        let mut layers = Layers::default();
        let isolation = Config::defaults().isolation;
        let mut devices = |effect| {
            let hooks = layers.hooks(Ok(links.clone()), &isolation, effect, Duration::ZERO);
            let told = layers.uncovered();
            let devices: Vec<u32> = hooks.egress.iter().map(|device| device.index).collect();
            (devices, told)
        };
        assert_eq!(devices(CutAction::Cut), (vec![1, 2, 3, 4, 5, 6], Vec::new()));
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
            let hooks = layers.hooks(Ok(links.clone()), &isolation, effect, Duration::ZERO);
            hooks.egress.len()
        };
        assert_eq!(ask(&mut layers, CutAction::Count), 1);
        layers.refuse(Layer::Netdev, "no realms", Duration::ZERO);
        assert_eq!(ask(&mut layers, CutAction::Count), 0, "control: it is believed");
        assert_eq!(ask(&mut layers, CutAction::Cut), 1);
    }
}
