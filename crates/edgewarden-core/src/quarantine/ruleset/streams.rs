//! Who may speak in a stream to a lifeline: whoever has opened it.
//!
//! In: the plan. Out: rules that note the streams which root and the nucleus' own users have to lifelines, and cut what anybody else
//! sends in one of them. Whoever may make packets by hand (`CAP_NET_RAW`) sees where a stream is and could end it at the cloud's
//! side, in the nucleus' name, so that the rules are taken for what has silenced it. Streams are known by the names that they have
//! on the wire: behind whatever translates the IP stack's, and at the hook of interfaces, by which frames made by hand leave too.
//! What no socket sends is the kernel's own. Absent: whose the first packet was; of a stream that stood before the rules were
//! loaded nothing is known until its owner has sent something, and whoever has a port that was root's to the same lifeline
//! within ten minutes is cut off there.

use super::conditions::{Conditions, End};
use super::rules::{HookPath, RuleWriter, on};
use super::shares::ROOT;
use super::{Chain, CutAction, Lack, Rule};
use crate::quarantine::orders::order::{Allowance, Direction, Protocol};

/// The name of the chain behind all translations.
pub(super) const LEAVING: &str = "leaving";
/// Its priority: translations of sources have 100.
const BEHIND_TRANSLATIONS: i32 = 1_000;

impl RuleWriter<'_> {
    /// The chain of what leaves by the IP stack, in the names that it leaves with.
    pub(super) fn leaving(&self) -> Option<Chain> {
        let rules = self.streams(HookPath::Out);
        (!rules.is_empty()).then(|| Chain {
            name: LEAVING,
            hook: "postrouting",
            priority: BEHIND_TRANSLATIONS,
            devices: Vec::new(),
            policy: "accept",
            rules,
        })
    }

    /// They come before what lets lifelines pass.
    pub(super) fn streams(&self, way: HookPath) -> Vec<Rule> {
        // Without rates there are no elements that rules make.
        let can_note = !self.hooks.lacks.contains(&Lack::Limit);
        let (Some(reason), CutAction::Cut, true) = (self.guarded(), self.effect, can_note) else {
            return Vec::new();
        };
        let users: Vec<u32> = std::iter::once(ROOT)
            .chain(self.plan.nucleus_users.iter())
            .collect();
        let wide = self.wide_ports();
        let mut rules = Vec::new();
        for (suffix, v4) in [('4', true), ('6', false)] {
            let mut note = |to: &dyn Fn(Conditions) -> Conditions| {
                let notes = users.iter().map(|user| {
                    let own = to(on(way.layer()).sent_by(*user)).carries(Protocol::Tcp);
                    own.note_stream(v4, &format!("stream{suffix}"))
                });
                rules.extend(notes);
            };
            for set in ["endpoints", "nucleus"] {
                note(&|from| from.endpoint_in(v4, End::Destination, &format!("{set}{suffix}")));
            }
            if !wide.is_empty() {
                note(&|from| from.ports(Protocol::Tcp, End::Destination, &wide));
            }
            // Where the owner has allowed the control channel himself it is no lifeline.
            let own = !self.plan.lifelines.data_endpoint;
            let opens = |allowance: &&_| matches!(allowance, Allowance { protocol: Protocol::Tcp, direction: Direction::Out, remote, .. } if remote.addr().is_ipv4() == v4);
            for allowance in self.plan.allow.iter().filter(|_| own).filter(opens) {
                note(&|from| {
                    from.in_block(End::Destination, allowance.remote).ports(
                        Protocol::Tcp,
                        End::Destination,
                        &allowance.ports,
                    )
                });
            }
            let others = users
                .iter()
                .fold(on(way.layer()), |others, user| others.not_sent_by(*user));
            let speaks = others.carries(Protocol::Tcp).of_known_stream(v4);
            rules.push(self.cut(&format!("others-stream{suffix}"), speaks, way, reason));
        }
        rules
    }
}
