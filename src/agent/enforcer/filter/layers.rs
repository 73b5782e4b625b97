//! Which of the kernel's hooks the rules can use here.
//!
//! In: the interfaces of this namespace, the configuration, what the kernel refused before. Out: [`Hooks`], and for
//! people what cannot be cut and why.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::IsolationConfig;
use crate::observe::decode::LinkKind;
use crate::observe::link::Link;
use crate::observe::way::InterfaceKind;
use crate::quarantine::ruleset::{EgressDevice, Hooks, Layer};

/// Interfaces whose egress is filtered; a gateway with a container per service has some dozens.
const MAX_DEVICES: usize = 256;
/// How long a refusal of the kernel is believed: it may have been about an interface that was just vanishing.
const BELIEVE: Duration = Duration::from_secs(600);

/// What is known of the hooks.
#[derive(Debug, Default)]
pub(in crate::agent::enforcer) struct Layers {
    /// What the kernel refused, when, for which interfaces, and in which words.
    refused: BTreeMap<Layer, (Duration, Hooks, String)>,
    /// The hooks of the interfaces that were last listed.
    seen: Hooks,
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
        now: Duration,
    ) -> Hooks {
        match interfaces {
            Ok(links) => {
                self.problem = None;
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
        self.refused
            .retain(|_, (at, with, _)| now.saturating_sub(*at) < BELIEVE && *with == hooks);
        self.without_refused(hooks)
    }

    /// Notes that the kernel does not take a layer with these hooks.
    pub(in crate::agent::enforcer) fn refuse(
        &mut self,
        layer: Layer,
        hooks: &Hooks,
        why: &str,
        now: Duration,
    ) {
        self.refused.insert(layer, (now, hooks.clone(), why.to_owned()));
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
        refused.chain(problem).chain(unnamed).collect()
    }
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
