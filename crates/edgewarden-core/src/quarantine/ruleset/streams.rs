//! Who may speak in a stream to a lifeline: whoever has opened it.
//!
//! In: the plan. Out: rules that note the streams which root and the nucleus' own users have to lifelines, and cut what anybody else
//! sends in one of them. Whoever may make packets by hand (`CAP_NET_RAW`) sees where a stream is and could end it at the cloud's
//! side, in the nucleus' name, so that the rules are taken for what has silenced it. What no socket sends is the kernel's own.
//! Absent: whose the first packet was; of a stream that stood before the rules were loaded nothing is known until its owner has
//! sent something, and whoever has a port that was root's to the same lifeline within ten minutes is cut off there.

use std::net::IpAddr;

use super::conditions::{Conditions, End};
use super::rules::{HookPath, RuleWriter, on};
use super::shares::ROOT;
use super::{CutAction, Lack, Layer, Rule};
use crate::quarantine::orders::order::Protocol;

impl RuleWriter<'_> {
    /// They come before what lets lifelines pass.
    pub(super) fn streams(&self) -> Vec<Rule> {
        // Without rates there are no elements that rules make.
        let can_note = !self.hooks.lacks.contains(&Lack::Limit);
        let (Some(reason), CutAction::Cut, true) = (self.unreadable(), self.effect, can_note) else {
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
                    let own = to(on(Layer::Inet).sent_by(*user)).carries(Protocol::Tcp);
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
            let others = users
                .iter()
                .fold(on(Layer::Inet), |others, user| others.not_sent_by(*user));
            let speaks = others.carries(Protocol::Tcp).of_known_stream(v4);
            rules.push(self.cut(&format!("others-stream{suffix}"), speaks, HookPath::Out, reason));
        }
        rules
    }

    /// What is made by hand in the name of an address of ours and goes where lifelines go, past the hooks that know whose a stream
    /// is. What a bridge passes on has other senders.
    pub(super) fn streams_by_hand(&self) -> Vec<(&'static str, Conditions)> {
        let (own4, own6): (Vec<IpAddr>, Vec<_>) = self.hooks.own.iter().partition(|own| own.is_ipv4());
        let mut all = Vec::new();
        for (suffix, v4, own) in [('4', true, own4), ('6', false, own6)] {
            for set in ["endpoints", "nucleus"] {
                let to = |from: Conditions| from.endpoint_in(v4, End::Destination, &format!("{set}{suffix}"));
                let ours = || on(Layer::Netdev).sent_as_one_of(v4, &own);
                all.extend((!own.is_empty()).then(|| ("stream-by-hand", to(ours()).carries(Protocol::Tcp))));
            }
        }
        all
    }
}
