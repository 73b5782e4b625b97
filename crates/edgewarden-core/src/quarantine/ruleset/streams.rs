//! Who may speak in a stream to a lifeline: whoever has opened it.
//!
//! In: the plan. Out: rules that note the streams which root and the nucleus' own users have to lifelines, and cut what anybody else
//! sends in one of them. Whoever may make packets by hand (`CAP_NET_RAW`) sees where a stream is and could end it at the cloud's
//! side, in the nucleus' name, so that the rules are taken for what has silenced it. Streams are known by the names that they have
//! on the wire: behind whatever translates the IP stack's, and at the hook of interfaces, by which frames made by hand leave too.
//!
//! There leaves as well what this namespace has not sent: frames of another one's whose interface stands on ours (a container's
//! macvlan), and what is passed on from another link. Neither is of a socket here. Of what the kernel sends in such a stream for a
//! program that has gone, most kernels tell that it is of a socket of this namespace; the others tell that of nothing without a user,
//! and refusals and last acknowledgements are of none anywhere: they are the rest of what its sender has ended. So in a stream that
//! its sender has not ended nothing else leaves, and nothing leaves an interface in the name of whom streams are handed to there, which
//! a switch would believe.
//!
//! Absent: whose the first packet was; of a stream that stood before the rules were loaded nothing is known until its owner has sent
//! something; whoever says something as the router where others of this device's interfaces stand, once nothing was handed to him for a
//! minute and a half; and whoever has a port that was root's to the same lifeline within ten minutes is cut off there. On kernels that do
//! not tell of which namespace a socket is, what a program had not sent when it ended is cut.

use std::collections::BTreeSet;

use super::conditions::{Conditions, Detour, End, IP, IP6, LIFE_SECONDS, Sender, Streams, TypePlace};
use super::false_claims::SENDERS;
use super::link_control::CONTROL;
use super::rules::{HookPath, RuleWriter, on};
use super::shares::ROOT;
use super::told_otherwise::VLAN;
use super::{Chain, CutAction, Lack, Layer, PRIORITY, Rule};
use crate::Gather;
use crate::quarantine::lifelines::ways::InterfaceName;
use crate::quarantine::orders::order::{Allowance, Direction, Protocol};

/// The name of the chain behind all translations.
pub(super) const LEAVING: &str = "leaving";
/// The name of the chain of what leaves an interface without a socket.
pub(super) const UNSENT: &str = "unsent";
/// The rule that asks for what not every kernel tells.
pub(super) const OWN_SOCKET: &str = "own-socket";
/// How long somebody counts as a neighbour by an interface on which others of this device's stand: longer than a nucleus lets its stream
/// be silent, unless it is set otherwise.
const MOMENT_SECONDS: u64 = 90;
/// Priority of the first: translations of sources have 100.
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
        let Some(reason) = self.whose_is_known() else {
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
                    own.note_stream(Streams::Known, v4, &format!("stream{suffix}"))
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
            let others = || {
                let all = users.iter();
                let sent = all.fold(on(way.layer()), |others, user| others.not_sent_by(*user));
                sent.carries(Protocol::Tcp)
            };
            let mut speaks = vec![others().of_stream(Streams::Known, v4)];
            // The hook of interfaces judges options where it judges what no socket has sent.
            if !v4 || way == HookPath::Out {
                speaks.extend(self.hiding(others(), v4));
            }
            let cut = |speaks| self.cut(&format!("others-stream{suffix}"), speaks, way, reason);
            rules.extend(speaks.into_iter().map(cut));
            if way == HookPath::Raw {
                rules.extend(users.iter().flat_map(|user| self.noted_of_own(*user, v4)));
            }
        }
        rules
    }

    /// What is to come by another place first and does not say which stream it is of; where remotes are judged, nobody may send it.
    fn hiding(&self, sent: Conditions, v4: bool) -> Option<Conditions> {
        let hidden = if v4 {
            sent.options()
        } else {
            sent.leads_elsewhere(Detour::Routing)
        };
        self.unreadable().is_none().then_some(hidden)
    }

    /// Why somebody is cut who speaks in another's stream; none where it is not known whose they are: without rates there are no
    /// elements that rules make.
    fn whose_is_known(&self) -> Option<&'static str> {
        let lacks = [Lack::Limit, Lack::FilledSet].iter();
        let can_note =
            self.effect == CutAction::Cut && !lacks.into_iter().any(|lack| self.hooks.lacks.contains(lack));
        self.guarded().filter(|_| can_note)
    }

    /// The same of what no socket has sent: where it is not known what has a route it is not known either what keeps its socket on the way.
    pub(super) fn sockets_are_known(&self) -> Option<&'static str> {
        self.whose_is_known().filter(|_| self.asks_for_routes())
    }

    /// What is noted of a user's streams to lifelines where they leave an interface.
    fn noted_of_own(&self, user: u32, v4: bool) -> Vec<Rule> {
        let suffix = if v4 { '4' } else { '6' };
        let own = || {
            let sent = on(Layer::Netdev).sent_by(user);
            sent.carries(Protocol::Tcp).of_stream(Streams::Known, v4)
        };
        let mut rules = vec![
            own()
                .ends_stream()
                .note_stream(Streams::Ended, v4, &format!("ended{suffix}")),
            own()
                .opens_stream()
                .forget_stream(Streams::Ended, v4, &format!("opened{suffix}")),
            own().note_hop(LIFE_SECONDS, &format!("hop{suffix}")),
        ];
        let below = self.below_others();
        rules.extend((!below.is_empty()).then(|| {
            let leaves = own().leaves_by(&below);
            leaves.note_hop(MOMENT_SECONDS, &format!("hop-below{suffix}"))
        }));
        rules
    }

    /// Interfaces on which others of this device's stand, but for what belongs to a bridge or a bond. While whoever stands beside these
    /// is down, what is meant for him leaves there as if he were a neighbour.
    fn below_others(&self) -> Vec<InterfaceName> {
        let all = self.hooks.bearers.iter();
        let below = all.flat_map(|(name, bearers)| {
            let below = bearers.iter().map(|bearer| bearer.interface);
            below.filter(move |interface| interface != name)
        });
        let below: BTreeSet<_> = below.filter(|name| !self.hooks.members.contains(name)).in_set();
        below.into_iter().collect()
    }

    /// Ports by which bridges pass on others' frames alone: by a pair of interfaces this device's own may come so.
    pub(super) fn ports_of_others(&self) -> Vec<InterfaceName> {
        let looped = &self.hooks.looped;
        let all = self.hooks.members.iter().copied();
        all.filter(|port| !looped.contains(port)).collect()
    }

    /// What a bridge of this device's passes on between others is in no stream of this device's.
    pub(super) fn bridged_streams(&self) -> Vec<Rule> {
        let Some(reason) = self.sockets_are_known() else {
            return Vec::new();
        };
        let ports = self.ports_of_others();
        if ports.is_empty() {
            return Vec::new();
        }
        let bridged = |v4| {
            let passed = on(Layer::Netdev).passed_on_by(&ports);
            passed.carries(Protocol::Tcp).of_stream(Streams::Known, v4)
        };
        // Behind a second tag nobody sees a stream, and the router takes off what is of no VLAN, or of its link's own.
        let tagged = || on(Layer::Netdev).passed_on_by(&ports).declared(VLAN);
        let places = [TypePlace::First, TypePlace::BehindTag];
        let hides = [&[IP, IP6], VLAN].concat();
        let of_none = |place| {
            let tagged = tagged().frame_type(place, VLAN).tagged_as_none(place);
            tagged.frame_type(TypePlace::BehindTwo, &hides)
        };
        let passed = [bridged(true), bridged(false), tagged().handed_to_hop()];
        let passed = passed.into_iter().chain(places.map(of_none));
        passed
            .map(|passed| self.cut("bridged-stream", passed, HookPath::Raw, reason))
            .collect()
    }

    /// The chain of what leaves an interface without a socket of this namespace. It is there also without rules, so that they can be
    /// changed alone.
    pub(super) fn unsent(&self) -> Chain {
        Chain {
            name: UNSENT,
            hook: "",
            priority: PRIORITY,
            devices: Vec::new(),
            policy: "",
            rules: self.unsent_rules(),
        }
    }

    fn unsent_rules(&self) -> Vec<Rule> {
        let Some(reason) = self.sockets_are_known() else {
            return Vec::new();
        };
        let frame = || on(Layer::Netdev);
        // What a program had still to send when it ended has no user any more, and is of its socket all the same.
        let mut rules: Vec<Rule> = [('4', true), ('6', false)]
            .map(|(suffix, v4)| {
                let own = frame().of_own_socket().carries(Protocol::Tcp);
                let ends = own.of_stream(Streams::Known, v4).ends_stream();
                ends.note_stream(Streams::Ended, v4, &format!("ended{suffix}"))
            })
            .into();
        rules.push(frame().of_own_socket().go_back(OWN_SOCKET));
        rules.push(frame().of_sender(Sender::Socket).go_back("sent"));
        // Copies have none, and no other namespace's interface can stand there.
        let members = &self.hooks.members;
        rules.extend((!members.is_empty()).then(|| frame().leaves_by(members).go_back("copied")));
        // A neighbour may say that the router is where this device is.
        let as_hop = self.knows_senders().then(|| frame().sent_as_hop(SENDERS));
        rules.extend(as_hop.map(|as_hop| self.cut("as-hop", as_hop, HookPath::Raw, reason)));
        rules.extend(
            self.as_another(frame())
                .map(|other| self.cut("as-another", other, HookPath::Raw, reason)),
        );
        for (suffix, v4) in [('4', true), ('6', false)] {
            let of = |streams| frame().carries(Protocol::Tcp).of_stream(streams, v4);
            rules.push(of(Streams::Ended).go_back("rest"));
            let hidden = self.hiding(frame().carries(Protocol::Tcp), v4);
            let cut = |unsent| self.cut(&format!("unsent-stream{suffix}"), unsent, HookPath::Raw, reason);
            rules.extend([of(Streams::Known)].into_iter().chain(hidden).map(cut));
        }
        // Below a VLAN that belongs to a bridge its copies leave by what does not.
        let tagged = frame().leaves_by_ethernet().frame_type(TypePlace::First, VLAN);
        let copied = tagged.tagged_as("tags").go_back("copied-in-vlan");
        rules.extend((!self.elements.tags.is_empty()).then_some(copied));
        let told = self.told_to_switches().into_iter();
        rules.extend(told.map(|told| self.cut("told-to-switches", told, HookPath::Raw, reason)));
        rules.push(Rule::jump(CONTROL));
        rules
    }
}
